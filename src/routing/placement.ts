import {
  type BlockRange,
  INTENT_SHARE,
  type PlacedServer,
  type PlacementView,
  spanKey,
} from './placement-view.ts'

export { placedServers, viewPlacement } from './placement-view.ts'
export type { BlockRange, PlacedServer, PlacementView } from './placement-view.ts'

/**
 * Who should serve which blocks. Every server decides for itself, on the same records, by these rules; all of it is
 * pure. A block's worth falls with the fourth power of its capacity, so the weakest blocks attract servers first,
 * and what one server gains is what the swarm gains: moves one at a time end in a balance. What could oscillate is
 * many moves at once, which ranks, intents and dwelling times prevent.
 */

/** The server that decides. */
export interface PlacementSelf {
  readonly peerId: string
  /** Most blocks its memory holds. */
  readonly maxBlocks: number
  /** Tokens per second with a span of so many blocks. */
  readonly speed: (blocks: number) => number
}

/** For `bestSpan` of servers that join: while many do, a span worth half as much is chosen now and then. */
export const JOIN_SPREAD = 0.4
/** Where hardly anybody joins, the spread shrinks to this share: no one else takes the same gap. */
const LEAST_SPREAD = 0.1
/** Share of servers seen joining (those of the last minute are not seen yet) from which on the spread is whole. */
const MANY_JOIN = 0.05
/** For each level of the grid that a boundary lies below the whole model: many share the coarse ones, so chains meet. */
const LEVEL_COST = 0.02
/** Longer spans make fewer hops, and one that leaves is less of each block's capacity. Exponent of the length. */
const LENGTH_GAIN = 0.2
/** Weight of jumps in capacity, in fourth powers a block: where capacity falls, spans end and none takes over. */
const STEP_COST = 4
/** Spans that do harm are still comparable: a server that joins must go somewhere. */
const LEAST_WORTH = 1e-9
/** Equal spans are drawn: twins don't all take the first. */
const TIE = 1e-9
/** Gumbel noise of a number drawn in steps of 2^-32 is never more. */
const MOST_NOISE = 23
/** A block nobody serves counts as if it had this share of the demand: bad beyond any comparison, and still finite. */
const EMPTY_SHARE = 0.01
/** A span that meets no others on one side is of no use until more come. */
const UNLINKED_SHARE = 0.25
/** In fourth powers: about 8 % more capacity where it is left than where it is needed. */
const LEAST_GAIN = 1.1 ** 4
/** Replicas that must stay behind on every block that a server leaves. */
const MIN_REPLICAS = 2

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
  const levels = gridLevels(blockCount)
  let best: Placement | undefined
  let bestScore = -Infinity
  const joining = view.joining / Math.max(1, view.byPeer.size) / MANY_JOIN
  const noiseShare = Math.max(spread * Math.min(1, LEAST_SPREAD + joining), TIE)
  for (const { start, end, linked } of candidates(view, most)) {
    const worth = worthOf(start, end) * (linked ? 1 : UNLINKED_SHARE)
    const grid = LEVEL_COST * (levels[start]! + levels[end]!)
    const fair = Math.log(Math.max(worth, LEAST_WORTH)) - grid + LENGTH_GAIN * Math.log(end - start)
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
    if (!linked && start < blockCount) {
      yield { start, end: coarsest(blockCount, start + Math.ceil(most / 2), start + most), linked: false }
    }
  }
  for (const end of toEnd) {
    const start = coarsest(blockCount, end - most, end - Math.ceil(most / 2))
    if (end > 0 && !fromStart.has(start)) yield { start, end, linked: false }
  }
}

/** The boundary of [from, to] that the most servers will choose: the coarsest of the grid. */
function coarsest(blockCount: number, from: number, to: number): number {
  const levels = gridLevels(blockCount)
  let best = Math.max(0, Math.min(blockCount, to))
  for (let at = best; at >= Math.max(0, from); at--) if (levels[at]! < levels[best]!) best = at
  return best
}

/** Models have few distinct block counts. */
const grids = new Map<number, Uint8Array>()

/** For each boundary at which of the halvings of the model it first appears: 0 at its ends, 1 in the middle. */
function gridLevels(blockCount: number): Uint8Array {
  let levels = grids.get(blockCount)
  if (levels) return levels
  levels = new Uint8Array(blockCount + 1).fill(255)
  for (let level = 0, parts = 1; parts < 2 * blockCount; level++, parts *= 2) {
    for (let i = 0; i <= parts; i++) {
      const at = Math.round((i * blockCount) / parts)
      levels[at] = Math.min(levels[at]!, level)
    }
  }
  grids.set(blockCount, levels)
  return levels
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
    const added = speed(length)
    if (!sum) {
      sum = new Float64Array(capacity.length + 1)
      for (const [block, value] of capacity.entries()) {
        const left = fourth(demand / (Math.max(value, least) + added))
        sum[block + 1] = sum[block]! + need[block]! - left
      }
      sums[length] = sum
    }
    return sum[end]! - sum[start]! - (STEP_COST * stepsAdded(capacity, start, end, added)) / demand
  }
}

