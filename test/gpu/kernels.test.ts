import { afterAll, describe, expect, it } from 'vitest'
import { USAGE } from '../../src/gpu/buffers.ts'
import { type GpuContext, padded } from '../../src/gpu/context.ts'
import { compileInvariantMatmul } from '../../src/gpu/matmul-probe.ts'
import { createMatrix, padRows, type WeightFormat, writeRows } from '../../src/gpu/matrix.ts'
import { compileMatmul, createMatmul } from '../../src/gpu/ops/matmul.ts'
import { createRmsNorm } from '../../src/gpu/ops/rms-norm.ts'
import { createSiluMul } from '../../src/gpu/ops/silu-mul.ts'
import { bf16ToF32, f16ToF32 } from '../../src/tensor/dtype.ts'
import {
  bits,
  bufferOf,
  openTestContext,
  random,
  randomFloats,
  relativeError,
  runOps,
} from './test-context.ts'

const opened = await openTestContext()
const context = opened as GpuContext
afterAll(() => opened?.close())

/** Rows of `width` floats, padded with zeros as the kernels expect. */
function padFloats(values: Float32Array, width: number): Float32Array {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  return new Float32Array(padRows(bytes, width * 4, padded(width) * 4).buffer)
}

function dropPadding(values: Float32Array, rows: number, width: number): Float32Array {
  const out = new Float32Array(rows * width)
  for (let row = 0; row < rows; row++) {
    out.set(values.subarray(row * padded(width), row * padded(width) + width), row * width)
  }
  return out
}

async function zeros(count: number): Promise<GPUBuffer> {
  return await context.buffers.create('test', count * 4, USAGE.storage | USAGE.copySource | USAGE.copyTarget)
}

describe.skipIf(opened === undefined)('rms_norm', () => {
  it.each([1, 3, 64, 100, 576, 1025])('matches plain TypeScript at width %i', async (width) => {
    const next = random(width)
    const rows = 5
    const [input, weight] = [randomFloats(next, rows * width), randomFloats(next, width)]
    const output = await zeros(rows * padded(width))
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
  })
})

describe.skipIf(opened === undefined)('silu_mul', () => {
  it.each([1, 63, 172, 1537])('matches plain TypeScript at width %i, far values included', async (width) => {
    const next = random(width)
    const rows = 3
    const input = randomFloats(() => next() * 3, rows * 2 * width)
    input[0] = -200
    input[2 * width] = 200
    const output = await zeros(rows * padded(width))
    const op = await createSiluMul(context, {
      width,
      input: await bufferOf(context, padFloats(input, 2 * width)),
      output,
    })
    const expected = Float32Array.from({ length: rows * width }, (_, i) => {
      const at = Math.floor(i / width) * 2 * width + (i % width)
      const gate = input[at] as number
      return (gate / (1 + Math.exp(-gate))) * (input[at + width] as number)
    })
    const actual = dropPadding(await runOps(context, [op], rows, output, rows * padded(width)), rows, width)
    expect(relativeError(actual, expected)).toBeLessThan(2e-6)
  })
})

interface Product {
  actual: Float32Array
  expected: Float32Array
}

/** One matmul on the GPU and in float64, its weights stored as `format`. */
async function product(
  format: WeightFormat,
  shape: { rows: number; inner: number; columns: number },
  flags: { bias: boolean; accumulate: boolean },
  on: GpuContext = context,
): Promise<Product> {
  const { rows, inner, columns } = shape
  const next = random(rows * 31 + inner * 7 + columns)
  const count = columns * inner
  const stored =
    format === 'f32'
      ? randomFloats(next, count)
      : Uint16Array.from({ length: count }, () => halfBits(format, next()))
  const storedBytes = new Uint8Array(stored.buffer)
  const weight =
    stored instanceof Float32Array
      ? stored
      : format === 'f16'
        ? f16ToF32(storedBytes)
        : bf16ToF32(storedBytes)
  const [input, bias, old] = [
    randomFloats(next, rows * inner),
    randomFloats(next, columns),
    randomFloats(next, rows * columns),
  ]
  const matrix = await createMatrix(on, 'test', format, columns, inner)
  writeRows(on, matrix, 0, storedBytes)
  const output = await bufferOf(on, padFloats(old, columns))
  const op = await createMatmul(on, {
    matrix,
    kernels: await compileMatmul(on, format),
    step: await on.uniform(Uint32Array.of(rows, 0, 0, 0)),
    input: await bufferOf(on, padFloats(input, inner)),
    bias: flags.bias ? await bufferOf(on, bias) : undefined,
    output,
    accumulate: flags.accumulate,
  })
  const raw = await runOps(on, [op], rows, output, rows * padded(columns))
  const expected = Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns]
    let sum = flags.bias ? (bias[column] as number) : 0
    for (let k = 0; k < inner; k++)
      sum += (input[row * inner + k] as number) * (weight[column * inner + k] as number)
    return sum + (flags.accumulate ? (old[i] as number) : 0)
  })
  return { actual: dropPadding(raw, rows, columns), expected }
}

