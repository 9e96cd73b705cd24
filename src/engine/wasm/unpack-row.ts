/**
 * Rows of GGUF's quantised formats as small integers with a scale (and minimum) for each group, exactly:
 * weight = scale * integer + minimum. Layouts as in `tensor/quant.ts` and `tensor/k-quants.ts`; source: ggml-common.h.
 */

import { f16Table } from '../../tensor/dtype.ts'
import { IQ4_LEVELS } from '../../tensor/k-quants.ts'
import type { WeightDtype } from '../../tensor/weight.ts'

/** Eight rows on their way from a file to an octet. `columns` values a row; scales and minima in the order of groups. */
export interface UnpackedRows {
  readonly values: Int8Array
  /** float16 bits, or float32, as the dtype's kind says. */
  readonly scales: Uint16Array | Float32Array
  readonly minima: Uint16Array | Float32Array
}

/** Reads `blocks` blocks at bytes[at] to values[value…], scales[group…] and minima[group…]. */
export type RowReader = (
  bytes: Uint8Array,
  at: number,
  blocks: number,
  to: UnpackedRows,
  value: number,
  group: number,
) => void

/** Formats that are kept as integers. Q2_K, with its minima for 16 weights, is not: it becomes float32. */
export type PackedDtype = Exclude<WeightDtype, 'F32' | 'F16' | 'BF16' | 'Q2_K'>

/** Q4_0 (d) and Q4_1 (d, m): integers 0..15; the zero point 8 of Q4_0 is the kernel's affair. */
function nibbles(hasMin: boolean): RowReader {
  const size = hasMin ? 20 : 18
  return (bytes, at, blocks, { values, scales, minima }, value, group) => {
    for (let b = 0; b < blocks; b++, at += size, value += 32) {
      scales[group + b] = half(bytes, at)
      if (hasMin) minima[group + b] = half(bytes, at + 2)
      const qs = at + size - 16
      for (let l = 0; l < 16; l++) {
        const pair = bytes[qs + l]!
        values[value + l] = pair & 15
        values[value + 16 + l] = pair >> 4
      }
    }
  }
}

/** Q5_0 (d): integers -16..15; Q5_1 (d, m): 0..31. */
function fives(hasMin: boolean): RowReader {
  const size = hasMin ? 24 : 22
  return (bytes, at, blocks, { values, scales, minima }, value, group) => {
    for (let b = 0; b < blocks; b++, at += size, value += 32) {
      scales[group + b] = half(bytes, at)
      if (hasMin) minima[group + b] = half(bytes, at + 2)
      const zero = hasMin ? 0 : 16
      const qs = at + size - 16
      for (let e = 0; e < 32; e++) {
        const nibble = e < 16 ? bytes[qs + e]! & 15 : bytes[qs + e - 16]! >> 4
        const fifth = (bytes[qs - 4 + (e >> 3)]! >> (e & 7)) & 1
        values[value + e] = (nibble | (fifth << 4)) - zero
      }
    }
  }
}

const readQ80: RowReader = (bytes, at, blocks, { values, scales }, value, group) => {
  for (let b = 0; b < blocks; b++, at += 34, value += 32) {
    scales[group + b] = half(bytes, at)
    for (let l = 0; l < 32; l++) values[value + l] = bytes[at + 2 + l]!
  }
}

const readIq4Nl: RowReader = (bytes, at, blocks, { values, scales }, value, group) => {
  for (let b = 0; b < blocks; b++, at += 18, value += 32) {
    scales[group + b] = half(bytes, at)
    for (let l = 0; l < 16; l++) {
      const pair = bytes[at + 2 + l]!
      values[value + l] = IQ4_LEVELS[pair & 15]!
      values[value + 16 + l] = IQ4_LEVELS[pair >> 4]!
    }
  }
}

const readIq4Xs: RowReader = (bytes, at, blocks, { values, scales }, value, group) => {
  const table = f16Table()
  for (let b = 0; b < blocks; b++, at += 136, value += 256, group += 8) {
    const d = table[half(bytes, at)]!
    const highBits = half(bytes, at + 2)
    for (let sub = 0; sub < 8; sub++) {
      const low = (bytes[at + 4 + (sub >> 1)]! >> (4 * (sub & 1))) & 15
      scales[group + sub] = d * ((low | (((highBits >> (2 * sub)) & 3) << 4)) - 32)
      for (let l = 0; l < 16; l++) {
        const pair = bytes[at + 8 + sub * 16 + l]!
        values[value + sub * 32 + l] = IQ4_LEVELS[pair & 15]!
        values[value + sub * 32 + 16 + l] = IQ4_LEVELS[pair >> 4]!
      }
    }
  }
}

