import type { LedgerValue } from '../../ledger.ts'
import { ensureRoot, ensureSigned } from './dispatch-error.ts'
import { chooseAccountants, MAX_ACCOUNTANTS, submitAccountantData } from './disputes/accountants.ts'
import { type Accusation, cancel, challenge, propose, vote } from './disputes/proposals.ts'
import {
  DISPUTE_ERRORS,
  disputeState,
  type DisputeState,
  ensure,
  PALLET_INDEX,
  PALLET_NAME,
} from './disputes/records.ts'
import { finalize } from './disputes/settlement.ts'
import { ONE } from './network/fixed-point.ts'
import type { CallDefinition, PalletDefinition, StorageDefinition, TypeDefinition } from './pallet.ts'

export interface DisputesPalletOptions {
  /** Blocks of an epoch, the Network pallet's. */
  readonly epochBlocks: number
  /** Start with periods of a few epochs instead of weeks. */
  readonly local?: boolean
}

/** Blocks that the accused has to answer, and then the voters to vote: a week of 6-second blocks. */
const DEFAULT_PERIOD = 100_800
/** Epochs of either period on a chain for one machine. */
const LOCAL_PERIOD_EPOCHS = 2

type Ids = { readonly subnet_id: number; readonly proposal_id: number }

const TYPES: Readonly<Record<string, TypeDefinition>> = {
  DisputeOutcome: {
    path: 'pallet_disputes::pallet::DisputeOutcome',
    variants: { Open: [], Upheld: [], Dismissed: [], Cancelled: [], NoQuorum: [] },
  },
  Dispute: {
    path: 'pallet_disputes::pallet::Dispute',
    fields: {
      plaintiff: 'u32',
      defendant: 'u32',
      plaintiff_hotkey: 'AccountId20',
      defendant_hotkey: 'AccountId20',
      plaintiff_bond: 'u128',
      defendant_bond: 'u128',
      start_block: 'u32',
      challenge_block: 'Option<u32>',
      voters: 'Vec<u32>',
      yay: 'Vec<u32>',
      nay: 'Vec<u32>',
      evidence: '[u8; 32]',
      plaintiff_data: 'Bytes',
      defendant_data: 'Bytes',
      outcome: 'DisputeOutcome',
    },
  },
  AccountantRecord: {
    path: 'pallet_disputes::pallet::AccountantRecord',
    fields: { block: 'u32', data: 'Bytes' },
  },
}

const key = (type: string) => ({ hasher: 'Identity' as const, type })

const STORAGE: readonly StorageDefinition[] = [
  { name: 'Disputes', keys: [key('u32'), key('u32')], type: 'Dispute' },
  { name: 'ProposalsCount', keys: [key('u32')], type: 'u32', default: 0 },
  // The open dispute of an accused hotkey in a subnet.
  {
    name: 'Accused',
    keys: [key('u32'), { hasher: 'Blake2_128Concat', type: 'AccountId20' }],
    type: 'u32',
  },
  { name: 'TotalBonds', keys: [], type: 'u128', default: 0n },
  { name: 'Accountants', keys: [key('u32'), key('u32')], type: 'Vec<u32>', default: [] },
  { name: 'AccountantData', keys: [key('u32'), key('u32'), key('u32')], type: 'AccountantRecord' },
  { name: 'ProposalBidAmount', keys: [], type: 'u128', default: ONE },
  { name: 'ChallengePeriod', keys: [], type: 'u32', default: DEFAULT_PERIOD },
  { name: 'VotingPeriod', keys: [], type: 'u32', default: DEFAULT_PERIOD },
  { name: 'ProposalQuorum', keys: [], type: 'u128', default: (ONE * 66n) / 100n },
  { name: 'ProposalConsensusThreshold', keys: [], type: 'u128', default: (ONE * 90n) / 100n },
  { name: 'TargetAccountants', keys: [], type: 'u32', default: 2 },
]

/** Parameters that root sets: call, item, type, and what values are possible. */
const PARAMETERS = [
  { call: 'set_proposal_bid_amount', item: 'ProposalBidAmount', type: 'u128', least: 0n, most: 1n << 100n },
  { call: 'set_challenge_period', item: 'ChallengePeriod', type: 'u32', least: 1, most: 0x7fff_ffff },
  { call: 'set_voting_period', item: 'VotingPeriod', type: 'u32', least: 1, most: 0x7fff_ffff },
  { call: 'set_proposal_quorum', item: 'ProposalQuorum', type: 'u128', least: 1n, most: ONE },
  {
    call: 'set_proposal_consensus_threshold',
    item: 'ProposalConsensusThreshold',
    type: 'u128',
    least: ONE / 2n + 1n,
    most: ONE,
  },
  { call: 'set_target_accountants', item: 'TargetAccountants', type: 'u32', least: 0, most: MAX_ACCOUNTANTS },
] as const

/**
 * Fault proofs: a Validator node accuses another with a bond, the accused may contradict with one, the rest votes. Upheld:
 * the accused loses its node and its stake. Rules and names are those of the chain's first generation; the Network pallet
 * of the same chain is asked about nodes, and takes `guardExit` (`disputes/exit-guard.ts`) so that nobody escapes.
 */
