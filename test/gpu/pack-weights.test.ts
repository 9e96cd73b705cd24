import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { ChoraleError } from '../../src/errors.ts'
import { alternateRows, commonFormat, packRows, type PackedRows } from '../../src/gpu/pack-weights.ts'
import { FORMAT_OF, rowLayout, type WeightFormat } from '../../src/gpu/weight-format.ts'
import { f16Table } from '../../src/tensor/dtype.ts'
import { dequantize } from '../../src/tensor/quant.ts'
import { blockBytes, blockSize, WEIGHT_DTYPES, type WeightTensor } from '../../src/tensor/weight.ts'
import { storedMatrix } from './stored-weights.ts'
import { bits, random } from './test-context.ts'

/** What the kernels' preludes make of packed rows, in float64 rounded once, as fma does. */
function unpack(packed: PackedRows, format: WeightFormat, columns: number): Float32Array {
  const { scaleBytes, weightBytes, words } = rowLayout(format, columns)
  const out = new Float32Array(packed.rows * columns)
  const buffer = (bytes: Uint8Array, row: number, size: number) =>
    bytes.slice(row * size, (row + 1) * size).buffer
  for (let row = 0; row < packed.rows; row++) {
    const weights = new Uint8Array(buffer(packed.weights, row, weightBytes))
    const halves = new Uint16Array(buffer(packed.scales, row, scaleBytes))
    const floats = new Float32Array(buffer(packed.scales, row, scaleBytes))
    const half = (index: number) => f16Table()[halves[index] as number] as number
    const scaleOf = (word: number): [scale: number, min: number] => {
      if (format === 'q4') return [half(word * 2), half(word * 2 + 1)]
      if (format === 'q4_symmetric') return [half(word), -8 * half(word)]
      if (format === 'q8') return [half(word >> 1), -128 * half(word >> 1)]
      if (format === 'q8_wide') return [floats[word] as number, -128 * (floats[word] as number)]
      return [floats[word * 2] as number, floats[word * 2 + 1] as number]
    }
    const nibbles = format.startsWith('q4')
    for (let word = 0; word < words; word++) {
      const [scale, min] = scaleOf(word)
      for (let i = 0; i < (nibbles ? 32 : 16); i++) {
        const byte = weights[word * 16 + (nibbles ? (i >> 3) * 4 + (i & 3) : i)] as number
        const integer = nibbles ? (byte >> (i & 4)) & 15 : byte
        out[row * columns + word * (nibbles ? 32 : 16) + i] = integer * scale + min
      }
    }
  }
  return out
}

const QUANTISED = WEIGHT_DTYPES.filter((dtype) => blockSize(dtype) > 1).flatMap((dtype) => {
  const own = { dtype, format: FORMAT_OF[dtype] }
  // Beside Q4_1 in one layer.
  return dtype === 'Q4_0' ? [own, { dtype, format: 'q4' as const }] : [own]
})

/** Blocks in a row that make every format's rows whole groups of 32, an odd number of them where they can. */
function matrixOf(dtype: WeightTensor['dtype'], bytes: Uint8Array): WeightTensor {
  const columns = blockSize(dtype) === 32 ? 96 : 256
  const rowBytes = (columns / blockSize(dtype)) * blockBytes(dtype)
  const rows = Math.floor(bytes.length / rowBytes)
  return { dtype, shape: [rows, columns], bytes: bytes.subarray(0, rows * rowBytes) }
}

/** Equal as numbers: -0 is 0 to a sum. */
function differences(actual: Float32Array, expected: Float32Array): number {
  return expected.findIndex((value, i) => !Object.is(value + 0, (actual[i] as number) + 0))
}

describe('packRows', () => {
  it.each(QUANTISED)(
    "loses nothing of $dtype in $format: ggml's own blocks, zero and subnormal scales among them",
    ({ dtype, format }) => {
      const file = readFileSync(join(import.meta.dirname, '../vectors/gguf-blocks', `${dtype}.safetensors`))
      const header = 8 + Number(file.readBigUInt64LE(0))
      const { raw } = JSON.parse(file.toString('utf8', 8, header)) as {
        raw: { data_offsets: [number, number] }
      }
      const bytes = new Uint8Array(file.subarray(header + raw.data_offsets[0], header + raw.data_offsets[1]))
      const weight = matrixOf(dtype, bytes)
      const unpacked = unpack(packRows(weight, format), format, weight.shape[1] as number)
      expect(differences(unpacked, dequantize(weight))).toBe(-1)
    },
  )

  it.each(QUANTISED)(
    'takes any bytes for $dtype in $format, or refuses a scale by name',
    ({ dtype, format }) => {
      const next = random(blockBytes(dtype))
      for (let round = 0; round < 100; round++) {
        const bytes = Uint8Array.from({ length: blockBytes(dtype) * 6 }, () => (next() + 1) * 128)
        const weight = matrixOf(dtype, bytes)
        try {
          const unpacked = unpack(packRows(weight, format), format, weight.shape[1] as number)
          const expected = dequantize(weight)
          const wrong = expected.findIndex(
            (value, i) => Number.isFinite(value) && value + 0 !== (unpacked[i] as number) + 0,
          )
          expect(wrong, `round ${round}`).toBe(-1)
        } catch (error) {
          expect([dtype, format]).toEqual(['Q4_0', 'q4'])
          expect((error as ChoraleError).code).toBe('not_supported')
          expect((error as ChoraleError).message).toMatch(/Q4_0 weight has the scale/)
        }
      }
    },
  )

  it('makes float32 of formats that differ, and pads float rows', () => {
    expect(commonFormat(['Q4_0', 'Q4_1'])).toBe('q4')
    expect(commonFormat(['Q4_0', 'Q8_0'])).toBe('f32')
    const weight = storedMatrix('F16', 3, 5, random(1))
    const values = dequantize(weight)
    const padded = new Float32Array(packRows(weight, 'f32').weights.buffer)
    expect([...padded.subarray(8, 16)]).toEqual([...values.subarray(5, 10), 0, 0, 0])
    const halves = new Uint16Array(packRows(weight, 'f16').weights.buffer)
    expect([...halves.subarray(8, 16)]).toEqual([
      ...new Uint16Array(weight.bytes.buffer).subarray(5, 10),
      0,
      0,
      0,
    ])
  })

  it('lets the rows of two weights alternate', () => {
    const [a, b] = [storedMatrix('Q8_0', 3, 96, random(2)), storedMatrix('Q8_0', 3, 96, random(3))]
    const both = unpack(alternateRows(packRows(a, 'q8'), packRows(b, 'q8')), 'q8', 96)
    const [x, y] = [dequantize(a), dequantize(b)]
    for (let row = 0; row < 3; row++) {
      const part = (values: Float32Array, at: number) => bits(values.slice(at * 96, (at + 1) * 96))
      expect(part(both, 2 * row)).toEqual(part(x, row))
      expect(part(both, 2 * row + 1)).toEqual(part(y, row))
    }
  })
})
