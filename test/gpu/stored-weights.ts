import { blockBytes, blockSize, type WeightDtype, type WeightTensor } from '../../src/tensor/weight.ts'

/** Where each block keeps its float16 scales, in bytes. */
const SCALES: Readonly<Partial<Record<WeightDtype, readonly number[]>>> = {
  Q8_0: [0],
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q2_K: [80, 82],
  Q3_K: [108],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
  IQ4_NL: [0],
  IQ4_XS: [0],
}

/** A matrix [rows, columns] of random weights of moderate size, stored as `dtype`. */
export function storedMatrix(
  dtype: WeightDtype,
  rows: number,
  columns: number,
  next: () => number,
): WeightTensor {
  const shape = [rows, columns]
  const count = rows * columns
  if (dtype === 'F32') {
    return { dtype, shape, bytes: new Uint8Array(Float32Array.from({ length: count }, next).buffer) }
  }
  if (dtype === 'F16' || dtype === 'BF16') {
    return {
      dtype,
      shape,
      bytes: new Uint8Array(Uint16Array.from({ length: count }, () => half(dtype, next())).buffer),
    }
  }
  const size = blockBytes(dtype)
  const bytes = Uint8Array.from({ length: (count / blockSize(dtype)) * size }, () => (next() + 1) * 128)
  for (let at = 0; at < bytes.length; at += size) {
    for (const offset of SCALES[dtype] ?? []) {
      const scale = half('F16', next())
      bytes[at + offset] = scale & 255
      bytes[at + offset + 1] = scale >> 8
    }
  }
  return { dtype, shape, bytes }
}

/** A finite half of `value`'s sign and rough size. */
function half(dtype: 'F16' | 'BF16', value: number): number {
  const word = new Uint32Array(Float32Array.of(value).buffer)[0] as number
  if (dtype === 'BF16') return word >>> 16
  return ((word >>> 16) & 0x8000) | 0x2800 | ((word >>> 12) & 0x7ff)
}
