import { atMost, less, ONE, percentMul, plus, toFloat, truncate, U128_MAX } from './fixed-point.ts'
import type { Reputation } from './records.ts'
import type { NetworkState } from './state.ts'

/** `r + (1 - r) · factor`, at most 1. */
export function increaseReputation(reputation: bigint, factor: bigint): bigint {
  return atMost(plus(reputation, percentMul(less(ONE, reputation), atMost(factor, ONE))), ONE)
}

/** `r + r^(1 + f) · f` in f64, at most 1: the steeper curve that other versions of the pallet use. */
export function increaseReputationByPower(reputation: bigint, factor: bigint): bigint {
  const r = toFloat(reputation)
  const f = toFloat(factor)
  return atMost(truncate((r + r ** (1 + f) * f) * 1e18), ONE)
}

/** `r - r · factor`. */
export function decreaseReputation(reputation: bigint, factor: bigint): bigint {
  return less(reputation, percentMul(reputation, atMost(factor, ONE)))
}

/** Books a node's new reputation and says so. @returns it. */
export function setNodeReputation(
  net: NetworkState,
  subnetId: number,
  nodeId: number,
  previous: bigint,
  next: bigint,
): bigint {
  net.put('SubnetNodeReputation', [subnetId, nodeId], next)
  net.emit('NodeReputationUpdate', {
    subnet_id: subnetId,
    subnet_node_id: nodeId,
    prev_reputation: previous,
    new_reputation: next,
  })
  return next
}

/** Lowers a node's reputation by a factor. @returns the new one. */
export function lowerNode(net: NetworkState, subnetId: number, nodeId: number, factor: bigint): bigint {
  const previous = net.big('SubnetNodeReputation', subnetId, nodeId)
  return setNodeReputation(net, subnetId, nodeId, previous, decreaseReputation(previous, factor))
}

/** Lowers a subnet's reputation by a factor, without an event. @returns the new one. */
export function lowerSubnet(net: NetworkState, subnetId: number, factorItem: string): bigint {
  const next = decreaseReputation(net.big('SubnetReputation', subnetId), net.big(factorItem))
  net.put('SubnetReputation', [subnetId], next)
  return next
}

/** How far a ratio is from the least one that counts, weighted against the coldkey's present score. */
function step(distance: bigint, factor: bigint, score: bigint): bigint {
  const steep = (ONE * ONE) / (score + 1n)
  return atMost(atMost(distance * factor, U128_MAX) * steep, U128_MAX) / ONE / ONE
}

/** The proposer's coldkey after consensus: its score rises the more nodes attested, and the lower it was. */
export function raiseColdkey(
  net: NetworkState,
  coldkey: string,
  ratio: bigint,
  least: bigint,
  epoch: number,
): void {
  const reputation = net.find<Reputation>('ColdkeyReputation', coldkey)
  if (reputation === undefined || ratio < least || reputation.score >= ONE) return
  const rise = step(ratio - least, net.big('ColdkeyReputationIncreaseFactor'), reputation.score)
  const score = atMost(reputation.score + rise, ONE)
  if (score === reputation.score) return
  record(
    net,
    coldkey,
    { ...reputation, score, total_increases: reputation.total_increases + 1 },
    ratio,
    epoch,
  )
}

/** The proposer's coldkey after a failed proposal. */
export function lowerColdkey(
  net: NetworkState,
  coldkey: string,
  ratio: bigint,
  least: bigint,
  epoch: number,
): void {
  const reputation = net.find<Reputation>('ColdkeyReputation', coldkey)
  if (reputation === undefined || ratio >= least || reputation.score === 0n) return
  const fall = step(least - ratio, net.big('ColdkeyReputationDecreaseFactor'), reputation.score)
  const score = less(reputation.score, fall)
  if (score === reputation.score) return
  record(
    net,
    coldkey,
    { ...reputation, score, total_decreases: reputation.total_decreases + 1 },
    ratio,
    epoch,
  )
}

function record(
  net: NetworkState,
  coldkey: string,
  reputation: Reputation,
  ratio: bigint,
  epoch: number,
): void {
  const before = BigInt(reputation.total_increases + reputation.total_decreases - 1)
  net.put('ColdkeyReputation', [coldkey], {
    ...reputation,
    last_validator_epoch: epoch,
    start_epoch: reputation.start_epoch === 0 ? epoch : reputation.start_epoch,
    average_attestation: (reputation.average_attestation * before + ratio) / (before + 1n),
  })
}
