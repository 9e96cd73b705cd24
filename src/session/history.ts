import { ChoraleError } from '../errors.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { rows } from '../tensor/tensor.ts'

/**
 * Every input one hop of a chain was given, [length, hiddenSize]: what a replacement replays.
 *
 * Grows by doubling up to `maxTokens` rows and never beyond: 4 × maxTokens × hiddenSize bytes bound its memory.
 */
export interface History {
  /** Rows held. */
  readonly length: number
  /** Copies the rows of `input` to the end. @throws `capacity` when they don't fit `maxTokens`. */
  append(input: Tensor): void
  /** Rows [start, end) as a view that is valid until the next `append` or `truncate`. */
  rows(start: number, end: number): Tensor
  /** Forgets the rows from `length` on. */
  truncate(length: number): void
}

/** Rows reserved at first: a short chat's prompt. */
const FIRST_ROWS = 128

/** An empty history of rows of `hiddenSize` values. */
export function createHistory(hiddenSize: number, maxTokens: number): History {
  let data = new Float32Array(Math.min(FIRST_ROWS, maxTokens) * hiddenSize)
  let length = 0
  return {
    get length() {
      return length
    },
    append(input) {
      const needed = length + input.shape[0]
      if (needed > maxTokens) {
        throw new ChoraleError('capacity', `a history of ${needed} tokens exceeds the session's ${maxTokens}`)
      }
      if (needed * hiddenSize > data.length) {
        const room = Math.min(Math.max(needed, (2 * data.length) / hiddenSize), maxTokens)
        const grown = new Float32Array(room * hiddenSize)
        grown.set(data.subarray(0, length * hiddenSize))
        data = grown
      }
      data.set(input.data, length * hiddenSize)
      length = needed
    },
    rows: (start, end) =>
      rows({ shape: [length, hiddenSize], data: data.subarray(0, length * hiddenSize) }, start, end),
    truncate(to) {
      if (to < length) length = to
    },
  }
}
