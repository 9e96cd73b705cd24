import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readWasmKernels, startWasmThread } from '../../node/wasm-threads.ts'
import type { Engine, EngineSpan } from '../../src/engine/engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { createWasmEngine } from '../../src/engine/wasm-engine.ts'
import { createLocalSpan } from '../../src/session/local-span.ts'
import type { SpanRunner, SpanSession } from '../../src/session/span-runner.ts'
import { concatRows, rows, type Tensor } from '../../src/tensor/tensor.ts'
import { failureOf, someHidden, spanRunnerContract } from '../contract/span-runner.ts'
import { ODD_SPEC, randomModel } from '../engine/random-model.ts'
import { createPagedEngineSpan } from './paged-engine-span.ts'

const HIDDEN = 3
const options = { modelId: 'fake@1', hiddenSize: HIDDEN, engineName: 'fake' }
const run = (span: EngineSpan, more: { maxRows?: number; prefixCacheBytes?: number } = {}): SpanRunner =>
  createLocalSpan(span, { ...options, ...more })

/** Inputs that agree with those of other seeds of the same `family` up to token `shared`. */
function prompt(family: number, seed: number, shared: number, count: number): Tensor {
  const common = someHidden(Math.min(shared, count), HIDDEN, 1000 + family)
  const own = someHidden(Math.max(0, count - shared), HIDDEN, 1 + seed + 100 * family)
  return concatRows([common, own], HIDDEN)
}

spanRunnerContract('local span that shares pages', async () => {
  const span = createPagedEngineSpan(64)
  const runner = run(span)
  return { runner, kvTokens: 64, freeTokens: () => span.kvTokensFree, close: () => runner.close() }
})

