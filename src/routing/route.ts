import { CHUNK_TOKENS, fixedCost, lapsOf, pieceMs, type RouteRequest, rttOf } from './route-cost.ts'
import type { ServerRecord, Snapshot } from './snapshot.ts'

export { type RouteRequest, serverCost } from './route-cost.ts'

export interface Route {
  readonly kind: 'route'
  /** Their spans meet exactly and cover [start, end). */
  readonly servers: readonly ServerRecord[]
  readonly costMs: number
}

/** Why no servers tile the range. */
export interface NoRoute {
  readonly kind: 'none'
  /** Blocks that no usable server holds, as maximal spans in order. Empty: all are held, but the spans don't meet. */
  readonly missing: readonly { readonly start: number; readonly end: number }[]
  /** Servers that hold blocks of the range and were left out, by reason. */
  readonly skipped: Readonly<Record<SkipReason, number>>
}

export type SkipReason = 'banned' | 'joining' | 'draining' | 'offline' | 'expired' | 'full'

/** Searches, each under a lower bound for the slowest server of a prompt's pipeline; more than two or three are rare. */
const MAX_SEARCHES = 64

/**
 * The chain of servers whose whole spans tile [start, end) and that answers soonest: a shortest path over block
 * boundaries.
 *
 * Cost = time to the first token + answer tokens × time per token. A decoded token pays every server's round trip
 * and compute; a prompt is a pipeline, so beyond its first piece it pays only the slowest server, which is why the
 * path is searched again without the slowest server of the last one until that can't pay any more: exact (up to
 * 64 searches). Of servers with the same span only those that no other one beats in cost and speed are looked at.
 * Pure and deterministic. Servers that are banned, not online, expired or short of KV room are left out.
 * Not checked: that records are signed and of the right model (the directory's part).
 */
export function findRoute(snapshot: Snapshot, request: RouteRequest): Route | NoRoute {
  const { start, end } = request
  const { usable, skipped } = usableServers(snapshot, request)
  const byStart = candidatesByStart(snapshot, request, usable)
  const pieces = Math.max(0, Math.ceil((request.promptTokens ?? 0) / CHUNK_TOKENS) - 1)
  let best: { path: readonly Candidate[]; cost: number } | undefined
  let bound = Infinity
  for (let searches = 0; searches < (pieces > 0 ? MAX_SEARCHES : 1); searches++) {
    const found = shortestPath(byStart, start, end, bound)
    // Lower bounds leave fewer paths: none of them costs less than this one without its slowest part.
    if (!found || (best && found.cost >= best.cost)) break
    const slowest = found.path.reduce((most, { pieceMs: ms }) => Math.max(most, ms), 0)
    const cost = found.cost + pieces * slowest
    if (!best || cost < best.cost) best = { path: found.path, cost }
    bound = slowest
  }
  if (!best) return { kind: 'none', missing: uncovered(usable, start, end), skipped }
  return { kind: 'route', servers: best.path.map(({ server }) => server), costMs: best.cost }
}

interface Candidate {
  readonly server: ServerRecord
  readonly cost: number
  readonly draw: number
  /** One piece of a prompt, compute and transfer whichever is longer. */
  readonly pieceMs: number
}

/** What the servers of one span offer at their best. */
interface SpanBest {
  /** The cheapest one's cost and piece time. */
  cost: number
  costPiece: number
  /** The fastest reader's piece time and cost. */
  piece: number
  pieceCost: number
}

/**
 * Servers that may be part of the best path, by their first block relative to the range's. One that costs more than
 * another one of the same span, whatever the spread adds to either, and reads prompts no faster, never is: most of a
 * large swarm goes here, before anything is drawn or searched.
 */
