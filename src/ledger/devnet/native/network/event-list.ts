/** The pallet's 170 events in index order: `Name { field: type, … }`, or `Name(type, …)` where fields have no names. */
export const EVENT_LIST = `
SubnetRegistered { owner: AccountId20, name: Bytes, subnet_id: u32 }
SubnetActivated { subnet_id: u32 }
SubnetDeactivated { subnet_id: u32, reason: SubnetRemovalReason }
SubnetNodeRegistered { subnet_id: u32, subnet_node_id: u32, coldkey: AccountId20, hotkey: AccountId20, data: SubnetNode }
SubnetNodeActivated { subnet_id: u32, subnet_node_id: u32 }
SubnetNodeRemoved { subnet_id: u32, subnet_node_id: u32 }
SubnetNodeUpdateDelegateRewardRate { subnet_id: u32, subnet_node_id: u32, delegate_reward_rate: u128 }
SubnetNodeUpdatePeerInfo { subnet_id: u32, subnet_node_id: u32, peer_info: PeerInfo }
SubnetNodeUpdateBootnode { subnet_id: u32, subnet_node_id: u32, bootnode: Option<Bytes> }
SubnetNodeUpdateBootnodePeerInfo { subnet_id: u32, subnet_node_id: u32, bootnode_peer_info: Option<PeerInfo> }
SubnetNodeUpdateClientPeerInfo { subnet_id: u32, subnet_node_id: u32, client_peer_info: Option<PeerInfo> }
SubnetNodeUpdateUnique { subnet_id: u32, subnet_node_id: u32, unique: Option<Bytes> }
SubnetNodeUpdateNonUnique { subnet_id: u32, subnet_node_id: u32, non_unique: Option<Bytes> }
SubnetNodeUpdateDelegateAccount { subnet_id: u32, subnet_node_id: u32, delegate_account: Option<DelegateAccount> }
UpdateColdkey { coldkey: AccountId20, new_coldkey: AccountId20 }
UpdateHotkey { hotkey: AccountId20, new_hotkey: AccountId20 }
QueuedNodePrioritized { subnet_id: u32, subnet_node_id: u32 }
QueuedNodeRemoved { subnet_id: u32, subnet_node_id: u32 }
NodeClassGraduation { subnet_id: u32, subnet_node_id: u32, classification: SubnetNodeClassification }
StakeAdded(u32, AccountId20, AccountId20, u128)
StakeRemoved(u32, AccountId20, AccountId20, u128)
SubnetDelegateStakeAdded(u32, AccountId20, u128)
SubnetDelegateStakeRemoved(u32, AccountId20, u128)
SubnetDelegateStakeSwapped(u32, u32, AccountId20, u128)
DelegateNodeStakeAdded { account_id: AccountId20, subnet_id: u32, subnet_node_id: u32, amount: u128 }
DelegateNodeStakeRemoved { account_id: AccountId20, subnet_id: u32, subnet_node_id: u32, amount: u128 }
DelegateNodeStakeSwapped { account_id: AccountId20, from_subnet_id: u32, from_subnet_node_id: u32, to_subnet_id: u32, to_subnet_node_id: u32, amount: u128 }
DelegateNodeToSubnetDelegateStakeSwapped { account_id: AccountId20, from_subnet_id: u32, from_subnet_node_id: u32, to_subnet_id: u32, amount: u128 }
SubnetDelegateToNodeDelegateStakeSwapped { account_id: AccountId20, from_subnet_id: u32, to_subnet_id: u32, to_subnet_node_id: u32, amount: u128 }
DelegateBalanceRemoved { account_id: AccountId20, amount: u128 }
SetMaxSubnets(u32)
SetMaxBootnodes(u32)
SetMaxSubnetBootnodeAccess(u32)
SetSubnetEnactmentEpochs(u32)
SetMaxSubnetPauseEpochs(u32)
SetMinSubnetRegistrationFee(u128)
SetMaxSubnetRegistrationFee(u128)
SetMinRegistrationCost(u128)
SetRegistrationCostDecayBlocks(u32)
SetRegistrationCostAlpha(u128)
SetNewRegistrationCostMultiplier(u128)
SetMaxMinDelegateStakeMultiplier(u128)
SetChurnLimits(u32, u32)
SetChurnLimitMultipliers(u32, u32)
SetQueueEpochs(u32, u32)
SetMinActivationGraceEpochs(u32)
SetMaxActivationGraceEpochs(u32)
SetMinIdleClassificationEpochs(u32)
SetMaxIdleClassificationEpochs(u32)
SetIncludedClassificationEpochs(u32, u32)
SetSubnetStakesLimits(u128, u128)
SetDelegateStakePercentages(u128, u128)
SetMinMaxRegisteredNodes(u32, u32)
SetMaxSubnetDelegateStakeRewardsPercentageChange(u128)
SetSubnetDelegateStakeRewardsUpdatePeriod(u32)
SetMinAttestationPercentage(u128)
SetSuperMajorityAttestationRatio(u128)
SetBaseValidatorReward(u128)
SetBaseSlashPercentage(u128)
SetMaxSlashAmount(u128)
SetColdkeyReputationIncreaseFactor(u128)
SetColdkeyReputationDecreaseFactor(u128)
SetNetworkMinStakeBalance(u128)
SetNetworkMaxStakeBalance(u128)
SetMinActiveNodeStakeEpochs(u32)
SetMinDelegateStakeDeposit(u128)
SetNodeRewardRateUpdatePeriod(u32)
SetMaxRewardRateDecrease(u128)
SetSubnetDistributionPower(u128)
SetDelegateStakeWeightFactor(u128)
SetInflationSigmoidMidpoint(u128)
SetMaximumHooksWeight(u32)
SetBaseNodeBurnAmount(u128)
SetNodeBurnRates(u128, u128)
SetDelegateStakeSubnetRemovalInterval(u32)
SetSubnetRemovalIntervals(u32, u32)
SetMinSubnetNodeConsecutiveIncludedEpochs(u32)
SetMaxSubnetNodeConsecutiveIncludedEpochs(u32)
SetSubnetPauseCooldownEpochs(u32)
SetMaxSwapQueueCallsPerBlock(u32)
SetMaxSubnetNodeMinWeightDecreaseReputationThreshold(u128)
SetValidatorRewardK(u64)
SetAttestorRewardExponent(u64)
SetAttestorMinRewardFactor(u128)
SetNodeReputationLimits(u128, u128)
SetNodeReputationFactors(u128, u128)
SetMinSubnetReputation(u128)
SetNotInConsensusSubnetReputationFactor(u128)
SetMaxPauseEpochsSubnetReputationFactor(u128)
SetLessThanMinNodesSubnetReputationFactor(u128)
SetValidatorAbsentSubnetReputationFactor(u128)
SetInConsensusSubnetReputationFactor(u128)
SetOverwatchWeightFactor(u128)
SetMaxEmergencyValidatorEpochsMultiplier(u128)
SetMaxEmergencySubnetNodes(u32)
SetOverwatchStakeWeightFactor(u128)
SetSubnetWeightFactors(SubnetWeightFactorsData)
SetValidatorRewardMidpoint(u128)
OverwatchNodeBlacklist(AccountId20, bool)
SetSigmoidSteepness(u128)
SetMaxOverwatchNodes(u32)
SetOverwatchEpochLengthMultiplier(u32)
SetOverwatchCommitCutoffPercent(u128)
SetOverwatchMinDiversificationRatio(u128)
SetOverwatchMinRepScore(u128)
SetOverwatchMinAvgAttestationRatio(u128)
SetOverwatchMinAge(u32)
SetOverwatchMinStakeBalance(u128)
SetTxPause()
SetTxUnpause()
SetSubnetOwnerPercentage(u128)
SetDelegateStakeCooldownEpochs(u32)
SetNodeDelegateStakeCooldownEpochs(u32)
SetStakeCooldownEpochs(u32)
SetMaxUnbondings(u32)
CollectiveRemoveSubnetNode(u32, u32)
CollectiveRemoveOverwatchNode(u32)
SetMinSubnetRegistrationEpochs(u32)
SetSubnetRegistrationEpochs(u32)
SetMinMaxSubnetNodes(u32, u32)
SetMinStakeBalance(u128)
SetTxRateLimit(u32)
SetMinSubnetDelegateStakeFactor(u128)
ValidatorSubmission { subnet_id: u32, account_id: AccountId20, epoch: u32 }
Attestation { subnet_id: u32, subnet_node_id: u32, epoch: u32 }
Slashing { subnet_id: u32, account_id: AccountId20, amount: u128 }
SubnetRewards { subnet_id: u32, node_rewards: Vec<(u32, u128)>, delegate_stake_reward: u128, node_delegate_stake_rewards: Vec<(u32, u128)>, node_delegate_account_allocations: Vec<(u32, (AccountId20, u128))> }
OverwatchRewards { node_rewards: Vec<(u32, u128)> }
SubnetReputationUpdate { subnet_id: u32, prev_reputation: u128, new_reputation: u128 }
NodeReputationUpdate { subnet_id: u32, subnet_node_id: u32, prev_reputation: u128, new_reputation: u128 }
SubnetNameUpdate { subnet_id: u32, owner: AccountId20, prev_value: Bytes, value: Bytes }
SubnetRepoUpdate { subnet_id: u32, owner: AccountId20, prev_value: Bytes, value: Bytes }
SubnetDescriptionUpdate { subnet_id: u32, owner: AccountId20, prev_value: Bytes, value: Bytes }
SubnetMiscUpdate { subnet_id: u32, owner: AccountId20, prev_value: Bytes, value: Bytes }
ChurnLimitUpdate { subnet_id: u32, owner: AccountId20, value: u32 }
ChurnLimitMultiplierUpdate { subnet_id: u32, owner: AccountId20, value: u32 }
RegistrationQueueEpochsUpdate { subnet_id: u32, owner: AccountId20, value: u32 }
IdleClassificationEpochsUpdate { subnet_id: u32, owner: AccountId20, value: u32 }
IncludedClassificationEpochsUpdate { subnet_id: u32, owner: AccountId20, value: u32 }
BootnodesUpdated { subnet_id: u32, added: BTreeMap<OpaquePeerId, Bytes>, removed: BTreeSet<OpaquePeerId> }
SubnetPaused { subnet_id: u32, owner: AccountId20 }
SubnetUnpaused { subnet_id: u32, owner: AccountId20 }
SubnetForked { subnet_id: u32, owner: AccountId20, subnet_node_ids: Vec<u32> }
SubnetForkRevert { subnet_id: u32, owner: AccountId20 }
AddSubnetRegistrationInitialColdkeys { subnet_id: u32, owner: AccountId20, coldkeys: BTreeMap<AccountId20, u32> }
RemoveSubnetRegistrationInitialColdkeys { subnet_id: u32, owner: AccountId20, coldkeys: BTreeSet<AccountId20> }
SubnetMinMaxStakeBalanceUpdate { subnet_id: u32, owner: AccountId20, min: u128, max: u128 }
SubnetDelegateStakeRewardsPercentageUpdate { subnet_id: u32, owner: AccountId20, value: u128 }
MaxRegisteredNodesUpdate { subnet_id: u32, owner: AccountId20, value: u32 }
TransferPendingSubnetOwner { subnet_id: u32, owner: AccountId20, new_owner: AccountId20 }
AcceptPendingSubnetOwner { subnet_id: u32, new_owner: AccountId20 }
AddSubnetBootnodeAccess { subnet_id: u32, owner: AccountId20, new_account: AccountId20 }
RemoveSubnetBootnodeAccess { subnet_id: u32, owner: AccountId20, remove_account: AccountId20 }
TargetNodeRegistrationsPerEpochUpdate { subnet_id: u32, owner: AccountId20, value: u32 }
NodeBurnRateAlphaUpdate { subnet_id: u32, owner: AccountId20, value: u128 }
QueueImmunityEpochsUpdate { subnet_id: u32, owner: AccountId20, value: u32 }
SubnetNodeMinWeightDecreaseReputationThresholdUpdate { subnet_id: u32, owner: AccountId20, value: u128 }
MinSubnetNodeReputationUpdate { subnet_id: u32, owner: AccountId20, value: u128 }
AbsentDecreaseReputationFactorUpdate { subnet_id: u32, owner: AccountId20, value: u128 }
IncludedIncreaseReputationFactorUpdate { subnet_id: u32, owner: AccountId20, value: u128 }
BelowMinWeightDecreaseReputationFactorUpdate { subnet_id: u32, owner: AccountId20, value: u128 }
NonAttestorDecreaseReputationFactorUpdate { subnet_id: u32, owner: AccountId20, value: u128 }
NonConsensusAttestorDecreaseReputationFactorUpdate { subnet_id: u32, owner: AccountId20, value: u128 }
ValidatorAbsentDecreaseReputationFactorUpdate { subnet_id: u32, owner: AccountId20, value: u128 }
ValidatorNonConsensusSubnetNodeReputationFactorUpdate { subnet_id: u32, owner: AccountId20, value: u128 }
SubnetNodeConsecutiveIncludedEpochsUpdate { subnet_id: u32, owner: AccountId20, value: u32 }
IdentityRegistered { coldkey: AccountId20, identity: ColdkeyIdentityData }
IdentityRemoved { coldkey: AccountId20, identity: ColdkeyIdentityData }
SwapCallQueued { id: u32, account_id: AccountId20, call: QueuedSwapCall }
SwapCallQueueUpdated { id: u32, account_id: AccountId20, call: QueuedSwapCall }
`
