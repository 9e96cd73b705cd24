import type { ServerRecord } from './snapshot.ts'

/**
 * Who should serve which blocks. Every server decides for itself, on the same records, by these rules; all of it is
 * pure. A block's worth falls with the fourth power of its capacity, so the weakest blocks attract servers first,
 * and what one server gains is what the swarm gains: moves one at a time end in a balance. What could oscillate is
 * many moves at once, which ranks, intents and dwelling times prevent.
 */

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
}

/** The records of one model, summed up once for many decisions. */
export interface PlacementView {
  readonly blockCount: number
  readonly servers: readonly PlacedServer[]
  /** Tokens per second of each block, intents counted. */
  readonly capacity: Float64Array
  /** Servers that hold each block now and are not leaving it. */
  readonly replicas: Int32Array
  /** Boundaries b for which servers cover [0, b), span by span, and those for which they cover [b, blockCount). */
  readonly fromStart: ReadonlySet<number>
  readonly toEnd: ReadonlySet<number>
  /** Servers that are staying, by span: `start:end` → how many. Whoever leaves a span of one breaks chains. */
  readonly bySpan: ReadonlyMap<string, number>
  readonly byPeer: ReadonlyMap<string, PlacedServer>
}

/** The server that decides. */
export interface PlacementSelf {
  readonly peerId: string
  /** Most blocks its memory holds. */
  readonly maxBlocks: number
  /** Tokens per second with a span of so many blocks. */
  readonly speed: (blocks: number) => number
}

/** An intended span may not come to be. */
const INTENT_SHARE = 0.9
/** For `bestSpan` of servers that join: a span worth half as much is still chosen now and then. */
export const JOIN_SPREAD = 0.3
/** Equal spans are drawn: twins don't all take the first. */
const TIE = 1e-9
/** Gumbel noise of a number drawn in steps of 2^-32 is never more. */
const MOST_NOISE = 23
/** A block nobody serves counts as if it had this share of the demand: bad beyond any comparison, and still finite. */
const EMPTY_SHARE = 0.01
/** A span that meets no others on one side is of no use until more come. */
const UNLINKED_SHARE = 0.25
/** In fourth powers: about 20 % more capacity where it is needed than where it is left. */
const LEAST_GAIN = 1.2 ** 4
/** Replicas that must stay behind on every block that a server leaves. */
const MIN_REPLICAS = 2

/** Servers that serve or will: online ones and those still loading. Drops spans outside the model. */
export function placedServers(
  blockCount: number,
  records: readonly ServerRecord[],
  now: number,
): PlacedServer[] {
  const serving = records.filter(({ state, expiresAt, start, end }) => {
    const serves = state === 'online' || state === 'joining'
    return serves && expiresAt > now && start < end && end <= blockCount
  })
  const measured = serving.filter(({ throughput }) => throughput > 0)
  const usual = measured.reduce((sum, { throughput }) => sum + throughput, 0) / Math.max(1, measured.length)
  return serving.map(({ peerId, start, end, throughput, intent }) => ({
    peerId,
    start,
    end,
    // Who is still loading has not measured itself; it counts like the others, or two would fill one gap.
    throughput: throughput > 0 ? throughput : Math.max(usual, 1e-3),
    ...(intent && { intent }),
  }))
}

/** Sums records up. O(servers × span length). */
export function viewPlacement(blockCount: number, servers: readonly PlacedServer[]): PlacementView {
  const capacity = new Float64Array(blockCount)
  const replicas = new Int32Array(blockCount)
  const bySpan = new Map<string, number>()
  const ends = new Map<number, Set<number>>()
  for (const { start, end, throughput, intent } of servers) {
    const target = intent ?? { start, end }
    const share = intent ? INTENT_SHARE : 1
    for (let block = target.start; block < target.end; block++) capacity[block]! += share * throughput
    if (intent) continue
    for (let block = start; block < end; block++) replicas[block]!++
    bySpan.set(spanKey({ start, end }), (bySpan.get(spanKey({ start, end })) ?? 0) + 1)
    const from = ends.get(start) ?? new Set()
    from.add(end)
    ends.set(start, from)
  }
  const fromStart = new Set([0])
  for (let at = 0; at < blockCount; at++) {
    if (fromStart.has(at)) for (const end of ends.get(at) ?? []) fromStart.add(end)
  }
  const toEnd = new Set([blockCount])
  for (let at = blockCount - 1; at >= 0; at--) {
    if ([...(ends.get(at) ?? [])].some((end) => toEnd.has(end))) toEnd.add(at)
  }
  const byPeer = new Map(servers.map((server) => [server.peerId, server]))
  return { blockCount, servers, capacity, replicas, fromStart, toEnd, bySpan, byPeer }
}

