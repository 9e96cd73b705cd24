import { atMost, ONE } from './fixed-point.ts'
import type { SubnetData } from './records.ts'
import type { Handler, Handlers, NetworkState } from './state.ts'
import { ensureOwner } from './subnets.ts'

type Setting<T> = { readonly subnet_id: number; readonly value: T }

/** Sets a subnet's number within the limits that two items of the whole network give. */
function limitedNumber(item: string, min: string, max: string, error: string, event: string): Handler {
  return (net: NetworkState, args, who) => {
    const { subnet_id, value } = args as Setting<number>
    ensureOwner(net, subnet_id, who)
    net.ensure(value >= net.num(min) && value <= net.num(max), error)
    net.put(item, [subnet_id], value)
    net.emit(event, { subnet_id, owner: who, value })
  }
}

/** Sets a factor by which reputation changes. Factors that lower it stay while an emergency set stands. */
function reputationFactor(item: string, error: string, frozenInEmergency = true): Handler {
  return (net: NetworkState, args, who) => {
    const { subnet_id, value } = args as Setting<bigint>
    ensureOwner(net, subnet_id, who)
    net.ensure(value <= ONE, 'InvalidPercent')
    net.ensure(
      value >= net.big('MinNodeReputationFactor') && value <= net.big('MaxNodeReputationFactor'),
      error,
    )
    const emergency = net.has('EmergencySubnetNodeElectionData', subnet_id)
    net.ensure(!frozenInEmergency || !emergency, 'EmergencyValidatorsSet')
    net.put(item, [subnet_id], value)
    net.emit(`${item}Update`, { subnet_id, owner: who, value })
  }
}

/** Changes one text of the subnet; a name or a repo is unique in the network. */
function textUpdate(
  field: 'name' | 'repo' | 'description' | 'misc',
  event: string,
  unique?: { readonly item: string; readonly error: string },
): Handler {
  return (net: NetworkState, args, who) => {
    const { subnet_id, value } = args as Setting<Uint8Array>
    ensureOwner(net, subnet_id, who)
    if (unique !== undefined) net.ensure(!net.has(unique.item, value), unique.error)
    const subnet = net.get<SubnetData | undefined>('SubnetsData', subnet_id)
    net.ensure(subnet !== undefined, 'InvalidSubnetId')
    if (unique !== undefined) {
      net.drop(unique.item, subnet[field])
      net.put(unique.item, [value], subnet_id)
    }
    net.put('SubnetsData', [subnet_id], { ...subnet, [field]: value })
    net.emit(event, { subnet_id, owner: who, prev_value: subnet[field], value })
  }
}

function updateDelegateShare(net: NetworkState, subnetId: number, owner: string, value: bigint): void {
  const last = net.num('LastSubnetDelegateStakeRewardsUpdate', subnetId)
  const period = net.num('SubnetDelegateStakeRewardsUpdatePeriod')
  net.ensure(last + period < net.block, 'DelegateStakePercentageUpdateTooSoon')
  const current = net.big('SubnetDelegateStakeRewardsPercentage', subnetId)
  const change = value > current ? value - current : current - value
  const most = net.big('MaxSubnetDelegateStakeRewardsPercentageChange')
  net.ensure(change <= most, 'DelegateStakePercentageAbsDiffTooLarge')
  const limit = atMost(net.big('MaxDelegateStakePercentage'), ONE)
  net.ensure(
    value >= net.big('MinDelegateStakePercentage') && value <= limit,
    'InvalidDelegateStakePercentage',
  )
  net.put('LastSubnetDelegateStakeRewardsUpdate', [subnetId], net.block)
  net.put('SubnetDelegateStakeRewardsPercentage', [subnetId], value)
  net.emit('SubnetDelegateStakeRewardsPercentageUpdate', { subnet_id: subnetId, owner, value })
}

