import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compileKernels } from '../../node/build-kernels.ts'
import { compileWideWasm } from '../../node/compile-wide-wasm.ts'
import { readWasmKernels } from '../../node/wasm-threads.ts'
import { ROUNDED_BYTES_PER_VALUE } from '../../src/engine/wasm/layout.ts'
import { createArena } from '../../src/engine/wasm/linear-memory.ts'
import { storeMatrix } from '../../src/engine/wasm/records.ts'
import { computesTheSame, screenedParts } from '../../src/engine/wasm/compare-kernels.ts'
import {
  fastestKernels,
  hasRelaxedSimd,
  type KernelCode,
  loadKernels,
} from '../../src/engine/wasm/kernel-code.ts'
import { createWasmRuntime, type WasmRuntime } from '../../src/engine/wasm/runtime.ts'
import { createLogger, silentLogger } from '../../src/log.ts'
import type { WasmKernels } from '../../src/platform.ts'
import { dequantize } from '../../src/tensor/quant.ts'
import { blockSize, type WeightDtype, type WeightTensor } from '../../src/tensor/weight.ts'
import { random, randomFloats } from '../gpu/test-context.ts'
import { quantizedWeight } from './quantized-model.ts'
import { relativeError } from './span-runs.ts'

const f32 = Math.fround
let relaxed: WasmRuntime
let plain: WasmRuntime
/** 256-bit vectors; the relaxed ones once more where there are none. */
let wide: WasmRuntime

const KERNELS = { kernels: readWasmKernels, log: silentLogger }
const runtimeOf = (code: KernelCode) =>
  createWasmRuntime({ threads: 1, code, startThread: undefined, log: silentLogger })

beforeAll(async () => {
  relaxed = await runtimeOf(await loadKernels(KERNELS, 'relaxed'))
  plain = await runtimeOf(await loadKernels(KERNELS, 'plain'))
  wide = await runtimeOf(await fastestKernels({ ...KERNELS, compileWide: compileWideWasm }))
})
afterAll(async () => {
  await Promise.all([relaxed, plain, wide].map((runtime) => runtime.close()))
})

/** What the kernels make of `weight` times `rows` rows of x. */
function multiply(
  runtime: WasmRuntime,
  weight: WeightTensor,
  x: Float32Array,
  rows: number,
  wide = false,
): Float32Array {
  const { exports, memory } = runtime
  const [outputs, columns] = weight.shape as [number, number]
  const arena = createArena(memory)
  const matrix = storeMatrix(memory, arena, weight, undefined, wide)
  const octets = Math.ceil(outputs / 8)
  const input = arena.allocate(x.byteLength, 'test')
  const rounded = arena.allocate(rows * columns * ROUNDED_BYTES_PER_VALUE, 'test')
  const out = arena.allocate(rows * octets * 32, 'test')
  memory.floats(input, x.length).set(x)
  const isPlain = blockSize(weight.dtype) === 1
  exports.multiply(matrix.address, octets, input, columns, isPlain ? 0 : rounded, rows, out, octets * 32)
  const y = Float32Array.from({ length: rows * outputs }, (_, i) => {
    const row = Math.floor(i / outputs)
    return memory.floats(out + row * octets * 32, outputs)[i % outputs] as number
  })
  arena.close()
  return y
}

/** A group of weights as integers: value = scale * q + minimum. */
interface Groups {
  readonly values: Int32Array
  readonly scales: Float32Array
  readonly minima: Float32Array | undefined
  /** Weights that share a scale. */
  readonly size: 16 | 32
}

