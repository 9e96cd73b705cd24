import { hasClass, type SubnetNode } from '../network/records.ts'
import { NetworkState } from '../network/state.ts'
import { subnetEpoch } from '../network/epochs.ts'
import type { LedgerValue } from '../../../ledger.ts'
import type { PalletContext } from '../pallet.ts'

export const PALLET_NAME = 'Disputes'
export const PALLET_INDEX = 25

/** Longest text that a plaintiff, a defendant or an accountant may leave on the chain. */
export const MAX_DATA = 1024

export type Outcome = 'Open' | 'Upheld' | 'Dismissed' | 'Cancelled' | 'NoQuorum'

/** A dispute as storage keeps it. Bonds are 0 until paid in, and again once settled. */
export type DisputeRecord = {
  /** Node ids. */
  readonly plaintiff: number
  readonly defendant: number
  /** Hotkeys that signed and stood accused; money goes to the node's present one while it has one. */
  readonly plaintiff_hotkey: string
  readonly defendant_hotkey: string
  readonly plaintiff_bond: bigint
  readonly defendant_bond: bigint
  readonly start_block: number
  readonly challenge_block: number | undefined
  /** Validator nodes at the time of the proposal, without the parties. */
  readonly voters: readonly number[]
  /** Voters' node ids in the order of their votes; the plaintiff is the first yay, the defendant the first nay. */
  readonly yay: readonly number[]
  readonly nay: readonly number[]
  /** SHA-256 of the evidence. */
  readonly evidence: Uint8Array
  readonly plaintiff_data: Uint8Array
  readonly defendant_data: Uint8Array
  readonly outcome: Outcome
}

/** The pallet's error names, in index order; Gen A's where it has one. */
export const DISPUTE_ERRORS = [
  'SubnetNotExist',
  'PeerIdNotExist',
  'NotNodeHotkey',
  'NodeAccountantEpochNotReached',
  'SubnetNodesMin',
  'PlaintiffIsDefendant',
  'NodeHasActiveProposal',
  'NotEnoughBalanceToBid',
  'ProposalInvalid',
  'ProposalComplete',
  'ProposalChallenged',
  'ProposalUnchallenged',
  'ProposalChallengePeriodPassed',
  'ProposalChallengePeriodNotPassed',
  'ProposalVotingPeriodPassed',
  'ProposalVotingPeriodNotPassed',
  'NotDefendant',
  'NotPlaintiff',
  'NotEligible',
  'DuplicateVote',
  'NotAccountant',
  'AccountantEpochInvalid',
  'AccountantDataSubmitted',
  'DataTooLong',
  'InvalidParameter',
] as const

export type DisputeError = (typeof DISPUTE_ERRORS)[number]

/** The pallet's context, and the Network pallet's storage seen through it. */
export interface DisputeState {
  readonly context: PalletContext
  readonly net: NetworkState
}

export function disputeState(context: PalletContext, epochBlocks: number): DisputeState {
  return { context, net: new NetworkState(context, epochBlocks) }
}

/** Ends the call with this pallet's error unless the condition holds. */
export function ensure(
  { context }: DisputeState,
  condition: boolean,
  error: DisputeError,
): asserts condition {
  if (!condition) context.fail(error)
}

/** Ends the call unless `who` is the node's hotkey. */
export function ensureHotkey(state: DisputeState, subnetId: number, nodeId: number, who: string): void {
  ensure(state, state.net.has('SubnetsData', subnetId), 'SubnetNotExist')
  ensure(state, state.net.get('SubnetNodeIdHotkey', subnetId, nodeId) === who, 'NotNodeHotkey')
}

/** Ids of the subnet's Validator nodes of this epoch, ascending. */
export function validators({ net }: DisputeState, subnetId: number): number[] {
  const epoch = subnetEpoch(net, subnetId)
  return net
    .entries<SubnetNode>('SubnetNodesData', subnetId)
    .filter(({ value }) => hasClass(value, 'Validator', epoch))
    .map(({ value }) => value.id)
    .toSorted((a, b) => a - b)
}

/** One of the pallet's parameters. */
// oxlint-disable-next-line no-unnecessary-type-parameters -- the caller names what the listing fixes; codecs check it
export function parameter<T extends LedgerValue>({ context }: DisputeState, item: string): T {
  return context.get(`${PALLET_NAME}.${item}`) as T
}

/** A dispute, or undefined where there is none of the id. */
export function readDispute(
  { context }: DisputeState,
  subnetId: number,
  id: number,
): DisputeRecord | undefined {
  return context.get(`${PALLET_NAME}.Disputes`, subnetId, id) as DisputeRecord | undefined
}

export function writeDispute(
  { context }: DisputeState,
  subnetId: number,
  id: number,
  dispute: DisputeRecord,
): void {
  context.set(`${PALLET_NAME}.Disputes`, [subnetId, id], dispute)
}

/** An open dispute. Ends the call otherwise. */
export function openDispute(state: DisputeState, subnetId: number, id: number): DisputeRecord {
  const dispute = readDispute(state, subnetId, id)
  ensure(state, dispute !== undefined, 'ProposalInvalid')
  ensure(state, dispute.outcome === 'Open', 'ProposalComplete')
  return dispute
}
