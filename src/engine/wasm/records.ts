import { dequantize } from '../../tensor/quant.ts'
import { byteLength, type WeightTensor } from '../../tensor/weight.ts'
import {
  KIND_Q4_F16,
  KIND_WIDE,
  MATRIX_BIAS,
  MATRIX_BYTES,
  MATRIX_COLUMNS,
  MATRIX_DATA,
  MATRIX_FACTOR,
  MATRIX_KIND,
  MATRIX_OCTET_BYTES,
  MATRIX_OCTETS,
  OCTET,
} from './layout.ts'
import type { Arena, LinearMemory } from './linear-memory.ts'
import { packMatrix, planMatrix } from './pack-matrix.ts'

/** A record in linear memory: 32-bit words at byte offsets. */
export interface RecordWriter {
  readonly address: number
  integer(offset: number, value: number): void
  float(offset: number, value: number): void
}

/** A record of `bytes` zero bytes. */
export function createRecord(memory: LinearMemory, arena: Arena, bytes: number): RecordWriter {
  const address = arena.allocate(bytes, 'records')
  memory.bytes(address, bytes).fill(0)
  return recordAt(memory, address)
}

/** The record at `address`. */
export function recordAt(memory: LinearMemory, address: number): RecordWriter {
  return {
    address,
    integer: (offset, value) => void memory.integers(address + offset, 1).fill(value),
    float: (offset, value) => void memory.floats(address + offset, 1).fill(value),
  }
}

/**
 * Packs a matrix and its bias (float values, or undefined) into memory. `wide`: its activations are rounded to 15 bits
 * instead of 8, when it is quantised. @returns its record's address and kind, and bytes.
 */
export function storeMatrix(
  memory: LinearMemory,
  arena: Arena,
  weight: WeightTensor,
  bias: WeightTensor | undefined,
  wide: boolean,
): { address: number; bytes: number; kind: number } {
  // Fails with a clear message before anything is read beyond the end.
  if (weight.bytes.length !== byteLength(weight.dtype, weight.shape)) dequantize(weight)
  const plan = planMatrix(weight)
  const data = arena.allocate(plan.bytes, 'weights')
  packMatrix(weight, plan, memory.bytes(data, plan.bytes))
  const record = createRecord(memory, arena, MATRIX_BYTES)
  const kind = plan.kind + (wide && plan.kind >= KIND_Q4_F16 ? KIND_WIDE : 0)
  record.integer(MATRIX_KIND, kind)
  record.integer(MATRIX_OCTETS, plan.octets)
  record.integer(MATRIX_COLUMNS, plan.columns)
  record.integer(MATRIX_DATA, data)
  record.integer(MATRIX_OCTET_BYTES, plan.octetBytes)
  record.float(MATRIX_FACTOR, 2 ** (112 - plan.raise))
  let bytes = plan.bytes
  if (bias !== undefined) {
    const stored = storeVector(memory, arena, bias)
    record.integer(MATRIX_BIAS, stored.address)
    bytes += stored.bytes
  }
  return { address: record.address, bytes, kind }
}

/** Stores a vector as float32, padded with zeros to whole octets. */
export function storeVector(
  memory: LinearMemory,
  arena: Arena,
  weight: WeightTensor,
): { address: number; bytes: number } {
  const values = dequantize(weight)
  const padded = Math.ceil(values.length / OCTET) * OCTET
  const address = arena.allocate(padded * 4, 'weights')
  const to = memory.floats(address, padded)
  to.fill(0)
  to.set(values)
  return { address, bytes: padded * 4 }
}
