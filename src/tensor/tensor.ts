import { ChoraleError } from '../errors.ts'

/**
 * Activations in memory: float32, row-major.
 *
 * `hidden` everywhere in the code is such a tensor of shape [tokens, hiddenSize]. What travels on the
 * wire may be narrower (`dtype.ts`); what an engine keeps on its device is its own affair.
 */
export interface Tensor {
  readonly shape: readonly [rows: number, columns: number]
  readonly data: Float32Array
}

/** Wraps `data` as [rows, columns]. @throws `bad_request` when the length does not match. */
export function tensor(rows: number, columns: number, data: Float32Array): Tensor {
  if (data.length !== rows * columns) {
    throw new ChoraleError(
      'bad_request',
      `tensor [${rows}, ${columns}] needs ${rows * columns} values, got ${data.length}`,
    )
  }
  return { shape: [rows, columns], data }
}

/** Rows [start, end) as a view on the same memory, not a copy. */
export function rows(source: Tensor, start: number, end: number): Tensor {
  const [count, columns] = source.shape
  if (!(start >= 0 && start <= end && end <= count)) {
    throw new ChoraleError('bad_request', `rows ${start}:${end} outside a tensor of ${count} rows`)
  }
  return { shape: [end - start, columns], data: source.data.subarray(start * columns, end * columns) }
}

/** One tensor of all parts' rows, copied. @throws `bad_request` when the columns differ. */
export function concatRows(parts: readonly Tensor[], columns: number): Tensor {
  let count = 0
  for (const part of parts) {
    if (part.shape[1] !== columns) {
      throw new ChoraleError(
        'bad_request',
        `rows of ${part.shape[1]} values can't be joined to rows of ${columns}`,
      )
    }
    count += part.shape[0]
  }
  const data = new Float32Array(count * columns)
  let offset = 0
  for (const part of parts) {
    data.set(part.data, offset)
    offset += part.data.length
  }
  return { shape: [count, columns], data }
}
