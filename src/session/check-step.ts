import { ChoraleError } from '../errors.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { rows } from '../tensor/tensor.ts'
import type { OpenOptions, StepOptions } from './span-runner.ts'

/** @throws `bad_request` unless `maxTokens` is a positive whole number; `cancelled` when the signal is aborted already. */
export function checkOpen(options: OpenOptions): void {
  if (!Number.isSafeInteger(options.maxTokens) || options.maxTokens < 1) {
    throw new ChoraleError(
      'bad_request',
      `maxTokens is ${options.maxTokens}; a session needs room for at least 1`,
    )
  }
  if (options.signal?.aborted) throw cancelled()
}

/** @throws `bad_request` unless `hidden` is [at least 1, hiddenSize], `capacity` when it would pass `maxTokens`. */
export function checkStep(hidden: Tensor, hiddenSize: number, position: number, maxTokens: number): void {
  const [count, columns] = hidden.shape
  if (columns !== hiddenSize || hidden.data.length !== count * columns) {
    throw new ChoraleError(
      'bad_request',
      `hidden states [${count}, ${columns}] of ${hidden.data.length} values; this span takes [tokens, ${hiddenSize}]`,
    )
  }
  if (count < 1) throw new ChoraleError('bad_request', 'a step needs at least one token')
  if (position + count > maxTokens) {
    throw new ChoraleError(
      'capacity',
      `${count} tokens at position ${position} exceed the session's ${maxTokens}; open it with a larger maxTokens`,
    )
  }
}

/** @throws `bad_request` unless `position` is a whole number in [0, present]. */
export function checkRollback(position: number, present: number): void {
  if (!Number.isSafeInteger(position) || position < 0 || position > present) {
    throw new ChoraleError('bad_request', `rollback to ${position} from position ${present}`)
  }
}

/** The rows of `output` that the caller asked for: all, the last one, or none. Views, not copies. */
export function wantedRows(output: Tensor, want: StepOptions['want'] = 'all'): Tensor {
  const [count] = output.shape
  if (want === 'all') return output
  return want === 'last' ? rows(output, count - 1, count) : rows(output, count, count)
}

/** How many rows a step of `count` tokens returns. */
export function wantedCount(count: number, want: StepOptions['want'] = 'all'): number {
  if (want === 'all') return count
  return want === 'last' ? 1 : 0
}

/** What an aborted signal becomes. */
export function cancelled(): ChoraleError {
  return new ChoraleError('cancelled', 'the caller stopped the session')
}
