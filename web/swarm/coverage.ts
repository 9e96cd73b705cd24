import type { ServerView, SwarmState } from '../session/gateway.ts'

/** Servers that answer for each block: those that are online. */
export function coverageOf({ blocks, servers }: Pick<SwarmState, 'blocks' | 'servers'>): readonly number[] {
  return Array.from(
    { length: blocks },
    (_, block) => servers.filter((server) => server.state === 'online' && serves(server, block)).length,
  )
}

export function serves({ start, end }: ServerView, block: number): boolean {
  return start <= block && block < end
}

/** Blocks that fewer servers cover than others; none when all have as many. */
export function weakestBlocks(coverage: readonly number[]): readonly number[] {
  const least = Math.min(...coverage)
  const weakest = coverage.flatMap((count, block) => (count === least ? [block] : []))
  return weakest.length === coverage.length ? [] : weakest
}

/** Consecutive blocks without a server. */
export function uncovered(coverage: readonly number[]): readonly { start: number; end: number }[] {
  const gaps: { start: number; end: number }[] = []
  coverage.forEach((count, block) => {
    if (count > 0) return
    const last = gaps.at(-1)
    if (last?.end === block) last.end++
    else gaps.push({ start: block, end: block + 1 })
  })
  return gaps
}
