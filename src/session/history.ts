import { ChoraleError } from '../errors.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { rows } from '../tensor/tensor.ts'

/**
 * Every input one hop of a chain was given, [length, hiddenSize]: what a replacement replays.
 *
 * Grows by doubling up to `maxTokens` rows and never beyond: 4 × maxTokens × hiddenSize bytes bound its memory.
 */
export interface History {
  /** Tokens of the hop's session. */
  readonly length: number
  /** Rows before this one are not known: its server got them from another one whose span began elsewhere. */
  readonly start: number
  /** Copies the rows of `input` to the end. @throws `capacity` when they don't fit `maxTokens`. */
  append(input: Tensor): void
  /**
   * Holds what `other` knows of the rows before `length`, and nothing else; without `other` they are not known.
   * @throws `internal` when `other` does not reach that far.
   */
  adopt(other: History | undefined, length: number): void
  /** Rows [start, end) as a view that is valid until the next `append`, `adopt` or `truncate`. @throws `internal` for rows that are not known. */
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
  let first = 0

  function append(input: Tensor): void {
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
  }

  return {
    get length() {
      return length
    },
    get start() {
      return first
    },
    append,
    adopt(other, target) {
      if (other && other.length < target) {
        throw new ChoraleError('internal', `a history of ${other.length} rows does not reach row ${target}`)
      }
      first = Math.min(other?.start ?? target, target)
      length = first
      if (other && first < target) append(other.rows(first, target))
      length = target
    },
    rows(start, end) {
      if (start < first && start < end) {
        throw new ChoraleError('internal', `row ${start} of a history that begins at row ${first}`)
      }
      return rows({ shape: [length, hiddenSize], data: data.subarray(0, length * hiddenSize) }, start, end)
    },
    truncate(to) {
      length = Math.min(length, to)
      first = Math.min(first, length)
    },
  }
}
