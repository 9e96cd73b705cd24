import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readReference } from '../../node/cli/parity/reference-folder.ts'
import { asTransformers } from '../../node/cli/parity/transformers-attention.ts'
import { compileWideWasm } from '../../node/compile-wide-wasm.ts'
import { createFileStore } from '../../node/file-store.ts'
import { readWasmKernels, startWasmThread } from '../../node/wasm-threads.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { activate } from '../../src/engine/reference/activation.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { loadKernels } from '../../src/engine/wasm/kernel-code.ts'
import { createWasmRuntime } from '../../src/engine/wasm/runtime.ts'
import { createWasmEngine } from '../../src/engine/wasm-engine.ts'
import { silentLogger } from '../../src/log.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import type { Model } from '../../src/model/model.ts'
import { openModel } from '../../src/model/open-model.ts'
import { loadSpans, splitEvenly, traceThrough } from '../../src/session/trace.ts'
import { concatRows, rows, type Tensor, tensor } from '../../src/tensor/tensor.ts'
import { FAMILY_SPECS } from './family-specs.ts'
import { QUANTIZED_SPEC, quantizedModel } from './quantized-model.ts'
import { randomModel } from './random-model.ts'
import { noise, ones, relativeError, runCut } from './span-runs.ts'

/** One tiny model of each family, with activations computed by Hugging Face transformers. */
const VECTORS = join(import.meta.dirname, '../vectors')
const NAMES = readdirSync(VECTORS, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('config.json'))
  .map((path) => path.slice(0, -'/config.json'.length))

let engine: Engine
let threaded: Engine
let plain: Engine
beforeAll(async () => {
  const wide = compileWideWasm === undefined ? {} : { compileWide: compileWideWasm }
  const options = { kernels: readWasmKernels, startThread: startWasmThread }
  engine = await createWasmEngine({ ...options, threads: 1 })
  threaded = await createWasmEngine({ ...options, ...wide, threads: 2 })
  plain = await createWasmEngine({ ...options, threads: 1, plain: true })
})
afterAll(async () => {
  await Promise.all([engine, threaded, plain].map((each) => each.close()))
})

describe('wasm engine on vectors', () => {
  it.each(NAMES)('computes what transformers computes, and decodes the same ids: %s', async (name) => {
    // References are made with eager attention.
    const model = asTransformers(await openModel(join(VECTORS, name), { files: createFileStore() }), 'eager')
    const reference = await readReference(join(VECTORS, name))
    const decode = reference.decodeIds.length
    for (const each of [threaded, plain]) {
      const client = { embedding: await loadEmbedding(model), head: await each.loadHead(model) }
      const spans = splitEvenly(model.spec.blockCount, 2)
      const runners = await loadSpans(each, model, spans, reference.inputIds.length + decode)
      const trace = await traceThrough(client, runners, reference.inputIds, decode)
      const compare = (tensorName: string, actual: Tensor) => {
        const wanted = reference.tensors.get(tensorName) as Tensor
        expect(relativeError(actual.data, wanted.data), tensorName).toBeLessThan(1e-5)
      }
      for (const [block, states] of trace.hidden) compare(`hidden.${block}`, states)
      compare('final', trace.final)
      compare('logits', trace.logits)
      compare('decode_logits', trace.decodeLogits)
      expect(trace.decodeIds).toEqual(reference.decodeIds)
      await Promise.all(runners.map((runner) => runner.close()))
      await client.head.close()
    }
    await model.close()
  })
})

/** States, final norms and logits of `count` tokens in three steps. */
async function outputsOf(
  each: Engine,
  model: Model,
  count: number,
): Promise<{ states: Tensor; logits: Tensor }> {
  const { blockCount, hiddenSize } = model.spec
  const span = await each.loadSpan(model, { start: 0, end: blockCount, kvTokens: 96 })
  const head = await each.loadHead(model)
  const out = await runCut(span, noise(count, hiddenSize), [20, 1])
  const states = concatRows([out, await head.finalNorm(out)], hiddenSize)
  const logits = await head.logits(out)
  await span.close()
  await head.close()
  return { states, logits }
}

