import { blockBytes, blockSize, type WeightDtype, type WeightTensor } from '../tensor/weight.ts'
import type { WeightFormat } from './weight-format.ts'

/** A stored dtype of each format, and where its blocks keep their float16 factors. */
const STORED: Readonly<Record<WeightFormat, readonly [dtype: WeightDtype, factors: readonly number[]]>> = {
  f32: ['F32', []],
  f16: ['F16', []],
  bf16: ['BF16', []],
  q4: ['Q4_1', [0, 2]],
  q4_symmetric: ['Q4_0', [0]],
  q4_wide: ['Q4_K', [0, 2]],
  q8: ['Q8_0', [0]],
  q8_wide: ['Q6_K', [208]],
  q8_affine: ['Q5_K', [0, 2]],
}

/**
 * A matrix of weights that look random, are finite and are the same everywhere; K-quants need 256 columns.
 * @param seed another number, other weights.
 */
export function probeWeights(format: WeightFormat, rows: number, columns: number, seed = 0): WeightTensor {
  const [dtype, factors] = STORED[format]
  const shape = [rows, columns]
  const values = Float32Array.from({ length: rows * columns }, (_, i) => pseudo(i + seed, 104_729))
  const bits = new Uint32Array(values.buffer)
  if (format === 'f32') return { dtype, shape, bytes: new Uint8Array(values.buffer) }
  if (format === 'bf16') {
    return { dtype, shape, bytes: new Uint8Array(Uint16Array.from(bits, (word) => word >>> 16).buffer) }
  }
  const halves = Uint16Array.from(bits, (word) => halfBits(word, format === 'f16' ? 0x3000 : 0x1800))
  if (format === 'f16') return { dtype, shape, bytes: new Uint8Array(halves.buffer) }
  const size = blockBytes(dtype)
  const bytes = Uint8Array.from(
    { length: (values.length / blockSize(dtype)) * size },
    (_, i) => Math.imul(bits[i % bits.length] as number, 0x9e37_79b1) >>> 24,
  )
  for (let at = 0, i = 0; at < bytes.length; at += size) {
    for (const offset of factors) {
      const factor = halves[i++ % halves.length] as number
      bytes[at + offset] = factor & 255
      bytes[at + offset + 1] = factor >> 8
    }
  }
  return { dtype, shape, bytes }
}

/** A float16 with the sign and mantissa of a float32; factors are about 2^-8, so that weights stay below 1. */
function halfBits(word: number, exponent: number): number {
  return ((word >>> 16) & 0x8000) | exponent | ((word >>> 10) & 0x3ff)
}

/** A value in (-1, 1) that looks random and is the same everywhere. */
export function pseudo(index: number, factor: number): number {
  return ((Math.imul(index + 1, factor * 40_503) >>> 8) / 2 ** 24) * 2 - 1
}
