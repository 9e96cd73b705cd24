import type { ServerRecord, Snapshot } from './snapshot.ts'

/** What a session needs of its servers. Costs are milliseconds. */
export interface RouteRequest {
  /** First block. */
  readonly start: number
  /** Exclusive. */
  readonly end: number
  /** KV room each server must have free, in tokens. */
  readonly maxTokens: number
  /** Tokens that go through before the first answer (default 0: only decoding counts). */
  readonly promptTokens?: number
  /** Tokens of answer to be expected (default 1: the cost is that of one token). */
  readonly answerTokens?: number
  /** Bytes of one hidden state on the wire (default 0: bandwidth does not matter). */
  readonly hiddenBytes?: number
  /** Round trip assumed for a server that was never measured (default 20 ms). */
  readonly hopCostMs?: number
  /** How much one session that a server already runs slows the next one down (default 0.5 of the compute time). */
  readonly sessionLoad?: number
  /**
   * Up to this share is added to every server's cost, drawn from `seed` and the peer id (default 0: the cheapest
   * route, ties drawn). A little of it draws one of the good routes, so that many clients that see the same snapshot
   * don't all take the best.
   */
  readonly spread?: number
  /** Draws ties and the spread. Same snapshot, request and seed: same route. */
  readonly seed?: number
}

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

/** A loopback or metropolitan round trip; only its ratio to compute time matters. */
const HOP_COST_MS = 20
const SESSION_LOAD = 0.5
/** Compute time assumed for a server whose throughput is unusable (0, NaN): worse than any honest one. */
const UNKNOWN_SPEED_MS = 1_000
/** Where a server does not say how fast it reads a prompt: engines read weights once for a piece of it. */
const PREFILL_SPEEDUP = 4
/** Tokens of a piece of a prompt: `ChainOptions.chunkTokens`. */
const CHUNK_TOKENS = 64
/** Bounds tried for the slowest server of a prompt's pipeline. */
const BOTTLENECKS = 8
/** Candidates that the bounds are taken from: sorting all of ten thousand would take as long as a search. */
const SAMPLE = 256

/**
 * The chain of servers whose whole spans tile [start, end) and that answers soonest: a shortest path over block
 * boundaries.
 *
 * Cost = time to the first token + answer tokens × time per token. A decoded token pays every server's round trip
 * and compute; a prompt is a pipeline, so beyond its first piece it pays only the slowest server, which is why the
 * path is searched under several bounds for that one (exact for up to eight usable servers, close beyond). Pure and
 * deterministic. Servers that are banned, not online, expired or short of KV room are left out.
 * Not checked: that records are signed and of the right model (the directory's part).
 */
export function findRoute(snapshot: Snapshot, request: RouteRequest): Route | NoRoute {
  const { start, end } = request
  const { usable, skipped } = usableServers(snapshot, request)
  const candidates = usable.map((server) => candidateOf(snapshot, request, server))
  const pieces = Math.ceil((request.promptTokens ?? 0) / CHUNK_TOKENS)
  const byStart = new Map<number, Candidate[]>()
  for (const candidate of candidates) {
    const here = byStart.get(candidate.server.start)
    if (here) here.push(candidate)
    else byStart.set(candidate.server.start, [candidate])
  }
  let best: { path: Candidate[]; cost: number } | undefined
  for (const bound of pieces > 1 ? bottleneckBounds(candidates) : [Infinity]) {
    const path = shortestPath(byStart, start, end, bound)
    if (!path) continue
    const slowest = path.reduce((most, { pieceMs }) => Math.max(most, pieceMs), 0)
    const cost = path.reduce((sum, candidate) => sum + candidate.cost, 0) + Math.max(0, pieces - 1) * slowest
    if (!best || cost < best.cost) best = { path, cost }
  }
  if (!best) return { kind: 'none', missing: uncovered(usable, start, end), skipped }
  return { kind: 'route', servers: best.path.map(({ server }) => server), costMs: best.cost }
}

interface Candidate {
  readonly server: ServerRecord
  readonly end: number
  readonly cost: number
  readonly draw: number
  /** One piece of a prompt, compute and transfer whichever is longer. */
  readonly pieceMs: number
}