/** A span for a server, and what it is worth to the swarm. */
export interface Placement extends BlockRange {
  /** Fall of Σ (demand ÷ capacity)⁴ over its blocks. */
  readonly worth: number
}

/**
 * The span that helps most. Its ends are ends of others wherever that is possible, because spans of a chain must
 * meet: it starts where servers reach from block 0 and ends where they reach the last one; where none do, it carries
 * the covered part on as far as memory goes. `capacity` must not count the server itself. With `spread` (`JOIN_SPREAD` for servers
 * that join) it is drawn among good ones: many that see the same records must not all fill the same gap.
 * O(blocks × memory).
 */
export function bestSpan(
  view: PlacementView,
  self: PlacementSelf,
  {
    capacity = view.capacity,
    spread = 0,
  }: { readonly capacity?: Float64Array; readonly spread?: number } = {},
): Placement {
  const { blockCount } = view
  const most = Math.min(self.maxBlocks, blockCount)
  const worthOf = worthTable(capacity, most, self.speed)
  let best: Placement | undefined
  let bestScore = -Infinity
  const noiseShare = Math.max(spread, TIE)
  for (const { start, end, linked } of candidates(view, most)) {
    const worth = worthOf(start, end) * (linked ? 1 : UNLINKED_SHARE)
    const fair = Math.log(worth)
    // Most are far behind the best, whatever the draw adds.
    if (fair + noiseShare * MOST_NOISE <= bestScore) continue
    // Gumbel noise that depends on peer and span: the largest sum is a draw whose odds grow with the worth.
    const draw = Math.max(rank(self.peerId, start * (view.blockCount + 1) + end), 1e-12)
    const score = fair - noiseShare * Math.log(-Math.log(draw))
    if (score <= bestScore) continue
    best = { start, end, worth }
    bestScore = score
  }
  return best ?? { start: 0, end: most, worth: 0 }
}

/** Spans of at most `most` blocks between boundaries; `linked` ones meet others, or the model's ends, on both sides. */
function* candidates(
  { blockCount, fromStart, toEnd }: PlacementView,
  most: number,
): Generator<BlockRange & { readonly linked: boolean }> {
  for (const start of fromStart) {
    let linked = false
    for (let end = start + 1; end <= Math.min(start + most, blockCount); end++) {
      if (!toEnd.has(end)) continue
      linked = true
      yield { start, end, linked: true }
    }
    if (!linked && start < blockCount) yield { start, end: Math.min(start + most, blockCount), linked: false }
  }
  for (const end of toEnd) {
    const start = Math.max(0, end - most)
    if (end > 0 && !fromStart.has(start)) yield { start, end, linked: false }
  }
}

function demandOf(capacity: Float64Array): number {
  return capacity.reduce((sum, value) => sum + value, 0) / capacity.length || 1
}

/** What spans of up to `most` blocks are worth, from sums over all blocks for each length: a length has one speed. */
function worthTable(
  capacity: Float64Array,
  most: number,
  speed: (blocks: number) => number,
): (start: number, end: number) => number {
  const demand = demandOf(capacity)
  const least = EMPTY_SHARE * demand
  const need = capacity.map((value) => fourth(demand / Math.max(value, least)))
  const sums: (Float64Array | undefined)[] = Array.from({ length: most + 1 })
  return (start, end) => {
    const length = end - start
    let sum = sums[length]
    if (!sum) {
      const added = speed(length)
      sum = new Float64Array(capacity.length + 1)
      for (const [block, value] of capacity.entries()) {
        const left = fourth(demand / (Math.max(value, least) + added))
        sum[block + 1] = sum[block]! + need[block]! - left
      }
      sums[length] = sum
    }
    return sum[end]! - sum[start]!
  }
}

function fourth(value: number): number {
  return value * value * value * value
}

/** What a serving server should do. */
export type MoveDecision =
  | { readonly kind: 'stay'; readonly reason: 'needed' | 'balanced' | 'dwelling' | 'others-go' }
  /** Announce that it will move, wait, and ask again. */
  | { readonly kind: 'intend'; readonly span: BlockRange }
  /** Load the new span, announce it, then drain the old one. */
  | { readonly kind: 'move'; readonly span: BlockRange }

/** What a server remembers of its own moves. Times are ms on the records' scale. */
export interface MoveState {
  /** When it came to its present span. */
  readonly since: number
  /** Moves so far: each doubles the dwelling time, up to 16 times the first. */
  readonly moves: number
  /** The intent it announced, and when. */
  readonly intent?: { readonly span: BlockRange; readonly at: number }
}