export const ownerSettingCalls: Handlers = {
  owner_update_name: textUpdate('name', 'SubnetNameUpdate', { item: 'SubnetName', error: 'SubnetNameExist' }),
  owner_update_repo: textUpdate('repo', 'SubnetRepoUpdate', { item: 'SubnetRepo', error: 'SubnetRepoExist' }),
  owner_update_description: textUpdate('description', 'SubnetDescriptionUpdate'),
  owner_update_misc: textUpdate('misc', 'SubnetMiscUpdate'),
  owner_update_churn_limit: limitedNumber(
    'ChurnLimit',
    'MinChurnLimit',
    'MaxChurnLimit',
    'InvalidChurnLimit',
    'ChurnLimitUpdate',
  ),
  owner_update_churn_limit_multiplier: limitedNumber(
    'ChurnLimitMultiplier',
    'MinChurnLimitMultiplier',
    'MaxChurnLimitMultiplier',
    'InvalidChurnLimitMultiplier',
    'ChurnLimitMultiplierUpdate',
  ),
  owner_update_registration_queue_epochs: limitedNumber(
    'SubnetNodeQueueEpochs',
    'MinQueueEpochs',
    'MaxQueueEpochs',
    'InvalidRegistrationQueueEpochs',
    'RegistrationQueueEpochsUpdate',
  ),
  owner_update_idle_classification_epochs: limitedNumber(
    'IdleClassificationEpochs',
    'MinIdleClassificationEpochs',
    'MaxIdleClassificationEpochs',
    'InvalidIdleClassificationEpochs',
    'IdleClassificationEpochsUpdate',
  ),
  owner_update_included_classification_epochs: limitedNumber(
    'IncludedClassificationEpochs',
    'MinIncludedClassificationEpochs',
    'MaxIncludedClassificationEpochs',
    'InvalidIncludedClassificationEpochs',
    'IncludedClassificationEpochsUpdate',
  ),
  owner_update_non_consensus_attestor_decrease_reputation_factor: reputationFactor(
    'NonConsensusAttestorDecreaseReputationFactor',
    'InvalidNonConsensusAttestorDecreaseReputationFactor',
  ),
  owner_update_absent_decrease_reputation_factor: reputationFactor(
    'AbsentDecreaseReputationFactor',
    'InvalidAbsentDecreaseReputationFactor',
  ),
  owner_update_included_increase_reputation_factor: reputationFactor(
    'IncludedIncreaseReputationFactor',
    'InvalidIncludedIncreaseReputationFactor',
    false,
  ),
  owner_update_below_min_weight_decrease_reputation_factor: reputationFactor(
    'BelowMinWeightDecreaseReputationFactor',
    'InvalidBelowMinWeightDecreaseReputationFactor',
  ),
  owner_update_non_attestor_decrease_reputation_factor: reputationFactor(
    'NonAttestorDecreaseReputationFactor',
    'InvalidNonAttestorDecreaseReputationFactor',
  ),
  owner_update_validator_absent_decrease_reputation_factor: reputationFactor(
    'ValidatorAbsentDecreaseReputationFactor',
    'InvalidNonValidatorAbsentDecreaseReputationFactor',
  ),
  owner_update_validator_non_consensus_decrease_reputation_factor: reputationFactor(
    'ValidatorNonConsensusSubnetNodeReputationFactor',
    'InvalidValidatorNonConsensusSubnetNodeReputationFactor',
  ),
  owner_update_subnet_node_min_weight_decrease_reputation_threshold(net: NetworkState, args, who) {
    const { subnet_id, value } = args as Setting<bigint>
    ensureOwner(net, subnet_id, who)
    const most = net.big('MaxSubnetNodeMinWeightDecreaseReputationThreshold')
    net.ensure(value <= most, 'InvalidPercent')
    net.put('SubnetNodeMinWeightDecreaseReputationThreshold', [subnet_id], value)
    net.emit('SubnetNodeMinWeightDecreaseReputationThresholdUpdate', { subnet_id, owner: who, value })
  },
  owner_update_min_subnet_node_reputation(net: NetworkState, args, who) {
    const { subnet_id, value } = args as Setting<bigint>
    ensureOwner(net, subnet_id, who)
    net.ensure(value <= ONE, 'InvalidPercent')
    net.ensure(
      value >= net.big('MinMinSubnetNodeReputation') && value <= net.big('MaxMinSubnetNodeReputation'),
      'MinSubnetNodeReputation',
    )
    net.put('MinSubnetNodeReputation', [subnet_id], value)
    net.emit('MinSubnetNodeReputationUpdate', { subnet_id, owner: who, value })
  },
  owner_update_min_max_stake(net: NetworkState, args, who) {
    const { subnet_id, min, max } = args as { subnet_id: number; min: bigint; max: bigint }
    ensureOwner(net, subnet_id, who)
    net.ensure(min <= max, 'InvalidValues')
    net.ensure(
      min >= net.big('MinSubnetMinStake') && min <= net.big('MaxSubnetMinStake'),
      'InvalidSubnetMinStake',
    )
    net.ensure(max <= net.big('NetworkMaxStakeBalance'), 'InvalidSubnetMaxStake')
    net.put('SubnetMinStakeBalance', [subnet_id], min)
    net.put('SubnetMaxStakeBalance', [subnet_id], max)
    net.emit('SubnetMinMaxStakeBalanceUpdate', { subnet_id, owner: who, min, max })
  },
  owner_update_delegate_stake_percentage(net: NetworkState, args, who) {
    const { subnet_id, value } = args as Setting<bigint>
    ensureOwner(net, subnet_id, who)
    updateDelegateShare(net, subnet_id, who, value)
  },
  owner_update_max_registered_nodes(net: NetworkState, args, who) {
    const { subnet_id, value } = args as Setting<number>
    ensureOwner(net, subnet_id, who)
    net.ensure(
      value >= net.num('MinMaxRegisteredNodes') &&
        value <= net.num('MaxMaxRegisteredNodes') &&
        value <= net.num('TargetNodeRegistrationsPerEpoch', subnet_id),
      'InvalidMaxRegisteredNodes',
    )
    net.put('MaxRegisteredNodes', [subnet_id], value)
    net.emit('MaxRegisteredNodesUpdate', { subnet_id, owner: who, value })
  },
  owner_update_target_node_registrations_per_epoch(net: NetworkState, args, who) {
    const { subnet_id, value } = args as Setting<number>
    ensureOwner(net, subnet_id, who)
    net.ensure(
      value > 0 && value <= net.num('MaxRegisteredNodes', subnet_id),
      'InvalidTargetNodeRegistrationsPerEpoch',
    )
    net.put('TargetNodeRegistrationsPerEpoch', [subnet_id], value)
    net.emit('TargetNodeRegistrationsPerEpochUpdate', { subnet_id, owner: who, value })
  },
  owner_update_node_burn_rate_alpha(net: NetworkState, args, who) {
    const { subnet_id, value } = args as Setting<bigint>
    ensureOwner(net, subnet_id, who)
    net.ensure(value <= ONE, 'InvalidPercent')
    net.put('NodeBurnRateAlpha', [subnet_id], value)
    net.emit('NodeBurnRateAlphaUpdate', { subnet_id, owner: who, value })
  },
  owner_update_queue_immunity_epochs(net: NetworkState, args, who) {
    const { subnet_id, value } = args as Setting<number>
    ensureOwner(net, subnet_id, who)
    net.put('QueueImmunityEpochs', [subnet_id], value)
    net.emit('QueueImmunityEpochsUpdate', { subnet_id, owner: who, value })
  },
}
