import type { ServerRecord } from './snapshot.ts'

/** Consecutive blocks [start, end). */
export interface BlockRange {
  readonly start: number
  /** Exclusive. */
  readonly end: number
}

/** A server as placement sees it. */
export interface PlacedServer extends BlockRange {
  readonly peerId: string
  /** Tokens per second that the span adds to each of its blocks. */
  readonly throughput: number
  /** Where it said that it is going; it counts there and no longer here. */
  readonly intent?: BlockRange
  /** Most blocks its memory holds, where it says so. */
  readonly maxBlocks?: number
  /** Still loads its span. */
  readonly joining?: boolean
  /** It won't move before, in ms on the records' scale, where it says so. */
  readonly staysUntil?: number
}

/** The records of one model, summed up once for many decisions. */
export interface PlacementView {
  readonly blockCount: number
  /** Tokens per second of each block, intents counted. */
  readonly capacity: Float64Array
  /** Servers that hold each block now and are not leaving it. */
  readonly replicas: Int32Array
  /** Servers that are staying, by `spanKey`. Whoever leaves a span of one breaks chains. */
  readonly bySpan: ReadonlyMap<number, number>
  readonly byPeer: ReadonlyMap<string, PlacedServer>
  /** Servers that still load. */
  readonly joining: number
  /** Boundaries b for which servers cover [0, b), span by span, and those for which they cover [b, blockCount). */
  readonly fromStart: ReadonlySet<number>
  readonly toEnd: ReadonlySet<number>
  /** Grows with every change. */
  readonly version: number
  /** Takes one record out and puts another one in. O(span length). */
  replace(before: PlacedServer | undefined, after: PlacedServer | undefined): void
}

/** An intended span may not come to be. */
export const INTENT_SHARE = 0.9

/** What placement reads of a record. */
export type PlacementRecord = Pick<
  ServerRecord,
  'peerId' | 'start' | 'end' | 'state' | 'throughput' | 'expiresAt' | 'intent' | 'maxBlocks' | 'staysUntil'
>

/** Servers that serve or will: online ones and those still loading. Drops spans outside the model. */
export function placedServers(
  blockCount: number,
  records: readonly PlacementRecord[],
  now: number,
): PlacedServer[] {
  const serving = records.filter(({ state, expiresAt, start, end }) => {
    const serves = state === 'online' || state === 'joining'
    return serves && expiresAt > now && start < end && end <= blockCount
  })
  const measured = serving.filter(({ throughput }) => throughput > 0)
  const usual = measured.reduce((sum, { throughput }) => sum + throughput, 0) / Math.max(1, measured.length)
  return serving.map(({ peerId, start, end, throughput, intent, state, maxBlocks, staysUntil }) => ({
    peerId,
    start,
    end,
    // Who is still loading has not measured itself; it counts like the others, or two would fill one gap.
    throughput: throughput > 0 ? throughput : Math.max(usual, 1e-3),
    ...(intent && { intent }),
    ...(maxBlocks !== undefined && { maxBlocks }),
    ...(staysUntil !== undefined && { staysUntil }),
    ...(state === 'joining' && { joining: true }),
  }))
}

/** Sums records up. O(servers × span length); later changes by `replace`. */
export function viewPlacement(blockCount: number, servers: readonly PlacedServer[]): PlacementView {
  const capacity = new Float64Array(blockCount)
  const replicas = new Int32Array(blockCount)
  const bySpan = new Map<number, number>()
  const byPeer = new Map<string, PlacedServer>()
  let joining = 0
  let version = 0
  let links: Links | undefined

  const count = (server: PlacedServer, sign: 1 | -1): void => {
    const { start, end, throughput, intent } = server
    if (server.joining === true) joining += sign
    const target = intent ?? server
    const added = sign * (intent ? INTENT_SHARE : 1) * throughput
    for (let block = target.start; block < target.end; block++) capacity[block]! += added
    if (intent) return
    for (let block = start; block < end; block++) replicas[block]! += sign
    const key = start * (blockCount + 1) + end
    const known = bySpan.get(key) ?? 0
    if (known + sign > 0) bySpan.set(key, known + sign)
    else bySpan.delete(key)
    if (known === 0 || known + sign === 0) links = undefined
  }
  for (const server of servers) {
    count(server, 1)
    byPeer.set(server.peerId, server)
  }
  const linksNow = (): Links => (links ??= linksOf(blockCount, bySpan.keys()))
  return {
    blockCount,
    capacity,
    replicas,
    bySpan,
    byPeer,
    get joining() {
      return joining
    },
    get fromStart() {
      return linksNow().fromStart
    },
    get toEnd() {
      return linksNow().toEnd
    },
    get version() {
      return version
    },
    replace(before, after) {
      version++
      if (before) {
        count(before, -1)
        byPeer.delete(before.peerId)
      }
      if (!after) return
      count(after, 1)
      byPeer.set(after.peerId, after)
    },
  }
}

interface Links {
  readonly fromStart: ReadonlySet<number>
  readonly toEnd: ReadonlySet<number>
}

function linksOf(blockCount: number, spans: Iterable<number>): Links {
  const ends: number[][] = Array.from({ length: blockCount + 1 }, () => [])
  for (const key of spans) ends[Math.floor(key / (blockCount + 1))]!.push(key % (blockCount + 1))
  const fromStart = new Set([0])
  for (let at = 0; at < blockCount; at++) {
    if (fromStart.has(at)) for (const end of ends[at]!) fromStart.add(end)
  }
  const toEnd = new Set([blockCount])
  for (let at = blockCount - 1; at >= 0; at--) if (ends[at]!.some((end) => toEnd.has(end))) toEnd.add(at)
  return { fromStart, toEnd }
}

/** A number of a span, one for each pair of ends. */
export function spanKey(view: PlacementView, { start, end }: BlockRange): number {
  return start * (view.blockCount + 1) + end
}