export interface MoveOptions {
  readonly now: number
  /** Time to load a span: a server stays at least five times as long. */
  readonly loadMs: number
  /** Records spread in this time: intents wait twice as long before they are acted upon. */
  readonly publishMs: number
  /** Least time in a span (default ten minutes). */
  readonly dwellMs?: number
}

const DWELL_MS = 600_000
const MAX_DOUBLINGS = 4

/**
 * Whether `self`, which is in `view`, should leave its span for another one. Never breaks coverage: every block left
 * keeps two replicas, and every chain a server of the same span. Only as many servers go to a gap as fill it: all
 * compute the same order of who goes first.
 */
export function decideMove(
  view: PlacementView,
  self: PlacementSelf,
  state: MoveState,
  options: MoveOptions,
): MoveDecision {
  const me = view.byPeer.get(self.peerId)
  if (!me) return { kind: 'stay', reason: 'needed' }
  const dwell = Math.max(options.dwellMs ?? DWELL_MS, 5 * options.loadMs)
  if (options.now - state.since < dwell * 2 ** Math.min(state.moves, MAX_DOUBLINGS)) {
    return { kind: 'stay', reason: 'dwelling' }
  }
  if (!canLeave(view, me)) return { kind: 'stay', reason: 'needed' }

  const capacity = Float64Array.from(view.capacity)
  const counted = me.intent ?? me
  const share = me.intent ? INTENT_SHARE : 1
  for (let block = counted.start; block < counted.end; block++) capacity[block]! -= share * me.throughput
  const stay = worthTable(capacity, me.end - me.start, () => me.throughput)(me.start, me.end)
  const { intent } = state
  if (intent && worthOfSpan(capacity, self, intent.span) >= LEAST_GAIN * stay) {
    const waited = options.now - intent.at >= 2 * options.publishMs
    return { kind: waited ? 'move' : 'intend', span: intent.span }
  }
  const { start, end, worth } = bestSpan(view, self, { capacity })
  if (spanKey({ start, end }) === spanKey(me) || worth < LEAST_GAIN * stay) {
    return { kind: 'stay', reason: 'balanced' }
  }
  if (!isMyTurn(view, me, options.now)) return { kind: 'stay', reason: 'others-go' }
  return { kind: 'intend', span: { start, end } }
}

function worthOfSpan(capacity: Float64Array, { speed }: PlacementSelf, { start, end }: BlockRange): number {
  return worthTable(capacity, end - start, speed)(start, end)
}

/** Whether every block of the server, and its kind of span, keeps others. One that intends to go counts as gone. */
function canLeave({ replicas, bySpan }: PlacementView, me: PlacedServer): boolean {
  const mine = me.intent ? 0 : 1
  for (let block = me.start; block < me.end; block++) {
    if (replicas[block]! - mine < MIN_REPLICAS) return false
  }
  return (bySpan.get(spanKey(me)) ?? 0) - mine >= 1
}

/** How long an order of ranks holds, so that everybody gets a turn. */
const EPOCH_MS = 600_000
/** Part of the imbalance that may move in one epoch: records are old, and moving back would cost twice. */
const MOVED_SHARE = 0.5

/**
 * Whether it is one of the servers whose moves make up for what is missing. Those that sit on blocks with more than
 * their share come in an order that everybody computes alike; the first ones go, as many as are needed.
 */
function isMyTurn(view: PlacementView, me: PlacedServer, now: number): boolean {
  const epoch = Math.floor(now / EPOCH_MS)
  const mean = demandOf(view.capacity)
  const missing = view.capacity.reduce((sum, value) => sum + Math.max(0, mean - value), 0)
  const mine = rank(me.peerId, epoch)
  let before = 0
  for (const other of view.servers) {
    if (other.peerId === me.peerId || other.intent || !isRich(view, other, mean)) continue
    if (rank(other.peerId, epoch) < mine) before += other.throughput * (other.end - other.start)
    if (before > MOVED_SHARE * missing) return false
  }
  return true
}

/** Whether all blocks of a server have more than their share: it is one of those that should go. */
function isRich({ capacity }: PlacementView, { start, end }: BlockRange, mean: number): boolean {
  for (let block = start; block < end; block++) if (capacity[block]! <= mean) return false
  return true
}

function spanKey({ start, end }: BlockRange): string {
  return `${start}:${end}`
}

/** A number in [0, 1) that everybody computes alike: FNV-1a of the peer id and a number, then a finaliser. */
export function rank(peerId: string, epoch: number): number {
  let hash = (0x811c9dc5 ^ Math.imul(epoch + 1, 0x9e3779b1)) >>> 0
  for (let i = 0; i < peerId.length; i++) hash = Math.imul(hash ^ peerId.charCodeAt(i), 0x01000193) >>> 0
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b) >>> 0
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35) >>> 0
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32
}
