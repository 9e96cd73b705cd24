import { afterAll, describe, expect, it } from 'vitest'
import { createStepBuffer, type StepRow } from '../../src/engine/wgsl-step.ts'
import { USAGE } from '../../src/gpu/buffers.ts'
import { type GpuContext, padded } from '../../src/gpu/context.ts'
import { alibiBias, alibiSpec } from '../../src/model/alibi.ts'
import {
  createAttention,
  KV_PAGE_TOKENS,
  KV_SPLIT_KEYS,
  partialValues,
  splitCount,
} from '../../src/gpu/ops/attention.ts'
import { createAttentionReduce } from '../../src/gpu/ops/attention-reduce.ts'
import type { AlibiSpec } from '../../src/model/spec.ts'
import { f16ToF32, f32ToF16 } from '../../src/tensor/dtype.ts'
import {
  createRopeKvWrite,
  type HeadShape,
  KV_BYTES,
  type KvFormat,
  kvValuesPerToken,
  qkvWidth,
  rotationTable,
} from '../../src/gpu/ops/rope-kv-write.ts'
import { PAGE_TOKENS, PagePool } from '../../src/kv/pages.ts'
import { bits, bufferOf, openTestContext, random, randomFloats, runOps } from './test-context.ts'
import { relativeError } from '../engine/span-runs.ts'

const opened = await openTestContext()
const context = opened as GpuContext
afterAll(() => opened?.close())

interface Case extends HeadShape {
  rotaryDim: number
  tokens: number
  window?: number
  alibi?: AlibiSpec
  /** Norms of q and k heads: weights [2, headDim]. */
  headNorm?: Float32Array
  /** Default f32. */
  kv?: KvFormat
}

const EPSILON = 1e-6

const frequencies = (rotaryDim: number): number[] =>
  Array.from({ length: rotaryDim / 2 }, (_, i) => 10_000 ** ((-2 * i) / rotaryDim))

/** rope and causal attention in float64. qkv [tokens, q then k then v]. */
function expectedAttention(shape: Case, qkv: Float32Array, factor: number): Float32Array {
  const { headCount, kvHeadCount, headDim, rotaryDim, tokens } = shape
  const width = qkvWidth(shape)
  const rotated = Float64Array.from(qkv)
  for (let t = 0; t < tokens; t++) {
    for (let head = 0; head < headCount + kvHeadCount; head++) {
      const base = t * width + head * headDim
      if (shape.headNorm !== undefined) {
        const own = rotated.subarray(base, base + headDim)
        const squares = own.reduce((sum, x) => sum + x * x, 0)
        const weights = shape.headNorm.subarray(head < headCount ? 0 : headDim)
        own.forEach(
          (x, d) => (own[d] = (x / Math.sqrt(squares / headDim + EPSILON)) * (weights[d] as number)),
        )
      }
      frequencies(rotaryDim).forEach((frequency, i) => {
        const [cos, sin] = [Math.cos(t * frequency) * factor, Math.sin(t * frequency) * factor]
        const [a, b] = [rotated[base + i] as number, rotated[base + rotaryDim / 2 + i] as number]
        rotated[base + i] = a * cos - b * sin
        rotated[base + rotaryDim / 2 + i] = b * cos + a * sin
      })
    }
  }
  if (shape.kv === 'f16') {
    for (let t = 0; t < tokens; t++) {
      const cached = rotated.subarray(t * width + headCount * headDim, (t + 1) * width)
      cached.set(f16ToF32(f32ToF16(Float32Array.from(cached))))
    }
  }
  const out = new Float32Array(tokens * headCount * headDim)
  for (let t = 0; t < tokens; t++) {
    for (let head = 0; head < headCount; head++) {
      const kv = Math.floor((head * kvHeadCount) / headCount)
      const q = rotated.subarray(t * width + head * headDim)
      const first = Math.max(0, t + 1 - (shape.window ?? Infinity))
      const scores = Array.from({ length: t + 1 - first }, (_, index) => {
        const j = first + index
        const k = rotated.subarray(j * width + (headCount + kv) * headDim)
        let dot = 0
        for (let d = 0; d < headDim; d++) dot += (q[d] as number) * (k[d] as number)
        const { alibi } = shape
        const bias = alibi === undefined ? 0 : alibiBias(alibi, head, j)
        return alibi?.scaledByHeadDim === true
          ? (dot + bias) / Math.sqrt(headDim)
          : dot / Math.sqrt(headDim) + bias
      })
      const largest = Math.max(...scores)
      const weights = scores.map((score) => Math.exp(score - largest))
      const total = weights.reduce((sum, weight) => sum + weight, 0)
      for (let d = 0; d < headDim; d++) {
        let sum = 0
        weights.forEach((weight, index) => {
          sum +=
            weight *
            (rotated[(first + index) * width + (headCount + kvHeadCount + kv) * headDim + d] as number)
        })
        out[(t * headCount + head) * headDim + d] = sum / total
      }
    }
  }
  return out
}

