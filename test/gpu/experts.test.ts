import { afterAll, describe, expect, it } from 'vitest'
import { route as routeReference } from '../../src/engine/reference/mlp.ts'
import { type GpuContext, padded } from '../../src/gpu/context.ts'
import { createMatrix, writeRows } from '../../src/gpu/matrix.ts'
import { createExpertMatmul } from '../../src/gpu/ops/expert-matmul.ts'
import { createRoute } from '../../src/gpu/ops/route.ts'
import { packRows } from '../../src/gpu/pack-weights.ts'
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

type Choice = readonly [expert: number, factor: number]

/** Choices as the kernels lay them out. */
function choiceBytes(choices: readonly (readonly Choice[])[]): Uint32Array {
  const words = new Uint32Array(choices.flat().length * 2)
  const floats = new Float32Array(words.buffer)
  for (const [i, [expert, factor]] of choices.flat().entries()) {
    words[i * 2] = expert
    floats[i * 2 + 1] = factor
  }
  return words
}

describe.skipIf(opened === undefined)('route', () => {
  it.each([
    { experts: 4, topK: 2, normalize: true },
    { experts: 8, topK: 1, normalize: false },
    { experts: 130, topK: 8, normalize: true },
    { experts: 65, topK: 5, normalize: false },
    { experts: 3, topK: 3, normalize: true },
    ...Array.from({ length: 5 }, (_, seed) => {
      const next = random(seed + 70)
      const experts = 3 + Math.floor(Math.abs(next()) * 253)
      const topK = 1 + Math.floor(Math.abs(next()) * Math.min(experts, 12))
      return { experts, topK, normalize: seed % 2 === 0 }
    }),
  ])('chooses $topK of $experts experts as the reference does', async ({ experts, normalize, topK }) => {
    const rows = 9
    const next = random(experts)
    const logits = randomFloats(() => next() * 4, rows * experts)
    // Ties: the lower expert first.
    logits.fill(2, 0, experts)
    logits[experts] = logits[experts + 2] = 5
    const choices = await zeros(context, rows * topK * 2)
    const buffer = await bufferOf(context, padFloats(logits, experts))
    const op = await createRoute(context, { experts, topK, normalize, logits: buffer, choices })
    const actual = await runOps(context, [op], rows, choices, rows * topK * 2)
    const ids = new Uint32Array(actual.buffer)
    for (let row = 0; row < rows; row++) {
      const expected = routeReference(logits.subarray(row * experts, (row + 1) * experts), topK, normalize)
      expected.forEach(([expert, factor], slot) => {
        const at = (row * topK + slot) * 2
        expect(ids[at], `row ${row} slot ${slot}`).toBe(expert)
        expect(Math.abs((actual[at + 1] as number) - factor)).toBeLessThan(1e-6)
      })
    }
  })

  it('refuses more experts than the kernel has room for', async () => {
    const buffer = await zeros(context, 8)
    const options = { experts: 257, topK: 1, normalize: true, logits: buffer, choices: buffer }
    await expect(createRoute(context, options)).rejects.toMatchObject({ code: 'not_supported' })
  })
})

const EXPERTS = 5
const TOP_K = 3
const ROWS = 7

function silu(x: number): number {
  return x / (1 + Math.exp(-x))
}

async function expertsOn(on: GpuContext, inner: number, columns: number) {
  const next = random(inner * 31 + columns)
  const weights = randomFloats(next, EXPERTS * columns * inner)
  const matrix = await createMatrix(on, {
    label: 'experts',
    columns: inner,
    segments: [{ format: 'f32', rows: EXPERTS * columns }],
    pack: 2,
    expertRows: columns,
  })
  const bytes = new Uint8Array(weights.buffer)
  writeRows(on, matrix, 0, packRows({ dtype: 'F32', shape: [EXPERTS * columns, inner], bytes }, 'f32'))
  const chosen = Array.from({ length: ROWS }, (_, row): Choice[] =>
    [0, 1, 2].map((slot) => [Math.min(slot + (row % 3), EXPERTS - 1), 0.2 + 0.1 * slot + 0.01 * row]),
  )
  const product = (expert: number, n: number, x: Float32Array) => {
    let sum = 0
    for (let k = 0; k < inner; k++) {
      sum += (x[k] as number) * (weights[(expert * columns + n) * inner + k] as number)
    }
    return sum
  }
  const choices = await bufferOf(on, choiceBytes(chosen))
  return { matrix, chosen, product, choices, next }
}

