import { ChoraleError } from '../errors.ts'
import { f16Table, f32ToF16 } from '../tensor/dtype.ts'

/** GGUF's 4-bit blocks in the order of `lib/weight_q4.wgsl`, eight nibbles at a time. */

/**
 * Q4_0 or Q4_1 (`hasMin`), 16 bytes of nibbles a block, weights 0..15 the low halves, 16..31 the high ones: to the
 * order of `lib/weight_q4.wgsl`, scale and minimum a group.
 */
export function packQ4(
  bytes: Uint8Array,
  hasMin: boolean,
  blocks: number,
  words: Uint32Array,
  scales: Uint16Array,
): void {
  const size = hasMin ? 20 : 18
  for (let block = 0; block < blocks; block++) {
    const scale = u16(bytes, block * size)
    scales[block * 2] = scale
    scales[block * 2 + 1] = hasMin ? u16(bytes, block * size + 2) : timesMinus8(scale)
  }
  packNibbles(bytes, size, blocks, words)
}

/**
 * Q4_0 for `lib/weight_q4_symmetric.wgsl`: only scales, rows of them `scaleStride` halves apart.
 * @param rowBlocks blocks of a row.
 */
export function packQ4Symmetric(
  bytes: Uint8Array,
  blocks: number,
  rowBlocks: number,
  scaleStride: number,
  words: Uint32Array,
  scales: Uint16Array,
): void {
  for (let block = 0; block < blocks; block++) {
    scales[Math.floor(block / rowBlocks) * scaleStride + (block % rowBlocks)] = u16(bytes, block * 18)
  }
  packNibbles(bytes, 18, blocks, words)
}

function packNibbles(bytes: Uint8Array, size: number, blocks: number, words: Uint32Array): void {
  for (let block = 0; block < blocks; block++) {
    const at = block * size
    for (let half = 0; half < 2; half++) {
      const a = u32(bytes, at + size - 16 + 8 * half)
      const b = u32(bytes, at + size - 12 + 8 * half)
      words[block * 4 + half] = lowNibbles(a, b)
      words[block * 4 + 2 + half] = highNibbles(a, b)
    }
  }
}

/** Q4_K: eight groups of 32 in a block of 256, each pair of them in the halves of 32 bytes. */
export function packQ4K(bytes: Uint8Array, blocks: number, words: Uint32Array, scales: Float32Array): void {
  const half = f16Table()
  for (let block = 0; block < blocks; block++) {
    const at = block * 144
    const d = half[u16(bytes, at)] as number
    const dmin = half[u16(bytes, at + 2)] as number
    for (let group = 0; group < 8; group++) {
      const [scale, min] = q4kScale(bytes, at + 4, group)
      const to = block * 8 + group
      scales[to * 2] = d * scale
      scales[to * 2 + 1] = -dmin * min
      const from = at + 16 + (group >> 1) * 32
      for (let i = 0; i < 4; i++) {
        const a = u32(bytes, from + 8 * i)
        const b = u32(bytes, from + 8 * i + 4)
        words[to * 4 + i] = (group & 1) === 0 ? lowNibbles(a, b) : highNibbles(a, b)
      }
    }
  }
}

/** 6-bit scale and minimum of one of the eight groups of Q4_K and Q5_K, packed in 12 bytes. */
export function q4kScale(
  bytes: Uint8Array,
  at: number,
  group: number,
): readonly [scale: number, min: number] {
  const byte = (index: number) => bytes[at + index] as number
  if (group < 4) return [byte(group) & 63, byte(group + 4) & 63]
  return [
    (byte(group + 4) & 15) | ((byte(group - 4) >> 6) << 4),
    (byte(group + 4) >> 4) | ((byte(group) >> 6) << 4),
  ]
}

/** A float16 times -8, bits to bits. @throws `not_supported` where float16 ends. */
function timesMinus8(bits: number): number {
  const exponent = (bits >> 10) & 31
  if (exponent > 0 && exponent < 28) return (bits ^ 0x8000) + 0x0c00
  const scale = f16Table()[bits] as number
  if (Math.abs(scale) >= 8192) {
    throw new ChoraleError(
      'not_supported',
      `a Q4_0 weight has the scale ${scale}; the wgsl engine computes scales below 8192`,
    )
  }
  return u16(f32ToF16(Float32Array.of(-8 * scale)), 0)
}

function u16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8)
}

function u32(bytes: Uint8Array, at: number): number {
  return u16(bytes, at) | (u16(bytes, at + 2) << 16)
}

function lowNibbles(a: number, b: number): number {
  return (a & 0x0f0f0f0f) | ((b & 0x0f0f0f0f) << 4)
}

function highNibbles(a: number, b: number): number {
  return ((a >>> 4) & 0x0f0f0f0f) | (b & 0xf0f0f0f0)
}
