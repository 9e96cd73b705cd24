import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { readReference, type Reference } from '../../node/cli/parity/reference-folder.ts'
import { asTransformers } from '../../node/cli/parity/transformers-attention.ts'
import { createFileStore } from '../../node/file-store.ts'
import { checkHeadSupport, checkSupport, LLAMA_SUPPORT } from '../../src/engine/check-support.ts'
import { activate, erf } from '../../src/engine/reference/activation.ts'
import { route } from '../../src/engine/reference/mlp.ts'
import { layerNorm } from '../../src/engine/reference/norm.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import type { Model } from '../../src/model/model.ts'
import { openModel } from '../../src/model/open-model.ts'
import { loadSpans, splitEvenly, traceThrough } from '../../src/session/trace.ts'
import { rows, type Tensor } from '../../src/tensor/tensor.ts'

const VECTORS = join(import.meta.dirname, '../vectors')
const SHARED = join(import.meta.dirname, '../../../shared/vectors')
const FAMILIES = [
  'mistral-sliding',
  'qwen2-windows',
  'qwen3',
  'mixtral',
  'falcon-7b-style',
  'falcon-40b-style',
  'falcon-11b-style',
  'falcon-rw-style',
  'bloom',
]
const engine = createReferenceEngine()
const opened: Model[] = []
const open = async (folder: string) => {
  const model = await openModel(folder, { files: createFileStore() })
  opened.push(model)
  return model
}
afterEach(async () => {
  await Promise.all(opened.splice(0).map((model) => model.close()))
})

function relativeError(actual: Tensor | undefined, expected: Tensor | undefined): number {
  if (actual === undefined || expected === undefined) return NaN
  const largest = expected.data.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
  const difference = expected.data.reduce(
    (max, value, i) => Math.max(max, Math.abs((actual.data[i] ?? NaN) - value)),
    0,
  )
  return difference / largest
}

/** Largest error of any traced tensor; greedy ids must be equal. */
async function worstError(model: Model, reference: Reference): Promise<number> {
  const { inputIds, decodeIds, tensors } = reference
  const client = { embedding: await loadEmbedding(model), head: await engine.loadHead(model) }
  const spans = splitEvenly(model.spec.blockCount, model.spec.blockCount)
  const runners = await loadSpans(engine, model, spans, inputIds.length + decodeIds.length)
  const trace = await traceThrough(client, runners, inputIds, decodeIds.length)
  expect(trace.decodeIds).toEqual(decodeIds)
  const errors = [...trace.hidden].map(([block, states]) =>
    relativeError(states, tensors.get(`hidden.${block}`)),
  )
  return Math.max(
    ...errors,
    relativeError(trace.final, tensors.get('final')),
    relativeError(trace.logits, tensors.get('logits')),
    relativeError(trace.decodeLogits, tensors.get('decode_logits')),
  )
}

describe.each(FAMILIES)('reference engine on %s', (name) => {
  const folder = join(VECTORS, name)

  it('computes every tensor that transformers computes, to 1e-5, and decodes the same ids', async () => {
    const model = asTransformers(await open(folder), 'eager')
    expect(await worstError(model, await readReference(folder))).toBeLessThan(1e-5)
  })

  it('gives the same bits in one prefill, in chunks and one by one', async () => {
    const model = await open(folder)
    const { inputIds } = await readReference(folder)
    const hidden = (await loadEmbedding(model)).gather(inputIds)
    const [tokens] = hidden.shape
    const span = await engine.loadSpan(model, { start: 0, end: model.spec.blockCount, kvTokens: 64 })
    const run = async (cuts: readonly number[]) => {
      const lease = span.lease(tokens)
      let last: Tensor | undefined
      for (const [i, start] of cuts.entries()) {
        ;[last] = await span.step([{ lease, hidden: rows(hidden, start, cuts[i + 1] ?? tokens) }])
      }
      lease.release()
      const [count] = (last as Tensor).shape
      return [...rows(last as Tensor, count - 1, count).data]
    }
    const whole = await run([0])
    expect(await run([0, 4, 5, 11])).toEqual(whole)
    expect(await run(Array.from({ length: tokens }, (_, i) => i))).toEqual(whole)
  })

  it('is refused by an engine that computes only Llama, naming what it lacks', async () => {
    const { spec } = await open(folder)
    const refusal = /^engine onnx does not compute /
    expect(() => checkSupport('onnx', spec, LLAMA_SUPPORT)).toThrow(refusal)
    if (spec.norm.kind === 'rms') checkHeadSupport('onnx', spec, LLAMA_SUPPORT)
    else expect(() => checkHeadSupport('onnx', spec, LLAMA_SUPPORT)).toThrow(/layer norms/)
  })
})

