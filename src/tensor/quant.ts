/** Stored weights to float32, whole or by rows. Bit for bit what ggml and Hugging Face make of the same bytes. */

import { ChoraleError } from '../errors.ts'
import { bf16ToF32, f16Table, f16ToF32, f32FromBytes } from './dtype.ts'
import {
  type BlockReader,
  IQ4_LEVELS,
  readIq4Xs,
  readQ2K,
  readQ3K,
  readQ4K,
  readQ5K,
  readQ6K,
} from './k-quants.ts'
import { blockSize, byteLength, elementCount, type WeightDtype, type WeightTensor } from './weight.ts'

/**
 * All values of a weight, row-major in its shape. A fresh array, except that aligned F32 is a view on `bytes`.
 * @throws `bad_file` when `bytes` is not as long as dtype and shape say.
 */
export function dequantize(weight: WeightTensor): Float32Array {
  checkLength(weight)
  if (weight.dtype === 'F32') return f32FromBytes(weight.bytes)
  if (weight.dtype === 'F16') return f16ToF32(weight.bytes)
  if (weight.dtype === 'BF16') return bf16ToF32(weight.bytes)
  const out = new Float32Array(elementCount(weight.shape))
  READERS[weight.dtype](weight.bytes, 0, out.length / blockSize(weight.dtype), out, 0)
  return out
}

function checkLength({ bytes, dtype, shape }: WeightTensor): void {
  const expected = byteLength(dtype, shape)
  if (bytes.length === expected) return
  throw new ChoraleError(
    'bad_file',
    `${dtype} [${shape.join(', ')}] needs ${expected} bytes, got ${bytes.length}`,
  )
}

/**
 * Values of some rows of a matrix [rows, columns]: [rowIndices.length, columns], in the order asked for.
 * Only those rows are converted. @throws `bad_file` as `dequantize`, `bad_request` when the weight is no matrix or a row is
 * not in it.
 */
export function dequantizeRows(weight: WeightTensor, rowIndices: ArrayLike<number>): Float32Array {
  const [rowCount, columns] = weight.shape
  if (rowCount === undefined || columns === undefined || weight.shape.length !== 2) {
    throw new ChoraleError('bad_request', `rows asked of a weight of shape [${weight.shape.join(', ')}]`)
  }
  checkLength(weight)
  const rowBytes = byteLength(weight.dtype, [columns])
  const blocks = columns / blockSize(weight.dtype)
  const out = new Float32Array(rowIndices.length * columns)
  for (let i = 0; i < rowIndices.length; i++) {
    const row = rowIndices[i]!
    if (!Number.isInteger(row) || row < 0 || row >= rowCount) {
      throw new ChoraleError('bad_request', `row ${row} outside a weight of ${rowCount} rows`)
    }
    READERS[weight.dtype](weight.bytes, row * rowBytes, blocks, out, i * columns)
  }
  return out
}

/** d, 32 × int8: 34 bytes. */
const readQ80: BlockReader = (bytes, at, blocks, out, to) => {
  const half = f16Table()
  for (let b = 0; b < blocks; b++, at += 34, to += 32) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!
    for (let l = 0; l < 32; l++) out[to + l] = d * ((bytes[at + 2 + l]! << 24) >> 24)
  }
}

/** Q4_0 (d) and Q4_1 (d, m), 16 bytes of nibbles: low nibbles are weights 0..15, high ones 16..31. */
function fourBit(hasMin: boolean): BlockReader {
  const size = hasMin ? 20 : 18
  return (bytes, at, blocks, out, to) => {
    const half = f16Table()
    for (let b = 0; b < blocks; b++, at += size, to += 32) {
      const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!
      const min = hasMin ? half[bytes[at + 2]! | (bytes[at + 3]! << 8)]! : 0
      const zero = hasMin ? 0 : 8
      const qs = at + size - 16
      for (let l = 0; l < 16; l++) {
        const pair = bytes[qs + l]!
        // Q4_0 adds no minimum: `x + 0` would turn ggml's -0 into +0.
        const low = d * ((pair & 15) - zero)
        const high = d * ((pair >> 4) - zero)
        out[to + l] = hasMin ? low + min : low
        out[to + 16 + l] = hasMin ? high + min : high
      }
    }
  }
}

/** Q5_0 (d) and Q5_1 (d, m): as the 4-bit formats, the fifth bit of weight e is bit e of the 4 bytes qh. */
function fiveBit(hasMin: boolean): BlockReader {
  const size = hasMin ? 24 : 22
  return (bytes, at, blocks, out, to) => {
    const half = f16Table()
    for (let b = 0; b < blocks; b++, at += size, to += 32) {
      const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!
      const min = hasMin ? half[bytes[at + 2]! | (bytes[at + 3]! << 8)]! : 0
      const zero = hasMin ? 0 : 16
      const qs = at + size - 16
      const qh = qs - 4
      for (let e = 0; e < 32; e++) {
        const nibble = e < 16 ? bytes[qs + e]! & 15 : bytes[qs + e - 16]! >> 4
        const q = nibble | (((bytes[qh + (e >> 3)]! >> (e & 7)) & 1) << 4)
        const value = d * (q - zero)
        out[to + e] = hasMin ? value + min : value
      }
    }
  }
}

/** d, 16 bytes of 4-bit indices into 16 uneven levels: 18 bytes. */
const readIq4Nl: BlockReader = (bytes, at, blocks, out, to) => {
  const half = f16Table()
  for (let b = 0; b < blocks; b++, at += 18, to += 32) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!
    for (let l = 0; l < 16; l++) {
      const pair = bytes[at + 2 + l]!
      out[to + l] = d * IQ4_LEVELS[pair & 15]!
      out[to + 16 + l] = d * IQ4_LEVELS[pair >> 4]!
    }
  }
}

const READERS: Readonly<Record<WeightDtype, BlockReader>> = {
  F32: (bytes, at, blocks, out, to) => out.set(f32FromBytes(bytes.subarray(at, at + 4 * blocks)), to),
  F16: (bytes, at, blocks, out, to) => out.set(f16ToF32(bytes.subarray(at, at + 2 * blocks)), to),
  BF16: (bytes, at, blocks, out, to) => out.set(bf16ToF32(bytes.subarray(at, at + 2 * blocks)), to),
  Q8_0: readQ80,
  Q4_0: fourBit(false),
  Q4_1: fourBit(true),
  Q5_0: fiveBit(false),
  Q5_1: fiveBit(true),
  Q2_K: readQ2K,
  Q3_K: readQ3K,
  Q4_K: readQ4K,
  Q5_K: readQ5K,
  Q6_K: readQ6K,
  IQ4_NL: readIq4Nl,
  IQ4_XS: readIq4Xs,
}

export { blockBytes, blockSize, byteLength } from './weight.ts'
