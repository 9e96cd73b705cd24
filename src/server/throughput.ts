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
