import type { ServerRecord, Snapshot } from './snapshot.ts'

/** What a session needs of its servers. Costs are milliseconds per decoded token. */
export interface RouteRequest {
  /** First block. */
  readonly start: number
  /** Exclusive. */
  readonly end: number
  /** KV room each server must have free, in tokens. */
  readonly maxTokens: number
  /** Round trip assumed for a server that was never measured (default 20 ms). */
  readonly hopCostMs?: number
  /** How much one session that a server already runs slows the next one down (default 0.5 of the compute time). */
  readonly sessionLoad?: number
  /**
   * Up to this share is added to every server's cost, drawn from `seed` and the peer id (default 0: the cheapest
   * route, ties drawn). A little of it spreads the sessions of many clients that see the same snapshot.
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

/**
 * The cheapest chain of servers whose whole spans tile [start, end): a shortest path over block boundaries.
 *
 * Pure and deterministic. Cost of a server: its round trip, plus the time it takes for a token of its span, more so
 * when it is busy. Servers that are banned, not online, expired or short of KV room are left out.
 * Not checked: that records are signed and of the right model (the directory's part).
 */
export function findRoute(snapshot: Snapshot, request: RouteRequest): Route | NoRoute {
  const { start, end } = request
  const { usable, skipped } = usableServers(snapshot, request)
  const byStart = Map.groupBy(usable, (server) => server.start)

  // reached[b]: the cheapest way to have blocks [start, b) done. Spans only lead forward, so one sweep settles all.
  const reached = new Map<number, { cost: number; draw: number; via: ServerRecord | undefined }>([
    [start, { cost: 0, draw: 0, via: undefined }],
  ])
  for (let boundary = start; boundary < end; boundary++) {
    const here = reached.get(boundary)
    if (!here) continue
    for (const server of byStart.get(boundary) ?? []) {
      const draw = seededDraw(request.seed ?? 0, server.peerId)
      const cost = here.cost + serverCost(snapshot, request, server) * (1 + (request.spread ?? 0) * draw)
      const known = reached.get(server.end)
      if (!known || cost < known.cost || (cost === known.cost && draw < known.draw)) {
        reached.set(server.end, { cost, draw, via: server })
      }
    }
  }

  const last = reached.get(end)
  if (!last) return { kind: 'none', missing: uncovered(usable, start, end), skipped }
  const servers: ServerRecord[] = []
  for (let via = last.via; via; via = reached.get(via.start)?.via) servers.unshift(via)
  return { kind: 'route', servers, costMs: last.cost }
}

/** Milliseconds a token takes with this server: round trip and compute. Without the spread. */
export function serverCost(snapshot: Snapshot, request: RouteRequest, server: ServerRecord): number {
  const rtt = snapshot.measures.get(server.peerId)?.rttMs ?? request.hopCostMs ?? HOP_COST_MS
  const compute = server.throughput > 0 ? 1_000 / server.throughput : UNKNOWN_SPEED_MS
  return rtt + compute * (1 + (request.sessionLoad ?? SESSION_LOAD) * Math.max(0, server.sessions))
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
  if ((snapshot.bannedUntil.get(server.peerId) ?? 0) > snapshot.now) return 'banned'
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