/** How much more the capacity jumps at the boundaries when a span is added: what ends there and what begins don't match. */
function stepsAdded(capacity: Float64Array, start: number, end: number, added: number): number {
  let steps = 0
  if (start > 0) {
    const step = capacity[start]! - capacity[start - 1]!
    steps += Math.abs(step + added) - Math.abs(step)
  }
  if (end < capacity.length) {
    const step = capacity[end]! - capacity[end - 1]!
    steps += Math.abs(step - added) - Math.abs(step)
  }
  return steps
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
  /** Moves so far: each makes the dwelling time four times as long, up to 16 times the first. */
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
const DWELL_GROWTH = 4
const MAX_GROWTHS = 2

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
  if (options.now - state.since < dwell * DWELL_GROWTH ** Math.min(state.moves, MAX_GROWTHS)) {
    return { kind: 'stay', reason: 'dwelling' }
  }
  if (!canLeave(view, me)) return { kind: 'stay', reason: 'needed' }
  const epoch = Math.floor(options.now / Math.max(1, Math.min(EPOCH_MS, dwell)))
  if (!state.intent && !isMyTurn(view, me, epoch)) return { kind: 'stay', reason: 'others-go' }

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
  if ((start === me.start && end === me.end) || worth < LEAST_GAIN * stay) {
    return { kind: 'stay', reason: 'balanced' }
  }
  return { kind: 'intend', span: { start, end } }
}

function worthOfSpan(capacity: Float64Array, { speed }: PlacementSelf, { start, end }: BlockRange): number {
  return worthTable(capacity, end - start, speed)(start, end)
}

/** Whether every block of the server keeps others, and the swarm a chain. One that intends to go counts as gone. */
function canLeave(view: PlacementView, me: PlacedServer): boolean {
  const mine = me.intent ? 0 : 1
  for (let block = me.start; block < me.end; block++) {
    if (view.replicas[block]! - mine < MIN_REPLICAS) return false
  }
  return mine === 0 || chainWithout(view, me)
}

/** Whether spans that meet still lead from the first block to the last one without one server, if they do with it. */
function chainWithout(view: PlacementView, me: PlacedServer): boolean {
  const own = spanKey(view, me)
  if ((view.bySpan.get(own) ?? 0) > 1 || !view.fromStart.has(view.blockCount)) return true
  const width = view.blockCount + 1
  const reached = new Uint8Array(width)
  reached[0] = 1
  const spans = [...view.bySpan.keys()].filter((key) => key !== own).sort((a, b) => a - b)
  for (const key of spans) if (reached[Math.floor(key / width)] === 1) reached[key % width] = 1
  return reached[view.blockCount] === 1
}

/** How long an order of ranks holds, so that everybody gets a turn. */
const EPOCH_MS = 120_000
/** Part of the imbalance that may move in one epoch: records are old, and moving back would cost twice. */
const MOVED_SHARE = 0.25

/**
 * Whether it is one of the servers whose moves make up for what is missing. Those that sit on blocks with more than
 * their share come in an order that everybody computes alike; the first ones go, as many as are needed.
 */
function isMyTurn(view: PlacementView, me: PlacedServer, epoch: number): boolean {
  return rank(me.peerId, epoch) <= lastTurn(view, epoch)
}

/** The last rank of an epoch whose turn it is, of the latest state of each view. */
const turns = new WeakMap<PlacementView, { epoch: number; version: number; last: number }>()

function lastTurn(view: PlacementView, epoch: number): number {
  const known = turns.get(view)
  if (known?.epoch === epoch && known.version === view.version) return known.last
  const mean = demandOf(view.capacity)
  const missing = view.capacity.reduce((sum, value) => sum + Math.max(0, mean - value), 0)
  const rich: { rank: number; work: number }[] = []
  for (const server of view.byPeer.values()) {
    if (server.intent || !isRich(view, server, mean)) continue
    rich.push({ rank: rank(server.peerId, epoch), work: server.throughput * (server.end - server.start) })
  }
  rich.sort((a, b) => a.rank - b.rank)
  let before = 0
  let last = 1
  for (const one of rich) {
    last = one.rank
    before += one.work
    if (before > MOVED_SHARE * missing) break
  }
  if (before <= MOVED_SHARE * missing) last = 1
  turns.set(view, { epoch, version: view.version, last })
  return last
}

/** Whether all blocks of a server have more than their share: it is one of those that should go. */
function isRich({ capacity }: PlacementView, { start, end }: BlockRange, mean: number): boolean {
  for (let block = start; block < end; block++) if (capacity[block]! <= mean) return false
  return true
}

/** A number in [0, 1) that everybody computes alike: FNV-1a of the peer id and a number, then a finaliser. */
export function rank(peerId: string, epoch: number): number {
  let hash = (0x811c9dc5 ^ Math.imul(epoch + 1, 0x9e3779b1)) >>> 0
  for (let i = 0; i < peerId.length; i++) hash = Math.imul(hash ^ peerId.charCodeAt(i), 0x01000193) >>> 0
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b) >>> 0
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35) >>> 0
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32
}
