import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { readReference } from '../../node/cli/parity/reference-folder.ts'
import { asTransformers } from '../../node/cli/parity/transformers-attention.ts'
import { createFileStore } from '../../node/file-store.ts'
import { openGpu } from '../../node/gpu.ts'
import type { Engine, EngineSpan } from '../../src/engine/engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { createWgslEngine, type WgslEngine } from '../../src/engine/wgsl-engine.ts'
import { errorMessage } from '../../src/errors.ts'
import { silentLogger } from '../../src/log.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import type { SharedPages } from '../../src/kv/shared-pages.ts'
import type { BlockRole, ClientRole, Model } from '../../src/model/model.ts'
import { openModel } from '../../src/model/open-model.ts'
import { argmax } from '../../src/sampling/filters.ts'
import { loadSpans, splitEvenly, traceThrough } from '../../src/session/trace.ts'
import { rows, type Tensor, tensor } from '../../src/tensor/tensor.ts'
import { bits, random, randomFloats, testShaders } from '../gpu/test-context.ts'
import type { WeightDtype } from '../../src/tensor/weight.ts'
import { QUANTIZED_SPEC, quantizedModel } from './quantized-model.ts'
import { ODD_SPEC, randomModel } from './random-model.ts'
import { relativeError } from './span-runs.ts'

const ROOT = join(import.meta.dirname, '../..')

/** The driver is tried out once a file. */
const passed = new Map<string, string>()
const facts = {
  get: async (key: string) => passed.get(key),
  put: async (key: string, value: string) => void passed.set(key, value),
}

async function open(maxBindingBytes?: number): Promise<WgslEngine | undefined> {
  try {
    const gpu = await openGpu()
    if (gpu === undefined) throw new Error('no WebGPU here')
    const limit = maxBindingBytes === undefined ? {} : { maxBindingBytes }
    const shaders = await testShaders()
    return await createWgslEngine({
      gpu,
      shaders,
      log: silentLogger,
      allowSoftware: true,
      facts,
      ...limit,
    })
  } catch (error) {
    console.log(
      `skipped, no WebGPU adapter: ${errorMessage(error)} (node test/setup/install-system.ts installs one)`,
    )
    return undefined
  }
}

const opened = await open()
const engine = opened as WgslEngine
const here = describe.skipIf(opened === undefined)
const odd = randomModel(ODD_SPEC, () => 'F32')
afterAll(() => opened?.close())

function randomHidden(tokens: number, seed: number, width = ODD_SPEC.hiddenSize): Tensor {
  return tensor(tokens, width, randomFloats(random(seed), tokens * width))
}

/** One session's way through a span in steps of these sizes, released at the end. */
async function run(span: EngineSpan, hidden: Tensor, cuts: readonly number[]): Promise<Float32Array> {
  const lease = span.lease(hidden.shape[0])
  const out = new Float32Array(hidden.data.length)
  let position = 0
  for (const count of cuts) {
    const [output] = await span.step([{ lease, hidden: rows(hidden, position, position + count) }])
    out.set((output as Tensor).data, position * hidden.shape[1])
    position += count
  }
  expect(lease.position).toBe(hidden.shape[0])
  lease.release()
  return out
}

async function runAll(on: Engine, model: Model, hidden: Tensor): Promise<Float32Array> {
  const span = await on.loadSpan(model, { start: 0, end: model.spec.blockCount, kvTokens: hidden.shape[0] })
  const out = await run(span, hidden, [hidden.shape[0]])
  await span.close()
  return out
}

/** Counts calls of a method of all objects of `object`'s kind, until undone. */
function countCalls(object: object, method: string, seen: () => void): () => void {
  const prototype = Object.getPrototypeOf(object) as Record<string, unknown>
  const original = prototype[method] as (...values: unknown[]) => unknown
  prototype[method] = function (this: unknown, ...values: unknown[]) {
    seen()
    return original.apply(this, values)
  }
  return () => {
    prototype[method] = original
  }
}