function candidatesByStart(
  snapshot: Snapshot,
  request: RouteRequest,
  usable: readonly ServerRecord[],
): (Candidate[] | undefined)[] {
  const { seed = 0, spread = 0, promptTokens = 0, start } = request
  const width = request.end - start + 1
  const laps = lapsOf(request)
  const bests: SpanBest[] = []
  /** For each first block and end, relative to the range's: 1 + its place in `bests`. */
  const rows: (Int32Array | undefined)[] = Array.from({ length: width })
  const costs = new Float64Array(usable.length)
  const pieceTimes = new Float64Array(usable.length)
  for (let i = 0; i < usable.length; i++) {
    const server = usable[i]!
    const fixed = fixedCost(request, server)
    const piece = promptTokens > 0 ? pieceMs(request, server) : 0
    const row = (rows[server.start - start] ??= new Int32Array(width))
    const known = bests[row[server.end - start]! - 1]
    // Most are too slow even at no distance: measures of ten thousand peers are worth not being looked up.
    if (known && known.cost * (1 + spread) < fixed && known.costPiece <= piece) {
      costs[i] = Infinity
      continue
    }
    const cost = fixed + laps * rttOf(snapshot, request, server)
    costs[i] = cost
    pieceTimes[i] = piece
    if (!known) {
      row[server.end - start] = bests.push({ cost, costPiece: piece, piece, pieceCost: cost })
      continue
    }
    if (cost < known.cost || (cost === known.cost && piece < known.costPiece)) {
      known.cost = cost
      known.costPiece = piece
    }
    if (piece < known.piece || (piece === known.piece && cost < known.pieceCost)) {
      known.piece = piece
      known.pieceCost = cost
    }
  }
  const byStart: (Candidate[] | undefined)[] = Array.from({ length: width })
  for (let i = 0; i < usable.length; i++) {
    const cost = costs[i]!
    if (cost === Infinity) continue
    const server = usable[i]!
    const piece = pieceTimes[i]!
    const known = bests[rows[server.start - start]![server.end - start]! - 1]!
    if (known.cost * (1 + spread) < cost && known.costPiece <= piece) continue
    if (known.pieceCost * (1 + spread) < cost && known.piece <= piece) continue
    const draw = seededDraw(seed, server.peerId)
    const candidate = { server, cost: cost * (1 + spread * draw), draw, pieceMs: piece }
    const here = byStart[server.start - start]
    if (here) here.push(candidate)
    else byStart[server.start - start] = [candidate]
  }
  return byStart
}

/** The cheapest path over candidates whose pieces take less than `bound` ms. Spans only lead forward: one sweep. */
function shortestPath(
  byStart: readonly (readonly Candidate[] | undefined)[],
  start: number,
  end: number,
  bound: number,
): { readonly path: readonly Candidate[]; readonly cost: number } | undefined {
  const costs = new Float64Array(end - start + 1).fill(Infinity)
  const ways: (Candidate | undefined)[] = Array.from({ length: costs.length })
  costs[0] = 0
  for (let boundary = 0; boundary < end - start; boundary++) {
    const here = costs[boundary]!
    const candidates = byStart[boundary]
    if (here === Infinity || !candidates) continue
    for (const candidate of candidates) {
      if (candidate.pieceMs >= bound) continue
      const to = candidate.server.end - start
      const cost = here + candidate.cost
      const known = costs[to]!
      if (cost > known || (cost === known && candidate.draw >= ways[to]!.draw)) continue
      costs[to] = cost
      ways[to] = candidate
    }
  }
  if (costs[end - start] === Infinity) return undefined
  const path: Candidate[] = []
  for (let via = ways[end - start]; via; via = ways[via.server.start - start]) path.push(via)
  return { path: path.reverse(), cost: costs[end - start]! }
}

function usableServers(snapshot: Snapshot, request: RouteRequest) {
  const skipped: Record<SkipReason, number> = {
    banned: 0,
    joining: 0,
    draining: 0,
    offline: 0,
    expired: 0,
    full: 0,
  }
  const usable: ServerRecord[] = []
  for (const server of snapshot.servers) {
    if (!(server.start < server.end && server.end > request.start && server.start < request.end)) continue
    const reason = skipReason(snapshot, request, server)
    if (reason) skipped[reason]++
    // A span that reaches beyond the range can't be used for it: servers run whole spans.
    else if (server.start >= request.start && server.end <= request.end) usable.push(server)
  }
  return { usable, skipped }
}

function skipReason(snapshot: Snapshot, request: RouteRequest, server: ServerRecord): SkipReason | undefined {
  if (server.expiresAt <= snapshot.now) return 'expired'
  if (server.state !== 'online') return server.state
  if (snapshot.bannedUntil.size > 0 && (snapshot.bannedUntil.get(server.peerId) ?? 0) > snapshot.now) {
    return 'banned'
  }
  if (server.freeKvTokens < request.maxTokens) return 'full'
  return undefined
}

function uncovered(servers: readonly ServerRecord[], start: number, end: number) {
  // Spans of usable servers lie inside the range. Each adds one from its start on and takes it away at its end.
  const steps = new Int32Array(end - start + 1)
  for (const server of servers) {
    steps[server.start - start]!++
    steps[server.end - start]!--
  }
  const missing: { start: number; end: number }[] = []
  let held = 0
  for (let block = start; block < end; block++) {
    held += steps[block - start]!
    if (held > 0) continue
    const last = missing.at(-1)
    if (last?.end === block) last.end = block + 1
    else missing.push({ start: block, end: block + 1 })
  }
  return missing
}

/** A number in [0, 1) of the seed and the peer id: FNV-1a, then a finaliser so that close ids lie far apart. */
function seededDraw(seed: number, peerId: string): number {
  let hash = (0x811c9dc5 ^ seed) >>> 0
  for (let i = 0; i < peerId.length; i++) hash = Math.imul(hash ^ peerId.charCodeAt(i), 0x01000193) >>> 0
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b) >>> 0
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35) >>> 0
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32
}
