import type { NodeClass } from '../../../ledger.ts'
import type { OrderedMap } from './ordered-map.ts'

/** A peer id (ASCII of its base58 text) and where to reach it (binary multiaddr). */
export type PeerInfo = { readonly peer_id: Uint8Array; readonly multiaddr: Uint8Array | undefined }

export type Classification = { readonly node_class: NodeClass; readonly start_epoch: number }

export type DelegateAccount = { readonly account_id: string; readonly rate: bigint }

export type SubnetNode = {
  readonly id: number
  readonly hotkey: string
  readonly peer_info: PeerInfo
  readonly bootnode_peer_info: PeerInfo | undefined
  readonly client_peer_info: PeerInfo | undefined
  readonly classification: Classification
  readonly delegate_reward_rate: bigint
  readonly last_delegate_reward_rate_update: number
  readonly unique: Uint8Array | undefined
  readonly non_unique: Uint8Array | undefined
  readonly delegate_account: DelegateAccount | undefined
}

export type SubnetState = 'Registered' | 'Active' | 'Paused'

export type SubnetData = {
  readonly id: number
  readonly friendly_id: number
  readonly name: Uint8Array
  readonly repo: Uint8Array
  readonly description: Uint8Array
  readonly misc: Uint8Array
  readonly state: SubnetState
  readonly start_epoch: number
}

export type RegistrationSubnetData = {
  readonly name: Uint8Array
  readonly repo: Uint8Array
  readonly description: Uint8Array
  readonly misc: Uint8Array
  readonly min_stake: bigint
  readonly max_stake: bigint
  readonly delegate_stake_percentage: bigint
  readonly initial_coldkeys: OrderedMap<string, number>
  readonly bootnodes: OrderedMap<Uint8Array, Uint8Array>
}

export type RemovalReason =
  | 'MinReputation'
  | 'MinSubnetNodes'
  | 'MinSubnetDelegateStake'
  | 'Council'
  | 'EnactmentPeriod'
  | 'MaxSubnets'
  | 'Owner'
  | 'PauseExpired'

export type Score = { readonly subnet_node_id: number; readonly score: bigint }

export type AttestEntry = {
  readonly block: number
  readonly attestor_progress: bigint
  readonly reward_factor: bigint
  readonly data: Uint8Array | undefined
}

export type ConsensusData = {
  /** Node id of the proposer. */
  readonly validator_id: number
  readonly block: number
  readonly validator_epoch_progress: bigint
  readonly validator_reward_factor: bigint
  readonly attests: OrderedMap<number, AttestEntry>
  /** The nodes at the time of the proposal. */
  readonly subnet_nodes: readonly SubnetNode[]
  readonly prioritize_queue_node_id: number | undefined
  readonly remove_queue_node_id: number | undefined
  readonly data: readonly Score[]
  readonly args: Uint8Array | undefined
}

export type EmergencySet = {
  readonly subnet_node_ids: readonly number[]
  readonly target_emergency_validators_epochs: number
  readonly max_emergency_validators_epoch: number
  readonly total_epochs: number
}

export type DistributionData = {
  readonly validator_emissions: bigint
  readonly weights: OrderedMap<number, bigint>
}

/** A coldkey's standing over all its nodes. */
export type Reputation = {
  readonly start_epoch: number
  readonly score: bigint
  readonly lifetime_node_count: number
  readonly total_active_nodes: number
  readonly total_increases: number
  readonly total_decreases: number
  readonly average_attestation: bigint
  readonly last_validator_epoch: number
  readonly ow_score: bigint
}

export type SwapCall =
  | {
      readonly type: 'SwapToSubnetDelegateStake'
      readonly value: { readonly account_id: string; readonly to_subnet_id: number; readonly balance: bigint }
    }
  | {
      readonly type: 'SwapToNodeDelegateStake'
      readonly value: {
        readonly account_id: string
        readonly to_subnet_id: number
        readonly to_subnet_node_id: number
        readonly balance: bigint
      }
    }

export type SwapItem = {
  readonly id: number
  readonly call: SwapCall
  readonly queued_at_block: number
  readonly execute_after_blocks: number
}

const CLASSES: readonly NodeClass[] = ['Registered', 'Idle', 'Included', 'Validator']

/** 0 for Registered … 3 for Validator. */
export function classRank(nodeClass: NodeClass): number {
  return CLASSES.indexOf(nodeClass)
}

/** The class of a rank, or undefined beyond Validator. */
export function classOfRank(rank: number): NodeClass | undefined {
  return CLASSES[rank]
}

/** Whether a node is of at least this class, and its class counts in this subnet epoch. */
export function hasClass(node: SubnetNode, least: NodeClass, subnetEpoch: number): boolean {
  const { node_class, start_epoch } = node.classification
  return classRank(node_class) >= classRank(least) && start_epoch <= subnetEpoch
}