/** Q4_K: integers 0..15, Q5_K: 0..31; each 32 have a scale d * s and a minimum -dmin * m. */
function superBlocks(hasFifthBit: boolean): RowReader {
  const size = hasFifthBit ? 176 : 144
  return (bytes, at, blocks, { values, scales, minima }, value, group) => {
    const table = f16Table()
    for (let b = 0; b < blocks; b++, at += size, value += 256, group += 8) {
      const d = table[half(bytes, at)]!
      const dmin = table[half(bytes, at + 2)]!
      for (let sub = 0; sub < 8; sub++) {
        const [scale, minimum] = sixBitPair(bytes, at + 4, sub)
        scales[group + sub] = d * scale
        minima[group + sub] = -dmin * minimum
        const from = at + size - 128 + (sub >> 1) * 32
        const shift = (sub & 1) * 4
        for (let l = 0; l < 32; l++) {
          const fifth = hasFifthBit ? (bytes[at + 16 + l]! >> sub) & 1 : 0
          values[value + sub * 32 + l] = ((bytes[from + l]! >> shift) & 15) | (fifth << 4)
        }
      }
    }
  }
}

/** Q6_K: integers -32..31, each 16 with a scale. */
const readQ6K: RowReader = (bytes, at, blocks, { values, scales }, value, group) => {
  const table = f16Table()
  for (let b = 0; b < blocks; b++, at += 210, value += 256, group += 16) {
    const d = table[half(bytes, at + 208)]!
    for (let g = 0; g < 16; g++) scales[group + g] = d * ((bytes[at + 192 + g]! << 24) >> 24)
    for (let eighth = 0; eighth < 8; eighth++) {
      const n = eighth >> 2
      const run = eighth & 3
      const low = at + 64 * n + (run & 1) * 32
      const high = at + 128 + 32 * n
      const shift = (run >> 1) * 4
      for (let l = 0; l < 32; l++) {
        const q = ((bytes[low + l]! >> shift) & 15) | (((bytes[high + l]! >> (2 * run)) & 3) << 4)
        values[value + eighth * 32 + l] = q - 32
      }
    }
  }
}

/** Q3_K: integers -4..3, each 16 with a scale. */
const readQ3K: RowReader = (bytes, at, blocks, { values, scales }, value, group) => {
  const table = f16Table()
  for (let b = 0; b < blocks; b++, at += 110, value += 256, group += 16) {
    const d = table[half(bytes, at + 108)]!
    for (let g = 0; g < 16; g++) {
      const low = (bytes[at + 96 + (g & 7)]! >> (g < 8 ? 0 : 4)) & 15
      const high = (bytes[at + 104 + (g & 3)]! >> (2 * (g >> 2))) & 3
      scales[group + g] = d * ((low | (high << 4)) - 32)
      const from = at + 32 + (g >> 3) * 32 + (g & 1) * 16
      const shift = ((g & 7) >> 1) * 2
      for (let l = 0; l < 16; l++) {
        const inverted = (bytes[at + (g & 1) * 16 + l]! >> (g >> 1)) & 1
        values[value + g * 16 + l] = ((bytes[from + l]! >> shift) & 3) - (inverted ? 0 : 4)
      }
    }
  }
}

export const ROW_READERS: Readonly<Record<PackedDtype, RowReader>> = {
  Q4_0: nibbles(false),
  Q4_1: nibbles(true),
  Q5_0: fives(false),
  Q5_1: fives(true),
  Q8_0: readQ80,
  IQ4_NL: readIq4Nl,
  IQ4_XS: readIq4Xs,
  Q4_K: superBlocks(false),
  Q5_K: superBlocks(true),
  Q6_K: readQ6K,
  Q3_K: readQ3K,
}

function half(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8)
}

function sixBitPair(bytes: Uint8Array, at: number, j: number): readonly [scale: number, minimum: number] {
  if (j < 4) return [bytes[at + j]! & 63, bytes[at + j + 4]! & 63]
  const shared = bytes[at + j + 4]!
  return [(shared & 15) | ((bytes[at + j - 4]! >> 6) << 4), (shared >> 4) | ((bytes[at + j]! >> 6) << 4)]
}
