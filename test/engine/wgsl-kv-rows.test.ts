import { describe, expect, it } from 'vitest'
import type { EngineSpan } from '../../src/engine/engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import type { WgslEngine } from '../../src/engine/wgsl-engine.ts'
import type { KvRows } from '../../src/kv/kv-rows.ts'
import type { KvLease } from '../../src/kv/lease.ts'
import { rows, type Tensor } from '../../src/tensor/tensor.ts'
import { bits } from '../gpu/test-context.ts'
import { openWgsl } from './open-wgsl.ts'
import { ODD_SPEC, randomModel } from './random-model.ts'
import { noise, relativeError } from './span-runs.ts'

const SPEC = { ...ODD_SPEC, windows: [null, 20, null] }
const model = randomModel(SPEC, () => 'F32')
const TOKENS = 45
const HANDED = 37
const hidden = noise(TOKENS, SPEC.hiddenSize)

async function step(span: EngineSpan, lease: KvLease, from: number, to: number): Promise<Tensor> {
  const [output] = await span.step([{ lease, hidden: rows(hidden, from, to) }])
  return output!
}

async function handOver(from: KvRows, source: KvLease, to: KvRows, target: KvLease): Promise<void> {
  for (const [first, last] of [
    [0, 16],
    [16, HANDED],
  ] as const) {
    const range = { start: 0, end: 3, from: first, to: last }
    to.write(target, range, await from.read(source, range))
  }
  to.advance(target, HANDED)
}

const there = await openWgsl('f32')

describe.skipIf(there === undefined)('kvRows of the wgsl engine', () => {
  it.each(['f32', 'f16'] as const)('cache in %s: goes on bit for bit', { timeout: 60_000 }, async (kv) => {
    const engine = (kv === 'f32' ? there : await openWgsl(kv)) as WgslEngine
    const load = () => engine.loadSpan(model, { start: 0, end: 3, kvTokens: 96 })
    const [old, fresh] = [await load(), await load()]
    expect(old.kvRows!.precision).toBe(kv)
    const lease = old.lease(TOKENS)
    await step(old, lease, 0, HANDED)
    const other = fresh.lease(20)
    await step(fresh, other, 0, 20)
    const taken = fresh.lease(TOKENS)
    await handOver(old.kvRows!, lease, fresh.kvRows!, taken)
    for (const [from, to] of [
      [HANDED, HANDED + 1],
      [HANDED + 1, TOKENS],
    ] as const) {
      const expected = await step(old, lease, from, to)
      expect(bits((await step(fresh, taken, from, to)).data)).toEqual(bits(expected.data))
    }
    // What follows in a page that is begun can't be written alone.
    expect(() =>
      fresh.kvRows!.write(other, { start: 0, end: 3, from: 20, to: 21 }, new Float32Array(6 * 20)),
    ).toThrow()
    await old.close()
    await fresh.close()
    if (kv === 'f16') await engine.close()
  })

  it('understands the reference engine, and is understood', { timeout: 60_000 }, async () => {
    const wgsl = await there!.loadSpan(model, { start: 0, end: 3, kvTokens: 96 })
    const reference = await createReferenceEngine().loadSpan(model, { start: 0, end: 3, kvTokens: 96 })
    for (const [old, fresh] of [
      [wgsl, reference],
      [reference, wgsl],
    ] as const) {
      const lease = old.lease(TOKENS)
      await step(old, lease, 0, HANDED)
      const taken = fresh.lease(TOKENS)
      await handOver(old.kvRows!, lease, fresh.kvRows!, taken)
      const expected = await step(old, lease, HANDED, TOKENS)
      expect(relativeError((await step(fresh, taken, HANDED, TOKENS)).data, expected.data)).toBeLessThan(1e-4)
      lease.release()
      taken.release()
    }
    await wgsl.close()
    await reference.close()
    await there!.close()
  })
})