const VECTORS = join(ROOT, 'test/vectors')
const families = readdirSync(VECTORS).filter((name) => existsSync(join(VECTORS, name, 'reference.json')))

here.each(families)('wgsl engine on %s', (name) => {
  const folder = join(VECTORS, name)

  it('computes what transformers computes and decodes the same ids, with the same bits however split', async () => {
    const model = asTransformers(await openModel(folder, { files: createFileStore() }), 'eager')
    const reference = await readReference(folder)
    const client = { embedding: await loadEmbedding(model), head: await engine.loadHead(model) }
    const decode = reference.decodeIds.length
    let first: Uint32Array | undefined
    for (const parts of [1, 2, model.spec.blockCount]) {
      const split = splitEvenly(model.spec.blockCount, parts)
      const runners = await loadSpans(engine, model, split, reference.inputIds.length + decode)
      const trace = await traceThrough(client, runners, reference.inputIds, decode)
      const pairs: [string, Tensor][] = [
        ...[...trace.hidden].map(([block, states]): [string, Tensor] => [`hidden.${block}`, states]),
        ['final', trace.final],
        ['logits', trace.logits],
        ['decode_logits', trace.decodeLogits],
      ]
      for (const [key, actual] of pairs) {
        const expected = reference.tensors.get(key) as Tensor
        expect(relativeError(actual.data, expected.data), key).toBeLessThan(1e-5)
      }
      expect(trace.decodeIds).toEqual(reference.decodeIds)
      first ??= bits(trace.decodeLogits.data)
      expect(bits(trace.decodeLogits.data)).toEqual(first)
      for (const runner of runners) await runner.close()
    }
    await client.head.close()
    await model.close()
  })

  it('gives the same bits in one prefill, in chunks, one by one and next to another session', async () => {
    const model = await openModel(folder, { files: createFileStore() })
    const { blockCount, hiddenSize } = model.spec
    const span = await engine.loadSpan(model, { start: 0, end: blockCount, kvTokens: 128 })
    const hidden = randomHidden(30, 21, hiddenSize)
    const whole = bits(await run(span, hidden, [30]))
    expect(bits(await run(span, hidden, [1, 2, 20, 3, 4]))).toEqual(whole)
    const ones = Array.from({ length: 30 }, () => 1)
    expect(bits(await run(span, hidden, ones))).toEqual(whole)
    const [mine, other] = [span.lease(30), span.lease(60)]
    const out = new Float32Array(hidden.data.length)
    for (let at = 0; at < 30; at += 5) {
      const [, output] = await span.step([
        { lease: other, hidden: randomHidden(1 + (at % 7), at, hiddenSize) },
        { lease: mine, hidden: rows(hidden, at, at + 5) },
      ])
      out.set((output as Tensor).data, at * hiddenSize)
    }
    expect(bits(out)).toEqual(whole)
    await span.close()
    await model.close()
  })
})

