import { afterAll, describe, expect, it } from 'vitest'
import { type GpuContext, padded } from '../../src/gpu/context.ts'
import { argmaxParts, createArgmax, readArgmax } from '../../src/gpu/ops/argmax.ts'
import { argmax } from '../../src/sampling/filters.ts'
import {
  bufferOf,
  dropPadding,
  openTestContext,
  padFloats,
  random,
  randomFloats,
  runOps,
  zeros,
} from './test-context.ts'

const opened = await openTestContext()
const context = opened as GpuContext
afterAll(() => opened?.close())

/** Rows of `width` values through the kernel. */
async function run(values: Float32Array, width: number): Promise<number[]> {
  const rows = values.length / width
  const parts = argmaxParts(width)
  const output = await zeros(context, rows * padded(parts * 2))
  const input = await bufferOf(context, padFloats(values, width))
  const op = await createArgmax(context, { width, input, output })
  const pairs = await runOps(context, [op], rows, output, rows * padded(parts * 2))
  return [...readArgmax(dropPadding(pairs, rows, parts * 2), parts)]
}

const rowOf = (values: Float32Array, width: number, row: number) =>
  values.subarray(row * width, (row + 1) * width)

describe.skipIf(opened === undefined)('argmax', () => {
  it.each([1, 5, 63, 64, 65, 2048, 2049, 4097, 32_003, 151_936])(
    'matches plain TypeScript at width %i',
    async (width) => {
      const rows = 4
      const values = randomFloats(random(width), rows * width)
      // All below zero, where the padding would win.
      rowOf(values, width, 1).forEach((value, i, row) => (row[i] = -1 - Math.abs(value)))
      expect(await run(values, width)).toEqual(
        Array.from({ length: rows }, (_, row) => argmax(rowOf(values, width, row))),
      )
    },
  )

  it('takes the lowest place of equals, within a part and across parts', async () => {
    const width = 5000
    const values = new Float32Array(3 * width)
    for (const place of [4999, 2600, 71, 7]) values[place] = 9
    for (const place of [4999, 2600]) values[width + place] = 9
    expect(await run(values, width)).toEqual([7, 2600, 0])
  })

  it('says -1 for a row in which a value is not finite, wherever it is', async () => {
    const width = 4100
    for (const bad of [Number.NaN, Infinity, -Infinity]) {
      for (const place of [0, 64, 2047, 4099]) {
        const values = randomFloats(random(3), 2 * width)
        values[place] = bad
        expect(await run(values, width)).toEqual([-1, argmax(rowOf(values, width, 1))])
      }
    }
  })
})