describe.skipIf(opened === undefined)('expert_matmul', () => {
  it.each([
    { inner: 64, width: 20 },
    { inner: 173, width: 41 },
    ...Array.from({ length: 4 }, (_, seed) => {
      const next = random(seed + 90)
      return { inner: 1 + Math.floor(Math.abs(next()) * 600), width: 1 + Math.floor(Math.abs(next()) * 90) }
    }),
  ])('gates each chosen expert ($inner × $width)', async ({ inner, width }) => {
    const { choices, chosen, matrix, next, product } = await expertsOn(context, inner, 2 * width)
    const input = randomFloats(next, ROWS * inner)
    const output = await zeros(context, ROWS * TOP_K * padded(width))
    const op = await createExpertMatmul(context, {
      matrix,
      experts: EXPERTS,
      topK: TOP_K,
      choices,
      input: await bufferOf(context, padFloats(input, inner)),
      output,
      mode: { kind: 'gate', activation: 'silu' },
    })
    const count = ROWS * TOP_K
    const raw = await runOps(context, [op], ROWS, output, count * padded(width))
    const expected = Float32Array.from({ length: count * width }, (_, i) => {
      const pair = Math.floor(i / width)
      const [row, n] = [Math.floor(pair / TOP_K), i % width]
      const [expert] = (chosen[row] as Choice[])[pair % TOP_K] as Choice
      const x = input.subarray(row * inner, (row + 1) * inner)
      return silu(product(expert, 2 * n, x)) * product(expert, 2 * n + 1, x)
    })
    expect(relativeError(dropPadding(raw, count, width), expected)).toBeLessThan(2e-6)
  })

  it('mixes the experts into the residual, with the same bits however the experts are split', async () => {
    const [inner, width] = [67, 30]
    const small = (await openTestContext(20_000)) as GpuContext // 2 experts a part
    const tiny = (await openTestContext(6144)) as GpuContext // 20 or 10 rows of one expert a part
    const results: Float32Array[] = []
    for (const on of [context, small, tiny]) {
      const { choices, chosen, matrix, next, product } = await expertsOn(on, inner, width)
      const input = randomFloats(next, ROWS * TOP_K * inner)
      const old = randomFloats(next, ROWS * width)
      const output = await bufferOf(on, padFloats(old, width))
      const op = await createExpertMatmul(on, {
        matrix,
        experts: EXPERTS,
        topK: TOP_K,
        choices,
        input: await bufferOf(on, padFloats(input, inner)),
        output,
        mode: { kind: 'mix' },
      })
      const raw = await runOps(on, [op], ROWS, output, ROWS * padded(width))
      const actual = dropPadding(raw, ROWS, width)
      const expected = old.map((value, i) => {
        const [row, n] = [Math.floor(i / width), i % width]
        return (chosen[row] as Choice[]).reduce((sum, [expert, factor], slot) => {
          const pair = row * TOP_K + slot
          return sum + factor * product(expert, n, input.subarray(pair * inner, (pair + 1) * inner))
        }, value)
      })
      expect(relativeError(actual, expected)).toBeLessThan(2e-6)
      expect(matrix.parts.length).toBe(on === context ? 1 : on === small ? 3 : 10)
      results.push(actual)
    }
    for (const result of results) expect(bits(result)).toEqual(bits(results[0] as Float32Array))
    small.close()
    tiny.close()
  })
})
