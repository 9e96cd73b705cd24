import type { EngineSpan, KvLease, StepEntry } from '../../src/engine/engine.ts'
import { ChoraleError } from '../../src/errors.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

export interface FakeSpanOptions {
  start?: number
  end?: number
  kvTokens?: number
  /** Awaited before every step: lets a test hold the engine. */
  gate?: (entries: readonly StepEntry[]) => Promise<void> | void
}

/**
 * A span that adds to every value of a row its position in the session, plus what it remembers of the rows before:
 * a wrong order, a lost rollback or mixed sessions change the output.
 */
export function fakeSpan(options: FakeSpanOptions = {}): EngineSpan & { readonly released: number } {
  const { start = 0, end = 4, kvTokens = 4096, gate } = options
  const caches = new WeakMap<KvLease, number[]>()
  let used = 0
  let released = 0
  return {
    start,
    end,
    weightBytes: 1,
    kvBytes: 1,
    kvTokens,
    get kvTokensFree() {
      return kvTokens - used
    },
    get released() {
      return released
    },
    lease: (maxTokens) => {
      if (maxTokens > kvTokens - used)
        throw new ChoraleError('capacity', `room for ${kvTokens - used} tokens`)
      used += maxTokens
      const cache: number[] = []
      let free = false
      const lease: KvLease = {
        maxTokens,
        get position() {
          return cache.length
        },
        rollback: (position) => {
          if (position > cache.length) throw new ChoraleError('bad_request', 'rollback beyond the end')
          cache.length = position
        },
        release: () => {
          if (free) return
          free = true
          released++
          used -= maxTokens
        },
      }
      caches.set(lease, cache)
      return lease
    },
    step: async (entries) => {
      await gate?.(entries)
      return entries.map(({ lease, hidden }) => fakeStep(caches.get(lease)!, hidden))
    },
    close: async () => undefined,
  }
}

/** What `fakeSpan` computes, for expectations: `cache` is the first value of every row so far. */
export function fakeStep(cache: number[], hidden: Tensor): Tensor {
  const [tokens, columns] = hidden.shape
  const data = new Float32Array(hidden.data.length)
  for (let t = 0; t < tokens; t++) {
    const memory = cache.reduce((sum, value) => sum + value, 0)
    for (let c = 0; c < columns; c++) {
      data[t * columns + c] = hidden.data[t * columns + c]! + cache.length + memory / 1024
    }
    cache.push(hidden.data[t * columns]!)
  }
  return { shape: [tokens, columns], data }
}
