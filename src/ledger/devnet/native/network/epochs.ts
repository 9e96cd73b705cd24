import { ONE, percentDiv, percentMul } from './fixed-point.ts'
import type { NetworkState } from './state.ts'

/** Where a block stands in a subnet's epochs. */
export interface SubnetClock {
  readonly epoch: number
  /** 1e18 = the whole epoch. */
  readonly progress: bigint
}

/** Subnet epoch = (block - slot) / E. Undefined without a slot and before its first block. */
export function subnetClock(
  block: number,
  slot: number | undefined,
  epochBlocks: number,
): SubnetClock | undefined {
  if (slot === undefined || slot === 0 || block < slot) return undefined
  const offset = block - slot
  return {
    epoch: Math.floor(offset / epochBlocks),
    progress: percentDiv(BigInt(offset % epochBlocks), BigInt(epochBlocks)),
  }
}

/** The subnet's epoch at the current block; 0 where it has none. */
export function subnetEpoch(net: NetworkState, subnetId: number): number {
  return currentClock(net, subnetId)?.epoch ?? 0
}

export function currentClock(net: NetworkState, subnetId: number): SubnetClock | undefined {
  return subnetClock(net.block, net.get('SubnetSlot', subnetId), net.epochBlocks)
}

/** How much of the blocks that were left in the epoch at `proposed` has passed by `block`; 1e18 = all. */
export function attestorProgress(block: number, proposed: number, slot: number, epochBlocks: number): bigint {
  const left = epochBlocks - ((proposed - slot) % epochBlocks)
  const since = block - proposed
  return since >= left ? ONE : percentDiv(BigInt(since), BigInt(left))
}

/** Blocks of an overwatch epoch. */
export function overwatchEpochBlocks(net: NetworkState): number {
  return net.epochBlocks * net.num('OverwatchEpochLengthMultiplier')
}

export function overwatchEpoch(net: NetworkState): number {
  return Math.floor(net.block / overwatchEpochBlocks(net))
}

/** Weights are committed before the cutoff of an overwatch epoch and revealed after it. */
export function inOverwatchCommitPeriod(net: NetworkState): boolean {
  const length = overwatchEpochBlocks(net)
  const cutoff = percentMul(BigInt(length), net.big('OverwatchCommitCutoffPercent'))
  return net.block < length * Math.floor(net.block / length) + Number(cutoff)
}
