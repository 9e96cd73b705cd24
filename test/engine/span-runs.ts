import type { EngineSpan } from '../../src/engine/engine.ts'
import { concatRows, rows, type Tensor, tensor } from '../../src/tensor/tensor.ts'

/** max |a - b| ÷ max |b|, the error vectors are judged by; not finite when a value is no number or the lengths differ. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = actual.length === expected.length ? 0 : Infinity
  let largest = 0
  for (let i = 0; i < expected.length; i++) {
    const gap = Math.abs((actual[i] ?? Number.NaN) - (expected[i] ?? Number.NaN))
    // A NaN would be forgotten at the next number.
    if (!(gap <= difference)) difference = Number.isNaN(gap) ? Infinity : gap
    largest = Math.max(largest, Math.abs(expected[i] ?? Number.NaN))
  }
  return difference / largest
}

/** Hidden states of no pattern that a kernel could get right by chance. */
export function noise(count: number, columns: number): Tensor {
  return tensor(
    count,
    columns,
    Float32Array.from({ length: count * columns }, (_, i) => Math.sin(i * 0.7312) * 2 + Math.cos(i * 0.0193)),
  )
}

/**
 * The span's output for `hidden` cut into steps of `cuts` tokens, on a fresh lease; one more step takes what the
 * cuts leave over.
 */
export async function runCut(span: EngineSpan, hidden: Tensor, cuts: readonly number[]): Promise<Tensor> {
  const [count, columns] = hidden.shape
  const lease = span.lease(count)
  const parts: Tensor[] = []
  let at = 0
  while (at < count) {
    const cut = cuts[parts.length] ?? count - at
    const [out] = await span.step([{ lease, hidden: rows(hidden, at, at + cut) }])
    parts.push(out as Tensor)
    at += cut
  }
  lease.release()
  return concatRows(parts, columns)
}

/** `count` steps of one token. */
export function ones(count: number): readonly number[] {
  return Array.from({ length: count }, () => 1)
}
