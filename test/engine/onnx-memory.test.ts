import { describe, expect, it } from 'vitest'
import { KvRegions, MAX_REGIONS } from '../../src/engine/onnx/kv-regions.ts'
import { createMemoryBudget } from '../../src/engine/onnx/memory-budget.ts'
import { loadOnnxSpan } from '../../src/engine/onnx/onnx-span.ts'
import { createOrtRuntime, type OrtRuntime } from '../../src/engine/onnx/ort-runtime.ts'
import { alibiSlopes } from '../../src/model/alibi.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import { noise, ones, runCut } from './span-runs.ts'
import { ODD_SPEC, randomModel } from './random-model.ts'

describe('KvRegions', () => {
  /** Regions over an array whose rows tests can mark and look up. */
  function marked(tokens: number): { cells: Int32Array; regions: KvRegions } {
    const cells = new Int32Array(tokens + MAX_REGIONS)
    const regions = new KvRegions(tokens, (target, source, count) => {
      cells.copyWithin(target, source, source + count)
    })
    return { cells, regions }
  }

  it('keeps every session apart and whole through random leases and releases', () => {
    const { cells, regions } = marked(200)
    let seed = 1
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
      return Math.floor((seed / 2 ** 32) * below)
    }
    const open: { region: ReturnType<KvRegions['lease']>; mark: number }[] = []
    for (let round = 1; round <= 5000; round++) {
      const wanted = 1 + random(60)
      if (wanted <= regions.freeTokens) {
        const region = regions.lease(wanted)
        cells.fill(round, region.offset, region.offset + region.capacity)
        open.push({ region, mark: round })
      } else {
        expect(() => regions.lease(wanted)).toThrow(expect.objectContaining({ code: 'capacity' }))
        open.splice(random(open.length), 1)[0]?.region.release()
      }
      let taken = 0
      for (const { region, mark } of open) {
        const own = cells.subarray(region.offset, region.offset + region.capacity)
        expect(own.length).toBe(region.maxTokens + 1)
        expect(own.every((cell) => cell === mark)).toBe(true)
        taken += region.maxTokens
      }
      expect(regions.freeTokens).toBe(200 - taken)
    }
  })

  it('serves its whole budget as one session or as many of one token', () => {
    const { regions } = marked(MAX_REGIONS + 1)
    regions.lease(MAX_REGIONS + 1).release()
    const open = Array.from({ length: MAX_REGIONS }, () => regions.lease(1))
    expect(regions.freeTokens).toBe(1)
    expect(() => regions.lease(1)).toThrow(/64 sessions are open/)
    open[0]?.release()
    expect(regions.lease(1).maxTokens).toBe(1)
  })

  it.each([0, -1, 1.5, Number.NaN, Infinity])('refuses a senseless count: %d', (count) => {
    const refused = expect.objectContaining({ code: 'bad_request' })
    expect(() => new KvRegions(count, () => undefined)).toThrow(refused)
    expect(() => marked(8).regions.lease(count)).toThrow(refused)
  })
})

describe('createMemoryBudget', () => {
  it('refuses what passes 3840 MiB, says what is left and takes room back', () => {
    const budget = createMemoryBudget()
    budget.reserve(3 * 2 ** 30, 'the first span')
    expect(() => budget.reserve(2 ** 30, 'blocks 3:4 of m')).toThrow(
      /^blocks 3:4 of m: 1024 MiB as float32, and 768 MiB of WebAssembly memory are left/,
    )
    budget.release(3 * 2 ** 30)
    expect(() => budget.reserve(3840 * 2 ** 20, 'all')).not.toThrow()
  })
})

describe('loadOnnxSpan memory', () => {
  /** Everything that allocates: experts, ALiBi's bias, filler and a short cache for wide heads. */
  const spec: ModelSpec = {
    ...ODD_SPEC,
    headCount: 3,
    kvHeadCount: 3,
    headDim: 160,
    qkNorm: true,
    norm: { kind: 'layer', epsilon: 1e-5 },
    mlp: { kind: 'moe', expertCount: 4, topK: 2, normalizeTopK: true },
    positions: { kind: 'alibi', slopes: alibiSlopes(3), scaledByHeadDim: false, roundedBias: false },
  }
  const model = randomModel(spec, () => 'F16')
  const hidden = noise(12, spec.hiddenSize)
  /** WebAssembly memory grows and never shrinks, so what leaks shows here. */
  const memoryBytes = (runtime: OrtRuntime): number => runtime.floats(0, 1).buffer.byteLength

  it('stays flat through 200 sessions', async () => {
    const runtime = await createOrtRuntime(1)
    const span = await loadOnnxSpan(runtime, createMemoryBudget(), model, { start: 0, end: 1, kvTokens: 24 })
    let before = 0
    for (let round = 0; round < 200; round++) {
      if (round === 20) before = memoryBytes(runtime)
      await runCut(span, hidden, [9, 1, 1])
    }
    expect(memoryBytes(runtime)).toBe(before)
    expect(span.kvTokensFree).toBe(24)
    await span.close()
  })

  it('takes no more for the same span loaded, or failing to load, again and again', async () => {
    const runtime = await createOrtRuntime(1)
    const budget = createMemoryBudget()
    const failing = {
      ...model,
      weights: {
        ...model.weights,
        block: async (...[block, role, signal]: Parameters<typeof model.weights.block>) => {
          if (role === 'down.2') throw new Error('the disk is gone')
          return await model.weights.block(block, role, signal)
        },
      },
    }
    let before = 0
    for (let round = 0; round < 20; round++) {
      if (round === 4) before = memoryBytes(runtime)
      const span = await loadOnnxSpan(runtime, budget, model, { start: 0, end: 1, kvTokens: 400 })
      await runCut(span, hidden, ones(3))
      await span.close()
      await expect(
        loadOnnxSpan(runtime, budget, failing, { start: 0, end: 1, kvTokens: 400 }),
      ).rejects.toThrow('the disk is gone')
    }
    expect(memoryBytes(runtime)).toBe(before)
    expect(() => budget.reserve(3840 * 2 ** 20, 'all')).not.toThrow()
  })
})