here('wgsl engine', () => {
  it('agrees with the reference engine on odd shapes, biases and formats mixed in one layer', async () => {
    const mixed = randomModel(ODD_SPEC, (role) => (role === 'v' || role === 'o' ? 'F16' : 'BF16'))
    for (const model of [odd, mixed]) {
      const hidden = randomHidden(70, 3)
      const [actual, expected] = [
        await runAll(engine, model, hidden),
        await runAll(createReferenceEngine(), model, hidden),
      ]
      expect(relativeError(actual, expected)).toBeLessThan(1e-5)
      const [head, oracle] = [await engine.loadHead(model), await createReferenceEngine().loadHead(model)]
      for (const method of ['finalNorm', 'logits'] as const) {
        const states = rows(hidden, 0, 67) // more than the head computes at once
        expect(
          relativeError((await head[method](states)).data, (await oracle[method](states)).data),
        ).toBeLessThan(1e-5)
      }
      const { data } = await head.logits(rows(hidden, 0, 67))
      const best = Array.from({ length: 67 }, (_, row) =>
        argmax(data.subarray(row * model.spec.vocabSize, (row + 1) * model.spec.vocabSize)),
      )
      expect(Array.from((await head.best?.(rows(hidden, 0, 67))) ?? [])).toEqual(best)
      await head.close()
    }
  })

  it('needs nine dispatches a block, one pass and one submit a step', async () => {
    const span = await engine.loadSpan(odd, { start: 0, end: 3, kvTokens: 16 })
    const lease = span.lease(2)
    const counts = { dispatches: 0, passes: 0, submits: 0 }
    const adapter = (await ((await openGpu()) as GPU).requestAdapter()) as GPUAdapter
    const device = await adapter.requestDevice()
    const encoder = device.createCommandEncoder()
    const pass = encoder.beginComputePass()
    const restore = [
      countCalls(pass, 'dispatchWorkgroups', () => counts.dispatches++),
      countCalls(encoder, 'beginComputePass', () => counts.passes++),
      countCalls(device.queue, 'submit', () => counts.submits++),
    ]
    await span.step([{ lease, hidden: randomHidden(1, 14) }])
    for (const undo of restore) undo()
    pass.end()
    device.destroy()
    expect(counts).toEqual({ dispatches: 3 * 9, passes: 1, submits: 1 })
    await span.close()
  })

  it('keeps quantised weights quantised and computes what the reference engine makes of them', async () => {
    // Two formats in a layer, as llama.cpp's Q4_K_M has them, and two that can't alternate as they are.
    const formats: Partial<Record<BlockRole | ClientRole, WeightDtype>> = {
      q: 'Q4_K',
      k: 'Q4_K',
      v: 'Q6_K',
      o: 'Q8_0',
      gate: 'Q4_0',
      up: 'Q4_1',
      down: 'Q8_0',
      head: 'Q6_K',
    }
    const model = quantizedModel(QUANTIZED_SPEC, (role) => formats[role] ?? 'F32')
    const hidden = randomHidden(40, 15, QUANTIZED_SPEC.hiddenSize)
    const span = await engine.loadSpan(model, { start: 0, end: 3, kvTokens: 48 })
    const whole = await run(span, hidden, [40])
    expect(relativeError(whole, await runAll(createReferenceEngine(), model, hidden))).toBeLessThan(1e-5)
    expect(bits(await run(span, hidden, [1, 3, 30, 6]))).toEqual(bits(whole))
    const { headCount, headDim, hiddenSize, intermediateSize, kvHeadCount } = QUANTIZED_SPEC
    const bitsOf = { q4: 5, q4_wide: 6, q8: 8.5, q8_wide: 10 }
    const kvWidth = kvHeadCount * headDim
    const weightBits =
      hiddenSize * (headCount * headDim + kvWidth) * bitsOf.q4_wide +
      hiddenSize * kvWidth * bitsOf.q8_wide +
      headCount * headDim * hiddenSize * bitsOf.q8 +
      2 * intermediateSize * hiddenSize * bitsOf.q4 +
      intermediateSize * hiddenSize * bitsOf.q8
    const vectors = 4 * (2 * hiddenSize + headCount * headDim + 2 * kvWidth + hiddenSize)
    const mlpBiases = 4 * (2 * intermediateSize + hiddenSize)
    expect(span.weightBytes).toBe(3 * (weightBits / 8 + vectors + mlpBiases))
    await span.close()

    const [head, oracle] = [await engine.loadHead(model), await createReferenceEngine().loadHead(model)]
    const states = rows(hidden, 0, 3)
    const [actual, expected] = [await head.logits(states), await oracle.logits(states)]
    expect(relativeError(actual.data, expected.data)).toBeLessThan(1e-5)
    await head.close()
  })

  it('splits experts that exceed the largest binding, with the same bits', async () => {
    const mlp = { kind: 'moe', expertCount: 6, topK: 2, normalizeTopK: false } as const
    const biases = { qkv: false, attentionOut: false, mlp: false }
    const model = randomModel({ ...ODD_SPEC, mlp, biases }, () => 'F32')
    // Gate and up of an expert take 25,728 bytes, down 12,960: parts of one expert and less, and of several.
    const [small, smaller] = [(await open(26_000)) as WgslEngine, (await open(10_240)) as WgslEngine]
    const hidden = randomHidden(20, 16)
    const whole = await runAll(engine, model, hidden)
    expect(relativeError(whole, await runAll(createReferenceEngine(), model, hidden))).toBeLessThan(1e-5)
    for (const on of [small, smaller]) {
      expect(bits(await runAll(on, model, hidden))).toEqual(bits(whole))
      await on.close()
    }
  })

  it('gives the same bits in one prefill, in chunks, one by one and next to other sessions', async () => {
    const span = await engine.loadSpan(odd, { start: 0, end: 3, kvTokens: 400 })
    const hidden = randomHidden(70, 4)
    const whole = bits(await run(span, hidden, [70]))
    expect(bits(await run(span, hidden, [1, 2, 3, 60, 4]))).toEqual(whole)
    expect(
      bits(
        await run(
          span,
          hidden,
          Array.from({ length: 70 }, () => 1),
        ),
      ),
    ).toEqual(whole)

    const [mine, other, third] = [span.lease(70), span.lease(100), span.lease(30)]
    const out = new Float32Array(hidden.data.length)
    for (let at = 0; at < 70; at += 5) {
      const neighbours = [
        { lease: other, hidden: randomHidden(at === 0 ? 23 : 1, at + 100) },
        { lease: third, hidden: randomHidden(2, at + 200) },
      ]
      const outputs = await span.step([
        neighbours[0] as (typeof neighbours)[0],
        { lease: mine, hidden: rows(hidden, at, at + 5) },
        neighbours[1] as (typeof neighbours)[0],
      ])
      expect(outputs.map((output) => output.shape[0])).toEqual([at === 0 ? 23 : 1, 5, 2])
      out.set((outputs[1] as Tensor).data, at * ODD_SPEC.hiddenSize)
    }
    expect(bits(out)).toEqual(whole)
    await span.close()
  })

  it('gives the same bits for a prompt longer than one submit', async () => {
    const span = await engine.loadSpan(odd, { start: 0, end: 1, kvTokens: 300 })
    const hidden = randomHidden(300, 5)
    const whole = bits(await run(span, hidden, [300]))
    expect(bits(await run(span, hidden, [100, 150, 50]))).toEqual(whole)
    await span.close()
  })

  it('gives logits the same bits alone and among other rows', async () => {
    const head = await engine.loadHead(odd)
    const hidden = randomHidden(67, 6)
    const together = (await head.logits(hidden)).data
    for (const row of [0, 5, 64, 66]) {
      const alone = (await head.logits(rows(hidden, row, row + 1))).data
      expect(bits(alone)).toEqual(
        bits(together.slice(row * ODD_SPEC.vocabSize, (row + 1) * ODD_SPEC.vocabSize)),
      )
    }
    await head.close()
  })

  it('splits tensors and prompts that exceed the largest binding, with the same bits', async () => {
    // 53 rows of a matrix a binding, 19 tokens a submit.
    const small = (await open(10_240)) as WgslEngine
    const hidden = randomHidden(70, 7)
    expect(bits(await runAll(small, odd, hidden))).toEqual(bits(await runAll(engine, odd, hidden)))
    const logits = async (on: Engine) => {
      const head = await on.loadHead(odd)
      const out = (await head.logits(hidden)).data
      await head.close()
      return bits(out)
    }
    expect(await logits(small)).toEqual(await logits(engine))
    await small.close()
  })

  it('refuses a KV cache that the GPU cannot bind, naming it', async () => {
    const small = (await open(8192)) as WgslEngine
    const load = small.loadSpan(odd, { start: 0, end: 1, kvTokens: 112 })
    await expect(load).rejects.toThrow(/KV cache of block 0 \(kvTokens 112\) needs 10752 bytes.* allows 8192/)
    expect(small.allocatedBytes).toBe(0)
    await small.close()
  })

  it('refuses what it has no KV room for and computes nothing then', async () => {
    const span = await engine.loadSpan(odd, { start: 0, end: 1, kvTokens: 64 })
    expect([span.kvTokens, span.kvTokensFree]).toEqual([64, 64])
    const lease = span.lease(20)
    expect(span.kvTokensFree).toBe(32)
    expect(() => span.lease(33)).toThrow(expect.objectContaining({ code: 'capacity' }))
    const other = span.lease(30)
    const step = span.step([
      { lease: other, hidden: randomHidden(2, 8) },
      { lease, hidden: randomHidden(21, 8) },
    ])
    await expect(step).rejects.toMatchObject({ code: 'capacity' })
    expect([lease.position, other.position]).toEqual([0, 0])
    lease.release()
    lease.release()
    other.release()
    expect(span.kvTokensFree).toBe(64)
    await expect(span.step([{ lease, hidden: randomHidden(1, 8) }])).rejects.toMatchObject({
      code: 'bad_request',
    })
    await span.close()
  })

  it('refuses a foreign lease, the same lease twice, a wrong width and a closed span', async () => {
    const [one, two] = [
      await engine.loadSpan(odd, { start: 0, end: 1, kvTokens: 16 }),
      await engine.loadSpan(odd, { start: 0, end: 1, kvTokens: 16 }),
    ]
    const lease = one.lease(16)
    const entry = { lease, hidden: randomHidden(1, 9) }
    await expect(two.step([entry])).rejects.toMatchObject({ code: 'bad_request' })
    await expect(one.step([entry, entry])).rejects.toThrow(/share one KV lease/)
    await expect(one.step([{ lease, hidden: randomHidden(1, 9, 44) }])).rejects.toThrow(
      /takes \[1 or more, 45\]/,
    )
    await one.close()
    await two.close()
    await one.close()
    await expect(one.step([entry])).rejects.toMatchObject({ code: 'engine' })
  })

  it('forgets what was rolled back, and nothing else', async () => {
    const span = await engine.loadSpan(odd, { start: 0, end: 3, kvTokens: 128 })
    const hidden = randomHidden(40, 10)
    const whole = await run(span, hidden, [40])
    const lease = span.lease(40)
    await span.step([{ lease, hidden: rows(hidden, 0, 20) }])
    await span.step([{ lease, hidden: randomHidden(15, 11) }])
    lease.rollback(20)
    const [tail] = await span.step([{ lease, hidden: rows(hidden, 20, 40) }])
    expect(bits((tail as Tensor).data)).toEqual(bits(whole.slice(20 * ODD_SPEC.hiddenSize)))
    await span.close()
  })

  it('lets a session read the pages of another and copies those it writes to, with the same bits', async () => {
    const span = await engine.loadSpan(odd, { start: 0, end: 3, kvTokens: 160 })
    const pages = span.sharedPages as SharedPages
    const hidden = randomHidden(40, 17)
    const whole = await run(span, hidden, [40])
    const [writer, reader] = [span.lease(40), span.lease(40)]
    await span.step([{ lease: writer, hidden: rows(hidden, 0, 34) }])
    for (const index of [0, 1]) pages.attach(reader, index, pages.keep(writer, index))
    expect(reader.position).toBe(32)
    // Back into a page that both hold: what the reader writes there is its own.
    reader.rollback(20)
    const [tail] = await span.step([{ lease: reader, hidden: rows(hidden, 20, 40) }])
    expect(bits((tail as Tensor).data)).toEqual(bits(whole.slice(20 * ODD_SPEC.hiddenSize)))
    reader.rollback(20)
    await span.step([{ lease: reader, hidden: randomHidden(12, 18) }])
    const [rest] = await span.step([{ lease: writer, hidden: rows(hidden, 34, 40) }])
    expect(bits((rest as Tensor).data)).toEqual(bits(whole.slice(34 * ODD_SPEC.hiddenSize)))
    await span.close()
  })

  it('holds the same bytes after 200 generations and none after closing', async () => {
    const before = engine.allocatedBytes
    const span = await engine.loadSpan(odd, { start: 0, end: 2, kvTokens: 32 })
    const head = await engine.loadHead(odd)
    const loaded = engine.allocatedBytes
    expect(loaded).toBeGreaterThan(before + span.weightBytes + span.kvBytes + head.weightBytes)
    const hidden = randomHidden(5, 12)
    for (let generation = 0; generation < 200; generation++) {
      const lease = span.lease(8)
      const [output] = await span.step([{ lease, hidden }])
      const last = rows(output as Tensor, 4, 5)
      await span.step([{ lease, hidden: last }])
      await head.logits(last)
      lease.release()
    }
    expect(engine.allocatedBytes).toBe(loaded)
    expect(span.kvTokensFree).toBe(32)
    await span.close()
    await head.close()
    // What stays are the few words of parameters that spans of the same shape share.
    expect(engine.allocatedBytes - before).toBeLessThan(1024)
  })

  it('reads only its own blocks, counts what it reads, and frees all when loading is aborted', async () => {
    const before = engine.allocatedBytes
    const seen: number[] = []
    const abort = new AbortController()
    const load = engine.loadSpan(odd, {
      start: 1,
      end: 3,
      kvTokens: 16,
      signal: abort.signal,
      onProgress: (loaded, total) => {
        seen.push(loaded / total)
        if (loaded / total > 0.6) abort.abort()
      },
    })
    await expect(load).rejects.toMatchObject({ name: 'AbortError' })
    expect(engine.allocatedBytes - before).toBeLessThan(1024)
    expect(seen.length).toBeGreaterThan(10)
    expect(seen.at(-1)).toBeLessThanOrEqual(1)

    const full: number[] = []
    const onProgress = (loaded: number, total: number) => full.push(loaded / total)
    const span = await engine.loadSpan(odd, { start: 1, end: 3, kvTokens: 16, onProgress })
    expect(full.at(-1)).toBe(1)
    expect([span.start, span.end]).toEqual([1, 3])
    await span.close()
  })

  it('refuses a software adapter unless it is allowed, and says what to use', async () => {
    if (!/llvmpipe|swiftshader/i.test(engine.description)) return
    const gpu = (await openGpu()) as GPU
    const asked = createWgslEngine({ gpu, shaders: await testShaders(), log: silentLogger })
    await expect(asked).rejects.toThrow(/software .*--engine onnx/)
  })

  it('says that it was closed', async () => {
    const short = (await open()) as WgslEngine
    const span = await short.loadSpan(odd, { start: 0, end: 1, kvTokens: 16 })
    const lease = span.lease(4)
    await short.close()
    await expect(span.step([{ lease, hidden: randomHidden(1, 13) }])).rejects.toMatchObject({
      code: 'engine',
    })
  })
})

const STORYTELLER = join(ROOT, 'models/storyteller')

describe.skipIf(opened === undefined || !existsSync(STORYTELLER))('wgsl engine on the bundled model', () => {
  it('keeps float16 weights as they are and agrees with the reference engine', async () => {
    const model = await openModel(STORYTELLER, { files: createFileStore() })
    const hidden = (await loadEmbedding(model)).gather(Array.from({ length: 20 }, (_, i) => (i * 37) % 2048))
    const [actual, expected] = [
      await runAll(engine, model, hidden),
      await runAll(createReferenceEngine(), model, hidden),
    ]
    expect(relativeError(actual, expected)).toBeLessThan(1e-5)
    const span = await engine.loadSpan(model, { start: 0, end: 1, kvTokens: 16 })
    const stored = 192 * (192 + 2 * 64) * 2 + 192 * 192 * 2 + 3 * 192 * 512 * 2
    expect(span.weightBytes).toBe(stored + 2 * 192 * 4)
    await span.close()
    await model.close()
  })
})
