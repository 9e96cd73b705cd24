/**
 * 16-bit floats to and from float32: stored weights and activations on the wire.
 *
 * Bytes are little-endian, as every file format and protocol here and every machine WebGPU runs on.
 * Copies are made with `new Uint8Array`: `slice` of a Node Buffer is a view on its pool.
 * Narrowing rounds to nearest, ties to even; infinities and NaN survive (a NaN's payload does not).
 */

import { ChoraleError } from '../errors.ts'

let halfTable: Float32Array | undefined

/** float32 of every f16 bit pattern: [65536]. Built once, 256 KiB. */
export function f16Table(): Float32Array {
  if (halfTable !== undefined) return halfTable
  const table = new Float32Array(65536)
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 0x1f
    const fraction = bits & 0x3ff
    const magnitude =
      exponent === 0
        ? fraction * 2 ** -24
        : exponent === 31
          ? fraction === 0
            ? Infinity
            : NaN
          : (1 + fraction / 1024) * 2 ** (exponent - 15)
    table[bits] = bits & 0x8000 ? -magnitude : magnitude
  }
  halfTable = table
  return table
}

/** Values of little-endian f16 `bytes`, at any alignment. @throws `bad_file` on an odd number of bytes. */
export function f16ToF32(bytes: Uint8Array): Float32Array {
  const table = f16Table()
  const halves = view16(bytes, 'F16')
  const out = new Float32Array(halves.length)
  // Both indices are in bounds by construction; `!` only tells the compiler.
  for (let i = 0; i < halves.length; i++) out[i] = table[halves[i]!]!
  return out
}

/** Values of little-endian bf16 `bytes`, at any alignment. @throws `bad_file` on an odd number of bytes. */
export function bf16ToF32(bytes: Uint8Array): Float32Array {
  const halves = view16(bytes, 'BF16')
  const words = new Uint32Array(halves.length)
  for (let i = 0; i < halves.length; i++) words[i] = halves[i]! << 16
  return new Float32Array(words.buffer)
}

/** Values of little-endian f32 `bytes`: a view where alignment allows, else a copy. @throws `bad_file`. */
export function f32FromBytes(bytes: Uint8Array): Float32Array {
  if (bytes.length % 4 !== 0) {
    throw new ChoraleError('bad_file', `F32 data of ${bytes.length} bytes is no multiple of 4`)
  }
  if (bytes.byteOffset % 4 === 0) return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  return new Float32Array(new Uint8Array(bytes).buffer)
}

/** The little-endian bytes of `data`: a view on the same memory. */
export function f32ToBytes(data: Float32Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
}

/** `data` as f16 bytes. Magnitudes from 65520 up become infinity; below 2^-25 zero. */
export function f32ToF16(data: Float32Array): Uint8Array {
  const words = new Uint32Array(data.buffer, data.byteOffset, data.length)
  const out = new Uint16Array(data.length)
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!
    const sign = (word >>> 16) & 0x8000
    const magnitude = word & 0x7fffffff
    let half: number
    if (magnitude >= 0x47800000) {
      // 65536 and more, infinity, NaN
      half = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00
    } else if (magnitude >= 0x38800000) {
      // Normal: move the exponent's bias, round the 13 bits that go; a carry walks into the exponent as it should.
      half = (magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13
    } else if (magnitude > 0x33000000) {
      // Subnormal: the significand with its hidden bit, shifted to units of 2^-24.
      const shift = 126 - (magnitude >>> 23)
      const significand = (magnitude & 0x7fffff) | 0x800000
      half = (significand + (1 << (shift - 1)) - 1 + ((significand >>> shift) & 1)) >>> shift
    } else {
      half = 0 // at most half of the smallest subnormal: ties to even
    }
    out[i] = sign | half
  }
  return new Uint8Array(out.buffer)
}

/** `data` as bf16 bytes: the upper half of each float, rounded. */
export function f32ToBf16(data: Float32Array): Uint8Array {
  const words = new Uint32Array(data.buffer, data.byteOffset, data.length)
  const out = new Uint16Array(data.length)
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!
    const isNaN = (word & 0x7fffffff) > 0x7f800000
    // Rounding a NaN could carry into the sign or make it infinite, so it becomes the quiet one of its sign.
    out[i] = isNaN ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16
  }
  return new Uint8Array(out.buffer)
}

/** 16-bit view of `bytes`; a copy when they start at an odd address. */
function view16(bytes: Uint8Array, dtype: string): Uint16Array {
  if (bytes.length % 2 !== 0) {
    throw new ChoraleError('bad_file', `${dtype} data of ${bytes.length} bytes is no multiple of 2`)
  }
  if (bytes.byteOffset % 2 === 0) return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)
  return new Uint16Array(new Uint8Array(bytes).buffer)
}
