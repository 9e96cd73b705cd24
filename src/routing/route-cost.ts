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

/** A loopback or metropolitan round trip; only its ratio to compute time matters. */
const HOP_COST_MS = 20
const SESSION_LOAD = 0.5
/** Compute time assumed for a server whose throughput is unusable (0, NaN): worse than any honest one. */
const UNKNOWN_SPEED_MS = 1_000
/** Where a server does not say how fast it reads a prompt: engines read weights once for a piece of it. */
const PREFILL_SPEEDUP = 4
/** Tokens of a piece of a prompt: `ChainOptions.chunkTokens`. */
export const CHUNK_TOKENS = 64
/**
 * What a server adds to the whole request, without the spread and without the pipeline's slowest part: its share of
 * the time to the first token and of every token of the answer.
 */
export function serverCost(snapshot: Snapshot, request: RouteRequest, server: ServerRecord): number {
  return fixedCost(request, server) + lapsOf(request) * rttOf(snapshot, request, server)
}

/** Round trips that a request pays: one for each token of the answer; the prompt's lap gives the first. */
export function lapsOf({ promptTokens = 0, answerTokens = 1 }: RouteRequest): number {
  return promptTokens < 1 ? answerTokens : 1 + Math.max(0, answerTokens - 1)
}

/** Measured round trip to a server in ms, or the one assumed. */
export function rttOf({ measures }: Snapshot, { hopCostMs }: RouteRequest, { peerId }: ServerRecord): number {
  return measures.get(peerId)?.rttMs ?? hopCostMs ?? HOP_COST_MS
}

/** A server's cost without its round trips. */
export function fixedCost(request: RouteRequest, server: ServerRecord): number {
  const { promptTokens = 0, answerTokens = 1, hiddenBytes = 0, sessionLoad = SESSION_LOAD } = request
  const compute = decodeMs(server) * (1 + sessionLoad * Math.max(0, server.sessions))
  const perToken = compute + transferMs(server, hiddenBytes)
  if (promptTokens < 1) return answerTokens * perToken
  const queueMs = Math.max(0, server.queued ?? 0) * decodeMs(server)
  const firstPiece = pieceMs(request, server) * (Math.min(promptTokens, CHUNK_TOKENS) / CHUNK_TOKENS)
  return queueMs + firstPiece + Math.max(0, answerTokens - 1) * perToken
}

function decodeMs({ throughput }: ServerRecord): number {
  return throughput > 0 ? 1_000 / throughput : UNKNOWN_SPEED_MS
}

/** Ms that a server takes for one piece of a prompt: to compute it or to send it on, whichever is longer. */
export function pieceMs(request: RouteRequest, server: ServerRecord): number {
  const { prefillThroughput: prefill } = server
  const perToken = prefill !== undefined && prefill > 0 ? 1_000 / prefill : decodeMs(server) / PREFILL_SPEEDUP
  return CHUNK_TOKENS * Math.max(perToken, transferMs(server, request.hiddenBytes ?? 0))
}

function transferMs({ bandwidth }: ServerRecord, bytes: number): number {
  return bandwidth !== undefined && bandwidth > 0 ? (1_000 * bytes) / bandwidth : 0
}