/** Runs both kernels over `tokens` tokens cut into steps of these sizes, on pages another session left garbage in. */
async function attend(
  shape: Case,
  qkv: Float32Array,
  factor: number,
  cuts: readonly number[],
): Promise<Float32Array> {
  const pool = new PagePool(shape.tokens + 64)
  const other = pool.lease(24)
  other.reserve(24)
  const lease = pool.lease(shape.tokens)
  lease.reserve(shape.tokens)
  other.release()
  const width = qkvWidth(shape)
  const outputWidth = shape.headCount * shape.headDim
  const table = rotationTable(frequencies(shape.rotaryDim), factor, shape.tokens)
  const { kv = 'f32' } = shape
  const cacheBytes = pool.tokens * kvValuesPerToken(shape) * KV_BYTES[kv]
  const usage = USAGE.storage | USAGE.copySource
  const cache = {
    format: kv,
    keys: await context.buffers.create('test', cacheBytes, usage),
    values: await context.buffers.create('test', cacheBytes, usage),
  }
  const step = await createStepBuffer(context, shape.tokens, pool.tokens / PAGE_TOKENS)
  const rotation = await bufferOf(context, table.length === 0 ? new Float32Array(4) : table)
  const { alibi, headNorm, window } = shape
  const slopes = alibi && (await bufferOf(context, Float32Array.from(alibi.slopes)))
  const norm = headNorm && { weight: await bufferOf(context, headNorm), epsilon: EPSILON }
  const out = new Float32Array(shape.tokens * outputWidth)
  let position = 0
  for (const count of cuts) {
    const rows = new Float32Array(count * padded(width))
    for (let r = 0; r < count; r++) {
      rows.set(qkv.subarray((position + r) * width, (position + r + 1) * width), r * padded(width))
    }
    const buffer = await bufferOf(context, rows)
    const output = await context.buffers.create('test', count * padded(outputWidth) * 4, usage)
    const heads = shape
    const bindings = { step: step.bindings, qkv: buffer, cache }
    const splits = splitCount(position + count)
    const partial = await context.buffers.create('test', count * splits * partialValues(shape) * 4, usage)
    const biases = alibi && slopes && { spec: alibi, slopes }
    const ops = [
      await createRopeKvWrite(context, {
        ...bindings,
        heads,
        rotaryDim: shape.rotaryDim,
        headNorm: norm,
        rotation,
      }),
      await createAttention(context, { ...bindings, heads, window, alibi: biases, partial }),
      await createAttentionReduce(context, { heads, window, step: step.bindings, partial, output }),
    ]
    step.write(Array.from({ length: count }, (_, r): StepRow => ({ lease, position: position + r })))
    const values = await runOps(context, ops, count, output, count * padded(outputWidth), splits)
    for (let r = 0; r < count; r++) {
      const row = values.subarray(r * padded(outputWidth), r * padded(outputWidth) + outputWidth)
      out.set(row, (position + r) * outputWidth)
    }
    position += count
  }
  return out
}

function headNorms(headDim: number): Float32Array {
  return randomFloats(random(headDim), 2 * headDim)
}

