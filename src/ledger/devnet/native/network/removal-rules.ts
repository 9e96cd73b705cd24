import type { SubnetData } from './records.ts'
import { lowerSubnet } from './reputation.ts'
import type { NetworkState } from './state.ts'
import { removeSubnet } from './subnet-removal.ts'
import { registrationPhase, requiredDelegateStake } from './subnet-rules.ts'

/** First block of an epoch: removes subnets that may not stay, and of too many the one with the least delegate stake. */
export function applyRemovalRules(net: NetworkState): void {
  const subnets = net.entries<SubnetData>('SubnetsData').map(({ value }) => value)
  const crowded = subnets.length > net.num('MaxSubnets')
  const rivals: { readonly id: number; readonly stake: bigint }[] = []
  for (const subnet of subnets) {
    if (subnet.state === 'Registered') checkRegistered(net, subnet)
    else if (subnet.state === 'Paused') checkPaused(net, subnet)
    else if (subnet.start_epoch <= net.epoch && checkActive(net, subnet.id))
      rivals.push({ id: subnet.id, stake: net.big('TotalSubnetDelegateStakeBalance', subnet.id) })
  }
  const due =
    net.epoch % Math.max(1, net.num('MaxSubnetRemovalInterval')) === 0 &&
    net.epoch >= net.num('PrevSubnetActivationEpoch') + net.num('MinSubnetRemovalInterval')
  const [first, ...others] = rivals
  if (!crowded || !due || first === undefined) return
  const weakest = others.reduce((least, rival) => (rival.stake < least.stake ? rival : least), first)
  removeSubnet(net, weakest.id, 'MaxSubnets')
}

function checkRegistered(net: NetworkState, subnet: SubnetData): void {
  const phase = registrationPhase(net, subnet.id, subnet)
  if (phase === 'over') removeSubnet(net, subnet.id, 'EnactmentPeriod')
  else if (phase === 'enactment' && net.num('TotalActiveSubnetNodes', subnet.id) < net.num('MinSubnetNodes'))
    removeSubnet(net, subnet.id, 'MinSubnetNodes')
}

function checkPaused(net: NetworkState, subnet: SubnetData): void {
  if (subnet.start_epoch + net.num('MaxSubnetPauseEpochs') >= net.epoch) return
  const reputation = lowerSubnet(net, subnet.id, 'MaxPauseEpochsSubnetReputationFactor')
  if (reputation < net.big('MinSubnetReputation')) removeSubnet(net, subnet.id, 'PauseExpired')
}

/** @returns whether it stays. */
function checkActive(net: NetworkState, subnetId: number): boolean {
  const stake = net.big('TotalSubnetDelegateStakeBalance', subnetId)
  const stakeCheck = net.epoch % Math.max(1, net.num('DelegateStakeSubnetRemovalInterval')) === 0
  if (stakeCheck && stake < requiredDelegateStake(net, subnetId)) {
    removeSubnet(net, subnetId, 'MinSubnetDelegateStake')
    return false
  }
  if (net.num('TotalSubnetElectableNodes', subnetId) < net.num('MinSubnetNodes'))
    lowerSubnet(net, subnetId, 'LessThanMinNodesSubnetReputationFactor')
  if (net.big('SubnetReputation', subnetId) >= net.big('MinSubnetReputation')) return true
  removeSubnet(net, subnetId, 'MinReputation')
  return false
}
