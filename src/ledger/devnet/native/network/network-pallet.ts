import { ChoraleError } from '../../../../errors.ts'
import type { LedgerValue } from '../../../ledger.ts'
import { ensureRoot, ensureSigned } from '../dispatch-error.ts'
import type { CallDefinition, PalletDefinition } from '../pallet.ts'
import { attestationCalls } from './attestation.ts'
import { onBlock } from './block-hooks.ts'
import { CALL_LIST } from './call-list.ts'
import { collectiveCalls, hooksWeight } from './collective.ts'
import { consensusParameterCalls } from './consensus-parameters.ts'
import { nodeDelegateCalls, subnetDelegateCalls } from './delegate-stake.ts'
import { emergencyCalls } from './emergency-set.ts'
import { ERROR_LIST } from './error-list.ts'
import { EVENT_LIST } from './event-list.ts'
import { identityCalls } from './identities.ts'
import { keyCalls } from './key-changes.ts'
import { lines, parseCalls, parseEvents, parseStorage } from './listing.ts'
import { nodeUpdateCalls } from './node-updates.ts'
import { nodeCalls } from './nodes.ts'
import { overwatchNodeCalls } from './overwatch-nodes.ts'
import { overwatchEpochEmission } from './overwatch-rewards.ts'
import { overwatchStakeCalls } from './overwatch-stake.ts'
import { ownerSettingCalls } from './owner-settings.ts'
import { parameterCalls } from './parameters.ts'
import { networkRuntimeApi } from './runtime-apis.ts'
import { stakeCalls } from './stake.ts'
import {
  DESIGNATED_SLOTS,
  epochsPerYear,
  type ExitGuard,
  type Handlers,
  NetworkState,
  TREASURY,
} from './state.ts'
import { STORAGE_LIST } from './storage-list.ts'
import { subnetOwnershipCalls } from './subnet-ownership.ts'
import { subnetCalls } from './subnets.ts'
import { swapQueueCalls } from './swap-queue.ts'
import { NETWORK_TYPES } from './type-list.ts'
import { unbondingCalls } from './unbonding.ts'

/** Index of the pallet in Hypertensor's runtime. */
const PALLET_INDEX = 23

/** Calls that accounts make. */
const SIGNED: Handlers = {
  ...subnetCalls,
  ...subnetOwnershipCalls,
  ...ownerSettingCalls,
  ...emergencyCalls,
  ...nodeCalls,
  ...nodeUpdateCalls,
  ...stakeCalls,
  ...unbondingCalls,
  ...subnetDelegateCalls,
  ...nodeDelegateCalls,
  ...swapQueueCalls,
  ...identityCalls,
  ...attestationCalls,
  ...keyCalls,
  ...overwatchNodeCalls,
  ...overwatchStakeCalls,
}

/** Calls that only root makes: the councils of the chain. */
const ROOT: Handlers = { ...collectiveCalls, ...parameterCalls, ...consensusParameterCalls }

/** Calls that go on while everything is paused. */
const DESPITE_PAUSE: ReadonlySet<string> = new Set(['update_swap_queue', 'remove_identity'])

/** Calls that cost nothing when they succeed. */
const FREE: ReadonlySet<string> = new Set([
  'propose_attestation',
  'attest',
  'set_overwatch_node_peer_id',
  'commit_overwatch_subnet_weights',
  'reveal_overwatch_subnet_weights',
])

/** What an absent struct reads as. */
const DEFAULT_STRUCTS: Readonly<Record<string, LedgerValue>> = {
  SubnetWeightFactors: {
    delegate_stake: 400_000_000_000_000_000n,
    node_count: 400_000_000_000_000_000n,
    net_flow: 200_000_000_000_000_000n,
  },
  ColdkeyIdentity: Object.fromEntries(
    'name url image discord x telegram github hugging_face description misc'
      .split(' ')
      .map((field) => [field, new Uint8Array()]),
  ),
  ColdkeyReputation: {
    start_epoch: 0,
    score: 500_000_000_000_000_000n,
    lifetime_node_count: 0,
    total_active_nodes: 0,
    total_increases: 0,
    total_decreases: 0,
    average_attestation: 0n,
    last_validator_epoch: 0,
    ow_score: 500_000_000_000_000n,
  },
  FinalSubnetEmissionWeights: { validator_emissions: 0n, weights: [] },
  MaximumHooksWeightV2: hooksWeight(50),
  SubnetNodesData: emptyNode(),
  RegisteredSubnetNodesData: emptyNode(),
}

/**
 * What a chain for one machine starts with: nothing to wait for. The values are those that the chain's own genesis sets,
 * but a subnet registers for one epoch at least.
 */
const LOCAL_GENESIS: Readonly<Record<string, LedgerValue>> = {
  MinSubnetRegistrationEpochs: 1,
  OverwatchEpochLengthMultiplier: 1,
  OverwatchMinDiversificationRatio: 0n,
  OverwatchMinRepScore: 0n,
  OverwatchMinAvgAttestationRatio: 0n,
  OverwatchMinAge: 0,
  DelegateStakeCooldownEpochs: 1,
  NodeDelegateStakeCooldownEpochs: 1,
  StakeCooldownEpochs: 1,
  MinActiveNodeStakeEpochs: 1,
  SubnetDelegateStakeRewardsUpdatePeriod: 0,
  NodeRewardRateUpdatePeriod: 0,
  MinSubnetDelegateStakeFactor: 0n,
  MaxMinDelegateStakeMultiplier: 1_000_000_000_000_000_000n,
  SubnetPauseCooldownEpochs: 0,
}