it('Falcon with ALiBi adds its bias once, as transformers does by default (sdpa)', async () => {
  const folder = join(VECTORS, 'falcon-rw-style')
  const once = await readReference(folder, 'reference-sdpa.safetensors')
  const model = await open(folder)
  expect(await worstError(asTransformers(model, 'sdpa'), once)).toBeLessThan(1e-5)
  const eager = await engine.loadSpan(asTransformers(model, 'eager'), { start: 0, end: 1, kvTokens: 32 })
  const hidden = (await loadEmbedding(model)).gather(once.inputIds)
  const [states] = await eager.step([{ lease: eager.lease(32), hidden }])
  expect(relativeError(states, once.tensors.get('hidden.1'))).toBeGreaterThan(1e-3)
})

describe.skipIf(!existsSync(SHARED))('reference engine on ../shared/vectors (skipped without it)', () => {
  const folders = existsSync(SHARED)
    ? readdirSync(SHARED).filter((name) => existsSync(join(SHARED, name, 'reference.safetensors')))
    : []
  it.each(folders)('%s', async (name) => {
    const folder = join(SHARED, name)
    const model = asTransformers(await open(folder), 'eager')
    expect(await worstError(model, await readReference(folder))).toBeLessThan(1e-5)
  })
})

describe('erf', () => {
  // Python's math.erf.
  it.each([
    [0, 0],
    [1e-8, 1.1283791670955126e-8],
    [0.3, 0.3286267594591274],
    [1, 0.8427007929497149],
    [2.999, 0.9999777698314002],
    [3.001, 0.9999780483390822],
    [4.5, 0.9999999998033839],
    [7, 1],
  ])('of ±%d is within 1e-12', (x, expected) => {
    expect(Math.abs(erf(x) - expected)).toBeLessThan(1e-12)
    expect(erf(-x)).toBe(-erf(x))
  })
})

describe('activate', () => {
  // torch.nn.functional, float64.
  it.each([
    ['silu', [-0.2689414213699951, 1.001535713821584, 2.3103545499468914]],
    ['gelu', [-0.15865525393145702, 1.1516511130183142, 2.4844758366855597]],
    ['gelu-tanh', [-0.15880800939172324, 1.1514230543897979, 2.484915733910001]],
  ] as const)('%s at -1, 1.28 and 2.5', (activation, expected) => {
    const actual = activate(activation, Float32Array.of(-1, 1.28, 2.5))
    expect([...actual].map((value) => Math.abs(value))).toEqual(
      expected.map((value) => expect.closeTo(Math.abs(value), 6)),
    )
    expect(actual[0]).toBeLessThan(0)
  })

  it('stays finite far out', () => {
    for (const activation of ['silu', 'gelu', 'gelu-tanh'] as const) {
      expect([...activate(activation, Float32Array.of(-200, 0, 200))]).toEqual([expect.closeTo(0, 6), 0, 200])
    }
  })
})

describe('route', () => {
  it('takes the largest logits, of equal ones the lower expert, in the order of numbers', () => {
    const experts = (logits: number[], topK: number) =>
      route(Float32Array.from(logits), topK, true).map(([expert]) => expert)
    expect(experts([0, 3, 1, 2], 2)).toEqual([1, 3])
    expect(experts([1, 1, 1, 1], 2)).toEqual([0, 1])
    expect(experts([-1e30, -1e30, 5], 3)).toEqual([0, 1, 2])
  })

  it('weighs by softmax over all experts, or over the chosen ones', () => {
    const logits = Float32Array.of(0, Math.log(3), Math.log(4))
    const weights = (normalize: boolean) => route(logits, 2, normalize).map(([, weight]) => weight)
    expect(weights(false)).toEqual([expect.closeTo(3 / 8, 6), expect.closeTo(4 / 8, 6)])
    expect(weights(true)).toEqual([expect.closeTo(3 / 7, 6), expect.closeTo(4 / 7, 6)])
  })
})

it('layerNorm takes mean and biased variance out, then scales and shifts', () => {
  const norm = (x: number[], epsilon: number) =>
    Array.from(layerNorm(Float32Array.from(x), 1, Float32Array.of(2, 3), Float32Array.of(10, 20), epsilon))
  expect(norm([1, 3], 0)).toEqual([8, 23])
  expect(norm([1, 3], 3)).toEqual([9, 21.5])
  expect(norm([5, 5], 1e-5)).toEqual([10, 20])
})
