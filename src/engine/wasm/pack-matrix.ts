/**
 * Weight matrices as the kernels read them: octets of eight rows side by side, so that one broadcast of
 * activations serves eight outputs and sums need no shuffling. Nothing is rounded.
 */

import { dequantize } from '../../tensor/quant.ts'
import { blockBytes, blockSize, type WeightDtype, type WeightTensor } from '../../tensor/weight.ts'
import {
  GROUP,
  KIND_BF16,
  KIND_F16,
  KIND_F32,
  KIND_Q4_F16,
  KIND_Q4_MIN_F16,
  KIND_Q4_MIN_F32,
  KIND_Q8_F16,
  KIND_Q8_F32,
  KIND_Q8_HALF_F32,
  KIND_Q8_MIN_F16,
  KIND_Q8_MIN_F32,
  OCTET,
} from './layout.ts'
import { type PackedDtype, ROW_READERS, type UnpackedRows } from './unpack-row.ts'

/** How a kind of matrix is stored. */
interface KindLayout {
  /** Bits of a quantised weight; 0 for plain floats. */
  readonly bits: 0 | 4 | 8
  /** Bytes of a plain weight or of a scale. */
  readonly unit: 2 | 4
  readonly hasMin: boolean
  /** Scales a group of 32. */
  readonly scales: 1 | 2
}

const LAYOUTS: Readonly<Record<number, KindLayout>> = {
  [KIND_F32]: { bits: 0, unit: 4, hasMin: false, scales: 1 },
  [KIND_F16]: { bits: 0, unit: 2, hasMin: false, scales: 1 },
  [KIND_BF16]: { bits: 0, unit: 2, hasMin: false, scales: 1 },
  [KIND_Q4_F16]: { bits: 4, unit: 2, hasMin: false, scales: 1 },
  [KIND_Q4_MIN_F16]: { bits: 4, unit: 2, hasMin: true, scales: 1 },
  [KIND_Q4_MIN_F32]: { bits: 4, unit: 4, hasMin: true, scales: 1 },
  [KIND_Q8_F16]: { bits: 8, unit: 2, hasMin: false, scales: 1 },
  [KIND_Q8_MIN_F16]: { bits: 8, unit: 2, hasMin: true, scales: 1 },
  [KIND_Q8_F32]: { bits: 8, unit: 4, hasMin: false, scales: 1 },
  [KIND_Q8_MIN_F32]: { bits: 8, unit: 4, hasMin: true, scales: 1 },
  [KIND_Q8_HALF_F32]: { bits: 8, unit: 4, hasMin: false, scales: 2 },
}

const KINDS: Readonly<Record<WeightDtype, number>> = {
  F32: KIND_F32,
  F16: KIND_F16,
  BF16: KIND_BF16,
  Q4_0: KIND_Q4_F16,
  Q4_1: KIND_Q4_MIN_F16,
  Q4_K: KIND_Q4_MIN_F32,
  Q8_0: KIND_Q8_F16,
  Q5_0: KIND_Q8_F16,
  Q5_1: KIND_Q8_MIN_F16,
  Q5_K: KIND_Q8_MIN_F32,
  IQ4_NL: KIND_Q8_F16,
  IQ4_XS: KIND_Q8_F32,
  Q6_K: KIND_Q8_HALF_F32,
  Q3_K: KIND_Q8_HALF_F32,
  Q2_K: KIND_F32,
}

/** A packed matrix's shape in memory; `bytes` in all. */
export interface MatrixPlan {
  readonly kind: number
  readonly rows: number
  readonly columns: number
  readonly octets: number
  readonly octetBytes: number
  readonly bytes: number
  /** float16 weights are stored times two to this power: then none is subnormal, which costs processors 150 cycles each. */
  readonly raise: number
}

/** How a weight of this dtype and shape is packed, unless its values ask for float32 (`planMatrix`). */
export function planDtype(dtype: WeightDtype, shape: readonly number[]): MatrixPlan {
  return plan(KINDS[dtype], shape, 0)
}

