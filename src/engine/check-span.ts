import { ChoraleError } from '../errors.ts'
import type { Model } from '../model/model.ts'

/** @throws `bad_request` unless [start, end) is a non-empty range of the model's blocks. */
export function checkSpan(model: Model, span: { start: number; end: number }): void {
  const { start, end } = span
  const { blockCount } = model.spec
  if (
    !Number.isSafeInteger(start) ||
    !Number.isSafeInteger(end) ||
    start < 0 ||
    end <= start ||
    end > blockCount
  ) {
    throw new ChoraleError(
      'bad_request',
      `block range ${start}:${end} is not inside ${model.name}, which has blocks 0:${blockCount}`,
      {
        field: 'blocks',
      },
    )
  }
}
