import type { EngineHead } from '../engine/engine.ts'
import { ChoraleError } from '../errors.ts'
import { concatRows, rows, type Tensor } from '../tensor/tensor.ts'

/** Logits [rows, vocabSize] of hidden states [rows, hiddenSize]. */
export type Logits = (hidden: Tensor) => Promise<Tensor>

/** Rows of one call of the head: a large vocabulary's logits take half a megabyte a row. */
const MAX_ROWS = 32

interface Waiting {
  readonly hidden: Tensor
  resolve(logits: Tensor): void
  reject(error: unknown): void
}

/**
 * Calls the head once for all sessions that wait for it: it reads its weights once for many rows, and the engine
 * gets one call at a time. A row's logits do not depend on the rows beside it (`Engine`).
 */
export function batchedLogits(head: EngineHead): Logits {
  const waiting: Waiting[] = []
  let running = false

  async function run(): Promise<void> {
    running = true
    while (waiting.length > 0) {
      // Sessions whose steps ended together ask in the same turn; the first waits for the others.
      await Promise.resolve()
      const batch = takeBatch()
      try {
        const columns = (batch[0] as Waiting).hidden.shape[1]
        const joined =
          batch.length === 1
            ? (batch[0] as Waiting).hidden
            : concatRows(
                batch.map((one) => one.hidden),
                columns,
              )
        const logits = await head.logits(joined)
        let start = 0
        for (const one of batch) {
          const end = start + one.hidden.shape[0]
          one.resolve(batch.length === 1 ? logits : rows(logits, start, end))
          start = end
        }
      } catch (error) {
        for (const one of batch) one.reject(error)
      }
    }
    running = false
  }

  /** From the front: as many as fit `MAX_ROWS`, at least one. */
  function takeBatch(): Waiting[] {
    let count = 0
    let total = 0
    for (const one of waiting) {
      total += one.hidden.shape[0]
      if (count > 0 && total > MAX_ROWS) break
      count++
    }
    return waiting.splice(0, count)
  }

  return (hidden) => {
    if (hidden.shape[0] < 1)
      return Promise.reject(new ChoraleError('bad_request', 'logits of no rows were asked for'))
    return new Promise((resolve, reject) => {
      waiting.push({ hidden, resolve, reject })
      if (!running) void run()
    })
  }
}
