import { clamp, less, ONE, percentDiv, percentMul, toFloat, truncate } from './fixed-point.ts'
import { overwatchEpoch } from './epochs.ts'
import type { DistributionData, SubnetData } from './records.ts'
import { FOUNDATION_SHARE, yearlyEmission } from './reward-curves.ts'
import { type NetworkState, TREASURY } from './state.ts'

/** What one epoch mints: for subnets, and for the treasury. */
export function epochEmission(net: NetworkState): {
  readonly validators: bigint
  readonly foundation: bigint
} {
  const places = net.num('MaxSubnets') * net.num('MaxSubnetNodes')
  const used = clamp(net.num('TotalActiveNodes') / places, 0, 1)
  const mid = toFloat(net.big('InflationSigmoidMidpoint'))
  const yearly = yearlyEmission(
    Number.isNaN(used) ? 1 : used,
    mid,
    Number(net.big('InflationSigmoidSteepness')),
  )
  const foundation = yearly * FOUNDATION_SHARE
  return {
    validators: truncate((yearly - foundation) / net.epochsPerYear),
    foundation: truncate(foundation / net.epochsPerYear),
  }
}

/** Third block of an epoch: weighs the subnets, mints the treasury's part, and fixes what the epoch will pay. */
export function fixEmissionWeights(net: NetworkState): void {
  const weights = subnetWeights(net)
  if (weights.length === 0) return
  const { validators, foundation } = epochEmission(net)
  net.context.balances.deposit(TREASURY, foundation)
  const data: DistributionData = { validator_emissions: validators, weights }
  net.put('FinalSubnetEmissionWeights', [net.epoch], data)
}

/**
 * `((delegate stake share · 0.4 + electable node share · 0.4 + net flow share · 0.2) · overwatch weight)^0.75` of each
 * subnet that runs, normalised to 1e18. f64 as the chain; without any delegate stake all weights are 0, as there.
 */
function subnetWeights(net: NetworkState): (readonly [number, bigint])[] {
  const running = net
    .entries<SubnetData>('SubnetsData')
    .map(({ value }) => value)
    .filter(({ start_epoch, state }) => start_epoch <= net.epoch || state === 'Active')
  const flows = netFlowShares(net, running)
  const factors = net.get<Record<'delegate_stake' | 'node_count' | 'net_flow', bigint>>('SubnetWeightFactors')
  const power = toFloat(net.big('SubnetDistributionPower'))
  const allStake = Number(net.big('TotalDelegateStake'))
  const allNodes = net.num('TotalElectableNodes')
  const weights = running.map(({ id }) => {
    const stake = clamp(Number(net.big('TotalSubnetDelegateStakeBalance', id)) / allStake, 0, 1)
    const nodes = net.num('TotalSubnetElectableNodes', id) / allNodes
    const mixed =
      stake * toFloat(factors.delegate_stake) +
      nodes * toFloat(factors.node_count) +
      toFloat(flows.get(id) ?? 0n) * toFloat(factors.net_flow)
    return { id, weight: clamp(mixed * overwatchWeight(net, id), 0, 1) ** power }
  })
  // In storage order: f64 sums depend on it.
  const sum = weights.reduce((total, { weight }) => total + weight, 0)
  weights.sort((a, b) => a.id - b.id)
  return weights.map(({ id, weight }) => [id, truncate((weight / sum) * 1e18)] as const)
}

/** What overwatch nodes said of the subnet in the last overwatch epoch; 1 when they said nothing. */
function overwatchWeight(net: NetworkState, subnetId: number): number {
  const weight = net.get<bigint | undefined>(
    'OverwatchSubnetWeights',
    Math.max(0, overwatchEpoch(net) - 1),
    subnetId,
  )
  if (weight === undefined) return 1
  return Math.min(1, toFloat(weight) * toFloat(net.big('OverwatchWeightFactor')))
}

/** Shares of what flowed into delegate stake since the last epoch, above the subnet with the least; the counters restart. */
function netFlowShares(net: NetworkState, running: readonly SubnetData[]): ReadonlyMap<number, bigint> {
  const flows = running.map(({ id }) => ({ id, flow: net.big('SubnetNetFlow', id) }))
  for (const { value } of net.entries<SubnetData>('SubnetsData')) net.drop('SubnetNetFlow', value.id)
  const least = flows.reduce((min, { flow }) => (flow < min ? flow : min), flows[0]?.flow ?? 0n)
  const sum = flows.reduce((total, { flow }) => total + flow - least, 0n)
  return new Map(flows.map(({ id, flow }) => [id, percentDiv(flow - least, sum)]))
}

/** How one subnet's part of an epoch's emission is split. */
export interface SubnetReward {
  readonly overall: bigint
  readonly owner: bigint
  readonly delegates: bigint
  readonly nodes: bigint
}

/** Owner's share first, then the delegates', the rest is the nodes'. */
export function splitReward(
  emission: bigint,
  weight: bigint,
  ownerShare: bigint,
  delegateShare: bigint,
): SubnetReward {
  const overall = percentMul(emission, weight)
  const owner = percentMul(overall, ownerShare)
  const delegates = percentMul(less(overall, owner), delegateShare)
  return { overall, owner, delegates, nodes: less(less(overall, owner), delegates) }
}

/** Least delegate stake of a subnet: issuance · factor · multiplier. */
export function minDelegateStake(
  issuance: bigint,
  factor: bigint,
  electable: number,
  limits: { readonly minNodes: number; readonly maxNodes: number; readonly maxMultiplier: bigint },
): bigint {
  const { minNodes, maxNodes, maxMultiplier } = limits
  const base = percentMul(issuance, factor)
  if (electable <= minNodes) return percentMul(base, ONE)
  if (electable >= maxNodes) return percentMul(base, maxMultiplier)
  const along = percentDiv(BigInt(electable - minNodes), BigInt(maxNodes - minNodes))
  return percentMul(base, ONE + percentMul(along, less(maxMultiplier, ONE)))
}
