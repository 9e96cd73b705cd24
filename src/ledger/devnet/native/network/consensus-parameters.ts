import { ONE } from './fixed-point.ts'
import { maxPercent, one, percent, positive, range, wholeOrMore } from './parameter-kinds.ts'
import type { Handlers } from './state.ts'

/** `set_*` of consensus, reputation and overwatch; root only. */
export const consensusParameterCalls: Handlers = {
  set_max_subnet_node_min_weight_decrease_reputation_threshold: one(
    'MaxSubnetNodeMinWeightDecreaseReputationThreshold',
    'SetMaxSubnetNodeMinWeightDecreaseReputationThreshold',
    percent,
  ),
  set_validator_reward_k: one<bigint>('ValidatorRewardK', 'SetValidatorRewardK', [
    (k) => k > 0n,
    'InvalidValidatorRewardK',
  ]),
  set_validator_reward_midpoint: one('ValidatorRewardMidpoint', 'SetValidatorRewardMidpoint', percent),
  set_attestor_reward_exponent: one<bigint>('AttestorRewardExponent', 'SetAttestorRewardExponent', [
    (exponent) => exponent > 0n,
    'InvalidAttestorRewardExponent',
  ]),
  set_attestor_min_reward_factor: one('AttestorMinRewardFactor', 'SetAttestorMinRewardFactor', percent),
  set_min_max_node_reputation: range<bigint>(
    'MinMinSubnetNodeReputation',
    'MaxMinSubnetNodeReputation',
    'SetNodeReputationLimits',
    maxPercent,
  ),
  set_min_max_node_reputation_factor: range<bigint>(
    'MinNodeReputationFactor',
    'MaxNodeReputationFactor',
    'SetNodeReputationFactors',
    maxPercent,
  ),
  set_min_subnet_reputation: one('MinSubnetReputation', 'SetMinSubnetReputation', percent),
  set_not_in_consensus_subnet_reputation_factor: one(
    'NotInConsensusSubnetReputationFactor',
    'SetNotInConsensusSubnetReputationFactor',
    percent,
  ),
  set_max_pause_epochs_subnet_reputation_factor: one(
    'MaxPauseEpochsSubnetReputationFactor',
    'SetMaxPauseEpochsSubnetReputationFactor',
    percent,
  ),
  set_less_than_min_nodes_subnet_reputation_factor: one(
    'LessThanMinNodesSubnetReputationFactor',
    'SetLessThanMinNodesSubnetReputationFactor',
    percent,
  ),
  set_validator_proposal_absent_subnet_reputation_factor: one(
    'ValidatorAbsentSubnetReputationFactor',
    'SetValidatorAbsentSubnetReputationFactor',
    percent,
  ),
  set_in_consensus_subnet_reputation_factor: one(
    'InConsensusSubnetReputationFactor',
    'SetInConsensusSubnetReputationFactor',
    percent,
  ),
  set_max_emergency_validator_epochs_multiplier: one(
    'MaxEmergencyValidatorEpochsMultiplier',
    'SetMaxEmergencyValidatorEpochsMultiplier',
    wholeOrMore,
  ),
  set_max_emergency_subnet_nodes: one<number>('MaxEmergencySubnetNodes', 'SetMaxEmergencySubnetNodes', [
    (nodes, net) => nodes >= net.num('MinSubnetNodes'),
    'InvalidMaxEmergencySubnetNodes',
  ]),
  set_max_overwatch_nodes: one('MaxOverwatchNodes', 'SetMaxOverwatchNodes'),
  set_overwatch_epoch_length_multiplier: one(
    'OverwatchEpochLengthMultiplier',
    'SetOverwatchEpochLengthMultiplier',
    positive('InvalidOverwatchEpochLengthMultiplier'),
  ),
  set_overwatch_commit_cutoff_percent: one<bigint>(
    'OverwatchCommitCutoffPercent',
    'SetOverwatchCommitCutoffPercent',
    [(cutoff) => cutoff <= (ONE * 95n) / 100n, 'InvalidPercent'],
  ),
  set_overwatch_min_diversification_ratio: one(
    'OverwatchMinDiversificationRatio',
    'SetOverwatchMinDiversificationRatio',
  ),
  set_overwatch_min_rep_score: one('OverwatchMinRepScore', 'SetOverwatchMinRepScore'),
  set_overwatch_min_avg_attestation_ratio: one(
    'OverwatchMinAvgAttestationRatio',
    'SetOverwatchMinAvgAttestationRatio',
  ),
  set_overwatch_min_age: one('OverwatchMinAge', 'SetOverwatchMinAge'),
  set_overwatch_min_stake_balance: one('OverwatchMinStakeBalance', 'SetOverwatchMinStakeBalance'),
  set_overwatch_weight_factor: one('OverwatchWeightFactor', 'SetOverwatchWeightFactor', percent),
  set_overwatch_stake_weight_factor: one(
    'OverwatchStakeWeightFactor',
    'SetOverwatchStakeWeightFactor',
    wholeOrMore,
  ),
}
