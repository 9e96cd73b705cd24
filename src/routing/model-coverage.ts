import type { BlockRange } from './placement-view.ts'
import type { ServerRecord } from './snapshot.ts'

/** How well a model's blocks are served. */
export interface ModelCoverage {
  /** Whether every block has an online server. */
  readonly complete: boolean
  /** Blocks that have none. */
  readonly missing: readonly BlockRange[]
  /** Online servers of each block. */
  readonly perBlock: readonly number[]
  /** The first of the blocks with the fewest servers; undefined for a model without blocks. */
  readonly weakest: { readonly block: number; readonly servers: number } | undefined
  /** Online servers. */
  readonly servers: number
}

/** Counts who serves which block of a model. Pure. NOT checked: that spans meet, which a route needs too. */
export function coverModel(
  blockCount: number,
  records: readonly Pick<ServerRecord, 'start' | 'end' | 'state'>[],
): ModelCoverage {
  const online = records.filter(({ state }) => state === 'online')
  const perBlock = Array.from({ length: blockCount }, () => 0)
  for (const { start, end } of online) {
    for (let block = start; block < Math.min(end, blockCount); block++) perBlock[block]!++
  }
  const least = Math.min(...perBlock)
  const missing = emptyRanges(perBlock)
  return {
    complete: blockCount > 0 && missing.length === 0,
    missing,
    perBlock,
    weakest: blockCount === 0 ? undefined : { block: perBlock.indexOf(least), servers: least },
    servers: online.length,
  }
}

/** Consecutive blocks without a server. */
export function emptyRanges(perBlock: readonly number[]): readonly BlockRange[] {
  const gaps: { start: number; end: number }[] = []
  for (const [block, count] of perBlock.entries()) {
    if (count > 0) continue
    const last = gaps.at(-1)
    if (last?.end === block) last.end++
    else gaps.push({ start: block, end: block + 1 })
  }
  return gaps
}