/** Integers, scales and minima recovered from dequantised values: independent of the engine's own readers. */
function groupsOf(weight: WeightTensor): Groups {
  const half = (at: number) => {
    const bits = (weight.bytes[at] as number) | ((weight.bytes[at + 1] as number) << 8)
    return dequantize({ dtype: 'F16', shape: [1], bytes: Uint8Array.of(bits & 255, bits >> 8) })[0] as number
  }
  const count = weight.shape.reduce((a, b) => a * b)
  const values = dequantize(weight)
  const size = weight.dtype === 'Q8_0' ? 34 : weight.dtype === 'Q4_1' ? 20 : 18
  const scales = new Float32Array(count / 32).map((_, block) => half(block * size))
  const minima = weight.dtype === 'Q4_1' ? scales.map((_, block) => half(block * size + 2)) : undefined
  const integers = Int32Array.from(values, (value, i) => {
    const block = i >> 5
    const scale = scales[block] as number
    return scale === 0 ? 0 : Math.round((value - (minima?.[block] ?? 0)) / scale)
  })
  return { values: integers, scales, minima, size: 32 }
}

/** The kernels' formula in plain TypeScript, every float32 step written out. */
function expected(weight: WeightTensor, x: Float32Array, rows: number, levels: number): Float32Array {
  const [outputs, columns] = weight.shape as [number, number]
  const { minima, scales, values } = groupsOf(weight)
  const y = new Float32Array(rows * outputs)
  for (let row = 0; row < rows; row++) {
    for (let output = 0; output < outputs; output++) {
      let sum = 0
      for (let at = 0; at < columns; at += 32) {
        const group = x.subarray(row * columns + at, row * columns + at + 32)
        const d = f32(group.reduce((max, value) => Math.max(max, Math.abs(value)), 0) / levels)
        const inverse = d === 0 ? 0 : f32(1 / d)
        const q = Array.from(group, (value) => nearestEven(f32(value * inverse)))
        const from = output * columns + at
        const dot = q.reduce((total, value, i) => total + value * (values[from + i] as number), 0)
        const block = from >> 5
        sum = f32(sum + f32(dot * f32((scales[block] as number) * d)))
        const total = q.reduce((a, b) => a + b, 0)
        if (minima !== undefined) sum = f32(sum + f32((minima[block] as number) * f32(d * total)))
      }
      y[row * outputs + output] = sum
    }
  }
  return y
}

function nearestEven(value: number): number {
  const rounded = Math.round(value)
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded
}

const QUANTIZED: readonly WeightDtype[] = [
  'Q4_0',
  'Q4_1',
  'Q8_0',
  'Q5_0',
  'Q5_1',
  'IQ4_NL',
  'IQ4_XS',
  'Q4_K',
  'Q5_K',
  'Q6_K',
  'Q3_K',
]

describe('wasm kernels', () => {
  it('are what their sources compile to', async () => {
    const compiled = await compileKernels()
    for (const name of ['relaxed', 'plain'] as const) {
      const path = join(import.meta.dirname, `../../src/engine/wasm/kernels-${name}.wasm`)
      expect(
        Buffer.compare(await readFile(path), compiled[name]),
        `run npm run build:kernels (${name})`,
      ).toBe(0)
    }
  })

  it('use relaxed SIMD where the machine has it', () => {
    expect(hasRelaxedSimd()).toBe(true)
    expect([relaxed.code.relaxed, plain.code.relaxed]).toEqual([true, false])
  })
})

