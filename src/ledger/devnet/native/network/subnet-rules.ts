import { networkIssuance } from './balances.ts'
import { minDelegateStake } from './emission.ts'
import type { RemovalReason, SubnetData } from './records.ts'
import type { NetworkState } from './state.ts'

/** Where a registered subnet is on its way to activation. */
export function registrationPhase(
  net: NetworkState,
  subnetId: number,
  subnet: SubnetData,
): 'none' | 'registration' | 'enactment' | 'over' {
  const registered = net.get<number | undefined>('SubnetRegistrationEpoch', subnetId)
  if (subnet.state !== 'Registered' || registered === undefined) return 'none'
  const registrationEnd = registered + net.num('SubnetRegistrationEpochs')
  if (net.epoch <= registrationEnd) return 'registration'
  return net.epoch <= registrationEnd + net.num('SubnetEnactmentEpochs') ? 'enactment' : 'over'
}

/** Least delegate stake that the subnet must hold now. */
export function requiredDelegateStake(net: NetworkState, subnetId: number): bigint {
  return minDelegateStake(
    networkIssuance(net),
    net.big('MinSubnetDelegateStakeFactor'),
    net.get<readonly number[]>('SubnetNodeElectionSlots', subnetId).length,
    {
      minNodes: net.num('MinSubnetNodes'),
      maxNodes: net.num('MaxSubnetNodes'),
      maxMultiplier: net.big('MaxMinDelegateStakeMultiplier'),
    },
  )
}

/** Why the subnet can't be active, if it can't. */
export function activationObstacle(net: NetworkState, subnetId: number): RemovalReason | undefined {
  if (net.big('SubnetReputation', subnetId) < net.big('MinSubnetReputation')) return 'MinReputation'
  if (net.num('TotalActiveSubnetNodes', subnetId) < net.num('MinSubnetNodes')) return 'MinSubnetNodes'
  const stake = net.big('TotalSubnetDelegateStakeBalance', subnetId)
  return stake < requiredDelegateStake(net, subnetId) ? 'MinSubnetDelegateStake' : undefined
}
