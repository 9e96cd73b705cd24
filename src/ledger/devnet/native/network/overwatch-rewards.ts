import { overwatchEpoch } from './epochs.ts'
import { atMost, fromFloat, less, ONE, percentDiv, percentMul, toFloat } from './fixed-point.ts'
import { increaseOverwatchStake } from './overwatch-stake.ts'
import type { NetworkState } from './state.ts'

/** What overwatch nodes are paid in a year, in the smallest unit. */
const YEARLY_EMISSION = 10_000n * ONE

/** What overwatch nodes are paid in an epoch. */
export function overwatchEpochEmission(epochsPerYear: number): bigint {
  return YEARLY_EMISSION / BigInt(epochsPerYear)
}

interface Weigher {
  readonly hotkey: string
  /** stake ^ factor, in f64; then its share of all. */
  readonly power: bigint
}

/**
 * Second block of an overwatch epoch: from the weights revealed in the last one, fixes each subnet's weight (mean by stake
 * power) and pays each node by how close it came, `(1 - |w - W|) · W` summed over its subnets.
 */
export function payOverwatch(net: NetworkState): void {
  const epoch = Math.max(0, overwatchEpoch(net) - 1)
  const bySubnet = new Map<number, Map<number, bigint>>()
  const weighers = new Map<number, Weigher>()
  for (const { keys, value } of net.entries<bigint>('OverwatchReveals', epoch)) {
    const [subnetId, nodeId] = keys as [number, number]
    if (!weighers.has(nodeId)) {
      const node = net.get<{ readonly hotkey: string } | undefined>('OverwatchNodes', nodeId)
      if (node === undefined) continue
      weighers.set(nodeId, { hotkey: node.hotkey, power: stakePower(net, node.hotkey) })
    }
    const weights = bySubnet.get(subnetId) ?? new Map<number, bigint>()
    bySubnet.set(subnetId, weights.set(nodeId, value))
  }
  const allPower = [...weighers.values()].reduce((sum, { power }) => sum + power, 0n)
  const scores = new Map<number, bigint>()
  for (const [subnetId, weights] of [...bySubnet].sort(([a], [b]) => a - b)) {
    let mean = 0n
    for (const [nodeId, weight] of weights)
      mean += percentMul(weight, percentDiv(weighers.get(nodeId)?.power ?? 0n, allPower))
    mean = atMost(mean, ONE)
    net.put('OverwatchSubnetWeights', [epoch, subnetId], mean)
    for (const [nodeId, weight] of weights) {
      const distance = weight > mean ? weight - mean : mean - weight
      scores.set(nodeId, (scores.get(nodeId) ?? 0n) + percentMul(less(ONE, distance), mean))
    }
  }
  payScores(net, epoch, scores, weighers)
}

function payScores(
  net: NetworkState,
  epoch: number,
  scores: ReadonlyMap<number, bigint>,
  weighers: ReadonlyMap<number, Weigher>,
): void {
  const sum = [...scores.values()].reduce((total, score) => total + score, 0n)
  if (sum === 0n) return
  const emission = overwatchEpochEmission(net.epochsPerYear)
  const paid: (readonly [number, bigint])[] = []
  for (const [nodeId, score] of [...scores].sort(([a], [b]) => a - b)) {
    if (score === 0n) continue
    const share = percentDiv(score, sum)
    net.put('OverwatchNodeWeights', [epoch, nodeId], share)
    const hotkey = weighers.get(nodeId)?.hotkey
    const amount = percentMul(share, emission)
    if (hotkey === undefined || amount === 0n) continue
    increaseOverwatchStake(net, hotkey, amount)
    paid.push([nodeId, amount])
  }
  net.emit('OverwatchRewards', { node_rewards: paid })
}

function stakePower(net: NetworkState, hotkey: string): bigint {
  const stake = Number(net.big('AccountOverwatchStake', hotkey))
  return fromFloat(stake ** toFloat(net.big('OverwatchStakeWeightFactor')))
}