export interface NetworkPalletOptions {
  /** Blocks of an epoch, more than the three slots of the chain itself. Hypertensor: 20 local, 100 testnet, 300 mainnet. */
  readonly epochBlocks: number
  /** Start with parameters for one machine (short periods, no least delegate stake) instead of the chain's defaults. */
  readonly local?: boolean
  /** Keeps nodes from leaving while something is held against them, as pallet Disputes does; default: nobody is kept. */
  readonly guardExit?: ExitGuard
}

/**
 * Hypertensor's Network pallet: subnets, nodes, stake, election, attestation, rewards and slashing. Names, types, indexes
 * and numbers are the chain's. @throws `bad_config` for an epoch without a slot for a subnet.
 *
 * Where it differs on purpose, because the chain's way loses or gives away money, or breaks a count:
 * - shares of a delegate pool are transferred only by who has them; a swap is redirected only by whose it is
 * - a swap too small for a share raises the pool, a full swap queue refuses
 * - a hotkey is released only without stake and nodes elsewhere; rewards follow a changed hotkey
 * - counters of nodes go down with a removed subnet; unpausing shifts this subnet's queue only, and the queue's own copies
 *   of changed nodes follow
 * - an emergency set stays until the subnet is unpaused; repeated ids in proposals, commits and sets count once
 * - bootnodes that are added must have a peer id; an overwatch node's former peer id is given up
 * Elections draw from the dev chain's randomness. Hooks are not metered.
 */
export function networkPallet({
  epochBlocks,
  local = false,
  guardExit,
}: NetworkPalletOptions): PalletDefinition {
  if (!Number.isInteger(epochBlocks) || epochBlocks <= DESIGNATED_SLOTS)
    throw new ChoraleError('bad_config', `epochs of ${epochBlocks} blocks have no slot: give at least 4`)
  const units = { epochsPerYear: epochsPerYear(epochBlocks), epochBlocks }
  return {
    name: 'Network',
    index: PALLET_INDEX,
    types: NETWORK_TYPES,
    storage: parseStorage(STORAGE_LIST, units, DEFAULT_STRUCTS),
    calls: parseCalls(CALL_LIST).map((call, index) => ({
      index,
      ...call,
      dispatch: dispatcher(call.name, epochBlocks, guardExit),
      freeOnSuccess: FREE.has(call.name),
    })),
    events: parseEvents(EVENT_LIST),
    errors: lines(ERROR_LIST),
    constants: [
      { name: 'EpochLength', type: 'u32', value: epochBlocks },
      { name: 'EpochsPerYear', type: 'u32', value: units.epochsPerYear },
      { name: 'InitialTxRateLimit', type: 'u32', value: 0 },
      { name: 'PalletId', type: 'PalletId', value: new TextEncoder().encode('/network') },
      { name: 'TreasuryAccount', type: 'AccountId20', value: TREASURY },
      { name: 'OverwatchEpochEmissions', type: 'u128', value: overwatchEpochEmission(units.epochsPerYear) },
      { name: 'MaximumHooksWeight', type: 'Weight', value: hooksWeight(50) },
      { name: 'DesignatedEpochSlots', type: 'u32', value: DESIGNATED_SLOTS },
    ],
    onInitialize: (context) => onBlock(new NetworkState(context, epochBlocks)),
    genesis(context) {
      if (!local) return
      for (const [item, value] of Object.entries(LOCAL_GENESIS)) context.set(`Network.${item}`, [], value)
    },
    runtimeApis: { NetworkRuntimeApi: networkRuntimeApi(epochBlocks) },
  }
}

function dispatcher(
  name: string,
  epochBlocks: number,
  guardExit: ExitGuard | undefined,
): CallDefinition['dispatch'] {
  const signed = SIGNED[name]
  const root = ROOT[name]
  if (signed !== undefined)
    return (context, origin, args) => {
      const who = ensureSigned(origin)
      const net: NetworkState = new NetworkState(context, epochBlocks, guardExit)
      net.ensure(DESPITE_PAUSE.has(name) || !net.get<boolean>('TxPause'), 'Paused')
      signed(net, args, who)
    }
  if (root === undefined) throw new ChoraleError('internal', `call ${name} is declared but not implemented`)
  return (context, origin, args) => {
    ensureRoot(origin)
    root(new NetworkState(context, epochBlocks), args, '')
  }
}

function emptyNode(): LedgerValue {
  return {
    id: 0,
    hotkey: `0x${'0'.repeat(40)}`,
    peer_info: { peer_id: new Uint8Array(), multiaddr: undefined },
    bootnode_peer_info: undefined,
    client_peer_info: undefined,
    classification: { node_class: 'Registered', start_epoch: 0 },
    delegate_reward_rate: 0n,
    last_delegate_reward_rate_update: 0,
    unique: undefined,
    non_unique: undefined,
    delegate_account: undefined,
  }
}