/** One prefill, against chunks, single tokens, batches and two threads. */
async function expectInvariant(model: Model, count: number): Promise<void> {
  const { blockCount: end, hiddenSize } = model.spec
  const hidden = noise(count, hiddenSize)
  const span = await engine.loadSpan(model, { start: 0, end, kvTokens: 2 * count })
  const other = await threaded.loadSpan(model, { start: 0, end, kvTokens: count })
  const wanted = await runCut(span, hidden, [])
  for (const cuts of [ones(count), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [65, 1], [count - 1]]) {
    expect((await runCut(span, hidden, cuts)).data).toEqual(wanted.data)
  }
  for (const cuts of [[], [17, 1, 1, 50]]) {
    expect((await runCut(other, hidden, cuts)).data).toEqual(wanted.data)
  }
  const [first, second] = [span.lease(30), span.lease(count)]
  await span.step([
    { lease: first, hidden: rows(hidden, 0, 29) },
    { lease: second, hidden: rows(hidden, 0, 11) },
  ])
  const [one, rest] = await span.step([
    { lease: first, hidden: rows(hidden, 29, 30) },
    { lease: second, hidden: rows(hidden, 11, count) },
  ])
  expect((one as Tensor).data).toEqual(rows(wanted, 29, 30).data)
  expect((rest as Tensor).data).toEqual(rows(wanted, 11, count).data)
  await span.close()
  await other.close()
}

describe.each(Object.entries(FAMILY_SPECS))('wasm engine: %s', (_, spec) => {
  const model = randomModel(spec, () => 'F32')

  it('agrees with the reference engine to 1e-5', async () => {
    const wanted = await outputsOf(createReferenceEngine(), model, 75)
    for (const each of [threaded, plain]) {
      const got = await outputsOf(each, model, 75)
      expect(relativeError(got.states.data, wanted.states.data)).toBeLessThan(1e-5)
      expect(relativeError(got.logits.data, wanted.logits.data)).toBeLessThan(1e-5)
    }
  })

  it('gives the same bits in one prefill, in chunks, one by one, in a batch and on two threads', async () => {
    await expectInvariant(model, 140)
  })
})

it('wasm engine: rounds far positions of ALiBi as the reference does', async () => {
  const spec = { ...(FAMILY_SPECS['falcon with ALiBi'] ?? expect.unreachable()), blockCount: 1 }
  const model = randomModel(spec, () => 'F32')
  const hidden = noise(600, spec.hiddenSize)
  const outputs: Tensor[] = []
  for (const each of [createReferenceEngine(), engine]) {
    const span = await each.loadSpan(model, { start: 0, end: 1, kvTokens: 608 })
    outputs.push(await runCut(span, hidden, []))
    await span.close()
  }
  const [wanted, got] = outputs as [Tensor, Tensor]
  expect(relativeError(got.data, wanted.data)).toBeLessThan(1e-5)
})

const EXPERTS = { kind: 'moe', expertCount: 5, topK: 2, normalizeTopK: true } as const
const NO_BIASES = { qkv: false, attentionOut: false, mlp: false }

