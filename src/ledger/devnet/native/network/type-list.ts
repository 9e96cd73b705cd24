import type { TypeDefinition } from '../pallet.ts'
import { lines, parseFields } from './listing.ts'

/** The pallet's structs, `Name: field: type, …`. */
const STRUCTS = `
SubnetNode: id: u32, hotkey: AccountId20, peer_info: PeerInfo, bootnode_peer_info: Option<PeerInfo>, client_peer_info: Option<PeerInfo>, classification: SubnetNodeClassification, delegate_reward_rate: u128, last_delegate_reward_rate_update: u32, unique: Option<Bytes>, non_unique: Option<Bytes>, delegate_account: Option<DelegateAccount>
PeerInfo: peer_id: OpaquePeerId, multiaddr: Option<Bytes>
SubnetNodeClassification: node_class: SubnetNodeClass, start_epoch: u32
DelegateAccount: account_id: AccountId20, rate: u128
SubnetWeightFactorsData: delegate_stake: u128, node_count: u128, net_flow: u128
ColdkeyIdentityData: name: Bytes, url: Bytes, image: Bytes, discord: Bytes, x: Bytes, telegram: Bytes, github: Bytes, hugging_face: Bytes, description: Bytes, misc: Bytes
RegistrationSubnetData: name: Bytes, repo: Bytes, description: Bytes, misc: Bytes, min_stake: u128, max_stake: u128, delegate_stake_percentage: u128, initial_coldkeys: BTreeMap<AccountId20, u32>, bootnodes: BTreeMap<OpaquePeerId, Bytes>
SubnetNodeConsensusData: subnet_node_id: u32, score: u128
OverwatchCommit: subnet_id: u32, weight: H256
OverwatchReveal: subnet_id: u32, weight: u128, salt: Bytes
SubnetData: id: u32, friendly_id: u32, name: Bytes, repo: Bytes, description: Bytes, misc: Bytes, state: SubnetState, start_epoch: u32
EmergencySubnetValidatorData: subnet_node_ids: Vec<u32>, target_emergency_validators_epochs: u32, max_emergency_validators_epoch: u32, total_epochs: u32
ConsensusData: validator_id: u32, block: u32, validator_epoch_progress: u128, validator_reward_factor: u128, attests: BTreeMap<u32, AttestEntry>, subnet_nodes: Vec<SubnetNode>, prioritize_queue_node_id: Option<u32>, remove_queue_node_id: Option<u32>, data: Vec<SubnetNodeConsensusData>, args: Option<Bytes>
AttestEntry: block: u32, attestor_progress: u128, reward_factor: u128, data: Option<Bytes>
DistributionData: validator_emissions: u128, weights: BTreeMap<u32, u128>
Reputation: start_epoch: u32, score: u128, lifetime_node_count: u32, total_active_nodes: u32, total_increases: u32, total_decreases: u32, average_attestation: u128, last_validator_epoch: u32, ow_score: u128
OverwatchNode: id: u32, hotkey: AccountId20
QueuedSwapItem: id: u32, call: QueuedSwapCall, queued_at_block: u32, execute_after_blocks: u32
`

