import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { readWasmKernels, startWasmThread } from '../../node/wasm-threads.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { createOnnxEngine } from '../../src/engine/onnx-engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { createWasmEngine } from '../../src/engine/wasm-engine.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import { createClient } from '../../src/session/client.ts'
import { loadDraftModel } from '../../src/session/draft-model.ts'
import { createLanguageModel } from '../../src/session/generate.ts'
import { createLocalSpan } from '../../src/session/local-span.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import { ODD_SPEC, randomModel } from '../engine/random-model.ts'
import { byteLevelFiles } from '../tokenizer/small-tokenizers.ts'

/** The collector of this process, which nothing else exposes to tests. */
const collectGarbage: () => void = (() => {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
})()

/** Bytes that live after a collection: objects, and arrays outside V8's heap. */
async function liveBytes(): Promise<number> {
  // Finalizers run between collections.
  for (let round = 0; round < 3; round++) {
    collectGarbage()
    await new Promise((resolve) => setImmediate(resolve))
  }
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return arrayBuffers + heapUsed
}

const spec = { ...ODD_SPEC, blockCount: 1, vocabSize: 300, windows: [null] }
const model = randomModel(spec, () => 'F32')
const tokenizer = createTokenizer(byteLevelFiles([]), spec)

const ENGINES: Record<string, () => Promise<Engine>> = {
  reference: async () => createReferenceEngine(),
  wasm: () => createWasmEngine({ kernels: readWasmKernels, startThread: startWasmThread, threads: 1 }),
  onnx: () => createOnnxEngine({ threads: 1 }),
}

/** Generations between two looks at memory. */
const BATCH = 50

/** What may stay from one generation, ours or the engine's; one kept page too many is four times as much. */
const BYTES_A_GENERATION = 2_048

afterEach(() => vi.restoreAllMocks())

describe('200 answers with a draft model', () => {
  it('leave memory and the draft’s KV cache as they were', async () => {
    const engine = await ENGINES['wasm']!()
    const { blockCount, hiddenSize } = spec
    const spans = await Promise.all(
      [1, 2].map(() => engine.loadSpan(model, { start: 0, end: blockCount, kvTokens: 192 })),
    )
    const watched: Engine = { ...engine, loadSpan: async () => spans[1]! }
    const withFiles = { ...model, tokenizerFiles: async () => byteLevelFiles([]) }
    const parts = { model: withFiles, target: withFiles, engine: watched, kvTokens: 192 }
    const draft = await loadDraftModel({ ...parts, clock: () => 0 })
    let now = 0
    const head = await engine.loadHead(model)
    const chat = createLanguageModel({
      model,
      tokenizer,
      embedding: await loadEmbedding(model),
      head,
      runner: createLocalSpan(spans[0]!, { modelId: model.id, hiddenSize, engineName: engine.name }),
      draft,
      // Every look at it is 10 ms later: laps take long, so that guesses are worth it.
      clock: () => (now += 10),
      close: async () => {
        await spans[0]!.close()
        await head.close()
      },
    })
    let accepted = 0
    const generate = async (seed: number) => {
      const promptIds = Array.from({ length: 40 }, (_, t) => (t < 20 ? t : (t * 7 + seed * 13) % 256))
      const request = { promptIds, sampling: { temperature: 1, seed }, drafts: 'model' } as const
      for await (const event of chat.generate({ ...request, maxTokens: 16, ignoreEos: true })) {
        if (event.type === 'done') accepted += event.drafts!.accepted
      }
      expect(spans[1]!.kvTokensFree).toBe(192)
    }
    for (let warm = 0; warm < 40; warm++) await generate(warm)
    const growth: number[] = []
    let before = await liveBytes()
    for (let seed = 40; seed < 240; seed += BATCH) {
      for (let i = 0; i < BATCH; i++) await generate(seed + i)
      const now = await liveBytes()
      growth.push((now - before) / BATCH)
      before = now
    }
    expect(accepted).toBeGreaterThan(240 * 4)
    expect(Math.min(...growth)).toBeLessThan(BYTES_A_GENERATION)
    await chat.close()
    await engine.close()
  })
})

describe.each(Object.entries(ENGINES))('200 generations on engine %s', (_name, createEngine) => {
  it('leave the JS heap, the arrays outside it and WebAssembly memory as they were', async () => {
    const grow = vi.spyOn(WebAssembly.Memory.prototype, 'grow')
    const engine = await createEngine()
    // Room for three sessions, so that kept prefixes are evicted all the time.
    const backend = { kind: 'local', kvTokens: 192 } as const
    const chat = await createClient({ model, tokenizer, engine, backend })
    const generate = async (seed: number) => {
      const promptIds = Array.from({ length: 40 }, (_, t) => (t < 20 ? t : (t * 7 + seed * 13) % 256))
      let tokens = 0
      for await (const event of chat.generate({ promptIds, maxTokens: 12, ignoreEos: true })) {
        if (event.type === 'token') tokens++
      }
      expect(tokens).toBe(12)
    }
    for (let warm = 0; warm < 40; warm++) await generate(warm)
    const grown = grow.mock.calls.length
    // What leaks grows in every batch; what V8 compiles and notes about our code meanwhile does not.
    const growth: number[] = []
    let before = await liveBytes()
    for (let seed = 40; seed < 240; seed += BATCH) {
      for (let i = 0; i < BATCH; i++) await generate(seed + i)
      const now = await liveBytes()
      growth.push((now - before) / BATCH)
      before = now
    }
    expect(Math.min(...growth)).toBeLessThan(BYTES_A_GENERATION)
    expect(grow.mock.calls.length).toBe(grown)
    await chat.close()
    await engine.close()
  })
})