describe('KV pages', () => {
  it('hold as many tokens in the kernels as in the page pool', async () => {
    expect(KV_PAGE_TOKENS).toBe(PAGE_TOKENS)
    expect([splitCount(1), splitCount(KV_SPLIT_KEYS), splitCount(KV_SPLIT_KEYS + 1)]).toEqual([1, 1, 2])
  })
})

describe.skipIf(opened === undefined)('rope_kv_write and attention', () => {
  // Prefills of 257 tokens check every length from 1 on, the tile edges 63, 64, 65 among them.
  const cases: Case[] = [
    { headCount: 1, kvHeadCount: 1, headDim: 8, rotaryDim: 8, tokens: 258 },
    { headCount: 6, kvHeadCount: 2, headDim: 80, rotaryDim: 80, tokens: 66 },
    { headCount: 3, kvHeadCount: 3, headDim: 96, rotaryDim: 48, tokens: 65 },
    { headCount: 4, kvHeadCount: 1, headDim: 64, rotaryDim: 64, tokens: 130 },
    { headCount: 71, kvHeadCount: 1, headDim: 64, rotaryDim: 64, tokens: 5 },
    { headCount: 2, kvHeadCount: 1, headDim: 256, rotaryDim: 256, tokens: 70 },
    { headCount: 3, kvHeadCount: 1, headDim: 10, rotaryDim: 6, tokens: 17 },
    { headCount: 2, kvHeadCount: 1, headDim: 128, rotaryDim: 128, tokens: 20, headNorm: headNorms(128) },
    { headCount: 3, kvHeadCount: 3, headDim: 6, rotaryDim: 4, tokens: 20, headNorm: headNorms(6) },
  ]
  const name = '$headCount/$kvHeadCount heads of $headDim, rotary $rotaryDim, $tokens tokens'
  it.each(cases)(`match plain TypeScript: ${name}`, async (shape) => {
    const next = random(shape.headDim)
    const qkv = randomFloats(() => next() * 2, shape.tokens * qkvWidth(shape))
    const actual = await attend(shape, qkv, 1.25, [shape.tokens])
    expect(relativeError(actual, expectedAttention(shape, qkv, 1.25))).toBeLessThan(1e-5)
  })

  it.each(cases.map((shape): Case => ({ ...shape, kv: 'f16' })))(
    `keep keys and values in halves: ${name}`,
    async (shape) => {
      const next = random(shape.headDim)
      const qkv = randomFloats(() => next() * 2, shape.tokens * qkvWidth(shape))
      const actual = await attend(shape, qkv, 1.25, [shape.tokens])
      // A value that float32 and float64 put on two sides of a rounding boundary is off by one in a thousand.
      expect(relativeError(actual, expectedAttention(shape, qkv, 1.25))).toBeLessThan(5e-4)
    },
  )

  it.each([1, 63, 64, 65, 257])('match plain TypeScript for one token on a cache of %i', async (tokens) => {
    const shape: Case = { headCount: 4, kvHeadCount: 2, headDim: 128, rotaryDim: 128, tokens }
    const qkv = randomFloats(random(tokens), tokens * qkvWidth(shape))
    const actual = await attend(shape, qkv, 1, tokens === 1 ? [1] : [tokens - 1, 1])
    expect(relativeError(actual, expectedAttention(shape, qkv, 1))).toBeLessThan(1e-5)
  })

  it('match plain TypeScript over five splits', async () => {
    const shape: Case = { headCount: 1, kvHeadCount: 1, headDim: 8, rotaryDim: 8, tokens: 1030 }
    const qkv = randomFloats(random(9), shape.tokens * qkvWidth(shape))
    const actual = await attend(shape, qkv, 1, [1029, 1])
    expect(relativeError(actual, expectedAttention(shape, qkv, 1))).toBeLessThan(1e-5)
  })

  it.each(Array.from({ length: 12 }, (_, seed) => seed))(
    'match plain TypeScript: random shape %i',
    async (seed) => {
      const next = random(seed + 100)
      const below = (count: number) => Math.floor(((next() + 1) / 2) * count)
      const kvHeadCount = 1 + below(4)
      const headDim = 2 * (1 + below(70))
      const shape: Case = {
        headCount: kvHeadCount * (1 + below(4)),
        kvHeadCount,
        headDim,
        rotaryDim: 2 * below(headDim / 2 + 1),
        tokens: 1 + below(80),
        kv: seed % 2 === 0 ? 'f32' : 'f16',
        ...(seed % 3 === 0 ? { window: 1 + below(70) } : {}),
        ...(seed % 4 === 1 ? { headNorm: headNorms(headDim) } : {}),
      }
      const qkv = randomFloats(next, shape.tokens * qkvWidth(shape))
      const cut = 1 + below(shape.tokens - 1)
      const actual = await attend(shape, qkv, 1, shape.tokens > cut ? [cut, shape.tokens - cut] : [cut])
      const bound = shape.kv === 'f16' ? 1e-3 : 1e-5
      expect(relativeError(actual, expectedAttention(shape, qkv, 1)), JSON.stringify(shape)).toBeLessThan(
        bound,
      )
    },
  )

  it('keep what does not fit a half at the largest one', async () => {
    const shape: Case = { headCount: 1, kvHeadCount: 1, headDim: 6, rotaryDim: 0, tokens: 3, kv: 'f16' }
    const qkv = new Float32Array(3 * qkvWidth(shape)).map((_, i) => (i % 18 >= 12 ? 1e6 : 0))
    const actual = await attend(shape, qkv, 1, [3])
    expect([...actual].every((value) => Math.abs(value - 65504) < 1)).toBe(true)
  })

  const plain = { headCount: 6, kvHeadCount: 2, headDim: 8, rotaryDim: 0, tokens: 261 }
  it.each([1, 64, 100, 257])('see a window of %i keys and no more', async (window) => {
    const shape = { ...plain, rotaryDim: 8, window }
    const qkv = randomFloats(random(window), shape.tokens * qkvWidth(shape))
    const actual = await attend(shape, qkv, 1, [shape.tokens])
    expect(relativeError(actual, expectedAttention(shape, qkv, 1))).toBeLessThan(1e-5)
  })

  it.each([
    { scaledByHeadDim: false, roundedBias: false },
    { scaledByHeadDim: true, roundedBias: true },
    { scaledByHeadDim: false, roundedBias: true },
  ])('add linear biases: scaled $scaledByHeadDim, rounded $roundedBias', async (options) => {
    // The reference multiplies by absolute positions in float64, the kernel by distances.
    const shape = { ...plain, alibi: alibiSpec(plain.headCount, options) }
    const qkv = randomFloats(random(3), shape.tokens * qkvWidth(shape))
    const actual = await attend(shape, qkv, 1, [shape.tokens])
    expect(relativeError(actual, expectedAttention(shape, qkv, 1))).toBeLessThan(1e-5)
  })

  it.each([
    { headCount: 2, kvHeadCount: 1, headDim: 16, rotaryDim: 16, tokens: 67 },
    { headCount: 3, kvHeadCount: 1, headDim: 10, rotaryDim: 6, tokens: 67, kv: 'f16' as const },
    { ...plain, window: 40 },
    { ...plain, headNorm: headNorms(8), alibi: alibiSpec(6, { scaledByHeadDim: true, roundedBias: true }) },
  ])('give the same bits in one prefill, in chunks and one by one ($tokens tokens)', async (shape) => {
    const qkv = randomFloats(random(5), shape.tokens * qkvWidth(shape))
    const whole = bits(await attend(shape, qkv, 1, [shape.tokens]))
    const ones = Array.from({ length: shape.tokens }, () => 1)
    for (const cuts of [[1, 30, 2, shape.tokens - 33], ones]) {
      const cut = bits(await attend(shape, qkv, 1, cuts))
      expect(cut.findIndex((word, i) => word !== whole[i])).toBe(-1)
    }
  })

  it('refuse heads the kernel has no room for', async () => {
    const shape: Case = { headCount: 1, kvHeadCount: 1, headDim: 260, rotaryDim: 260, tokens: 1 }
    const qkv = randomFloats(random(6), qkvWidth(shape))
    await expect(attend(shape, qkv, 1, [1])).rejects.toMatchObject({ code: 'not_supported' })
  })
})
