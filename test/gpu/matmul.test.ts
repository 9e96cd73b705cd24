import { afterAll, describe, expect, it } from 'vitest'
import { activate } from '../../src/engine/reference/activation.ts'
import { type GpuContext, padded } from '../../src/gpu/context.ts'
import { compileMatmul, createMatmulKernels } from '../../src/gpu/matmul-kernels.ts'
import { createMatrix, writeRows } from '../../src/gpu/matrix.ts'
import { createMatmul } from '../../src/gpu/ops/matmul.ts'
import { packRows } from '../../src/gpu/pack-weights.ts'
import { FORMAT_OF } from '../../src/gpu/weight-format.ts'
import type { Activation } from '../../src/model/spec.ts'
import { dequantize } from '../../src/tensor/quant.ts'
import { WEIGHT_DTYPES, type WeightDtype } from '../../src/tensor/weight.ts'
import { storedMatrix } from './stored-weights.ts'
import {
  bits,
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

interface Shape {
  rows: number
  inner: number
  columns: number
}

interface Flags {
  bias?: boolean
  accumulate?: boolean
  gated?: boolean
  activation?: Activation | 'none'
}

/** One matmul on the GPU and in float64 on the dequantised weights. */
async function product(dtype: WeightDtype, shape: Shape, flags: Flags = {}, on: GpuContext = context) {
  const { columns, inner, rows } = shape
  const { accumulate = false, activation = 'none', bias: hasBias = false, gated = false } = flags
  const next = random(rows * 31 + inner * 7 + columns)
  const weight = storedMatrix(dtype, columns, inner, next)
  const values = dequantize(weight)
  const outputs = gated ? columns / 2 : columns
  const [input, bias, old] = [
    randomFloats(next, rows * inner),
    randomFloats(next, columns),
    randomFloats(next, rows * outputs),
  ]
  const format = FORMAT_OF[dtype]
  const pack = gated ? 2 : 1
  const segments = [{ format, rows: columns }]
  const matrix = await createMatrix(on, { label: 'test', columns: inner, segments, pack })
  writeRows(on, matrix, 0, packRows(weight, format))
  const output = await bufferOf(on, padFloats(old, outputs))
  const op = await createMatmul(on, {
    matrix,
    kernels: (variant) => compileMatmul(on, variant),
    step: await on.uniform(Uint32Array.of(rows, 0, 0, 0)),
    input: await bufferOf(on, padFloats(input, inner)),
    bias: hasBias ? await bufferOf(on, bias) : undefined,
    output,
    accumulate,
    variant: { activation, gated },
  })
  const raw = await runOps(on, [op], rows, output, rows * padded(outputs))
  const linear = (row: number, column: number) => {
    let sum = hasBias ? (bias[column] as number) : 0
    for (let k = 0; k < inner; k++)
      sum += (input[row * inner + k] as number) * (values[column * inner + k] as number)
    return sum
  }
  const act = (x: number) =>
    activation === 'none' ? x : (activate(activation, Float32Array.of(x))[0] as number)
  const expected = Float32Array.from({ length: rows * outputs }, (_, i) => {
    const [row, n] = [Math.floor(i / outputs), i % outputs]
    const result = gated ? act(linear(row, 2 * n)) * linear(row, 2 * n + 1) : act(linear(row, n))
    return result + (accumulate ? (old[i] as number) : 0)
  })
  return { actual: dropPadding(raw, rows, outputs), expected, matrix }
}

function randomShape(seed: number): Shape {
  const next = random(seed + 50)
  const upTo = (most: number) => 1 + Math.floor(Math.abs(next()) * most)
  return { rows: upTo(seed % 2 === 0 ? 8 : 70), inner: upTo(700), columns: upTo(130) }
}

describe.skipIf(opened === undefined)('matmul and matmul_tiled', () => {
  it.each([
    { rows: 1, inner: 1, columns: 1 },
    { rows: 1, inner: 64, columns: 320 },
    { rows: 2, inner: 63, columns: 65 },
    { rows: 5, inner: 172, columns: 33 },
    { rows: 8, inner: 577, columns: 100 },
    { rows: 9, inner: 577, columns: 100 },
    { rows: 64, inner: 96, columns: 31 },
    { rows: 70, inner: 260, columns: 66 },
    // Falcon 7B's hidden size and fused q, k and v: multiples of 64, not of 128.
    { rows: 1, inner: 4544, columns: 73 },
    { rows: 11, inner: 4544, columns: 73 },
    ...Array.from({ length: 8 }, (_, seed) => randomShape(seed)),
  ])('match plain TypeScript at $rows × $inner × $columns', async (shape) => {
    for (const flags of [{}, { bias: true, accumulate: true }]) {
      const { actual, expected } = await product('F32', shape, flags)
      expect(relativeError(actual, expected)).toBeLessThan(2e-6)
    }
  })

  // Kernels and variants are paired sparingly: a software adapter takes half a second to compile each.
  it.each(['silu', 'gelu', 'gelu-tanh'] as const)('apply %s, alone and gated', async (activation) => {
    for (const gated of [false, true]) {
      for (const rows of gated && activation === 'silu' ? [1, 3, 12] : [1]) {
        const shape = { rows, inner: 45, columns: 46 }
        const flags = { bias: true, accumulate: true, activation, gated }
        const { actual, expected } = await product('F32', shape, flags)
        expect(relativeError(actual, expected), `${rows} rows`).toBeLessThan(2e-6)
      }
    }
  })

  it.each(WEIGHT_DTYPES.filter((dtype) => dtype !== 'F32'))('read %s weights without loss', async (dtype) => {
    const inner = dtype === 'F16' || dtype === 'BF16' ? 173 : dtype.endsWith('_0') ? 288 : 512
    const every = ['F16', 'Q4_0', 'Q4_1', 'Q8_0'].includes(dtype)
    for (const rows of every ? [1, 3, 34] : [1]) {
      const { actual, expected } = await product(dtype, { rows, inner, columns: 42 }, { bias: true })
      expect(relativeError(actual, expected), `${rows} rows`).toBeLessThan(2e-6)
    }
  })

  it.each(['F32', 'Q8_0'] as const)(
    'split a matrix of %s by rows where it exceeds the largest binding, with the same bits',
    async (dtype) => {
      const small = (await openTestContext(dtype === 'F32' ? 20_800 : 6464)) as GpuContext
      try {
        const shape = { rows: 3, inner: dtype === 'F32' ? 100 : 96, columns: 258 }
        const gated = dtype === 'F32'
        const flags = { bias: true, gated, activation: gated ? 'silu' : 'none' } as const
        const split = await product(dtype, shape, flags, small)
        expect(split.matrix.parts.map((part) => part.rows)).toEqual(
          dtype === 'F32' ? [50, 50, 50, 50, 50, 8] : [67, 67, 67, 57],
        )
        const whole = await product(dtype, shape, flags)
        expect(bits(split.actual)).toEqual(bits(whole.actual))
      } finally {
        small.close()
      }
    },
  )

  it('leave rows past the step alone', async () => {
    for (const rows of [1, 5, 33]) {
      const [inner, columns] = [8, 8]
      const room = rows + 3
      const segments = [{ format: 'f32', rows: columns }] as const
      const matrix = await createMatrix(context, { label: 'test', columns: inner, segments })
      writeRows(context, matrix, 0, packRows(storedMatrix('F32', columns, inner, random(2)), 'f32'))
      const output = await bufferOf(context, new Float32Array(room * columns).fill(7))
      const op = await createMatmul(context, {
        matrix,
        kernels: (variant) => compileMatmul(context, variant),
        step: await context.uniform(Uint32Array.of(rows, 0, 0, 0)),
        input: await bufferOf(context, randomFloats(random(3), room * inner)),
        output,
      })
      const values = await runOps(context, [op], rows, output, room * columns)
      expect(values.subarray(0, rows * columns)).not.toContain(7)
      expect(values.subarray(rows * columns).every((value) => value === 7)).toBe(true)
    }
  })

  it.each(['F32', 'Q8_0', 'Q4_1'] as const)(
    'give a row of %s the same bits alone, among few and among many',
    async (dtype) => {
      const kernels = createMatmulKernels(context)
      const [inner, columns, rows] = [768, 70, 37]
      const next = random(1)
      const format = FORMAT_OF[dtype]
      const segments = [{ format, rows: columns }]
      const matrix = await createMatrix(context, { label: 'test', columns: inner, segments })
      writeRows(context, matrix, 0, packRows(storedMatrix(dtype, columns, inner, next), format))
      const input = randomFloats(next, rows * inner)
      const run = async (from: number, to: number) => {
        const count = to - from
        const output = await zeros(context, count * padded(columns))
        const step = await context.uniform(Uint32Array.of(count, 0, 0, 0))
        const some = await bufferOf(context, input.slice(from * inner, to * inner))
        const op = await createMatmul(context, { matrix, kernels, step, input: some, output })
        const values = await runOps(context, [op], count, output, count * padded(columns))
        return bits(dropPadding(values, count, columns))
      }
      const together = await run(0, rows)
      for (const [from, to] of [
        [0, 1],
        [36, 37],
        [3, 9],
        [2, 10],
        [5, 17],
      ] as const) {
        expect(await run(from, to)).toEqual(together.slice(from * columns, to * columns))
      }
    },
  )
})