describe('createLocalSpan, sessions that begin alike', () => {
  it('compute the common pages once', async () => {
    const span = createPagedEngineSpan(512)
    const runner = run(span)
    const answer = async (seed: number) => {
      const session = await runner.open({ maxTokens: 60 })
      const output = await session.step(prompt(1, seed, 40, 50))
      await session.close()
      return output
    }
    const first = await answer(1)
    expect(span.computedRows).toBe(50)
    const second = await answer(2)
    // 40 common tokens are two full pages and a half.
    expect(span.computedRows).toBe(50 + 50 - 32)
    expect(rows(second, 0, 40)).toEqual(rows(first, 0, 40))
    expect(await answer(1)).toEqual(first)
    expect(span.computedRows).toBe(50 + 18 + 2)
  })

  it('share while both are open, and what one decoded the other prefills for nothing', async () => {
    const span = createPagedEngineSpan(512)
    const runner = run(span)
    const tokens = prompt(1, 1, 0, 48)
    const writer = await runner.open({ maxTokens: 64 })
    for (let t = 0; t < 48; t++) await writer.step(rows(tokens, t, t + 1))
    const reader = await runner.open({ maxTokens: 64 })
    await reader.step(tokens, { want: 'last' })
    expect(reader.position).toBe(48)
    expect(span.computedRows).toBe(48)
    await Promise.all([writer.close(), reader.close()])
  })

  it('get outputs of their own: a caller that changes its own changes nothing for the next', async () => {
    const runner = run(createPagedEngineSpan(64))
    const answer = async () => {
      const session = await runner.open({ maxTokens: 32 })
      const output = await session.step(prompt(1, 1, 0, 16))
      await session.close()
      return output
    }
    const kept = (await answer()).data.slice()
    ;(await answer()).data.fill(9)
    expect((await answer()).data).toEqual(kept)
  })

  it('a prefix cache of 0 bytes computes everything', async () => {
    const span = createPagedEngineSpan(64)
    const runner = run(span, { prefixCacheBytes: 0 })
    for (let round = 0; round < 2; round++) {
      const session = await runner.open({ maxTokens: 32 })
      await session.step(prompt(1, 1, 0, 32))
      await session.close()
    }
    expect(span.computedRows).toBe(64)
  })

  it('a rollback into a page that two sessions read leaves the other one its page', async () => {
    const span = createPagedEngineSpan(128)
    const runner = run(span)
    const plain = run(createPagedEngineSpan(128), { prefixCacheBytes: 0 })
    const common = prompt(1, 1, 0, 32)
    const [a, b, twin] = await Promise.all([
      runner.open({ maxTokens: 64 }),
      runner.open({ maxTokens: 64 }),
      plain.open({ maxTokens: 64 }),
    ])
    for (const session of [a, b, twin]) await session.step(common)
    await a.rollback(20)
    expect(span.copies).toBe(1)
    const other = prompt(2, 2, 0, 14)
    const changed = await a.step(other)
    // The page b reads still holds what it held.
    const behind = prompt(3, 3, 0, 5)
    expect(await b.step(behind)).toEqual(await twin.step(behind))
    await twin.rollback(20)
    expect(changed).toEqual(await twin.step(other))
    await Promise.all([a.close(), b.close(), twin.close()])
    expect(span.kvTokensFree).toBe(128)
  })

  it('a step that fails half-way leaves nothing behind that a later session could read', async () => {
    const span = createPagedEngineSpan(128)
    const runner = run(span, { maxRows: 16 })
    const tokens = prompt(1, 1, 0, 40)
    const failed = await runner.open({ maxTokens: 48 })
    span.failNext()
    expect(await failureOf(failed.step(tokens))).toBe('internal')
    expect(failed.position).toBe(0)
    const fresh = await runner.open({ maxTokens: 48 })
    const output = await fresh.step(tokens)
    expect(span.computedRows).toBe(40)
    await failed.rollback(0)
    expect(await failed.step(tokens)).toEqual(output)
    const plain = await run(createPagedEngineSpan(64), { prefixCacheBytes: 0 }).open({ maxTokens: 48 })
    expect(await plain.step(tokens)).toEqual(output)
  })

  it('room that only kept pages use is free: a session that needs all of it gets it', async () => {
    const span = createPagedEngineSpan(64)
    const runner = run(span)
    for (let round = 0; round < 5; round++) {
      const session = await runner.open({ maxTokens: 64 })
      await session.step(prompt(round, 1, 0, 64))
      expect(span.kvTokensFree).toBe(0)
      await session.close()
      expect(span.kvTokensFree).toBe(64)
    }
  })

  it('any script of sessions gives what it gives without sharing', { timeout: 30_000 }, async () => {
    const index = fc.nat({ max: 7 })
    const operation = fc.oneof(
      {
        weight: 3,
        arbitrary: fc.record({
          kind: fc.constant('open' as const),
          tokens: fc.integer({ min: 20, max: 90 }),
        }),
      },
      {
        weight: 9,
        arbitrary: fc.record({
          kind: fc.constant('step' as const),
          index,
          family: fc.constantFrom(0, 0, 0, 0, 1),
          count: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(1, 16, 32)),
          /** All sessions, or the one at `index`. */
          together: fc.boolean(),
        }),
      },
      {
        weight: 5,
        arbitrary: fc.record({
          kind: fc.constant('rollback' as const),
          index,
          share: fc.double({ min: 0.2, max: 1, noNaN: true }),
        }),
      },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('close' as const), index }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('fail' as const) }) },
    )
    let reused = 0
    let copies = 0
    await fc.assert(
      fc.asyncProperty(
        fc.array(operation, { maxLength: 60, minLength: 30 }),
        fc.constantFrom(8, 16, 20, 128),
        fc.constantFrom(1_000, 1e6, 1e6),
        fc.constantFrom(160, 320),
        async (operations, maxRows, prefixCacheBytes, kvTokens) => {
          const span = createPagedEngineSpan(kvTokens)
          const twinSpan = createPagedEngineSpan(kvTokens)
          const runner = run(span, { maxRows, prefixCacheBytes })
          const twinRunner = run(twinSpan, { maxRows, prefixCacheBytes: 0 })
          const open: { own: SpanSession; twin: SpanSession; room: number }[] = []
          const step = async (at: number, family: number, count: number) => {
            const { own, twin, room } = open[at] as (typeof open)[number]
            const from = own.position
            const tokens = rows(
              someHidden(room + 40, HIDDEN, family),
              from,
              from + Math.min(count, room - from),
            )
            if (tokens.shape[0] === 0) return
            const expected = await twin.step(tokens)
            const output = await own.step(tokens).catch(async (error: unknown) => {
              expect(String(error)).toContain('device lost')
              expect(own.position).toBe(from)
              await own.rollback(from)
              return await own.step(tokens)
            })
            expect(output).toEqual(expected)
            expect(own.position).toBe(twin.position)
          }
          for (const operation of operations) {
            if (operation.kind === 'open') {
              const [own, twin] = await Promise.allSettled([
                runner.open({ maxTokens: operation.tokens }),
                twinRunner.open({ maxTokens: operation.tokens }),
              ])
              expect(own.status).toBe(twin.status)
              if (own.status === 'fulfilled' && twin.status === 'fulfilled')
                open.push({ own: own.value, twin: twin.value, room: operation.tokens })
            } else if (operation.kind === 'fail') span.failNext()
            else if (open.length > 0) {
              const at = operation.index % open.length
              const { own, twin } = open[at] as (typeof open)[number]
              if (operation.kind === 'step') {
                const { count, family, together } = operation
                await Promise.all(
                  together ? open.map((_, i) => step(i, family, count)) : [step(at, family, count)],
                )
              } else if (operation.kind === 'rollback') {
                const target = Math.floor(own.position * operation.share)
                await Promise.all([own.rollback(target), twin.rollback(target)])
              } else {
                open.splice(at, 1)
                await Promise.all([own.close(), twin.close()])
              }
            }
            expect(span.kvTokensFree).toBe(twinSpan.kvTokensFree)
          }
          await Promise.all(open.flatMap(({ own, twin }) => [own.close(), twin.close()]))
          expect(span.kvTokensFree).toBe(kvTokens)
          reused += twinSpan.computedRows - span.computedRows
          copies += span.copies
        },
      ),
      { numRuns: 300 },
    )
    // The scripts are such that sharing happens.
    expect(reused).toBeGreaterThan(2_000)
    expect(copies).toBeGreaterThan(20)
  })
})