function candidateOf(snapshot: Snapshot, request: RouteRequest, server: ServerRecord): Candidate {
  const { seed = 0, spread = 0 } = request
  const draw = seededDraw(seed, server.peerId)
  const cost = serverCost(snapshot, request, server) * (1 + spread * draw)
  return {
    server,
    end: server.end,
    cost,
    draw,
    pieceMs: (request.promptTokens ?? 0) > 0 ? pieceMs(request, server) : 0,
  }
}

/** The cheapest path over candidates whose pieces take at most `bound` ms. Spans only lead forward: one sweep. */
function shortestPath(
  byStart: ReadonlyMap<number, readonly Candidate[]>,
  start: number,
  end: number,
  bound: number,
): Candidate[] | undefined {
  const costs = new Float64Array(end - start + 1).fill(Infinity)
  const ways: (Candidate | undefined)[] = Array.from(costs, () => undefined)
  costs[0] = 0
  for (let boundary = start; boundary < end; boundary++) {
    const here = costs[boundary - start]!
    if (here === Infinity) continue
    for (const candidate of byStart.get(boundary) ?? []) {
      if (candidate.pieceMs > bound) continue
      const to = candidate.end - start
      const cost = here + candidate.cost
      const known = costs[to]!
      if (cost > known || (cost === known && candidate.draw >= ways[to]!.draw)) continue
      costs[to] = cost
      ways[to] = candidate
    }
  }
  if (costs[end - start] === Infinity) return undefined
  const path: Candidate[] = []
  for (let via = ways[end - start]; via; via = ways[via.server.start - start]) path.unshift(via)
  return path
}

/** At most `BOTTLENECKS` piece times, evenly through all of them (of many: through a sample), the longest included. */
function bottleneckBounds(candidates: readonly Candidate[]): number[] {
  const stride = Math.ceil(candidates.length / SAMPLE)
  const times: number[] = []
  let longest = 0
  for (const [i, { pieceMs: ms }] of candidates.entries()) {
    if (i % stride === 0) times.push(ms)
    longest = Math.max(longest, ms)
  }
  const sorted = Float64Array.from(times).sort()
  const bounds = new Set([longest])
  for (let i = 1; i < BOTTLENECKS; i++) {
    const time = sorted[Math.ceil((i * sorted.length) / BOTTLENECKS) - 1]
    if (time !== undefined) bounds.add(time)
  }
  return [...bounds]
}

/**
 * What a server adds to the whole request, without the spread and without the pipeline's slowest part: its share of
 * the time to the first token and of every token of the answer.
 */
export function serverCost(snapshot: Snapshot, request: RouteRequest, server: ServerRecord): number {
  const { promptTokens = 0, answerTokens = 1, hiddenBytes = 0, sessionLoad = SESSION_LOAD } = request
  const rtt = snapshot.measures.get(server.peerId)?.rttMs ?? request.hopCostMs ?? HOP_COST_MS
  const compute = decodeMs(server) * (1 + sessionLoad * Math.max(0, server.sessions))
  const perToken = rtt + compute + transferMs(server, hiddenBytes)
  if (promptTokens < 1) return answerTokens * perToken
  const queueMs = Math.max(0, server.queued ?? 0) * decodeMs(server)
  const firstPiece = pieceMs(request, server) * (Math.min(promptTokens, CHUNK_TOKENS) / CHUNK_TOKENS)
  // The prompt's lap gives the first token.
  return rtt + queueMs + firstPiece + Math.max(0, answerTokens - 1) * perToken
}

function decodeMs({ throughput }: ServerRecord): number {
  return throughput > 0 ? 1_000 / throughput : UNKNOWN_SPEED_MS
}

function pieceMs(request: RouteRequest, server: ServerRecord): number {
  const { prefillThroughput: prefill } = server
  const perToken = prefill !== undefined && prefill > 0 ? 1_000 / prefill : decodeMs(server) / PREFILL_SPEEDUP
  return CHUNK_TOKENS * Math.max(perToken, transferMs(server, request.hiddenBytes ?? 0))
}

function transferMs({ bandwidth }: ServerRecord, bytes: number): number {
  return bandwidth !== undefined && bandwidth > 0 ? (1_000 * bytes) / bandwidth : 0
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
  const missing: { start: number; end: number }[] = []
  for (let block = start; block < end; block++) {
    if (servers.some((server) => server.start <= block && block < server.end)) continue
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