/** What the runtime API answers with; not part of calls, events or storage. */
const ANSWER_STRUCTS = `
SubnetInfo: id: u32, friendly_id: Option<u32>, name: Bytes, repo: Bytes, description: Bytes, misc: Bytes, state: SubnetState, start_epoch: u32, churn_limit: u32, churn_limit_multiplier: u32, min_stake: u128, max_stake: u128, queue_immunity_epochs: u32, target_node_registrations_per_epoch: u32, node_registrations_this_epoch: u32, subnet_node_queue_epochs: u32, idle_classification_epochs: u32, included_classification_epochs: u32, delegate_stake_percentage: u128, last_delegate_stake_rewards_update: u32, node_burn_rate_alpha: u128, current_node_burn_rate: u128, initial_coldkeys: Option<BTreeMap<AccountId20, u32>>, initial_coldkey_data: Option<BTreeMap<AccountId20, u32>>, max_registered_nodes: u32, owner: Option<AccountId20>, pending_owner: Option<AccountId20>, registration_epoch: Option<u32>, prev_pause_epoch: u32, slot_index: Option<u32>, slot_assignment: Option<u32>, subnet_node_min_weight_decrease_reputation_threshold: u128, reputation: u128, min_subnet_node_reputation: u128, absent_decrease_reputation_factor: u128, included_increase_reputation_factor: u128, below_min_weight_decrease_reputation_factor: u128, non_attestor_decrease_reputation_factor: u128, non_consensus_attestor_decrease_reputation_factor: u128, validator_absent_subnet_node_reputation_factor: u128, validator_non_consensus_subnet_node_reputation_factor: u128, bootnode_access: BTreeSet<AccountId20>, bootnodes: BTreeMap<OpaquePeerId, Bytes>, total_nodes: u32, total_active_nodes: u32, total_electable_nodes: u32, current_min_delegate_stake: u128, total_subnet_stake: u128, total_subnet_delegate_stake_shares: u128, total_subnet_delegate_stake_balance: u128
SubnetNodeInfo: subnet_id: u32, subnet_node_id: u32, coldkey: AccountId20, hotkey: AccountId20, peer_info: PeerInfo, bootnode_peer_info: Option<PeerInfo>, client_peer_info: Option<PeerInfo>, delegate_account: Option<DelegateAccount>, identity: ColdkeyIdentityData, classification: SubnetNodeClassification, delegate_reward_rate: u128, last_delegate_reward_rate_update: u32, unique: Option<Bytes>, non_unique: Option<Bytes>, stake_balance: u128, total_node_delegate_stake_shares: u128, node_delegate_stake_balance: u128, coldkey_reputation: Reputation, subnet_node_reputation: u128, node_slot_index: Option<u32>, consecutive_idle_epochs: u32, consecutive_included_epochs: u32
SubnetNodeStakeInfo: subnet_id: Option<u32>, subnet_node_id: Option<u32>, hotkey: AccountId20, balance: u128
DelegateStakeInfo: subnet_id: u32, shares: u128, balance: u128
NodeDelegateStakeInfo: subnet_id: u32, subnet_node_id: u32, shares: u128, balance: u128
OverwatchNodeInfo: overwatch_node_id: u32, coldkey: AccountId20, hotkey: Option<AccountId20>, peer_ids: BTreeMap<u32, OpaquePeerId>, reputation: Reputation, account_overwatch_stake: u128
AllSubnetBootnodes: subnet_bootnodes: BTreeMap<OpaquePeerId, Bytes>, node_bootnodes: BTreeMap<OpaquePeerId, Option<Bytes>>, registered_bootnodes: BTreeMap<OpaquePeerId, Option<Bytes>>
`

const ENUMS = {
  SubnetRemovalReason: [
    'MinReputation',
    'MinSubnetNodes',
    'MinSubnetDelegateStake',
    'Council',
    'EnactmentPeriod',
    'MaxSubnets',
    'Owner',
    'PauseExpired',
  ],
  SubnetNodeClass: ['Registered', 'Idle', 'Included', 'Validator'],
  SubnetState: ['Registered', 'Active', 'Paused'],
}

const PATH = 'pallet_network::pallet::'

/** Every type of the pallet and of its runtime API's answers, by name. */
export const NETWORK_TYPES: Readonly<Record<string, TypeDefinition>> = {
  OpaquePeerId: { path: 'sp_core::OpaquePeerId', fields: ['Bytes'] },
  Weight: {
    path: 'sp_weights::weight_v2::Weight',
    fields: { ref_time: 'Compact<u64>', proof_size: 'Compact<u64>' },
  },
  PalletId: { path: 'frame_support::PalletId', fields: ['[u8; 8]'] },
  ...structs(STRUCTS),
  ...structs(ANSWER_STRUCTS),
  ...Object.fromEntries(
    Object.entries(ENUMS).map(([name, variants]) => [
      name,
      { path: PATH + name, variants: Object.fromEntries(variants.map((variant) => [variant, []])) },
    ]),
  ),
  QueuedSwapCall: {
    path: `${PATH}QueuedSwapCall`,
    variants: {
      SwapToSubnetDelegateStake: { account_id: 'AccountId20', to_subnet_id: 'u32', balance: 'u128' },
      SwapToNodeDelegateStake: {
        account_id: 'AccountId20',
        to_subnet_id: 'u32',
        to_subnet_node_id: 'u32',
        balance: 'u128',
      },
    },
  },
}

function structs(list: string): Record<string, TypeDefinition> {
  return Object.fromEntries(
    lines(list).map((line) => {
      const colon = line.indexOf(': ')
      const name = line.slice(0, colon)
      return [name, { path: PATH + name, fields: parseFields(line.slice(colon + 2)) }]
    }),
  )
}