/**
 * How `weight` is packed. float16 scales and weights that are no finite numbers can't be read by the kernels'
 * shortcut, so such a weight is packed as float32.
 */
export function planMatrix(weight: WeightTensor): MatrixPlan {
  const exponent = largestExponent(weight)
  const kind = exponent === SPECIAL_EXPONENT ? KIND_F32 : KINDS[weight.dtype]
  const room = Math.min(HALF_FRACTION, SPECIAL_EXPONENT - 1 - exponent)
  return plan(kind, weight.shape, kind === KIND_F16 ? room : 0)
}

/** Writes `weight` as planned to `target`, which is `plan.bytes` long and 4-byte aligned. */
export function packMatrix(weight: WeightTensor, matrix: MatrixPlan, target: Uint8Array): void {
  const layout = LAYOUTS[matrix.kind] as KindLayout
  if (layout.bits === 0) packFloats(weight, matrix, layout.unit, target)
  else packQuantized(weight, matrix, layout, target)
}

function plan(kind: number, shape: readonly number[], raise: number): MatrixPlan {
  const [rows = 0, columns = 0] = shape
  const { bits, hasMin, scales, unit } = LAYOUTS[kind] as KindLayout
  const octets = Math.ceil(rows / OCTET)
  const octetBytes =
    bits === 0
      ? columns * OCTET * unit
      : (columns / GROUP) * (OCTET * unit * (scales + (hasMin ? 1 : 0)) + GROUP * bits)
  return { kind, rows, columns, octets, octetBytes, bytes: octets * octetBytes, raise }
}

function packFloats(weight: WeightTensor, matrix: MatrixPlan, unit: 2 | 4, target: Uint8Array): void {
  const { columns, octets, raise, rows } = matrix
  const values = unit === 4 ? dequantize(weight) : halves(weight.bytes)
  const to =
    unit === 4
      ? new Float32Array(target.buffer, target.byteOffset, target.length / 4)
      : new Uint16Array(target.buffer, target.byteOffset, target.length / 2)
  for (let octet = 0; octet < octets; octet++) {
    for (let i = 0; i < OCTET; i++) {
      const row = octet * OCTET + i
      const at = octet * columns * OCTET + i
      if (row >= rows) for (let k = 0; k < columns; k++) to[at + k * OCTET] = 0
      else if (raise === 0) for (let k = 0; k < columns; k++) to[at + k * OCTET] = values[row * columns + k]!
      else for (let k = 0; k < columns; k++) to[at + k * OCTET] = raised(values[row * columns + k]!, raise)
    }
  }
}

function packQuantized(
  weight: WeightTensor,
  matrix: MatrixPlan,
  layout: KindLayout,
  target: Uint8Array,
): void {
  const { columns, octetBytes, octets, rows } = matrix
  const { bits, hasMin, scales, unit } = layout
  const dtype = weight.dtype as PackedDtype
  const read = ROW_READERS[dtype]
  const blocks = columns / blockSize(dtype)
  const rowBytes = blocks * blockBytes(dtype)
  const groups = columns / GROUP
  const numbers = (length: number) => (unit === 2 ? new Uint16Array(length) : new Float32Array(length))
  const unpacked: UnpackedRows = {
    values: new Int8Array(OCTET * columns),
    scales: numbers(OCTET * groups * scales),
    minima: numbers(OCTET * groups),
  }
  const header =
    unit === 2
      ? new Uint16Array(target.buffer, target.byteOffset, target.length / 2)
      : new Float32Array(target.buffer, target.byteOffset, target.length / 4)
  const headerBytes = OCTET * unit * (scales + (hasMin ? 1 : 0))
  const writeWeights = bits === 4 ? writeNibbles : writeBytes
  for (let octet = 0; octet < octets; octet++) {
    for (let i = 0; i < OCTET; i++) {
      const row = octet * OCTET + i
      if (row < rows) {
        read(weight.bytes, row * rowBytes, blocks, unpacked, i * columns, i * groups * scales)
        continue
      }
      unpacked.values.fill(0, i * columns, (i + 1) * columns)
      unpacked.scales.fill(0, i * groups * scales, (i + 1) * groups * scales)
      unpacked.minima.fill(0, i * groups, (i + 1) * groups)
    }
    let at = octet * octetBytes
    for (let group = 0; group < groups; group++) {
      const head = at / unit
      for (let s = 0; s < scales; s++) {
        for (let i = 0; i < OCTET; i++) {
          header[head + s * OCTET + i] = unpacked.scales[i * groups * scales + group * scales + s]!
        }
      }
      if (hasMin) {
        for (let i = 0; i < OCTET; i++) header[head + OCTET + i] = unpacked.minima[i * groups + group]!
      }
      at += headerBytes
      writeWeights(unpacked.values, columns, group * GROUP, target, at)
      at += GROUP * bits
    }
  }
}

