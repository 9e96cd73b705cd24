import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { memorySource } from '../../src/byte-source.ts'
import { readTensors } from '../../src/model/safetensors.ts'
import { blockBytes, blockSize, byteLength, dequantize, dequantizeRows } from '../../src/tensor/quant.ts'
import { WEIGHT_DTYPES, type WeightDtype, type WeightTensor } from '../../src/tensor/weight.ts'

const folder = join(import.meta.dirname, '../vectors/gguf-blocks')
const dtypes = readdirSync(folder).map((file) => file.replace('.safetensors', '') as WeightDtype)

async function truth(dtype: WeightDtype): Promise<{ weight: WeightTensor; values: Float32Array }> {
  const tensors = await readTensors(memorySource(dtype, readFileSync(join(folder, `${dtype}.safetensors`))))
  const raw = tensors.get('raw')
  const values = tensors.get('values')
  if (!(raw?.data instanceof Uint8Array) || !(values?.data instanceof Float32Array)) throw new Error(dtype)
  return { weight: { dtype, shape: values.shape, bytes: raw.data }, values: values.data }
}

const bits = (values: Float32Array) => [...new Uint32Array(values.slice().buffer)]

describe('dequantize', () => {
  it('has a ground truth for every block format', () => {
    expect([...dtypes, 'F32', 'F16', 'BF16'].sort()).toEqual([...WEIGHT_DTYPES].sort())
  })

  it.each(dtypes)('%s equals ggml bit for bit, at any alignment', async (dtype) => {
    const { values, weight } = await truth(dtype)
    expect(weight.bytes.length).toBe(byteLength(dtype, weight.shape))
    expect(blockSize(dtype) * 64).toBe(values.length)
    expect(blockBytes(dtype) * 64).toBe(weight.bytes.length)
    expect(bits(dequantize(weight))).toEqual(bits(values))
    const shifted = new Uint8Array(weight.bytes.length + 1)
    shifted.set(weight.bytes, 1)
    expect(bits(dequantize({ ...weight, bytes: shifted.subarray(1) }))).toEqual(bits(values))
  })

  it.each(dtypes)('%s rows equal those of the whole, in the order asked', async (dtype) => {
    const { values, weight } = await truth(dtype)
    const columns = weight.shape[1] ?? 0
    const expected = [63, 0, 63, 5].flatMap((row) =>
      bits(values.subarray(row * columns, (row + 1) * columns)),
    )
    expect(bits(dequantizeRows(weight, [63, 0, 63, 5]))).toEqual(expected)
  })

  it('refuses bytes that do not fit the shape, and rows that are not there', () => {
    const weight: WeightTensor = { dtype: 'Q8_0', shape: [2, 32], bytes: new Uint8Array(68) }
    expect(() => dequantize({ ...weight, bytes: new Uint8Array(67) })).toThrow(/needs 68 bytes, got 67/)
    expect(() => dequantize({ ...weight, shape: [2, 33] })).toThrow(/blocks of 32 weights, but rows have 33/)
    for (const row of [-1, 2, 0.5, NaN]) {
      expect(() => dequantizeRows(weight, [row])).toThrow(expect.objectContaining({ code: 'bad_request' }))
    }
    expect(() => dequantizeRows({ ...weight, shape: [64] }, [0])).toThrow(/shape \[64\]/)
  })
})