/** A finite half in either format, of `value`'s sign and rough size. */
function halfBits(format: WeightFormat, value: number): number {
  const word = new Uint32Array(Float32Array.of(value).buffer)[0] as number
  if (format === 'bf16') return word >>> 16
  return ((word >>> 16) & 0x8000) | 0x3000 | ((word >>> 12) & 0x7ff)
}

describe.skipIf(opened === undefined)('matmul', () => {
  const shapes = [
    { rows: 1, inner: 1, columns: 1 },
    { rows: 1, inner: 64, columns: 320 },
    { rows: 2, inner: 63, columns: 65 },
    { rows: 5, inner: 172, columns: 33 },
    { rows: 13, inner: 577, columns: 100 },
    { rows: 64, inner: 96, columns: 31 },
  ]
  it.each(shapes)('matches plain TypeScript at $rows × $inner × $columns', async (shape) => {
    for (const flags of [
      { bias: false, accumulate: false },
      { bias: true, accumulate: true },
    ]) {
      const { actual, expected } = await product('f32', shape, flags)
      expect(relativeError(actual, expected)).toBeLessThan(2e-6)
    }
  })

  it.each(['f16', 'bf16'] as const)('reads %s weights exactly, odd widths included', async (format) => {
    for (const rows of [1, 3]) {
      const shape = { rows, inner: 173, columns: 41 }
      const { actual, expected } = await product(format, shape, { bias: true, accumulate: false })
      expect(relativeError(actual, expected)).toBeLessThan(2e-6)
    }
  })

  it('splits a matrix by rows where it exceeds the largest binding, with the same bits', async () => {
    const small = (await openTestContext(20_000)) as GpuContext
    try {
      const shape = { rows: 3, inner: 100, columns: 257 }
      const flags = { bias: true, accumulate: true }
      const matrix = await createMatrix(small, 'test', 'f32', shape.columns, shape.inner)
      expect(matrix.parts.map((part) => part.rows)).toEqual([50, 50, 50, 50, 50, 7])
      const split = await product('f32', shape, flags, small)
      const whole = await product('f32', shape, flags)
      expect(bits(split.actual)).toEqual(bits(whole.actual))
    } finally {
      small.close()
    }
  })

  it('leaves rows past the step alone', async () => {
    const [inner, columns, rows] = [8, 8, 5]
    const matrix = await createMatrix(context, 'test', 'f32', columns, inner)
    writeRows(context, matrix, 0, new Uint8Array(randomFloats(random(2), columns * inner).buffer))
    const output = await bufferOf(context, new Float32Array(8 * columns).fill(7))
    const op = await createMatmul(context, {
      matrix,
      kernels: await compileMatmul(context, 'f32'),
      step: await context.uniform(Uint32Array.of(rows, 0, 0, 0)),
      input: await bufferOf(context, randomFloats(random(3), 8 * inner)),
      output,
    })
    const values = await runOps(context, [op], rows, output, 8 * columns)
    expect(values.subarray(0, rows * columns)).not.toContain(7)
    expect([...values.subarray(rows * columns)]).toEqual(Array.from({ length: 3 * columns }, () => 7))
  })

  it('gives a row the same bits alone and among others', async () => {
    const kernels = await compileInvariantMatmul(context, 'f32')
    const [inner, columns, rows] = [580, 70, 9]
    const next = random(1)
    const matrix = await createMatrix(context, 'test', 'f32', columns, inner)
    writeRows(context, matrix, 0, new Uint8Array(randomFloats(next, columns * inner).buffer))
    const input = randomFloats(next, rows * inner)
    const run = async (values: Float32Array, count: number) => {
      const output = await zeros(count * padded(columns))
      const step = await context.uniform(Uint32Array.of(count, 0, 0, 0))
      const op = await createMatmul(context, {
        matrix,
        kernels,
        step,
        input: await bufferOf(context, values),
        output,
      })
      return dropPadding(await runOps(context, [op], count, output, count * padded(columns)), count, columns)
    }
    const together = await run(input, rows)
    for (let row = 0; row < rows; row++) {
      const alone = await run(input.slice(row * inner, (row + 1) * inner), 1)
      expect(bits(alone)).toEqual(bits(together.slice(row * columns, (row + 1) * columns)))
    }
  })
})
