import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readWasmKernels, startWasmThread } from '../../node/wasm-threads.ts'
import type { Engine, EngineSpan } from '../../src/engine/engine.ts'
import { createOnnxEngine } from '../../src/engine/onnx-engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { createWasmEngine } from '../../src/engine/wasm-engine.ts'
import type { KvRange } from '../../src/kv/kv-rows.ts'
import type { KvLease } from '../../src/kv/lease.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import { rows, type Tensor } from '../../src/tensor/tensor.ts'
import { ODD_SPEC, randomModel } from './random-model.ts'
import { noise, relativeError } from './span-runs.ts'

/** Partial rotation, wide heads, a window, head norms: nothing lies where a plain layout would have it. */
const PARTIAL: ModelSpec = {
  ...ODD_SPEC,
  headCount: 3,
  kvHeadCount: 3,
  headDim: 29,
  qkNorm: true,
  windows: [null, 20, null],
  positions: {
    kind: 'rope',
    rotaryDim: 12,
    inverseFrequencies: [1, 0.6, 0.3, 0.1, 0.03, 0.01],
    attentionFactor: 0.9,
  },
}
const TOKENS = 45
const HANDED = 37

const engines = new Map<string, Engine>()
beforeAll(async () => {
  engines.set('reference', createReferenceEngine())
  engines.set(
    'wasm',
    await createWasmEngine({ kernels: readWasmKernels, startThread: startWasmThread, threads: 1 }),
  )
  engines.set('onnx', await createOnnxEngine({ threads: 1 }))
})
afterAll(async () => {
  for (const engine of engines.values()) await engine.close()
})

async function step(
  span: EngineSpan,
  lease: KvLease,
  hidden: Tensor,
  from: number,
  to: number,
): Promise<Tensor> {
  const [output] = await span.step([{ lease, hidden: rows(hidden, from, to) }])
  return output!
}

/** Takes tokens [0, HANDED) of all blocks from one lease to another, in uneven pieces. */
async function handOver(from: EngineSpan, source: KvLease, to: EngineSpan, target: KvLease): Promise<void> {
  const blocks = { start: to.start, end: to.end }
  for (const [first, last] of [
    [0, 16],
    [16, 21],
    [21, HANDED],
  ] as const) {
    const range: KvRange = { ...blocks, from: first, to: last }
    to.kvRows!.write(target, range, await from.kvRows!.read(source, range))
  }
  to.kvRows!.advance(target, HANDED)
}

describe.each([
  ['odd shapes', ODD_SPEC],
  ['partial rotation', PARTIAL],
] as const)('kvRows: %s', (_, spec) => {
  const model = randomModel(spec, () => 'F32')
  const hidden = noise(TOKENS, spec.hiddenSize)

  it.each(['reference', 'wasm', 'onnx'])(
    '%s goes on bit for bit with rows of the same engine',
    async (name) => {
      const engine = engines.get(name)!
      const load = (start: number, end: number) => engine.loadSpan(model, { start, end, kvTokens: 96 })
      const [old, fresh, first, second] = [
        await load(0, 3),
        await load(0, 3),
        await load(0, 1),
        await load(1, 3),
      ]
      const lease = old.lease(TOKENS)
      await step(old, lease, hidden, 0, HANDED)
      // Not at the start of the cache.
      const other = fresh.lease(20)
      await step(fresh, other, hidden, 0, 20)
      const taken = fresh.lease(TOKENS)
      await handOver(old, lease, fresh, taken)
      const [a, b] = [first.lease(TOKENS), second.lease(TOKENS)]
      await handOver(old, lease, first, a)
      await handOver(old, lease, second, b)
      const whole: KvRange = { start: 0, end: 3, from: 0, to: HANDED }
      expect(await fresh.kvRows!.read(taken, whole)).toEqual(await old.kvRows!.read(lease, whole))
      for (const [from, to] of [
        [HANDED, 38],
        [38, TOKENS],
      ] as const) {
        const expected = await step(old, lease, hidden, from, to)
        expect(await step(fresh, taken, hidden, from, to)).toEqual(expected)
        const [middle] = await first.step([{ lease: a, hidden: rows(hidden, from, to) }])
        const [split] = await second.step([{ lease: b, hidden: middle! }])
        expect(split).toEqual(expected)
      }
      for (const span of [old, fresh, first, second]) await span.close()
    },
  )

  it.each([
    ['wasm', 'reference'],
    ['reference', 'onnx'],
    ['onnx', 'wasm'],
  ])('rows of %s are understood by %s', async (giver, taker) => {
    const load = (name: string) => engines.get(name)!.loadSpan(model, { start: 0, end: 3, kvTokens: 96 })
    const [old, fresh] = [await load(giver), await load(taker)]
    const lease = old.lease(TOKENS)
    await step(old, lease, hidden, 0, HANDED)
    const taken = fresh.lease(TOKENS)
    await handOver(old, lease, fresh, taken)
    const expected = await step(old, lease, hidden, HANDED, TOKENS)
    const output = await step(fresh, taken, hidden, HANDED, TOKENS)
    expect(relativeError(output.data, expected.data)).toBeLessThan(1e-4)
    await old.close()
    await fresh.close()
  })
})

describe('kvRows: ranges', () => {
  const model = randomModel(ODD_SPEC, () => 'F32')

  it.each(['reference', 'wasm', 'onnx'])(
    '%s refuses what the lease does not hold or has no room for',
    async (name) => {
      const span = await engines.get(name)!.loadSpan(model, { start: 1, end: 3, kvTokens: 48 })
      const kv = span.kvRows!
      const lease = span.lease(20)
      await step(span, lease, noise(10, ODD_SPEC.hiddenSize), 0, 10)
      const range = { start: 1, end: 3, from: 0, to: 10 }
      const values = (await kv.read(lease, range)).slice()
      expect(values.length).toBe(2 * 2 * 10 * kv.width)
      const refused = (work: () => unknown) =>
        expect(work).toThrow(expect.objectContaining({ code: 'bad_request' }))
      refused(() => kv.read(lease, { ...range, to: 11 }))
      refused(() => kv.read(lease, { ...range, start: 0 }))
      refused(() => kv.read(lease, { ...range, end: 4 }))
      refused(() => kv.read(lease, { ...range, from: 10 }))
      refused(() => kv.read(lease, { ...range, from: Number.NaN }))
      refused(() => kv.write(lease, range, values))
      refused(() => kv.write(lease, { ...range, from: 12, to: 22 }, values))
      refused(() => kv.write(lease, { ...range, from: 10, to: 19 }, values))
      refused(() => kv.advance(lease, 9))
      refused(() => kv.advance(lease, 21))
      kv.write(lease, { ...range, from: 10, to: 20 }, values)
      expect(lease.position).toBe(10)
      kv.advance(lease, 20)
      expect(await kv.read(lease, { ...range, from: 10, to: 20 })).toEqual(values)
      lease.release()
      refused(() => kv.read(lease, range))
      expect(span.kvTokensFree).toBe(48)
      await span.close()
    },
  )
})