const ENGINES: Record<string, () => Promise<Engine>> = {
  reference: async () => createReferenceEngine(),
  wasm: () => createWasmEngine({ kernels: readWasmKernels, startThread: startWasmThread, threads: 1 }),
}

describe.each(Object.entries(ENGINES))('createLocalSpan over engine %s', (_name, createEngine) => {
  let engine: Engine
  let shared: SpanRunner
  let plain: SpanRunner
  beforeAll(async () => {
    const model = randomModel(ODD_SPEC, () => 'F32')
    engine = await createEngine()
    const open = async (prefixCacheBytes: number) =>
      createLocalSpan(await engine.loadSpan(model, { start: 0, end: 2, kvTokens: 160 }), {
        modelId: model.id,
        hiddenSize: ODD_SPEC.hiddenSize,
        engineName: engine.name,
        prefixCacheBytes,
      })
    shared = await open(1e6)
    plain = await open(0)
  })
  afterAll(async () => {
    await Promise.all([shared.close(), plain.close()])
    await engine.close()
  })

  it('answers bit for bit the same with and without shared pages, across rollbacks and decoding', async () => {
    const { hiddenSize } = ODD_SPEC
    const system = someHidden(38, hiddenSize, 1)
    const script = async (runner: SpanRunner, seed: number) => {
      const session = await runner.open({ maxTokens: 70 })
      const outputs = [await session.step(concatRows([system, someHidden(9, hiddenSize, seed)], hiddenSize))]
      for (let t = 0; t < 6; t++) outputs.push(await session.step(someHidden(1, hiddenSize, 50 + t)))
      await session.rollback(20 + seed)
      outputs.push(await session.step(someHidden(15, hiddenSize, 7)))
      reused += session.reusedTokens ?? 0
      await session.close()
      return outputs
    }
    let reused = 0
    const expected = [await script(plain, 1), await script(plain, 2), await script(plain, 3)]
    for (let round = 0; round < 3; round++) {
      const both = await Promise.all([script(shared, 1), script(shared, 2)])
      expect(both).toEqual(expected.slice(0, 2))
      expect(await script(shared, 3)).toEqual(expected[2])
    }
    expect(reused).toBeGreaterThan(128)
  })
})
