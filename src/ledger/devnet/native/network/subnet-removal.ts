import type { RemovalReason, SubnetData } from './records.ts'
import type { NetworkState } from './state.ts'

/** What a subnet has one entry of. */
const SUBNET_ITEMS = [
  'SubnetsData',
  'SubnetOwner',
  'PendingSubnetOwner',
  'SubnetRegistrationEpoch',
  'PreviousSubnetPauseEpoch',
  'ChurnLimit',
  'ChurnLimitMultiplier',
  'SubnetNodeQueueEpochs',
  'IdleClassificationEpochs',
  'IncludedClassificationEpochs',
  'SubnetMinStakeBalance',
  'SubnetMaxStakeBalance',
  'SubnetDelegateStakeRewardsPercentage',
  'LastSubnetDelegateStakeRewardsUpdate',
  'SubnetRegistrationInitialColdkeys',
  'InitialColdkeyData',
  'MaxRegisteredNodes',
  'TargetNodeRegistrationsPerEpoch',
  'NodeBurnRateAlpha',
  'CurrentNodeBurnRate',
  'QueueImmunityEpochs',
  'SubnetBootnodeAccess',
  'SubnetBootnodes',
  'EmergencySubnetNodeElectionData',
  'SubnetReputation',
  'MinSubnetNodeReputation',
  'NodeRegistrationsThisEpoch',
  'SubnetNodeMinWeightDecreaseReputationThreshold',
  'AbsentDecreaseReputationFactor',
  'IncludedIncreaseReputationFactor',
  'BelowMinWeightDecreaseReputationFactor',
  'NonAttestorDecreaseReputationFactor',
  'NonConsensusAttestorDecreaseReputationFactor',
  'ValidatorAbsentDecreaseReputationFactor',
  'ValidatorNonConsensusSubnetNodeReputationFactor',
  'TotalSubnetNodeUids',
  'SubnetNodeElectionSlots',
  'SubnetNodeQueue',
  'TotalSubnetElectableNodes',
  'TotalActiveSubnetNodes',
  'TotalSubnetNodes',
]

/** What it has an entry of for each node, epoch or peer. */
const SUBNET_PREFIXES = [
  'SubnetNodesData',
  'RegisteredSubnetNodesData',
  'PeerIdSubnetNodeId',
  'BootnodePeerIdSubnetNodeId',
  'ClientPeerIdSubnetNodeId',
  'MultiaddrSubnetNodeId',
  'UniqueParamSubnetNodeId',
  'HotkeySubnetNodeId',
  'SubnetNodeIdHotkey',
  'SubnetNodeReputation',
  'SubnetNodeIdleConsecutiveEpochs',
  'SubnetNodeConsecutiveIncludedEpochs',
  'SubnetElectedValidator',
  'NodeSlotIndex',
]

/**
 * Removes a subnet and all its nodes; nothing happens where there is none. Stake and delegate stake stay their owners', to
 * be taken out. Counters of the whole network go down with it (the chain forgets TotalElectableNodes and TotalNodes).
 */
export function removeSubnet(net: NetworkState, subnetId: number, reason: RemovalReason): void {
  const subnet = net.get<SubnetData | undefined>('SubnetsData', subnetId)
  if (subnet === undefined) return
  net.count('TotalActiveNodes', [], -net.num('TotalActiveSubnetNodes', subnetId))
  net.count('TotalNodes', [], -net.num('TotalSubnetNodes', subnetId))
  net.count('TotalElectableNodes', [], -net.num('TotalSubnetElectableNodes', subnetId))
  net.count('TotalSubnets', [], -1)
  if (subnet.state !== 'Registered') net.count('TotalActiveSubnets', [], -1)
  net.drop('SubnetName', subnet.name)
  net.drop('SubnetRepo', subnet.repo)
  freeSlot(net, subnetId)
  for (const item of SUBNET_ITEMS) net.drop(item, subnetId)
  for (const item of SUBNET_PREFIXES) net.dropAll(item, subnetId)
  net.emit('SubnetDeactivated', { subnet_id: subnetId, reason })
}

function freeSlot(net: NetworkState, subnetId: number): void {
  const friendly = net.get<number | undefined>('SubnetIdFriendlyUid', subnetId)
  if (friendly !== undefined) net.drop('FriendlyUidSubnetId', friendly)
  net.drop('SubnetIdFriendlyUid', subnetId)
  const slot = net.get<number | undefined>('SubnetSlot', subnetId)
  if (slot === undefined) return
  net.drop('SubnetSlot', subnetId)
  net.drop('SlotAssignment', slot)
  const assigned = net.get<readonly number[]>('AssignedSlots')
  net.put(
    'AssignedSlots',
    [],
    assigned.filter((other) => other !== slot),
  )
}
