import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { readWasmKernels, startWasmThread } from '../../node/wasm-threads.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { createOnnxEngine } from '../../src/engine/onnx-engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { createWasmEngine } from '../../src/engine/wasm-engine.ts'
import { createClient } from '../../src/session/client.ts'
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
