import type { BlockRange, PlacedServer, PlacementView } from './placement-view.ts'
import type { MoveDecision, MoveOptions } from './placement.ts'
import { maxFlow } from './max-flow.ts'
import { type Carrying, createSwarmCost, type SwarmCost } from './swarm-cost.ts'

/**
 * Moves of a swarm of middling size. With a few dozen servers each one's span matters, and which one should go where
 * can't be left to ranks; there are too many for a plan of all. But everybody can compute which single move helps the
 * most, and the one after it, and those whose moves these are make them.
 */

/** Servers that decide so: for every one the best moves are looked for. Larger swarms level by the law of large numbers. */
const MAX_CLIMBING = 128
/** Blocks of a model for which it is. */
const MAX_BLOCKS = 256
/** Moves on their way at once, of all servers: records are old, and each move is computed as if those before it were done. */
const MOVING_SHARE = 0.06
/** What a move must add to the score, of about 2 at best: it takes a server away for as long as it loads. */
const LEAST_GAIN = 0.03
/** What a move brings is computed exactly for the most promising servers, and spans of each. */
const MOVERS_LOOKED_AT = 16
const SPANS_LOOKED_AT = 6
/** Replicas that must stay behind on every block that a server leaves. Those that are about to go are not counted. */
const MIN_REPLICAS = 1

/** What a server does whose swarm climbs; undefined: the swarm is too large, or its records don't say enough. */
export function climbingMove(
  view: PlacementView,
  me: PlacedServer,
  intent: { readonly span: BlockRange; readonly at: number } | undefined,
  { now, publishMs }: MoveOptions,
): MoveDecision | undefined {
  if (view.byPeer.size > MAX_CLIMBING || view.blockCount > MAX_BLOCKS || me.maxBlocks === undefined)
    return undefined
  if (!intent || !me.intent) {
    const move = movesOf(view, now).get(me.peerId)
    return move ? { kind: 'intend', span: move } : { kind: 'stay', reason: 'balanced' }
  }
  if (!isSafe(view, me, stayingReplicas(view), new Set())) return { kind: 'stay', reason: 'needed' }
  // Others have moved, come and gone since it was announced.
  const cost = costOf(view)
  cost.add(placeOf(me), -1)
  const others = [...view.byPeer.values()].flatMap((one) => (one.peerId === me.peerId ? [] : [placeOf(one)]))
  const scoreWith = (span: Carrying): number =>
    scoreOf(view, demandOf(view), [...others, span], cost.with(span))
  if (scoreWith(placeOf(me)) < scoreWith(me) + LEAST_GAIN / 2) return { kind: 'stay', reason: 'balanced' }
  const waited = now - intent.at >= 2 * publishMs
  return { kind: waited ? 'move' : 'intend', span: intent.span }
}

/** The next moves for the latest state of each view. */
const known = new WeakMap<
  PlacementView,
  { readonly version: number; readonly now: number; readonly moves: ReadonlyMap<string, BlockRange> }
>()
/** Who dwells changes with time: what was computed holds this long. */
const SAME_TIME_MS = 30_000

function movesOf(view: PlacementView, now: number): ReadonlyMap<string, BlockRange> {
  const before = known.get(view)
  if (before?.version === view.version && now - before.now < SAME_TIME_MS && now >= before.now)
    return before.moves
  const moves = nextMoves(view, now)
  known.set(view, { version: view.version, now, moves })
  return moves
}

/**
 * The moves that help most, one after the other, each safe when those before it are under way; servers that announced
 * one count as being there. Deterministic: the same records give the same moves. O(servers × blocks × memory) a move.
 */