export function disputesPallet({ epochBlocks, local = false }: DisputesPalletOptions): PalletDefinition {
  const signed = (
    name: string,
    args: Record<string, string>,
    run: (state: DisputeState, who: string, args: Readonly<Record<string, LedgerValue>>) => void,
  ): Omit<CallDefinition, 'index'> => ({
    name,
    args,
    dispatch: (context, origin, given) =>
      run(disputeState(context, epochBlocks), ensureSigned(origin), given),
  })
  const ids = { subnet_id: 'u32', proposal_id: 'u32' }
  const calls: readonly Omit<CallDefinition, 'index'>[] = [
    signed(
      'propose',
      {
        subnet_id: 'u32',
        subnet_node_id: 'u32',
        defendant_node_id: 'u32',
        evidence: '[u8; 32]',
        data: 'Bytes',
      },
      (state, who, args) => propose(state, who, args as unknown as Accusation),
    ),
    signed('challenge_proposal', { ...ids, data: 'Bytes' }, (state, who, args) => {
      const { subnet_id, proposal_id, data } = args as Ids & { data: Uint8Array }
      challenge(state, who, subnet_id, proposal_id, data)
    }),
    signed('vote', { ...ids, subnet_node_id: 'u32', yay: 'bool' }, (state, who, args) => {
      const { subnet_id, proposal_id, subnet_node_id, yay } = args as Ids & {
        subnet_node_id: number
        yay: boolean
      }
      vote(state, who, subnet_id, proposal_id, subnet_node_id, yay)
    }),
    signed('cancel_proposal', ids, (state, who, args) => {
      const { subnet_id, proposal_id } = args as Ids
      cancel(state, who, subnet_id, proposal_id)
    }),
    signed('finalize_proposal', ids, (state, _who, args) => {
      const { subnet_id, proposal_id } = args as Ids
      finalize(state, subnet_id, proposal_id)
    }),
    signed(
      'submit_accountant_data',
      { subnet_id: 'u32', subnet_node_id: 'u32', subnet_epoch: 'u32', data: 'Bytes' },
      (state, who, args) => {
        const { subnet_id, subnet_node_id, subnet_epoch, data } = args as {
          subnet_id: number
          subnet_node_id: number
          subnet_epoch: number
          data: Uint8Array
        }
        submitAccountantData(state, who, subnet_id, subnet_node_id, subnet_epoch, data)
      },
    ),
    ...PARAMETERS.map(({ call: name, item, type, least, most }): Omit<CallDefinition, 'index'> => ({
      name,
      args: { value: type },
      dispatch(context, origin, { value }) {
        ensureRoot(origin)
        const number = value as number | bigint
        ensure(disputeState(context, epochBlocks), number >= least && number <= most, 'InvalidParameter')
        context.set(`${PALLET_NAME}.${item}`, [], value)
        context.emit('ParameterSet', { name: new TextEncoder().encode(item), value: BigInt(number) })
      },
    })),
  ]
  return {
    name: PALLET_NAME,
    index: PALLET_INDEX,
    types: TYPES,
    storage: STORAGE,
    calls: calls.map((call, index) => ({ index, ...call })),
    events: EVENTS.map((event, index) => ({ index, ...event })),
    errors: DISPUTE_ERRORS,
    constants: [],
    onInitialize: (context) => chooseAccountants(disputeState(context, epochBlocks)),
    genesis(context) {
      if (!local) return
      for (const item of ['ChallengePeriod', 'VotingPeriod'])
        context.set(`${PALLET_NAME}.${item}`, [], LOCAL_PERIOD_EPOCHS * epochBlocks)
    },
  }
}

const PARTIES = { subnet_id: 'u32', proposal_id: 'u32', plaintiff: 'u32', defendant: 'u32' }

const EVENTS = [
  {
    name: 'DishonestSubnetNodeProposed',
    fields: {
      subnet_id: 'u32',
      proposal_id: 'u32',
      subnet_node_id: 'u32',
      defendant_node_id: 'u32',
      block: 'u32',
    },
  },
  {
    name: 'ProposalChallenged',
    fields: { subnet_id: 'u32', proposal_id: 'u32', subnet_node_id: 'u32', block: 'u32' },
  },
  {
    name: 'ProposalVote',
    fields: { subnet_id: 'u32', proposal_id: 'u32', subnet_node_id: 'u32', yay: 'bool' },
  },
  { name: 'ProposalCanceled', fields: PARTIES },
  { name: 'ProposalFinalized', fields: { ...PARTIES, outcome: 'DisputeOutcome' } },
  {
    name: 'DefendantSlashed',
    fields: {
      subnet_id: 'u32',
      proposal_id: 'u32',
      subnet_node_id: 'u32',
      account_id: 'AccountId20',
      amount: 'u128',
    },
  },
  { name: 'AccountantSubmission', fields: { subnet_id: 'u32', subnet_node_id: 'u32', epoch: 'u32' } },
  { name: 'ParameterSet', fields: { name: 'Bytes', value: 'u128' } },
]
