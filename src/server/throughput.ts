import type { EngineSpan } from '../engine/engine.ts'
import { tensor } from '../tensor/tensor.ts'

export interface ThroughputOptions {
  /** Stop after this long (default 400 ms). */
  readonly budgetMs?: number
  /** Stop after this many tokens (default 32). */
  readonly maxTokens?: number
  readonly now?: () => number
}

/**
 * Decode speed of a span on this machine now, in tokens per second: single tokens one after the other, as a
 * session decodes. The first token is not counted: it pays for warming up. Leaves the KV cache as it was.
 * @throws `capacity` when the cache has no room for two tokens.
 */
export async function measureThroughput(
  span: EngineSpan,
  hiddenSize: number,
  { budgetMs = 400, maxTokens = 32, now = () => performance.now() }: ThroughputOptions = {},
): Promise<number> {
  const room = Math.max(2, Math.min(maxTokens, span.kvTokensFree))
  const lease = span.lease(room)
  try {
    const hidden = tensor(
      1,
      hiddenSize,
      Float32Array.from({ length: hiddenSize }, (_, i) => Math.sin(i + 1)),
    )
    await span.step([{ lease, hidden }])
    const started = now()
    let tokens = 0
    do {
      await span.step([{ lease, hidden }])
      tokens++
    } while (tokens + 1 < room && now() - started < budgetMs)
    // A clock that did not move means a span faster than it can show.
    return Math.round((tokens / Math.max((now() - started) / 1000, 1e-4)) * 100) / 100
  } finally {
    lease.release()
  }
}

/** Tokens of the piece that is timed: long enough that weights are read once for many, short enough to be quick. */
const PIECE_TOKENS = 32

/**
 * Speed of reading a prompt on this machine now, in tokens per second: one piece, after one that warms up. Leaves the
 * KV cache as it was. @throws `capacity` when the cache has no room for one token.
 */
export async function measurePrefill(
  span: EngineSpan,
  hiddenSize: number,
  now: () => number = () => performance.now(),
): Promise<number> {
  const tokens = Math.max(1, Math.min(PIECE_TOKENS, span.kvTokensFree))
  const lease = span.lease(tokens)
  try {
    const values = Float32Array.from({ length: tokens * hiddenSize }, (_, i) => Math.sin(i + 1))
    const hidden = tensor(tokens, hiddenSize, values)
    await span.step([{ lease, hidden }])
    lease.rollback(0)
    const started = now()
    await span.step([{ lease, hidden }])
    return Math.round((tokens / Math.max((now() - started) / 1000, 1e-4)) * 100) / 100
  } finally {
    lease.release()
  }
}