export function nextMoves(view: PlacementView, now: number): ReadonlyMap<string, BlockRange> {
  const servers = [...view.byPeer.values()].sort((a, b) => (a.peerId < b.peerId ? -1 : 1))
  const room =
    Math.max(1, Math.ceil(MOVING_SHARE * servers.length)) - servers.filter(({ intent }) => intent).length
  const moves = new Map<string, BlockRange>()
  const cost = costOf(view)
  const demand = demandOf(view)
  const places = new Map<string, Carrying>(servers.map((server) => [server.peerId, placeOf(server)]))
  const replicas = stayingReplicas(view)
  const leaving = new Set<string>()
  while (moves.size < room) {
    let best: { readonly server: PlacedServer; readonly span: Carrying } | undefined
    let bestScore = scoreOf(view, demand, places.values(), cost.total()) + LEAST_GAIN
    const options: {
      readonly server: PlacedServer
      readonly spans: (Carrying & { readonly cost: number })[]
    }[] = []
    for (const server of servers) {
      if (leaving.has(server.peerId) || !isFree(server, now) || !isSafe(view, server, replicas, leaving))
        continue
      cost.add(server, -1)
      const spans = cost.best({ maxBlocks: server.maxBlocks, power: powerOf(server) }, SPANS_LOOKED_AT)
      cost.add(server)
      options.push({ server, spans })
    }
    options.sort((a, b) => a.spans[0]!.cost - b.spans[0]!.cost)
    for (const { server, spans } of options.slice(0, MOVERS_LOOKED_AT)) {
      for (const span of spans) {
        places.set(server.peerId, span)
        const score = scoreOf(view, demand, places.values(), span.cost)
        if (score <= bestScore) continue
        best = { server, span }
        bestScore = score
      }
      places.set(server.peerId, placeOf(server))
    }
    if (!best) break
    places.set(best.server.peerId, best.span)
    const { server, span } = best
    for (let block = server.start; block < server.end; block++) replicas[block]!--
    leaving.add(server.peerId)
    cost.add(server, -1)
    cost.add(span)
    moves.set(server.peerId, { start: span.start, end: span.end })
  }
  return moves
}

/** Whether others may count on its moving when that helps. */
function isFree(server: PlacedServer, now: number): server is PlacedServer & { readonly maxBlocks: number } {
  const { intent, joining, maxBlocks, staysUntil = 0 } = server
  return !intent && joining !== true && maxBlocks !== undefined && staysUntil <= now
}

/** Servers that hold each block and neither are about to leave it nor still load it. */
function stayingReplicas(view: PlacementView): Int32Array {
  const replicas = view.replicas.slice()
  for (const { joining, intent, start, end } of view.byPeer.values()) {
    if (joining === true && !intent) for (let block = start; block < end; block++) replicas[block]!--
  }
  return replicas
}

/** Whether each of its blocks keeps others when it goes, and the swarm a chain, if it has one. */
function isSafe(
  view: PlacementView,
  me: PlacedServer,
  replicas: Int32Array,
  leaving: ReadonlySet<string>,
): boolean {
  const mine = me.intent ? 0 : 1
  for (let block = me.start; block < me.end; block++) if (replicas[block]! - mine < MIN_REPLICAS) return false
  if (!view.fromStart.has(view.blockCount)) return true
  const reached = new Uint8Array(view.blockCount + 1)
  reached[0] = 1
  const staying = [...view.byPeer.values()].filter(
    ({ peerId, intent, joining }) =>
      peerId !== me.peerId && !intent && joining !== true && !leaving.has(peerId),
  )
  for (const { start, end } of staying.sort((a, b) => a.start - b.start))
    if (reached[start] === 1) reached[end] = 1
  return reached[view.blockCount] === 1
}

/** The cost of the swarm when everybody is where it said it will be. */
function costOf(view: PlacementView): SwarmCost {
  const cost = createSwarmCost(view.blockCount, demandOf(view))
  for (const server of view.byPeer.values()) cost.add(placeOf(server))
  return cost
}

function demandOf(view: PlacementView): number {
  let work = 0
  for (const server of view.byPeer.values()) work += powerOf(server)
  return work / view.blockCount || 1
}

/** How good a placement is: what it carries, and how little is missing where it is narrow, each a share of the demand. */
function scoreOf(view: PlacementView, demand: number, places: Iterable<Carrying>, cost: number): number {
  return maxFlow(view.blockCount, [...places]) / demand + (cost / view.blockCount) ** (-1 / 6)
}
function placeOf(server: PlacedServer): BlockRange & { readonly throughput: number } {
  const { start, end } = server.intent ?? server
  return { start, end, throughput: powerOf(server) / (end - start) }
}

function powerOf({ start, end, throughput }: PlacedServer): number {
  return throughput * (end - start)
}
