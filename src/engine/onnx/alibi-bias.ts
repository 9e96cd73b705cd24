import { alibiBias } from '../../model/alibi.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { HeadLayout } from './head-layout.ts'
import { fillerLimit, RUN_ROWS, type RunShape } from './run-shape.ts'

/** Values of bias one run holds; runs over long contexts take fewer rows. 16 MiB. */
const BIAS_VALUES = 4 * 2 ** 20

/** Values to allocate for contexts up to `positions` tokens, filler included; none without ALiBi. */
export function biasValues(spec: ModelSpec, layout: HeadLayout, positions: number): number {
  if (spec.positions.kind !== 'alibi') return 0
  const filled = fillerLimit(layout) + 1
  const longest = (RUN_ROWS + 1) * positions
  const oneRow = Math.max(2 * positions, filled * filled)
  return Math.max(Math.min(BIAS_VALUES, spec.headCount * longest), spec.headCount * oneRow)
}

/** Values of one run's bias; none without ALiBi. */
export function biasCount(spec: ModelSpec, { rows, fillerRows, total }: RunShape): number {
  return spec.positions.kind === 'alibi' ? spec.headCount * (rows + fillerRows) * total : 0
}

/** Rows, up to `rows`, of a run whose bias fits. */
export function rowsWithBias(spec: ModelSpec, position: number, rows: number): number {
  if (spec.positions.kind !== 'alibi') return rows
  return Math.min(rows, Math.max(1, Math.floor(BIAS_VALUES / (spec.headCount * (position + rows)))))
}

/**
 * Writes ALiBi's bias of a run, [headCount, rows + fillerRows, total], in the scale of finished scores.
 *
 * Each row's bias is relative to its own position: adding the same number to all of a row's scores changes no
 * probability, and differences are exact where products with large positions are not.
 */
export function writeBias(spec: ModelSpec, shape: RunShape, out: Float32Array): void {
  const { positions } = spec
  if (positions.kind !== 'alibi') return
  const { position, rows, fillerRows, total } = shape
  const scale = positions.scaledByHeadDim ? 1 / Math.sqrt(spec.headDim) : 1
  const absolute = new Float64Array(total)
  let at = 0
  for (let head = 0; head < spec.headCount; head++) {
    for (let j = 0; j < total; j++) absolute[j] = alibiBias(positions, head, j) * scale
    for (let row = 0; row < rows + fillerRows; row++) {
      const own = absolute[position + row] as number
      for (let j = 0; j < total; j++) out[at++] = (absolute[j] as number) - own
    }
  }
}
