import { afterAll, describe, expect, it } from 'vitest'
import type { EngineSpan } from '../../src/engine/engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import type { WgslEngine } from '../../src/engine/wgsl-engine.ts'
import type { SharedPages } from '../../src/kv/shared-pages.ts'
import { rows, type Tensor } from '../../src/tensor/tensor.ts'
import { bits } from '../gpu/test-context.ts'
import { QUANTIZED_SPEC, quantizedModel } from './quantized-model.ts'
import { openWgsl } from './open-wgsl.ts'
import { ODD_SPEC, randomModel } from './random-model.ts'
import { noise, ones, relativeError, runCut } from './span-runs.ts'

/** The wgsl engine with its KV cache in halves: what changes, and what must not. */

const opened = await openWgsl('f16')
const engine = opened as WgslEngine
afterAll(() => opened?.close())

const ODD = { ...ODD_SPEC, qkNorm: true, windows: [null, 20, null] }
const odd = randomModel(ODD, () => 'F32')
const TOKENS = 40

async function load(kvTokens = 96): Promise<EngineSpan> {
  return await engine.loadSpan(odd, { start: 0, end: 3, kvTokens })
}

describe.skipIf(opened === undefined)('wgsl engine with a KV cache in halves', () => {
  it.each([
    ['odd shapes, head norms, a window', odd],
    ['4-bit weights', quantizedModel(QUANTIZED_SPEC, () => 'Q4_0')],
  ] as const)('agrees with the reference engine to 5e-3, and is not float32: %s', async (_, model) => {
    const options = { start: 0, end: 3, kvTokens: TOKENS }
    const hidden = noise(TOKENS, model.spec.hiddenSize)
    const span = await engine.loadSpan(model, options)
    const reference = await createReferenceEngine().loadSpan(model, options)
    const expected = await runCut(reference, hidden, [TOKENS])
    const error = relativeError((await runCut(span, hidden, [TOKENS - 1])).data, expected.data)
    await span.close()
    expect(error).toBeLessThan(5e-3)
    expect(error).toBeGreaterThan(1e-6)
  })

  it('takes half the bytes', async () => {
    const span = await load(64)
    // Heads of 10 values are padded to 12: 3 blocks of keys and values, 2 KV heads, 64 tokens.
    expect(span.kvBytes).toBe(3 * 2 * 2 * 12 * 64 * 2)
    await span.close()
    expect(engine.description).toContain('f16 KV cache')
  })

  it('gives the same bits in one prefill, in chunks, one by one and next to another session', async () => {
    const span = await load()
    const hidden = noise(TOKENS, ODD.hiddenSize)
    const whole = bits((await runCut(span, hidden, [TOKENS])).data)
    for (const cuts of [[1, 17, 3, 19], ones(TOKENS)]) {
      expect(bits((await runCut(span, hidden, cuts)).data)).toEqual(whole)
    }
    const [a, b] = [span.lease(TOKENS), span.lease(TOKENS)]
    const parts: number[] = []
    for (let at = 0; at < TOKENS; at += 8) {
      const other = { lease: b, hidden: rows(hidden, TOKENS - at - 8, TOKENS - at) }
      const [out] = await span.step([{ lease: a, hidden: rows(hidden, at, at + 8) }, other])
      parts.push(...bits((out as Tensor).data))
    }
    expect(Uint32Array.from(parts)).toEqual(whole)
    await span.close()
  })

  it('copies whole pages for a session that writes to a shared one, with the same bits', async () => {
    const span = await load()
    const shared = span.sharedPages as SharedPages
    const hidden = noise(TOKENS, ODD.hiddenSize)
    const whole = bits((await runCut(span, hidden, [TOKENS])).data)
    const first = span.lease(TOKENS)
    await span.step([{ lease: first, hidden: rows(hidden, 0, 32) }])
    const second = span.lease(TOKENS)
    for (const index of [0, 1]) shared.attach(second, index, shared.keep(first, index))
    second.rollback(20)
    const [out] = await span.step([{ lease: second, hidden: rows(hidden, 20, TOKENS) }])
    expect(bits((out as Tensor).data)).toEqual(whole.slice(20 * ODD.hiddenSize))
    await span.close()
  })
})
