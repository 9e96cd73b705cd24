import type { ServerRecord } from '../routing/snapshot.ts'
import type { Span } from '../session/span-runner.ts'

/** Decode speed that servers give each block together, tokens per second: what the weakest link of a route sees. */
export function blockThroughput(blockCount: number, servers: readonly ServerRecord[]): number[] {
  const sums = Array.from({ length: blockCount }, () => 0)
  for (const { start, end, state, throughput } of servers) {
    if (state !== 'online' && state !== 'joining') continue
    // A server that is still loading has not measured itself; it counts a little so that two don't pick one gap.
    for (let block = start; block < Math.min(end, blockCount); block++)
      sums[block]! += Math.max(throughput, 1e-3)
  }
  return sums
}

/**
 * The window of `size` blocks that needs another server most: the one whose sorted block throughputs are smallest,
 * compared from the weakest block up; the first of equals. Pure. Petals' rule (`block_selection.py`).
 */
export function weakestWindow(blockCount: number, size: number, servers: readonly ServerRecord[]): Span {
  const length = Math.min(size, blockCount)
  const sums = blockThroughput(blockCount, servers)
  let best: { readonly start: number; readonly sorted: readonly number[] } | undefined
  for (let start = 0; start + length <= blockCount; start++) {
    const sorted = sums.slice(start, start + length).sort((a, b) => a - b)
    if (best === undefined || isLess(sorted, best.sorted)) best = { start, sorted }
  }
  const start = best?.start ?? 0
  return { start, end: start + length }
}

function isLess(a: readonly number[], b: readonly number[]): boolean {
  for (const [i, value] of a.entries()) if (value !== b[i]) return value < b[i]!
  return false
}
