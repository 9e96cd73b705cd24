import type { EngineHead } from '../engine/engine.ts'
import { ChoraleError } from '../errors.ts'
import { allFinite, argmax } from '../sampling/filters.ts'
import { concatRows, rows, type Tensor } from '../tensor/tensor.ts'
import { catchUp } from './race-signal.ts'

/** A head that sessions share. */
export interface BatchedHead {
  /** Logits [rows, vocabSize] of hidden states [rows, hiddenSize]. */
  logits(hidden: Tensor): Promise<Tensor>
  /** The token of the highest logit of each row, as `EngineHead.best`. */
  best(hidden: Tensor): Promise<Int32Array>
}

/** Rows of one call of the head: a large vocabulary's logits take half a megabyte a row. */
const MAX_ROWS = 32

interface Waiting {
  readonly hidden: Tensor
  /** Only the best token of each row is wanted. */
  readonly best: boolean
  resolve(answer: Tensor | Int32Array): void
  reject(error: unknown): void
}

/**
 * Calls the head once for all sessions that wait for it: it reads its weights once for many rows, and the engine
 * gets one call at a time. A row's logits do not depend on the rows beside it (`Engine`).
 */
export function batchHead(head: EngineHead): BatchedHead {
  const waiting: Waiting[] = []
  let running = false

  async function run(): Promise<void> {
    running = true
    while (waiting.length > 0) {
      // Sessions whose steps ended together ask in the same turn; the first waits for the others.
      await catchUp()
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
        // One call for all: logits hold the best, so where any session wants logits, all get theirs from them.
        const ids = head.best && batch.every(({ best }) => best) ? await head.best(joined) : undefined
        const logits = ids === undefined ? await head.logits(joined) : undefined
        let start = 0
        for (const one of batch) {
          const end = start + one.hidden.shape[0]
          if (logits === undefined) one.resolve((ids as Int32Array).subarray(start, end))
          else {
            const own = batch.length === 1 ? logits : rows(logits, start, end)
            one.resolve(one.best ? bestOfRows(own) : own)
          }
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

  function ask(hidden: Tensor, best: boolean): Promise<Tensor | Int32Array> {
    if (hidden.shape[0] < 1)
      return Promise.reject(new ChoraleError('bad_request', 'logits of no rows were asked for'))
    return new Promise((resolve, reject) => {
      waiting.push({ hidden, best, resolve, reject })
      if (!running) void run()
    })
  }

  return {
    logits: async (hidden) => (await ask(hidden, false)) as Tensor,
    best: async (hidden) => (await ask(hidden, true)) as Int32Array,
  }
}

function bestOfRows(logits: Tensor): Int32Array {
  return Int32Array.from({ length: logits.shape[0] }, (_, row) => {
    const { data } = rows(logits, row, row + 1)
    return allFinite(data) ? argmax(data) : -1
  })
}