describe('quantised matmul', () => {
  for (const dtype of ['Q4_0', 'Q4_1', 'Q8_0'] as const) {
    it(`gives the bits of its formula, with and without relaxed SIMD: ${dtype}`, () => {
      const next = random(3)
      for (const [outputs, columns, rows] of [
        [1, 32, 1],
        [7, 64, 2],
        [8, 96, 3],
        [13, 288, 4],
        [24, 32, 5],
        [17, 160, 9],
      ] as const) {
        const weight = quantizedWeight(dtype, [outputs, columns], outputs * columns)
        const x = randomFloats(next, rows * columns)
        // A group of zeros, one huge value, one tie.
        x.fill(0, 0, 32)
        x[rows * columns - 1] = 3e5
        for (const [wide, levels] of [
          [false, 127],
          [true, 128 * 127],
        ] as const) {
          const wanted = expected(weight, x, rows, levels)
          expect(multiply(relaxed, weight, x, rows, wide)).toEqual(wanted)
          expect(multiply(plain, weight, x, rows, wide)).toEqual(wanted)
        }
      }
    })
  }

  it('is exact at the ends of int8', () => {
    const bytes = new Uint8Array(2 * 34)
    for (const block of [0, 1]) {
      bytes.set([0x00, 0x3c], block * 34)
      bytes.fill(block === 0 ? 0x80 : 0x7f, block * 34 + 2, block * 34 + 34)
    }
    const weight: WeightTensor = { dtype: 'Q8_0', shape: [2, 32], bytes }
    for (const sign of [1, -1]) {
      const x = new Float32Array(32).fill(sign * 127)
      for (const runtime of [relaxed, plain, wide]) {
        expect([...multiply(runtime, weight, x, 1)]).toEqual([sign * 32 * 127 * -128, sign * 32 * 127 * 127])
      }
    }
  })

  for (const dtype of ['Q4_0', 'Q4_1', 'Q8_0', 'Q6_K', 'F16', 'F32'] as const) {
    it(`gives many rows the bits each has alone, over more columns and rows than a tile: ${dtype}`, () => {
      const [outputs, columns, rows] = [19, 1280, 70]
      const bytes = new Uint8Array(outputs * columns * 4)
      const values = randomFloats(random(4), outputs * columns)
      new Float32Array(bytes.buffer).set(values)
      const half = Uint8Array.from({ length: outputs * columns * 2 }, (_, i) => (i % 2 === 0 ? i >> 1 : 0x34))
      const shape = [outputs, columns] as const
      const weight: WeightTensor =
        dtype === 'F32'
          ? { dtype, shape, bytes }
          : dtype === 'F16'
            ? { dtype, shape, bytes: half }
            : quantizedWeight(dtype, shape, 6)
      const x = randomFloats(random(5), rows * columns)
      for (const runtime of [relaxed, plain, wide]) {
        const together = multiply(runtime, weight, x, rows, true)
        for (const row of [0, 3, 63, 64, 67, 69]) {
          const alone = multiply(runtime, weight, x.subarray(row * columns, (row + 1) * columns), 1, true)
          expect(together.subarray(row * outputs, (row + 1) * outputs), `row ${row}`).toEqual(alone)
        }
      }
    })
  }

  it('keeps numbers that are none', () => {
    const weight = quantizedWeight('Q4_1', [8, 64], 2)
    for (const bad of [NaN, Infinity]) {
      const x = randomFloats(random(6), 5 * 64)
      x[4 * 64 + 40] = bad
      x[40] = bad
      const y = multiply(relaxed, weight, x, 5, true)
      for (const row of [0, 4]) {
        expect(y.subarray(row * 8, row * 8 + 8).some((value) => Number.isFinite(value))).toBe(false)
      }
      expect(y.subarray(8, 32).every((value) => Number.isFinite(value))).toBe(true)
    }
  })

  for (const dtype of QUANTIZED) {
    it(`agrees with the dequantised weights on activations that rounding leaves alone: ${dtype}`, () => {
      const columns = 512
      const weight = quantizedWeight(dtype, [11, columns], 5)
      const values = dequantize(weight)
      const rows = 6
      // Whole numbers with 127 in each group round to themselves.
      const next = random(9)
      const x = Float32Array.from({ length: rows * columns }, (_, i) =>
        i % 32 === 5 ? 127 : Math.round(next() * 127),
      )
      const results = [relaxed, plain, wide].map((runtime) => multiply(runtime, weight, x, rows))
      expect(results[1]).toEqual(results[0])
      expect(results[2]).toEqual(results[0])
      const fifteen = [relaxed, plain, wide].map((runtime) => multiply(runtime, weight, x, rows, true))
      expect(fifteen[1]).toEqual(fifteen[0])
      expect(fifteen[2]).toEqual(fifteen[0])
      expect(relativeError(fifteen[0] ?? [], results[0] ?? [])).toBeLessThan(1e-4)
      for (let row = 0; row < rows; row++) {
        for (let output = 0; output < 11; output++) {
          let sum = 0
          let size = 0
          for (let i = 0; i < columns; i++) {
            const product = (x[row * columns + i] as number) * (values[output * columns + i] as number)
            sum += product
            size += Math.abs(product)
          }
          const got = results[0]?.[row * 11 + output] as number
          expect(Math.abs(got - sum)).toBeLessThanOrEqual(2e-6 * size)
        }
      }
    })
  }

  it('computes scales that are no finite numbers as the dequantised weights do', () => {
    const weight = quantizedWeight('Q8_0', [3, 64], 4)
    weight.bytes[34 + 1] = 0x7c
    weight.bytes[34] = 0
    const y = multiply(relaxed, weight, new Float32Array(64).fill(1), 1)
    expect(Number.isFinite(y[0])).toBe(false)
    expect(Number.isFinite(y[1]) && Number.isFinite(y[2])).toBe(true)
  })
})

