import type { LedgerValue } from '../../../ledger.ts'
import type { SubnetData } from './records.ts'
import type { NetworkState } from './state.ts'
import { requiredDelegateStake } from './subnet-rules.ts'

/** Fields of `SubnetInfo` that are one entry of a map by subnet id. */
const ITEM_OF_FIELD = {
  churn_limit: 'ChurnLimit',
  churn_limit_multiplier: 'ChurnLimitMultiplier',
  min_stake: 'SubnetMinStakeBalance',
  max_stake: 'SubnetMaxStakeBalance',
  queue_immunity_epochs: 'QueueImmunityEpochs',
  target_node_registrations_per_epoch: 'TargetNodeRegistrationsPerEpoch',
  node_registrations_this_epoch: 'NodeRegistrationsThisEpoch',
  subnet_node_queue_epochs: 'SubnetNodeQueueEpochs',
  idle_classification_epochs: 'IdleClassificationEpochs',
  included_classification_epochs: 'IncludedClassificationEpochs',
  delegate_stake_percentage: 'SubnetDelegateStakeRewardsPercentage',
  last_delegate_stake_rewards_update: 'LastSubnetDelegateStakeRewardsUpdate',
  node_burn_rate_alpha: 'NodeBurnRateAlpha',
  current_node_burn_rate: 'CurrentNodeBurnRate',
  initial_coldkeys: 'SubnetRegistrationInitialColdkeys',
  initial_coldkey_data: 'InitialColdkeyData',
  max_registered_nodes: 'MaxRegisteredNodes',
  owner: 'SubnetOwner',
  pending_owner: 'PendingSubnetOwner',
  registration_epoch: 'SubnetRegistrationEpoch',
  prev_pause_epoch: 'PreviousSubnetPauseEpoch',
  slot_index: 'SubnetSlot',
  slot_assignment: 'SlotAssignment',
  subnet_node_min_weight_decrease_reputation_threshold: 'SubnetNodeMinWeightDecreaseReputationThreshold',
  reputation: 'SubnetReputation',
  min_subnet_node_reputation: 'MinSubnetNodeReputation',
  absent_decrease_reputation_factor: 'AbsentDecreaseReputationFactor',
  included_increase_reputation_factor: 'IncludedIncreaseReputationFactor',
  below_min_weight_decrease_reputation_factor: 'BelowMinWeightDecreaseReputationFactor',
  non_attestor_decrease_reputation_factor: 'NonAttestorDecreaseReputationFactor',
  non_consensus_attestor_decrease_reputation_factor: 'NonConsensusAttestorDecreaseReputationFactor',
  validator_absent_subnet_node_reputation_factor: 'ValidatorAbsentDecreaseReputationFactor',
  validator_non_consensus_subnet_node_reputation_factor: 'ValidatorNonConsensusSubnetNodeReputationFactor',
  bootnode_access: 'SubnetBootnodeAccess',
  bootnodes: 'SubnetBootnodes',
  total_nodes: 'TotalSubnetNodes',
  total_active_nodes: 'TotalActiveSubnetNodes',
  total_electable_nodes: 'TotalSubnetElectableNodes',
  total_subnet_stake: 'TotalSubnetStake',
  total_subnet_delegate_stake_shares: 'TotalSubnetDelegateStakeShares',
  total_subnet_delegate_stake_balance: 'TotalSubnetDelegateStakeBalance',
}

/** `SubnetInfo`, or undefined where there is no such subnet. */
export function subnetInfo(net: NetworkState, subnetId: number): LedgerValue {
  const subnet = net.get<SubnetData | undefined>('SubnetsData', subnetId)
  if (subnet === undefined) return undefined
  const items = Object.entries(ITEM_OF_FIELD).map(
    ([field, item]) => [field, net.get<LedgerValue>(item, subnetId)] as const,
  )
  return {
    ...Object.fromEntries(items),
    ...subnet,
    friendly_id: net.get('SubnetIdFriendlyUid', subnetId),
    current_min_delegate_stake: requiredDelegateStake(net, subnetId),
  }
}

export function allSubnetInfos(net: NetworkState): LedgerValue[] {
  return net.entries<SubnetData>('SubnetsData').map(({ value }) => subnetInfo(net, value.id))
}
