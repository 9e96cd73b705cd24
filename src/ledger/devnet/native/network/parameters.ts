import { ONE } from './fixed-point.ts'
import {
  maxPercent,
  minPositive,
  one,
  percent,
  positive,
  range,
  upTo,
  wholeOrMore,
} from './parameter-kinds.ts'
import { DESIGNATED_SLOTS, type Handlers } from './state.ts'

/** `set_*` of the whole network; root only. Checks, items and events are the chain's. */
export const parameterCalls: Handlers = {
  set_min_subnet_delegate_stake_factor: one(
    'MinSubnetDelegateStakeFactor',
    'SetMinSubnetDelegateStakeFactor',
    percent,
  ),
  set_subnet_owner_percentage: one<bigint>('SubnetOwnerPercentage', 'SetSubnetOwnerPercentage', [
    (value) => value <= ONE / 2n,
    'InvalidPercent',
  ]),
  set_max_subnets: one<number>('MaxSubnets', 'SetMaxSubnets', [
    (value, net) => value <= net.epochBlocks - DESIGNATED_SLOTS,
    'InvalidMaxSubnets',
  ]),
  set_max_bootnodes: one('MaxBootnodes', 'SetMaxBootnodes', upTo(256, 'InvalidMaxBootnodes')),
  set_max_subnet_bootnodes_access: one(
    'MaxSubnetBootnodeAccess',
    'SetMaxSubnetBootnodeAccess',
    upTo(256, 'InvalidMaxSubnetBootnodeAccess'),
  ),
  set_max_pause_epochs: one(
    'MaxSubnetPauseEpochs',
    'SetMaxSubnetPauseEpochs',
    positive('InvalidMaxSubnetPauseEpochs'),
  ),
  set_delegate_stake_subnet_removal_interval: one(
    'DelegateStakeSubnetRemovalInterval',
    'SetDelegateStakeSubnetRemovalInterval',
    positive('InvalidDelegateStakeSubnetRemovalInterval'),
  ),
  set_subnet_removal_intervals: range(
    'MinSubnetRemovalInterval',
    'MaxSubnetRemovalInterval',
    'SetSubnetRemovalIntervals',
  ),
  set_subnet_pause_cooldown_epochs: one('SubnetPauseCooldownEpochs', 'SetSubnetPauseCooldownEpochs'),
  set_min_registration_cost: one('MinRegistrationCost', 'SetMinRegistrationCost'),
  set_registration_cost_delay_blocks: one('RegistrationCostDecayBlocks', 'SetRegistrationCostDecayBlocks'),
  set_registration_cost_alpha: one('RegistrationCostAlpha', 'SetRegistrationCostAlpha', percent),
  set_new_registration_cost_multiplier: one(
    'NewRegistrationCostMultiplier',
    'SetNewRegistrationCostMultiplier',
  ),
  set_max_min_delegate_stake_multiplier: one(
    'MaxMinDelegateStakeMultiplier',
    'SetMaxMinDelegateStakeMultiplier',
    wholeOrMore,
  ),
  set_churn_limits: range('MinChurnLimit', 'MaxChurnLimit', 'SetChurnLimits'),
  set_churn_limit_multipliers: range(
    'MinChurnLimitMultiplier',
    'MaxChurnLimitMultiplier',
    'SetChurnLimitMultipliers',
  ),
  set_queue_epochs: range('MinQueueEpochs', 'MaxQueueEpochs', 'SetQueueEpochs'),
  set_max_swap_queue_calls_per_block: one('MaxSwapQueueCallsPerBlock', 'SetMaxSwapQueueCallsPerBlock'),
  set_min_idle_classification_epochs: one('MinIdleClassificationEpochs', 'SetMinIdleClassificationEpochs'),
  set_max_idle_classification_epochs: one('MaxIdleClassificationEpochs', 'SetMaxIdleClassificationEpochs'),
  set_subnet_activation_enactment_epochs: one('SubnetEnactmentEpochs', 'SetSubnetEnactmentEpochs'),
  set_included_classification_epochs: range(
    'MinIncludedClassificationEpochs',
    'MaxIncludedClassificationEpochs',
    'SetIncludedClassificationEpochs',
  ),
  set_subnet_stakes: range('MinSubnetMinStake', 'MaxSubnetMinStake', 'SetSubnetStakesLimits'),
  set_delegate_stake_percentages: range<bigint>(
    'MinDelegateStakePercentage',
    'MaxDelegateStakePercentage',
    'SetDelegateStakePercentages',
    maxPercent,
  ),
  set_min_max_registered_nodes: range(
    'MinMaxRegisteredNodes',
    'MaxMaxRegisteredNodes',
    'SetMinMaxRegisteredNodes',
  ),
  set_max_subnet_delegate_stake_rewards_percentage_change: one(
    'MaxSubnetDelegateStakeRewardsPercentageChange',
    'SetMaxSubnetDelegateStakeRewardsPercentageChange',
  ),
  set_subnet_delegate_stake_rewards_update_period: one(
    'SubnetDelegateStakeRewardsUpdatePeriod',
    'SetSubnetDelegateStakeRewardsUpdatePeriod',
  ),
  set_min_attestation_percentage: one<bigint>('MinAttestationPercentage', 'SetMinAttestationPercentage', [
    (value) => value <= ONE && value > ONE / 2n,
    'InvalidPercent',
  ]),
  set_super_majority_attestation_ratio: one<bigint>(
    'SuperMajorityAttestationRatio',
    'SetSuperMajorityAttestationRatio',
    percent,
    [(value, net) => value >= net.big('MinAttestationPercentage'), 'InvalidSuperMajorityAttestationRatio'],
  ),
  set_base_validator_reward: one('BaseValidatorReward', 'SetBaseValidatorReward'),
  set_base_slash_percentage: one('BaseSlashPercentage', 'SetBaseSlashPercentage'),
  set_max_slash_amount: one('MaxSlashAmount', 'SetMaxSlashAmount'),
  set_reputation_increase_factor: one(
    'ColdkeyReputationIncreaseFactor',
    'SetColdkeyReputationIncreaseFactor',
    percent,
  ),
  set_reputation_decrease_factor: one(
    'ColdkeyReputationDecreaseFactor',
    'SetColdkeyReputationDecreaseFactor',
    percent,
  ),
  set_network_max_stake_balance: one('NetworkMaxStakeBalance', 'SetNetworkMaxStakeBalance'),
  set_min_delegate_stake_deposit: one<bigint>('MinDelegateStakeDeposit', 'SetMinDelegateStakeDeposit', [
    (value) => value >= 1000n,
    'InvalidMinDelegateStakeDeposit',
  ]),
  set_node_reward_rate_update_period: one('NodeRewardRateUpdatePeriod', 'SetNodeRewardRateUpdatePeriod'),
  set_max_reward_rate_decrease: one('MaxRewardRateDecrease', 'SetMaxRewardRateDecrease'),
  set_subnet_distribution_power: one('SubnetDistributionPower', 'SetSubnetDistributionPower'),
  set_delegate_stake_weight_factor: one('DelegateStakeWeightFactor', 'SetDelegateStakeWeightFactor', percent),
  set_inflation_sigmoid_steepness: one('InflationSigmoidSteepness', 'SetSigmoidSteepness'),
  set_sigmoid_midpoint: one('InflationSigmoidMidpoint', 'SetInflationSigmoidMidpoint', percent),
  set_min_max_subnet_node: range<number>(
    'MinSubnetNodes',
    'MaxSubnetNodes',
    'SetMinMaxSubnetNodes',
    minPositive,
  ),
  set_tx_rate_limit: one('TxRateLimit', 'SetTxRateLimit'),
  set_min_subnet_registration_epochs: one<number>(
    'MinSubnetRegistrationEpochs',
    'SetMinSubnetRegistrationEpochs',
    [(value, net) => value < net.num('SubnetRegistrationEpochs'), 'InvalidMinSubnetRegistrationEpochs'],
  ),
  set_subnet_registration_epochs: one<number>('SubnetRegistrationEpochs', 'SetSubnetRegistrationEpochs', [
    (value, net) => value > net.num('MinSubnetRegistrationEpochs'),
    'InvalidSubnetRegistrationEpochs',
  ]),
  set_min_active_node_stake_epochs: one('MinActiveNodeStakeEpochs', 'SetMinActiveNodeStakeEpochs'),
  set_delegate_stake_cooldown_epochs: one(
    'DelegateStakeCooldownEpochs',
    'SetDelegateStakeCooldownEpochs',
    positive('InvalidDelegateStakeCooldownEpochs'),
  ),
  set_node_delegate_stake_cooldown_epochs: one(
    'NodeDelegateStakeCooldownEpochs',
    'SetNodeDelegateStakeCooldownEpochs',
    positive('InvalidNodeDelegateStakeCooldownEpochs'),
  ),
  set_min_stake_cooldown_epochs: one(
    'StakeCooldownEpochs',
    'SetStakeCooldownEpochs',
    positive('InvalidStakeCooldownEpochs'),
  ),
  set_max_unbondings: one('MaxUnbondings', 'SetMaxUnbondings', upTo(256, 'InvalidMaxUnbondings')),
  set_base_node_burn_amount: one('BaseNodeBurnAmount', 'SetBaseNodeBurnAmount'),
  set_node_burn_rates: range<bigint>(
    'MinNodeBurnRate',
    'MaxNodeBurnRate',
    'SetNodeBurnRates',
    minPositive,
    maxPercent,
  ),
}