describe.each([
  ['experts', { mlp: EXPERTS, biases: NO_BIASES, qkNorm: true, windows: [5] }],
  [
    'one layer norm, plain mlp',
    {
      norm: { kind: 'layer', epsilon: 1e-5 },
      residual: { kind: 'parallel', norms: 1 },
      mlp: { kind: 'plain' },
      activation: 'gelu',
    },
  ],
] as const)('wasm engine on quantised weights: %s', (_, change) => {
  const spec = { ...QUANTIZED_SPEC, blockCount: 1, ...change }
  // A router that the engine reads as float32; experts, and what a Mixtral file mixes, in several formats.
  const model = quantizedModel(spec, (role) =>
    role.startsWith('down') ? 'Q8_0' : role.startsWith('up') ? 'Q4_1' : 'Q4_0',
  )

  it('agrees with the reference that rounds activations as it does', async () => {
    const wanted = await outputsOf(createReferenceEngine({ activations: 'q15-groups' }), model, 30)
    const got = await outputsOf(threaded, model, 30)
    expect(relativeError(got.states.data, wanted.states.data)).toBeLessThan(1e-4)
    expect(relativeError(got.logits.data, wanted.logits.data)).toBeLessThan(1e-4)
    const simd = await outputsOf(plain, model, 30)
    // Without relaxed SIMD products of a router's plain weights are rounded; integers are the same everywhere.
    if (spec.mlp.kind === 'moe') {
      expect(relativeError(simd.states.data, got.states.data)).toBeLessThan(1e-4)
      expect(relativeError(simd.logits.data, got.logits.data)).toBeLessThan(1e-4)
    } else expect([simd.states.data, simd.logits.data]).toEqual([got.states.data, got.logits.data])
  })

  it('gives the same bits in one prefill, in chunks, one by one, in a batch and on two threads', async () => {
    await expectInvariant(model, 70)
  })
})

describe('wasm engine routing', () => {
  const spec = FAMILY_SPECS['mixtral, 2 of 5 experts'] ?? expect.unreachable()
  const random = randomModel(spec, () => 'F32')

  it('takes the first of experts with equal logits', async () => {
    const block: Model['weights']['block'] = async (index, role, signal) => {
      const weight = await random.weights.block(index, role, signal)
      return role === 'router' ? { ...weight, bytes: new Uint8Array(weight.bytes.length) } : weight
    }
    const model = { ...random, weights: { ...random.weights, block } }
    const wanted = await outputsOf(createReferenceEngine(), model, 75)
    const got = await outputsOf(engine, model, 75)
    expect(relativeError(got.states.data, wanted.states.data)).toBeLessThan(1e-5)
  })

  it('lets no session of NaN and infinities change another', async () => {
    const span = await threaded.loadSpan(random, { start: 0, end: spec.blockCount, kvTokens: 64 })
    const hidden = noise(9, spec.hiddenSize)
    const alone = await runCut(span, hidden, [])
    for (const value of [Number.NaN, Infinity, 3e38]) {
      const [first, second] = [span.lease(16), span.lease(16)]
      const bad = tensor(9, spec.hiddenSize, new Float32Array(hidden.data.length).fill(value))
      const [, out] = await span.step([
        { lease: first, hidden: bad },
        { lease: second, hidden },
      ])
      expect((out as Tensor).data).toEqual(alone.data)
      first.release()
      second.release()
    }
    await span.close()
  })
})

describe('wasm activations', () => {
  it.each(['silu', 'gelu', 'gelu-tanh'] as const)('are within 1e-6 of float64: %s', async (name) => {
    const runtime = await createWasmRuntime({
      threads: 1,
      code: await loadKernels({ kernels: readWasmKernels }, 'relaxed'),
      startThread: undefined,
      log: silentLogger,
    })
    const x = Float32Array.from({ length: 4096 }, (_, i) => (i - 2048) / 170)
    const address = runtime.memory.allocate(x.byteLength, 'test')
    runtime.memory.floats(address, x.length).set(x)
    runtime.exports.activate(['silu', 'gelu', 'gelu-tanh'].indexOf(name), address, 0, x.length)
    const wanted = activate(name, x)
    const errors = runtime.memory
      .floats(address, x.length)
      .map((y, i) => Math.abs(y - (wanted[i] as number)) / Math.max(1, Math.abs(wanted[i] as number)))
    expect(Math.max(...errors)).toBeLessThan(1e-6)
    await runtime.close()
  })
})
