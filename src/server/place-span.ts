import type { ServerRecord } from '../routing/snapshot.ts'

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
