import { afterAll, describe, expect, it } from 'vitest'
import { layerNorm } from '../../src/engine/reference/norm.ts'
import { type GpuContext, padded } from '../../src/gpu/context.ts'
import { createLayerNorm } from '../../src/gpu/ops/layer-norm.ts'
import { createRmsNorm } from '../../src/gpu/ops/rms-norm.ts'
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
import { relativeError } from '../engine/span-runs.ts'

const opened = await openTestContext()
const context = opened as GpuContext
afterAll(() => opened?.close())

function randomWidths(seed: number): number[] {
  const next = random(seed)
  return Array.from({ length: 6 }, () => 1 + Math.floor(Math.abs(next()) * 3000))
}

describe.skipIf(opened === undefined)('rms_norm', () => {
  it.each([1, 3, 64, 100, 576, 1025, 4544, ...randomWidths(1)])(
    'matches plain TypeScript at width %i',
    async (width) => {
      const next = random(width)
      const rows = 5
      const [input, weight] = [randomFloats(next, rows * width), randomFloats(next, width)]
      const output = await zeros(context, rows * padded(width))
      const op = await createRmsNorm(context, {
        width,
        epsilon: 1e-5,
        input: await bufferOf(context, padFloats(input, width)),
        weight: await bufferOf(context, padFloats(weight, width)),
        output,
      })
      const expected = input.map((value, i) => {
        const row = input.subarray(Math.floor(i / width) * width, (Math.floor(i / width) + 1) * width)
        const mean = row.reduce((sum, x) => sum + x * x, 0) / width
        return (value / Math.sqrt(mean + 1e-5)) * (weight[i % width] as number)
      })
      const actual = dropPadding(await runOps(context, [op], rows, output, rows * padded(width)), rows, width)
      expect(relativeError(actual, expected)).toBeLessThan(1e-6)
    },
  )
})

describe.skipIf(opened === undefined)('layer_norm', () => {
  it.each([1, 3, 64, 100, 573, 1025, 4544, ...randomWidths(2)])(
    'matches plain TypeScript at width %i',
    async (width) => {
      const next = random(width)
      const rows = 5
      const [weight, bias] = [randomFloats(next, width), randomFloats(next, width)]
      // A mean far from zero: the variance must not be a difference of squares.
      const input = randomFloats(() => 20 + next(), rows * width)
      const output = await zeros(context, rows * padded(width))
      const op = await createLayerNorm(context, {
        width,
        epsilon: 1e-5,
        input: await bufferOf(context, padFloats(input, width)),
        weight: await bufferOf(context, padFloats(weight, width)),
        bias: await bufferOf(context, padFloats(bias, width)),
        output,
      })
      const values = await runOps(context, [op], rows, output, rows * padded(width))
      const expected = layerNorm(input, rows, weight, bias, 1e-5)
      expect(relativeError(dropPadding(values, rows, width), expected)).toBeLessThan(2e-5)
      for (let i = 0; i < values.length; i++) if (i % padded(width) >= width) expect(values[i]).toBe(0)
    },
  )
})