describe('float matmul', () => {
  for (const [dtype, columns] of [
    ['F32', 102],
    ['F32', 101],
    ['F16', 102],
    ['F16', 101],
    ['BF16', 102],
    ['BF16', 101],
    ['Q2_K', 256],
  ] as const) {
    it(`agrees with float64 sums to 1e-6, and rows do not know of each other: ${dtype}, ${columns} columns`, () => {
      const next = random(7)
      const outputs = 21
      const floats = randomFloats(next, outputs * columns)
      const words = new Uint32Array(floats.buffer)
      const bytes =
        dtype === 'F32'
          ? new Uint8Array(floats.buffer)
          : new Uint8Array(
              Uint16Array.from(words, (word, i) =>
                dtype === 'BF16' ? word >>> 16 : i % 9 === 0 ? i & 0x3ff : (word >>> 16) & 0xbfff,
              ).buffer,
            )
      const shape = [outputs, columns]
      const weight = dtype === 'Q2_K' ? quantizedWeight(dtype, shape, 2) : { dtype, shape, bytes }
      const values = dequantize(weight)
      const rows = 7
      const x = randomFloats(next, rows * columns)
      const y = multiply(relaxed, weight, x, rows)
      expect(multiply(wide, weight, x, rows)).toEqual(y)
      // The plain kernels round products before they add them.
      expect(relativeError(multiply(plain, weight, x, rows), y)).toBeLessThan(1e-6)
      for (let row = 0; row < rows; row++) {
        const mine = x.slice(row * columns, (row + 1) * columns)
        expect(multiply(relaxed, weight, mine, 1)).toEqual(y.slice(row * outputs, (row + 1) * outputs))
        for (let output = 0; output < outputs; output++) {
          let sum = 0
          let size = 0
          for (let i = 0; i < columns; i++) {
            const product = (mine[i] as number) * (values[output * columns + i] as number)
            sum += product
            size += Math.abs(product)
          }
          expect(Math.abs((y[row * outputs + output] as number) - sum)).toBeLessThanOrEqual(1e-6 * size)
        }
      }
    })
  }
})

describe('float16 weights', () => {
  for (const largest of [1, 12, 20, 25, 29, 30]) {
    it(`are what they were, to the smallest, next to weights with exponents up to ${largest}`, () => {
      const size = (largest + 1) * 1024
      // Every finite number up to there, of both signs.
      const bits = Uint16Array.from({ length: 2 * size }, (_, i) => (i < size ? i : 0x8000 | (i - size)))
      const weight = {
        dtype: 'F16',
        shape: [bits.length / 2, 2],
        bytes: new Uint8Array(bits.buffer),
      } as const
      const values = dequantize(weight)
      // One of two columns at a time, alone and among rows.
      const x = Float32Array.of(1, 0, 0, 1, 1, 0, 0, 1, 1, 0)
      for (const runtime of [relaxed, plain, wide]) {
        const y = multiply(runtime, weight, x, 5)
        const wrong = y.filter((value, i) => {
          const [row, output] = [Math.floor(i / (bits.length / 2)), i % (bits.length / 2)]
          return value !== values[output * 2 + (row % 2)]
        })
        expect([...wrong.subarray(0, 4)]).toEqual([])
      }
    })
  }
})