/** For each 8 columns two vectors of four rows: low nibbles the first two, high nibbles the others. */
function writeNibbles(
  values: Int8Array,
  columns: number,
  column: number,
  target: Uint8Array,
  at: number,
): void {
  for (let chunk = column; chunk < column + GROUP; chunk += 8) {
    for (const row of [0, 1, 4, 5]) {
      const low = row * columns + chunk
      const high = low + 2 * columns
      for (let j = 0; j < 8; j++) target[at++] = values[low + j]! | (values[high + j]! << 4)
    }
  }
}

/** For each 8 columns four vectors of two rows. */
function writeBytes(
  values: Int8Array,
  columns: number,
  column: number,
  target: Uint8Array,
  at: number,
): void {
  for (let chunk = column; chunk < column + GROUP; chunk += 8) {
    for (const row of [0, 1, 4, 5, 2, 3, 6, 7]) {
      const from = row * columns + chunk
      for (let j = 0; j < 8; j++) target[at++] = values[from + j]!
    }
  }
}

const HALF_FIELDS: Readonly<Partial<Record<WeightDtype, number>>> = {
  Q4_0: 1,
  Q4_1: 2,
  Q5_0: 1,
  Q5_1: 2,
  Q8_0: 1,
  IQ4_NL: 1,
}

/** Bits of a float16's fraction, and the exponent field of infinities and NaN. */
const HALF_FRACTION = 10
const SPECIAL_EXPONENT = 31

/** The largest exponent field of the float16 that the kernels would read. Scales lead their blocks, minima follow. */
function largestExponent(weight: WeightTensor): number {
  const { bytes, dtype } = weight
  const fields = dtype === 'F16' ? 1 : (HALF_FIELDS[dtype] ?? 0)
  const step = blockBytes(dtype)
  let largest = 0
  for (let field = 0; field < fields; field++) {
    for (let at = field * 2 + 1; at < bytes.length; at += step) largest = Math.max(largest, bytes[at]! & 0x7c)
  }
  return largest >> 2
}

/** A float16's bits times two to the power of `raise`, exactly; the result may not be too large for one. */
function raised(bits: number, raise: number): number {
  if ((bits & 0x7c00) !== 0) return bits + (raise << HALF_FRACTION)
  // Of a subnormal's bits the highest one becomes the one that is not written, if the exponent then has a place.
  const fraction = bits & 0x3ff
  const missing = Math.clz32(fraction) - 21
  const exponent = raise + 1 - missing
  const sign = bits & 0x8000
  if (fraction === 0 || exponent <= 0) return sign | (fraction << raise)
  return sign | (exponent << HALF_FRACTION) | ((fraction << missing) & 0x3ff)
}

function halves(bytes: Uint8Array): Uint16Array {
  if (bytes.byteOffset % 2 === 0) return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)
  return new Uint16Array(bytes.slice().buffer)
}
