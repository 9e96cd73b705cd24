import { bestSpan, demandOf, type PlacementSelf, rank, worthTable } from './best-span.ts'
import {
  type BlockRange,
  INTENT_SHARE,
  type PlacedServer,
  type PlacementView,
  spanKey,
} from './placement-view.ts'
import { climbingMove } from './climb.ts'
import { agreedMove, MAX_PLANNED } from './small-swarm.ts'

export { bestSpan, JOIN_SPREAD, rank } from './best-span.ts'
export type { Placement, PlacementSelf } from './best-span.ts'
export { placedServers, type PlacementRecord, viewPlacement } from './placement-view.ts'
export type { BlockRange, PlacedServer, PlacementView } from './placement-view.ts'

/**
 * Who should serve which blocks. Every server decides for itself, on the same records, by these rules; all of it is
 * pure. A block's worth falls with the fourth power of its capacity, so the weakest blocks attract servers first,
 * and what one server gains is what the swarm gains: moves one at a time end in a balance. What could oscillate is
 * many moves at once, which ranks, intents and dwelling times prevent.
 */

/** In fourth powers: about 8 % more capacity where it is left than where it is needed. */
const LEAST_GAIN = 1.1 ** 4
/** Replicas that must stay behind on every block that a server leaves. */
const MIN_REPLICAS = 2

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
  /** Moves so far: each of the first two makes the dwelling time four times as long, in a swarm of up to 16 servers twice. */
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
  readonly dwellMs?: number | undefined
}

const DWELL_MS = 600_000
const DWELL_GROWTH = 4
/** In swarms that plan together, where nobody else can take the place of one that dwells. */
const PLANNED_GROWTH = 2
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
  if (options.now < staysUntil(state, options, view.byPeer.size)) {
    return { kind: 'stay', reason: 'dwelling' }
  }
  const agreed = agreedMove(view, me, state.intent, options)
  if (agreed) return agreed
  const climbing = climbingMove(view, me, state.intent, options)
  if (climbing) return climbing
  if (!canLeave(view, me)) return { kind: 'stay', reason: 'needed' }
  const epoch = Math.floor(options.now / Math.max(1, Math.min(EPOCH_MS, dwell)))
  // Most servers of a large swarm are done here. One with an intent had its turn already.
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
  if (intent && !isMyTurn(view, me, epoch)) return { kind: 'stay', reason: 'others-go' }
  return { kind: 'intend', span: { start, end } }
}

/**
 * When a server has been in its span for long enough, in ms on the records' scale: what its record says.
 * @param servers of the model; in a swarm so small that it plans together, dwelling times grow less.
 */
export function staysUntil(
  { since, moves }: Pick<MoveState, 'since' | 'moves'>,
  { dwellMs = DWELL_MS, loadMs }: Pick<MoveOptions, 'dwellMs' | 'loadMs'>,
  servers: number,
): number {
  const growth = servers <= MAX_PLANNED ? PLANNED_GROWTH : DWELL_GROWTH
  return since + Math.max(dwellMs, 5 * loadMs) * growth ** Math.min(moves, MAX_GROWTHS)
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
