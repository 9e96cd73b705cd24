import { dequantize } from '../tensor/quant.ts'
import { blockBytes, type WeightDtype, type WeightTensor } from '../tensor/weight.ts'
import { packQ4, packQ4K, packQ4Symmetric } from './pack-q4.ts'
import { readGroups } from './read-groups.ts'
import { FORMAT_OF, rowLayout, type WeightFormat } from './weight-format.ts'

/** Rows as they lie on the GPU. */
export interface PackedRows {
  readonly rows: number
  readonly weights: Uint8Array
  /** Empty in formats without scales. */
  readonly scales: Uint8Array
}

/**
 * A matrix [rows, columns] in the layout of `format`: its own (`FORMAT_OF`), q4 for Q4_0, or f32 for anything.
 * Not checked: that `weight.bytes` is as long as dtype and shape say.
 */
export function packRows(weight: WeightTensor, format: WeightFormat): PackedRows {
  const [rows = 0, columns = 0] = weight.shape
  const layout = rowLayout(format, columns)
  if (format === 'f32') {
    const values = dequantize(weight)
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    return { rows, weights: padRows(bytes, columns * 4, layout.weightBytes), scales: NONE }
  }
  if (format === 'f16' || format === 'bf16') {
    return { rows, weights: padRows(weight.bytes, columns * 2, layout.weightBytes), scales: NONE }
  }
  const weights = new Uint8Array(rows * layout.weightBytes)
  const scales = new Uint8Array(rows * layout.scaleBytes)
  const words = new Uint32Array(weights.buffer)
  const blocks = weight.bytes.length / blockBytes(weight.dtype)
  switch (weight.dtype) {
    case 'Q4_0':
    case 'Q4_1': {
      const halves = new Uint16Array(scales.buffer)
      if (format === 'q4') packQ4(weight.bytes, weight.dtype === 'Q4_1', blocks, words, halves)
      else packQ4Symmetric(weight.bytes, blocks, layout.words, layout.scaleBytes / 2, words, halves)
      break
    }
    case 'Q4_K':
      packQ4K(weight.bytes, blocks, words, new Float32Array(scales.buffer))
      break
    default:
      packGroups(weight, format, weights, scales, layout)
  }
  return { rows, weights, scales }
}

const NONE = new Uint8Array(0)

/** Rows of a and b in turn: a's first, b's first, a's second, … Both in one format. */
export function alternateRows(a: PackedRows, b: PackedRows): PackedRows {
  const mix = (x: Uint8Array, y: Uint8Array): Uint8Array => {
    const row = x.length / a.rows
    const out = new Uint8Array(2 * x.length)
    for (let r = 0; r < a.rows; r++) {
      out.set(x.subarray(r * row, (r + 1) * row), 2 * r * row)
      out.set(y.subarray(r * row, (r + 1) * row), (2 * r + 1) * row)
    }
    return out
  }
  return { rows: 2 * a.rows, weights: mix(a.weights, b.weights), scales: mix(a.scales, b.scales) }
}

/** Copies rows of `from` bytes to rows of `to` bytes, zeros in between. */
export function padRows(bytes: Uint8Array, from: number, to: number): Uint8Array {
  if (from === to) return bytes
  const count = bytes.length / from
  const out = new Uint8Array(count * to)
  for (let row = 0; row < count; row++) out.set(bytes.subarray(row * from, (row + 1) * from), row * to)
  return out
}

/** The format of all these; when they differ q4 where it holds them all, else f32. */
export function commonFormat(dtypes: readonly WeightDtype[]): WeightFormat {
  const [first = 'f32', ...others] = dtypes.map((dtype) => FORMAT_OF[dtype])
  if (others.every((format) => format === first)) return first
  return [first, ...others].every((format) => format === 'q4' || format === 'q4_symmetric') ? 'q4' : 'f32'
}

/** 8-bit formats: integers and scales of each group of 16, by way of numbers. */
function packGroups(
  weight: WeightTensor,
  format: WeightFormat,
  weights: Uint8Array,
  scales: Uint8Array,
  layout: { readonly words: number; readonly scaleBytes: number },
): void {
  const halves = new Uint16Array(scales.buffer)
  const floats = new Float32Array(scales.buffer)
  readGroups(weight, (group, integers, scale, min, halfScale) => {
    for (let i = 0; i < 16; i++) {
      weights[group * 16 + i] = (integers[i] as number) + (format === 'q8_affine' ? 0 : 128)
    }
    if (format === 'q8_wide') floats[group] = scale
    else if (format === 'q8_affine') {
      floats[group * 2] = scale
      floats[group * 2 + 1] = min
    } else {
      const row = Math.floor(group / layout.words)
      halves[(row * layout.scaleBytes) / 2 + ((group % layout.words) >> 1)] = halfScale
    }
  })
}
