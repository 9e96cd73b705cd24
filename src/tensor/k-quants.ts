/**
 * GGUF's formats with 256 weights a block ("K-quants", and IQ4_XS): float32 values of whole blocks.
 *
 * Sums are formed in float64 and rounded once on storing; every product of the definition is exact in float32,
 * so the result is bit for bit what ggml's float32 code gives. Source of the layouts: ggml-common.h, ggml-quants.c.
 */

import { f16Table } from './dtype.ts'

/** Writes the values of `blocks` blocks that start at bytes[at] to out[to]. */
export type BlockReader = (
  bytes: Uint8Array,
  at: number,
  blocks: number,
  out: Float32Array,
  to: number,
) => void

/** The 16 levels of IQ4_NL and IQ4_XS, by 4-bit index. */
export const IQ4_LEVELS: readonly number[] = [
  -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
]

/** scales 16 × (4-bit scale | 4-bit min), 2-bit weights 64, d, dmin: 84 bytes. */
export const readQ2K: BlockReader = (bytes, at, blocks, out, to) => {
  const half = f16Table()
  for (let b = 0; b < blocks; b++, at += 84, to += 256) {
    const d = half[bytes[at + 80]! | (bytes[at + 81]! << 8)]!
    const dmin = half[bytes[at + 82]! | (bytes[at + 83]! << 8)]!
    for (let group = 0; group < 16; group++) {
      const scale = bytes[at + group]!
      const step = d * (scale & 15)
      const min = dmin * (scale >> 4)
      const [from, shift] = twoBitGroup(at + 16, group)
      for (let l = 0; l < 16; l++) {
        out[to + group * 16 + l] = step * ((bytes[from + l]! >> shift) & 3) - min
      }
    }
  }
}

/** high-bit mask 32, low 2 bits 64, 6-bit scales packed in 12, d: 110 bytes. */
export const readQ3K: BlockReader = (bytes, at, blocks, out, to) => {
  const half = f16Table()
  for (let b = 0; b < blocks; b++, at += 110, to += 256) {
    const d = half[bytes[at + 108]! | (bytes[at + 109]! << 8)]!
    const scales = at + 96
    for (let group = 0; group < 16; group++) {
      const low = (bytes[scales + (group & 7)]! >> (group < 8 ? 0 : 4)) & 15
      const high = (bytes[scales + 8 + (group & 3)]! >> (2 * (group >> 2))) & 3
      const step = d * ((low | (high << 4)) - 32)
      const [from, shift] = twoBitGroup(at + 32, group)
      const mask = at + (group & 1) * 16
      const bit = group >> 1
      for (let l = 0; l < 16; l++) {
        const q = ((bytes[from + l]! >> shift) & 3) - ((bytes[mask + l]! >> bit) & 1 ? 0 : 4)
        out[to + group * 16 + l] = step * q
      }
    }
  }
}

/** d, dmin, 8 × (6-bit scale, 6-bit min) packed in 12, 4-bit weights 128: 144 bytes. */
export const readQ4K: BlockReader = (bytes, at, blocks, out, to) => {
  const half = f16Table()
  for (let b = 0; b < blocks; b++, at += 144, to += 256) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!
    const dmin = half[bytes[at + 2]! | (bytes[at + 3]! << 8)]!
    for (let sub = 0; sub < 8; sub++) {
      const step = d * scaleK4(bytes, at + 4, sub)
      const min = dmin * minK4(bytes, at + 4, sub)
      const from = at + 16 + (sub >> 1) * 32
      const shift = (sub & 1) * 4
      for (let l = 0; l < 32; l++) {
        out[to + sub * 32 + l] = step * ((bytes[from + l]! >> shift) & 15) - min
      }
    }
  }
}

/** As Q4_K with a fifth bit per weight: d, dmin, scales 12, qh 32, qs 128: 176 bytes. */
export const readQ5K: BlockReader = (bytes, at, blocks, out, to) => {
  const half = f16Table()
  for (let b = 0; b < blocks; b++, at += 176, to += 256) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!
    const dmin = half[bytes[at + 2]! | (bytes[at + 3]! << 8)]!
    for (let sub = 0; sub < 8; sub++) {
      const step = d * scaleK4(bytes, at + 4, sub)
      const min = dmin * minK4(bytes, at + 4, sub)
      const from = at + 48 + (sub >> 1) * 32
      const shift = (sub & 1) * 4
      for (let l = 0; l < 32; l++) {
        const q = ((bytes[from + l]! >> shift) & 15) | (((bytes[at + 16 + l]! >> sub) & 1) << 4)
        out[to + sub * 32 + l] = step * q - min
      }
    }
  }
}

/** ql 128, qh 64, 16 × int8 scale, d: 210 bytes. */
export const readQ6K: BlockReader = (bytes, at, blocks, out, to) => {
  const half = f16Table()
  for (let b = 0; b < blocks; b++, at += 210, to += 256) {
    const d = half[bytes[at + 208]! | (bytes[at + 209]! << 8)]!
    for (let quarter = 0; quarter < 8; quarter++) {
      // Half n of the block holds four runs of 32 weights: low and high nibbles of two 32-byte rows.
      const n = quarter >> 2
      const run = quarter & 3
      const low = at + 64 * n + (run & 1) * 32
      const high = at + 128 + 32 * n
      const shift = (run >> 1) * 4
      for (let l = 0; l < 32; l++) {
        const e = quarter * 32 + l
        const scale = (bytes[at + 192 + (e >> 4)]! << 24) >> 24
        const q = ((bytes[low + l]! >> shift) & 15) | (((bytes[high + l]! >> (2 * run)) & 3) << 4)
        out[to + e] = d * scale * (q - 32)
      }
    }
  }
}

/** d, high scale bits 2, low scale bits 4, 4-bit indices 128: 136 bytes. */
export const readIq4Xs: BlockReader = (bytes, at, blocks, out, to) => {
  const half = f16Table()
  for (let b = 0; b < blocks; b++, at += 136, to += 256) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!
    const highBits = bytes[at + 2]! | (bytes[at + 3]! << 8)
    for (let sub = 0; sub < 8; sub++) {
      const low = (bytes[at + 4 + (sub >> 1)]! >> (4 * (sub & 1))) & 15
      const step = d * ((low | (((highBits >> (2 * sub)) & 3) << 4)) - 32)
      const from = at + 8 + sub * 16
      for (let l = 0; l < 16; l++) {
        const pair = bytes[from + l]!
        out[to + sub * 32 + l] = step * IQ4_LEVELS[pair & 15]!
        out[to + sub * 32 + 16 + l] = step * IQ4_LEVELS[pair >> 4]!
      }
    }
  }
}

/** Where group g (16 weights) of Q2_K and Q3_K keeps its two low bits: first byte and shift. */
function twoBitGroup(qs: number, group: number): readonly [from: number, shift: number] {
  const inHalf = group & 7
  return [qs + (group >> 3) * 32 + (inHalf & 1) * 16, (inHalf >> 1) * 2]
}

function scaleK4(bytes: Uint8Array, at: number, j: number): number {
  return j < 4 ? bytes[at + j]! & 63 : (bytes[at + j + 4]! & 15) | ((bytes[at + j - 4]! >> 6) << 4)
}

function minK4(bytes: Uint8Array, at: number, j: number): number {
  return j < 4 ? bytes[at + j + 4]! & 63 : (bytes[at + j + 4]! >> 4) | ((bytes[at + j]! >> 6) << 4)
}
