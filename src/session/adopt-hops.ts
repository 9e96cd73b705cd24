import type { Hop } from './chain-hop.ts'
import { raceSignal } from './race-signal.ts'
import type { AdoptRange } from './span-runner.ts'

/** Pages of KV caches: hand-overs go on where one begins, which every cache can write. */
const PAGE_TOKENS = 16
/** A hand-over must not take much longer than a replay would: nobody knows when the old server goes. */
const SLOWER = 2

/**
 * Whether `fresh` hops can take over what `old` ones hold: all alive and willing, weights of one precision, keys and
 * values of one shape and precision. Engines may differ: rows mean the same to all.
 */
export function canAdopt(old: readonly Hop[], fresh: readonly Hop[]): boolean {
  const first = old[0]
  const { precision, width } = first?.handover ?? {}
  if (first === undefined || precision === undefined) return false
  const givers = new Set(old.map((hop) => hop.server.peerId))
  return (
    [...old, ...fresh].every(
      ({ failure, handover, server }) =>
        failure === undefined &&
        server.precision === first.server.precision &&
        handover?.precision === precision &&
        handover.width === width,
    ) && fresh.every((hop) => !givers.has(hop.server.peerId))
  )
}

/**
 * Whether a hand-over of so many tokens is likely the quicker way: false only where a server says that its line is so slow
 * that computing them again takes less.
 */
export function paysToAdopt(old: readonly Hop[], fresh: readonly Hop[], tokens: number): boolean {
  const replayS = fresh.reduce(
    (sum, { server }) => sum + tokens / (server.prefillThroughput ?? server.throughput),
    0,
  )
  return old.every(({ handover, server }) => {
    const bytes = 2 * (handover?.width ?? 0) * 4 * (server.end - server.start) * tokens
    return server.bandwidth === undefined || !(bytes / server.bandwidth > SLOWER * replayS)
  })
}

/** Where a hand-over may go on that reached `position`. */
export function pageStart(position: number): number {
  return position - (position % PAGE_TOKENS)
}

/**
 * Has each fresh hop get its blocks' tokens [from, to) from the old hops that have them, all at once. Every fresh hop must
 * hold at least `from` tokens. @returns how many tokens all of them hold now; `from` when a hop died of it.
 * @throws `cancelled`; the hops are still at it then, and good for nothing else.
 */
export async function adoptHops(
  old: readonly Hop[],
  fresh: readonly Hop[],
  range: AdoptRange,
  signal: AbortSignal | undefined,
): Promise<number> {
  const adopting = fresh.map(async (hop) => {
    try {
      return await hop.adopt(await grantsFor(old, hop), range)
    } catch {
      // The hop is dead, or an old one is: whoever called sees it.
      return range.from
    }
  })
  return Math.min(range.to, ...(await raceSignal(Promise.all(adopting), signal)))
}

async function grantsFor(old: readonly Hop[], { server }: Hop) {
  const givers = old.filter(({ server: { start, end } }) => start < server.end && end > server.start)
  return await Promise.all(
    givers.map((hop) =>
      hop.handover!.grant(server.peerId, {
        start: Math.max(hop.server.start, server.start),
        end: Math.min(hop.server.end, server.end),
      }),
    ),
  )
}

/**
 * Takes fresh hops back to `position` and gives those that did not compute so far themselves the histories of the old hops
 * that began at the same blocks; what went into the others nobody but their servers knows.
 */
export async function inheritHistories(
  old: readonly Hop[],
  fresh: readonly Hop[],
  position: number,
): Promise<void> {
  for (const hop of fresh) {
    if (hop.history.length >= position) continue
    const twin = old.find(({ server }) => server.start === hop.server.start)
    hop.history.adopt(twin?.history, position)
  }
  await Promise.all(fresh.map((hop) => hop.rollback(position)))
}
