/**
 * The pallet's storage in metadata order: `Name: hasher key, … => type`, `?` where an absent entry reads as none, and
 * `= value` where it reads as something else than its type's zero. Values are the chain's own defaults.
 */
export const STORAGE_LIST = `
TotalSubnetUids: u32 = 128000
SubnetNetFlow: Identity u32 => i128
SubnetIdFriendlyUid: Identity u32 => u32?
FriendlyUidSubnetId: Identity u32 => u32?
TotalSubnets: u32
TotalActiveSubnets: u32
SubnetsData: Identity u32 => SubnetData?
SubnetRegistrationEpoch: Identity u32 => u32?
SubnetOwner: Identity u32 => AccountId20?
SubnetPauseCooldownEpochs: u32 = epochsPerYear / 12
PreviousSubnetPauseEpoch: Identity u32 => u32
PrevSubnetActivationEpoch: u32
LastRegistrationCost: u128 = 1000000000000000000
MinRegistrationCost: u128 = 100000000000000000
LastSubnetRegistrationBlock: u32
SubnetSlot: Identity u32 => u32?
SlotAssignment: Identity u32 => u32?
AssignedSlots: BTreeSet<u32>
SubnetNodeElectionSlots: Identity u32 => Vec<u32>
EmergencySubnetNodeElectionData: Identity u32 => EmergencySubnetValidatorData?
MaxEmergencySubnetNodes: u32 = 64
MaxEmergencyValidatorEpochsMultiplier: u128 = 2000000000000000000
TotalSubnetElectableNodes: Identity u32 => u32
TotalElectableNodes: u32
NodeSlotIndex: Identity u32, Identity u32 => u32?
TotalNodes: u32
TotalActiveNodes: u32
TotalSubnetNodes: Identity u32 => u32
TotalActiveSubnetNodes: Identity u32 => u32
RegistrationCostDecayBlocks: u32 = 438290
RegistrationCostAlpha: u128 = 500000000000000000
NewRegistrationCostMultiplier: u128 = 2000000000000000000
MaxSubnetPauseEpochs: u32 = epochsPerYear / 120
MinSubnetRemovalInterval: u32 = 10
MaxSubnetRemovalInterval: u32 = 10
DelegateStakeSubnetRemovalInterval: u32 = 2
SubnetRegistrationEpochs: u32 = epochsPerYear / 52
MinSubnetRegistrationEpochs: u32 = epochsPerYear / 365
SubnetEnactmentEpochs: u32 = epochsPerYear / 104
MaxSubnetBootnodeAccess: u32 = 21
MaxSubnets: u32 = 64
MaxBootnodes: u32 = 32
MinSubnetNodes: u32 = 3
MaxSubnetNodes: u32 = 256
MaxMinDelegateStakeMultiplier: u128 = 4000000000000000000
MinChurnLimit: u32 = 1
MaxChurnLimit: u32 = 64
MinChurnLimitMultiplier: u32 = 1
MaxChurnLimitMultiplier: u32 = epochsPerYear / 52
MinQueueEpochs: u32 = 3
MaxQueueEpochs: u32 = epochsPerYear / 12
MinIdleClassificationEpochs: u32 = 1
MaxIdleClassificationEpochs: u32 = epochsPerYear / 52
MinIncludedClassificationEpochs: u32 = 1
MaxIncludedClassificationEpochs: u32 = epochsPerYear / 52
MaxSubnetNodeMinWeightDecreaseReputationThreshold: u128 = 100000000000000000
MinSubnetMinStake: u128 = 100000000000000000000
MaxSubnetMinStake: u128 = 250000000000000000000
NetworkMaxStakeBalance: u128 = 1000000000000000000000
MinDelegateStakePercentage: u128 = 50000000000000000
MaxDelegateStakePercentage: u128 = 950000000000000000
MinMaxRegisteredNodes: u32 = 1
MaxMaxRegisteredNodes: u32 = 64
MaxSubnetDelegateStakeRewardsPercentageChange: u128 = 20000000000000000
SubnetDelegateStakeRewardsUpdatePeriod: u32 = 14400
DelegateStakeCooldownEpochs: u32 = 1
NodeDelegateStakeCooldownEpochs: u32 = 1
StakeCooldownEpochs: u32 = 4
MaxUnbondings: u32 = 32
BaseValidatorReward: u128 = 1000000000000000000
ValidatorRewardK: u64 = 20
ValidatorRewardMidpoint: u128 = 500000000000000000
AttestorRewardExponent: u64 = 10
AttestorMinRewardFactor: u128 = 330000000000000000
BaseSlashPercentage: u128 = 31250000000000000
MaxSlashAmount: u128 = 1000000000000000000
SubnetDistributionPower: u128 = 750000000000000000
DelegateStakeWeightFactor: u128 = 400000000000000000
SubnetWeightFactors: SubnetWeightFactorsData
InflationSigmoidMidpoint: u128 = 500000000000000000
InflationSigmoidSteepness: u128 = 7
SubnetOwnerPercentage: u128 = 230000000000000000
PendingSubnetOwner: Identity u32 => AccountId20?
SubnetBootnodes: Identity u32 => BTreeMap<OpaquePeerId, Bytes>
SubnetBootnodeAccess: Identity u32 => BTreeSet<AccountId20>
SubnetName: Blake2_128Concat Bytes => u32?
SubnetRepo: Blake2_128Concat Bytes => u32?
ChurnLimit: Identity u32 => u32 = 4
ChurnLimitMultiplier: Identity u32 => u32 = 1
SubnetNodeQueueEpochs: Identity u32 => u32 = 3
IdleClassificationEpochs: Identity u32 => u32 = 2
IncludedClassificationEpochs: Identity u32 => u32 = 2
SubnetNodeIdleConsecutiveEpochs: Identity u32, Identity u32 => u32
SubnetNodeConsecutiveIncludedEpochs: Identity u32, Identity u32 => u32
QueueImmunityEpochs: Identity u32 => u32 = 3
SubnetRegistrationInitialColdkeys: Identity u32 => BTreeMap<AccountId20, u32>?
SubnetMinStakeBalance: Identity u32 => u128 = 100000000000000000000
SubnetMaxStakeBalance: Identity u32 => u128 = 1000000000000000000000
SubnetDelegateStakeRewardsPercentage: Identity u32 => u128 = 100000000000000000
LastSubnetDelegateStakeRewardsUpdate: Identity u32 => u32
InitialColdkeyData: Identity u32 => BTreeMap<AccountId20, u32>?
MaxRegisteredNodes: Identity u32 => u32 = 64
SubnetNodeMinWeightDecreaseReputationThreshold: Identity u32 => u128
TotalSubnetNodeUids: Identity u32 => u32
ColdkeyIdentity: Blake2_128Concat AccountId20 => ColdkeyIdentityData
ColdkeyIdentityNameOwner: Blake2_128Concat Bytes => AccountId20
HotkeyOwner: Blake2_128Concat AccountId20 => AccountId20
HotkeySubnetId: Blake2_128Concat AccountId20 => u32?
ColdkeyHotkeys: Blake2_128Concat AccountId20 => BTreeSet<AccountId20>
ColdkeySubnetNodes: Blake2_128Concat AccountId20 => BTreeMap<u32, BTreeSet<u32>>
HotkeySubnetNodeId: Identity u32, Blake2_128Concat AccountId20 => u32?
SubnetNodeIdHotkey: Identity u32, Identity u32 => AccountId20?
SubnetNodesData: Identity u32, Identity u32 => SubnetNode
RegisteredSubnetNodesData: Identity u32, Identity u32 => SubnetNode
SubnetNodeQueue: Identity u32 => Vec<SubnetNode>
PeerIdSubnetNodeId: Identity u32, Blake2_128Concat OpaquePeerId => u32
BootnodePeerIdSubnetNodeId: Identity u32, Blake2_128Concat OpaquePeerId => u32
ClientPeerIdSubnetNodeId: Identity u32, Blake2_128Concat OpaquePeerId => u32
MultiaddrSubnetNodeId: Identity u32, Blake2_128Concat Bytes => u32
UniqueParamSubnetNodeId: Identity u32, Blake2_128Concat Bytes => u32
CurrentNodeBurnRate: Identity u32 => u128 = 1000000000000000000
BaseNodeBurnAmount: u128 = 10000000000000
MinNodeBurnRate: u128 = 1000000000000000000
MaxNodeBurnRate: u128 = 5000000000000000000
NodeBurnRateAlpha: Identity u32 => u128 = 500000000000000000
TargetNodeRegistrationsPerEpoch: Identity u32 => u32 = 64
NodeRegistrationsThisEpoch: Identity u32 => u32
TxRateLimit: u32
LastTxBlock: Identity AccountId20 => u32
TxPause: bool
SubnetElectedValidator: Identity u32, Identity u32 => u32?
SubnetConsensusSubmission: Identity u32, Identity u32 => ConsensusData?
MinAttestationPercentage: u128 = 660000000000000000
SuperMajorityAttestationRatio: u128 = 875000000000000000
FinalSubnetEmissionWeights: Identity u32 => DistributionData
MinNodeReputationFactor: u128 = 50000000000000000
MaxNodeReputationFactor: u128 = 500000000000000000
MinMinSubnetNodeReputation: u128 = 50000000000000000
MaxMinSubnetNodeReputation: u128 = 500000000000000000
MinSubnetNodeReputation: Identity u32 => u128 = 100000000000000000
SubnetNodeReputation: Identity u32, Identity u32 => u128 = 1000000000000000000
AbsentDecreaseReputationFactor: Identity u32 => u128 = 100000000000000000
IncludedIncreaseReputationFactor: Identity u32 => u128 = 100000000000000000
BelowMinWeightDecreaseReputationFactor: Identity u32 => u128 = 100000000000000000
NonAttestorDecreaseReputationFactor: Identity u32 => u128 = 100000000000000000
NonConsensusAttestorDecreaseReputationFactor: Identity u32 => u128 = 100000000000000000
ValidatorAbsentDecreaseReputationFactor: Identity u32 => u128 = 50000000000000000
ValidatorNonConsensusSubnetNodeReputationFactor: Identity u32 => u128 = 50000000000000000
SubnetReputation: Identity u32 => u128 = 1000000000000000000
MinSubnetReputation: u128 = 100000000000000000
NotInConsensusSubnetReputationFactor: u128 = 125000000000000000
MaxPauseEpochsSubnetReputationFactor: u128 = 125000000000000000
LessThanMinNodesSubnetReputationFactor: u128 = 125000000000000000
ValidatorAbsentSubnetReputationFactor: u128 = 50000000000000000
InConsensusSubnetReputationFactor: u128 = 125000000000000000
ColdkeyReputationIncreaseFactor: u128 = 500000000000000
ColdkeyReputationDecreaseFactor: u128 = 500000000000000000
ColdkeyReputation: Blake2_128Concat AccountId20 => Reputation
TotalStake: u128
TotalSubnetStake: Identity u32 => u128
AccountSubnetStake: Blake2_128Concat AccountId20, Identity u32 => u128
TotalAccountDelegateStake: u128
AccountDelegateStake: Blake2_128Concat AccountId20 => u128
StakeUnbondingLedger: Blake2_128Concat AccountId20 => BTreeMap<u32, u128>
TotalUnbondingBalance: u128
MinActiveNodeStakeEpochs: u32 = epochsPerYear / 365
MinSubnetDelegateStakeFactor: u128 = 1000000000000000
MinDelegateStakeDeposit: u128 = 1000
TotalDelegateStake: u128
TotalSubnetDelegateStakeShares: Identity u32 => u128
TotalSubnetDelegateStakeBalance: Identity u32 => u128
AccountSubnetDelegateStakeShares: Blake2_128Concat AccountId20, Identity u32 => u128
NodeRewardRateUpdatePeriod: u32 = 14400
MaxRewardRateDecrease: u128 = 10000000
TotalNodeDelegateStake: u128
TotalNodeDelegateStakeShares: Identity u32, Identity u32 => u128
TotalNodeDelegateStakeBalance: Identity u32, Identity u32 => u128
AccountNodeDelegateStakeShares: Blake2_128Concat AccountId20, Identity u32, Identity u32 => u128
OverwatchNodeBlacklist: Blake2_128Concat AccountId20 => bool
MaxOverwatchNodes: u32 = 64
TotalOverwatchNodes: u32
TotalOverwatchNodeUids: u32
OverwatchEpochLengthMultiplier: u32 = 16
OverwatchCommitCutoffPercent: u128 = 800000000000000000
OverwatchNodes: Identity u32 => OverwatchNode?
OverwatchNodeIdHotkey: Identity u32 => AccountId20?
HotkeyOverwatchNodeId: Blake2_128Concat AccountId20 => u32?
PeerIdOverwatchNodeId: Identity u32, Blake2_128Concat OpaquePeerId => u32
OverwatchNodeIndex: Identity u32 => BTreeMap<u32, OpaquePeerId>
OverwatchCommits: Identity u32, Identity u32, Identity u32 => H256?
OverwatchReveals: Identity u32, Identity u32, Identity u32 => u128?
OverwatchWeightFactor: u128 = 1000000000000000000
OverwatchStakeWeightFactor: u128 = 900000000000000000
OverwatchSubnetWeights: Identity u32, Identity u32 => u128?
OverwatchNodeWeights: Identity u32, Identity u32 => u128?
OverwatchMinDiversificationRatio: u128 = 250000000000000000
OverwatchMinRepScore: u128 = 750000000000000000
OverwatchMinAvgAttestationRatio: u128 = 720000000000000000
OverwatchMinAge: u32 = epochBlocks / 4
TotalOverwatchStake: u128
AccountOverwatchStake: Blake2_128Concat AccountId20 => u128
OverwatchMinStakeBalance: u128 = 100000000000000000000
SwapQueueOrder: Vec<u32>
SwapCallQueue: Identity u32 => QueuedSwapItem?
NextSwapQueueId: u32
MaxSwapQueueCallsPerBlock: u32 = 16
MaximumHooksWeightV2: Weight
`
