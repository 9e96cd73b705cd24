import { bf16ToF32, f16ToF32, f32FromBytes, f32ToBf16, f32ToBytes, f32ToF16 } from '../tensor/dtype.ts'

/** How activations travel: `f32` bit for bit, the others at half the bytes. */
export type WireDtype = 'f32' | 'bf16' | 'f16'

/** All that this version speaks, in the order it prefers them. */
export const WIRE_DTYPES: readonly WireDtype[] = ['f32', 'bf16', 'f16']

/** Bytes of one value. */
export function wireBytes(dtype: WireDtype): number {
  return dtype === 'f32' ? 4 : 2
}

/** `data` as little-endian wire bytes; for f32 a view on the same memory. */
export function toWire(data: Float32Array, dtype: WireDtype): Uint8Array {
  switch (dtype) {
    case 'f32':
      return f32ToBytes(data)
    case 'bf16':
      return f32ToBf16(data)
    case 'f16':
      return f32ToF16(data)
  }
}

/** Wire bytes as floats; for f32 a view where alignment allows. The length must be a multiple of `wireBytes`. */
export function fromWire(bytes: Uint8Array, dtype: WireDtype): Float32Array {
  switch (dtype) {
    case 'f32':
      return f32FromBytes(bytes)
    case 'bf16':
      return bf16ToF32(bytes)
    case 'f16':
      return f16ToF32(bytes)
  }
}

/** Of the wire bytes of `count` rows: all, the last row's, or none. Views. */
export function wireRows(bytes: Uint8Array, want: 'all' | 'last' | 'none', count: number): Uint8Array {
  if (want === 'all') return bytes
  return want === 'none' ? bytes.subarray(0, 0) : bytes.subarray(bytes.length - bytes.length / count)
}
