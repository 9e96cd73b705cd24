import { ChoraleError } from '../../errors.ts'
import type { ModelSpec } from '../../model/spec.ts'

/**
 * How one attention head's elements are laid out for onnxruntime's GroupQueryAttention, which rotates whole heads
 * in halves and wants a width that is a multiple of 16.
 *
 * Queries and keys are permuted so that each rotary pair is (i, i + width / 2); elements that are not rotated
 * fill the other slots and get cos 1, sin 0; slots left over hold zeros. Scores are sums over all slots, so they
 * keep their value. Common shapes (width 64, 128, all rotated) need no change at all.
 */
export interface HeadLayout {
  /** Slots a head takes: headDim rounded up to a multiple of 16. */
  readonly width: number
  /** For queries and keys: slot → element of the head, -1 for zero. */
  readonly rotarySlots: Int32Array
  /** For values and the output projection: slot → element, -1 for zero. */
  readonly valueSlots: Int32Array
  /** Whether both tables are the identity. */
  readonly plain: boolean
}

/** GroupQueryAttention's own condition on a rotated head. */
const WIDTH_MULTIPLE = 16

/** The layout of the heads of `spec`. */
export function headLayout(spec: ModelSpec): HeadLayout {
  const { headDim } = spec
  const width = Math.ceil(headDim / WIDTH_MULTIPLE) * WIDTH_MULTIPLE
  const half = width / 2
  const rotaryDim = spec.positions.kind === 'rope' ? spec.positions.rotaryDim : 0
  const rotaryHalf = rotaryDim / 2
  const rotarySlots = new Int32Array(width).fill(-1)
  let rest = rotaryDim
  for (let slot = 0; slot < width; slot++) {
    const inHalf = slot % half
    if (inHalf < rotaryHalf) rotarySlots[slot] = slot < half ? inHalf : rotaryHalf + inHalf
    else if (rest < headDim) rotarySlots[slot] = rest++
  }
  const valueSlots = Int32Array.from({ length: width }, (_, slot) => (slot < headDim ? slot : -1))
  const plain = width === headDim && rotarySlots.every((element, slot) => element === slot)
  return { width, rotarySlots, valueSlots, plain }
}

/**
 * Rows of a projection [heads * headDim, columns] in the layout's order: [heads * width, columns].
 * A bias is a projection of one column.
 */
export function layOutRows(
  source: Float32Array,
  target: Float32Array,
  slots: Int32Array,
  headDim: number,
  columns: number,
): void {
  const heads = source.length / (headDim * columns)
  for (let head = 0; head < heads; head++) {
    for (const [slot, element] of slots.entries()) {
      if (element < 0) continue
      const from = (head * headDim + element) * columns
      target.set(source.subarray(from, from + columns), (head * slots.length + slot) * columns)
    }
  }
}

/** Columns of a projection [rows, heads * headDim] in the layout's order: [rows, heads * width]. */
export function layOutColumns(
  source: Float32Array,
  target: Float32Array,
  slots: Int32Array,
  headDim: number,
  heads: number,
): void {
  const rows = source.length / (heads * headDim)
  for (let group = 0; group < rows * heads; group++) {
    for (const [slot, element] of slots.entries()) {
      if (element >= 0) target[group * slots.length + slot] = source[group * headDim + element] as number
    }
  }
}

/** cos and sin of positions 0 to `positions` - 1, each [positions, width / 2], computed in float64; empty without rotation. */
export function ropeTable(
  spec: ModelSpec,
  layout: HeadLayout,
  positions: number,
): { cos: Float32Array; sin: Float32Array } {
  const half = layout.width / 2
  if (spec.positions.kind !== 'rope') return { cos: new Float32Array(), sin: new Float32Array() }
  const { inverseFrequencies, attentionFactor } = spec.positions
  const cos = new Float32Array(positions * half).fill(1)
  const sin = new Float32Array(positions * half)
  for (let position = 0; position < positions; position++) {
    for (const [index, frequency] of inverseFrequencies.entries()) {
      cos[position * half + index] = Math.cos(position * frequency) * attentionFactor
      sin[position * half + index] = Math.sin(position * frequency) * attentionFactor
    }
  }
  return { cos, sin }
}

/** @throws `not_supported` for rotated elements that don't pair up. */
export function checkRotation({ positions, headDim }: ModelSpec): void {
  if (positions.kind !== 'rope') return
  const { rotaryDim } = positions
  if (rotaryDim % 2 === 0 && rotaryDim <= headDim) return
  throw new ChoraleError(
    'not_supported',
    `${rotaryDim} rotated of ${headDim} values of a head: engine onnx takes an even number up to all of them`,
    { field: 'head_dim' },
  )
}