describe('screening', () => {
  for (const [dtype, columns] of [
    ['Q8_0', 32],
    ['Q8_0', 2112],
    ['Q5_0', 96],
    ['IQ4_XS', 256],
    ['Q6_K', 256],
    ['Q6_K', 2304],
    ['Q3_K', 512],
  ] as const) {
    it.each([true, false])(
      `says how far an output can be at most: ${dtype}, ${columns} columns, 15 bits %s`,
      (bits15) => {
        const [outputs, rows] = [21, 7]
        const weight = quantizedWeight(dtype, [outputs, columns], 3)
        const values = dequantize(weight)
        const x = randomFloats(random(8), rows * columns)
        // The largest value of a group takes the end of the range.
        x[0] = -4
        x[columns] = 4
        const { parts, slack } = screenedParts(relaxed, weight, x, rows, bits15)
        for (const runtime of [plain, wide]) {
          expect(screenedParts(runtime, weight, x, rows, bits15)).toEqual({ parts, slack })
        }
        const y = multiply(relaxed, weight, x, rows, bits15)
        const norm = (of: Float32Array) => Math.hypot(...of)
        for (let row = 0; row < rows; row++) {
          const missing = slack[row] as number
          // Seven bits leave out little, or screening would not pay.
          expect(missing).toBeLessThan(norm(x.subarray(row * columns, (row + 1) * columns)) / 30)
          for (let output = 0; output < outputs; output++) {
            const known = (bits15 ? 256 : 2) * (parts[row * 24 + output] as number)
            const most = missing * norm(values.subarray(output * columns, (output + 1) * columns))
            expect(Math.abs((y[row * outputs + output] as number) - known)).toBeLessThanOrEqual(most * 1.001)
          }
        }
      },
    )
  }
})

describe('kernels of 256-bit vectors', () => {
  it('are taken where V8 makes them and they give what the others give', async () => {
    expect(wide.code.vectorBits).toBe(compileWideWasm === undefined ? 128 : 256)
    const codes = await Promise.all((['relaxed', 'plain'] as const).map((name) => loadKernels(KERNELS, name)))
    for (const code of codes) expect(await computesTheSame(wide.code, code, silentLogger)).toBe(true)
  })

  it('are told when JavaScript goes on: it would be ten times slower beside full halves of vectors', async () => {
    let calls = 0
    const code = { ...wide.code, done: () => void calls++ }
    expect(await computesTheSame(code, plain.code, silentLogger)).toBe(true)
    // Two sets of formats, two widths of activations, three steps; two formats screened with both.
    expect(calls).toBe(16)
  })

  it('are not taken when they compute something else or do not compile, nor are relaxed ones', async () => {
    const code = await readWasmKernels('relaxed')
    // f32x4.convert_i32x4_s, which reads dot products, made f32x4.convert_i32x4_u.
    const wrong = code.slice()
    let changed = 0
    for (let at = 0; at + 2 < wrong.length; at++) {
      if (wrong[at] !== 0xfd || wrong[at + 1] !== 0xfa || wrong[at + 2] !== 0x01) continue
      wrong[at + 1] = 0xfb
      changed++
    }
    expect(changed).toBeGreaterThan(0)
    const log: string[] = []
    const options = {
      kernels: readWasmKernels,
      log: createLogger('warn', ({ message }) => log.push(message)),
    }
    const taken = await fastestKernels({
      ...options,
      compileWide: () => ({ module: new WebAssembly.Module(wrong), done: () => undefined }),
    })
    expect(taken).toMatchObject({ relaxed: true, vectorBits: 128 })
    expect(log.splice(0)).toEqual(['kernels that compute something else than the plain ones are not used'])
    const failing = () => {
      throw new Error('no such flag')
    }
    expect(await fastestKernels({ ...options, compileWide: failing })).toMatchObject({ relaxed: true })
    expect(log.splice(0)).toEqual(['kernels that do not compile are not used'])
    const kernels = async (name: keyof WasmKernels) =>
      name === 'relaxed' ? wrong : await readWasmKernels(name)
    expect(await fastestKernels({ ...options, kernels })).toMatchObject({ relaxed: false, vectorBits: 128 })
    expect(log).toHaveLength(1)
  })
})
