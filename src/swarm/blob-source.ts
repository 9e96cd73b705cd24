import { isChoraleError } from '../errors.ts'
import { type BlobId, type Held, pieceCount } from '../model/blob.ts'

/** A peer that may have pieces. */
export interface BlobSource {
  readonly peerId: string
  readonly addrs: readonly string[]
}

/** Asks one question. @returns undefined when the peer has no such thing. @throws as `askBytes`. */
export type AskBlob = (
  source: BlobSource,
  question: Uint8Array,
  options: { readonly maxAnswerBytes: number; readonly timeoutMs: number; readonly signal: AbortSignal },
) => Promise<Uint8Array | undefined>

/** Questions at once to one peer: each piece that comes in time allows half of one more. */
const FIRST_WINDOW = 2
const MAX_WINDOW = 6
/** Failures in a row after which a peer is left. */
const MAX_FAILURES = 3
/** A peer that failed may have come back by then. */
export const FORGIVE_MS = 30_000

/** A peer that is asked, with how it did so far. */
export interface Source extends BlobSource {
  readonly held: Map<string, Held>
  window: number
  asking: number
  failures: number
  /** Refused with `capacity`, or failing: not asked before. */
  readyAt: number
  /** When it last said what it has; undefined while it never has. */
  toldAt: number | undefined
  telling: boolean
  readonly abort: AbortController
}

/** A peer that was not asked anything yet. */
export function createSource({ peerId, addrs }: BlobSource): Source {
  return {
    peerId,
    addrs,
    held: new Map(),
    window: FIRST_WINDOW,
    asking: 0,
    failures: 0,
    readyAt: 0,
    toldAt: undefined,
    telling: false,
    abort: new AbortController(),
  }
}

/** Notes a good piece. */
export function noteAnswer(source: Source): void {
  source.failures = 0
  source.window = Math.min(MAX_WINDOW, source.window + 0.5)
}

/** Notes a failed question; a peer that only has no room now is asked later, `mostMs` at most. @returns whether to leave it. */
export function noteFailure(source: Source, error: unknown, mostMs: number): boolean {
  const [code, wait] = isChoraleError(error) ? [error.code, error.retryAfterMs] : ['internal', undefined]
  const now = performance.now()
  if (code === 'capacity') {
    source.window = Math.max(1, source.window >> 1)
    source.readyAt = now + Math.min(wait ?? 1_000, mostMs)
    return false
  }
  if (code === 'refused' || code === 'not_supported') return true
  source.failures++
  source.window = 1
  source.readyAt = now + 250 * 2 ** source.failures
  // Who never answered makes place for the next one.
  return source.failures >= MAX_FAILURES || source.toldAt === undefined
}

/** Notes that a peer has not what it said it had. */
export function lacks({ held }: Source, { root, byteLength }: BlobId, index: number): void {
  const said = held.get(root)
  if (said === undefined) return
  const pieces = said.pieces?.slice() ?? new Uint8Array(Math.ceil(pieceCount(byteLength) / 8)).fill(255)
  pieces[index >> 3]! &= ~(1 << (index & 7))
  held.set(root, { byteLength, pieces })
}
