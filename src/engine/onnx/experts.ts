import type { ModelSpec } from '../../model/spec.ts'
import { route } from '../reference/mlp.ts'
import type { OrtRuntime, OrtSession } from './ort-runtime.ts'
import { float, type SpanBuffers } from './span-buffers.ts'

/**
 * Adds a mixture of experts to the `rows` rows at `out`: routes each by its router logits, gathers the rows of each
 * expert that was chosen at all, runs it, and adds its result times its weight. A row's sum is taken in float64
 * in the order of the experts' numbers, so it does not depend on the other rows.
 */
export function addExperts(
  runtime: OrtRuntime,
  spec: ModelSpec,
  experts: readonly OrtSession[],
  buffers: SpanBuffers['experts'],
  rows: number,
  out: number,
): void {
  const { hiddenSize, mlp } = spec
  if (mlp.kind !== 'moe') return
  const chosen: { row: number; weight: number }[][] = experts.map(() => [])
  const logits = runtime.floats(buffers.router, rows * mlp.expertCount)
  for (let row = 0; row < rows; row++) {
    const own = logits.subarray(row * mlp.expertCount, (row + 1) * mlp.expertCount)
    for (const [expert, weight] of route(own, mlp.topK, mlp.normalizeTopK)) {
      chosen[expert]?.push({ row, weight })
    }
  }
  const sums = new Float64Array(rows * hiddenSize)
  for (const [expert, session] of experts.entries()) {
    const own = chosen[expert] ?? []
    if (own.length === 0) continue
    const size = own.length * hiddenSize
    const result = buffers.rows + size * 4
    for (const [index, { row }] of own.entries()) {
      const bytes = hiddenSize * 4
      runtime.move(buffers.rows + index * bytes, buffers.normed + row * bytes, bytes)
    }
    const shape = [own.length, hiddenSize]
    session.run([float(buffers.rows, shape)], [float(result, shape)])
    const values = runtime.floats(result, size)
    for (const [index, { row, weight }] of own.entries()) {
      for (let c = 0; c < hiddenSize; c++) {
        const at = row * hiddenSize + c
        sums[at] = (sums[at] as number) + weight * (values[index * hiddenSize + c] as number)
      }
    }
  }
  const target = runtime.floats(out, rows * hiddenSize)
  for (const [index, sum] of sums.entries()) target[index] = (target[index] as number) + Math.fround(sum)
}
