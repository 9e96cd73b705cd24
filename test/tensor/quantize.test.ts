import fc from 'fast-check'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openFile } from '../../node/file-store.ts'
import { readTensors } from '../../src/model/safetensors.ts'
import { dequantize } from '../../src/tensor/quant.ts'
import { quantize, type QuantisedDtype } from '../../src/tensor/quantize.ts'

/** 96 groups and what ggml's own reference makes of them (gguf-py 0.17 `gguf.quants.quantize`). */
const VECTORS = join(import.meta.dirname, '..', 'vectors', 'quantize.safetensors')
const DTYPES: readonly QuantisedDtype[] = ['Q8_0', 'Q4_0', 'Q4_1']

describe('quantize', () => {
  it.each(DTYPES)("gives ggml's bytes in %s", async (dtype) => {
    const source = await openFile(VECTORS)
    const file = await readTensors(source)
    await source.close()
    const made = quantize(dtype, file.get('values')?.data as Float32Array)
    expect(made).toEqual(file.get(dtype)?.data)
  })

  it.each([
    ['Q8_0', 1 / 127],
    ['Q4_0', 1 / 7],
    ['Q4_1', 1 / 14],
  ] as const)('keeps every weight within a step in %s', (dtype, step) => {
    const weights = fc.float32Array({ minLength: 32, maxLength: 32, min: -100, max: 100, noNaN: true })
    fc.assert(
      fc.property(weights, (values) => {
        const back = dequantize({ dtype, shape: [1, 32], bytes: quantize(dtype, values) })
        const spread =
          dtype === 'Q4_1'
            ? Math.max(...values) - Math.min(...values)
            : values.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
        // Half a step of rounding, the same of the scale's float16, and float16's smallest numbers.
        for (let i = 0; i < 32; i++) {
          expect(Math.abs((back[i] as number) - (values[i] as number))).toBeLessThanOrEqual(
            spread * step + 0.06,
          )
        }
      }),
    )
  })

  it('refuses part groups, values that are not finite and scales beyond float16', () => {
    expect(() => quantize('Q8_0', new Float32Array(31))).toThrow(/no whole groups/)
    expect(() => quantize('Q4_1', new Float32Array(32).fill(NaN))).toThrow(/weight 0 is not finite/)
    expect(() => quantize('Q8_0', new Float32Array(32).fill(1e8))).toThrow(/does not fit float16/)
  })
})
