import type { Span } from './span-runner.ts'
import type { Hop } from './chain-hop.ts'

/** Hops [from, to) of a chain that can only be replayed together, and their blocks. */
export interface HopGroup extends Span {
  readonly from: number
  readonly to: number
}

/**
 * Hops whose inputs are all known stand alone. One that took its place over from servers that began at other blocks has
 * inputs that nobody knows; replaying it takes those of the hop before, whose outputs they were.
 */
export function groupHops(hops: readonly Hop[]): HopGroup[] {
  const groups: HopGroup[] = []
  for (const [i, { history, server }] of hops.entries()) {
    const before = groups.at(-1)
    if (before && history.start > 0) groups[groups.length - 1] = { ...before, to: i + 1, end: server.end }
    else groups.push({ from: i, to: i + 1, start: server.start, end: server.end })
  }
  return groups
}
