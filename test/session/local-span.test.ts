import { describe, expect, it } from 'vitest'
import { createLocalSpan } from '../../src/session/local-span.ts'
import { failureOf, someHidden, spanRunnerContract, until } from '../contract/span-runner.ts'
import { createFakeEngineSpan } from './fake-engine-span.ts'

const HIDDEN = 8
const options = { modelId: 'fake@1', hiddenSize: HIDDEN, engineName: 'fake' }

spanRunnerContract('local span, fake engine', async () => {
  const span = createFakeEngineSpan({ start: 1, end: 3, kvTokens: 64 })
  const runner = createLocalSpan(span, options)
  return { runner, kvTokens: 64, freeTokens: () => span.kvTokensFree, close: () => runner.close() }
})

spanRunnerContract('local span that cuts steps into pieces of 2', async () => {
  const span = createFakeEngineSpan({ start: 0, end: 2, kvTokens: 64 })
  const runner = createLocalSpan(span, { ...options, maxRows: 2 })
  return { runner, kvTokens: 64, freeTokens: () => span.kvTokensFree, close: () => runner.close() }
})

describe('createLocalSpan', () => {
  it('puts single tokens of several sessions into one call of the engine', async () => {
    const span = createFakeEngineSpan({ start: 0, end: 1, kvTokens: 64 })
    const runner = createLocalSpan(span, options)
    const sessions = await Promise.all([1, 2, 3].map(() => runner.open({ maxTokens: 8 })))
    await Promise.all(sessions.map((session) => session.step(someHidden(1, HIDDEN, 1))))
    expect(span.calls).toEqual([3])
  })

  it('waits for sessions that ask a few microtasks later than the first', async () => {
    const span = createFakeEngineSpan({ start: 0, end: 1, kvTokens: 64 })
    const runner = createLocalSpan(span, options)
    const sessions = await Promise.all([0, 1, 2, 3].map(() => runner.open({ maxTokens: 8 })))
    await Promise.all(
      sessions.map(async (session, later) => {
        for (let i = 0; i < 3 * later; i++) await Promise.resolve()
        await session.step(someHidden(1, HIDDEN, 1))
      }),
    )
    expect(span.calls).toEqual([4])
  })

  it('serves a short step after at most one piece of another session', async () => {
    let release: () => void = () => undefined
    const span = createFakeEngineSpan({
      start: 0,
      end: 1,
      kvTokens: 256,
      delay: () => new Promise((resolve) => (release = resolve)),
    })
    const runner = createLocalSpan(span, { ...options, maxRows: 4 })
    const [long, short] = [await runner.open({ maxTokens: 64 }), await runner.open({ maxTokens: 8 })]
    const order: string[] = []
    const slow = long.step(someHidden(40, HIDDEN, 1)).then(() => order.push('long'))
    await until(() => span.calls.length === 1)
    const quick = short.step(someHidden(1, HIDDEN, 2)).then(() => order.push('short'))
    release()
    await until(() => span.calls.length === 2)
    release()
    await quick
    expect(span.calls).toHaveLength(3)
    const pump = setInterval(() => release(), 1)
    await slow
    clearInterval(pump)
    expect(order).toEqual(['short', 'long'])
  })

  it('rolls a step back that the engine failed half-way', async () => {
    const span = createFakeEngineSpan({ start: 0, end: 1, kvTokens: 64 })
    const runner = createLocalSpan(span, { ...options, maxRows: 2 })
    const session = await runner.open({ maxTokens: 16 })
    const whole = await session.step(someHidden(3, HIDDEN, 1))
    await session.rollback(0)
    span.failCall(span.calls.length + 1)
    expect(await failureOf(session.step(someHidden(6, HIDDEN, 2)))).toBe('internal')
    expect(session.position).toBe(0)
    await session.rollback(0)
    expect(await session.step(someHidden(3, HIDDEN, 1))).toEqual(whole)
  })

  it('closing a session during its step frees the room when the engine is done', async () => {
    let release: () => void = () => undefined
    const span = createFakeEngineSpan({
      start: 0,
      end: 1,
      kvTokens: 16,
      delay: () => new Promise((resolve) => (release = resolve)),
    })
    const runner = createLocalSpan(span, options)
    const session = await runner.open({ maxTokens: 16 })
    const step = session.step(someHidden(2, HIDDEN, 1))
    await until(() => span.calls.length === 1)
    const closing = session.close()
    expect(await failureOf(step)).toBe('cancelled')
    expect(span.kvTokensFree).toBe(0)
    release()
    await closing
    expect(span.kvTokensFree).toBe(16)
  })

  it('a closed runner opens nothing', async () => {
    const runner = createLocalSpan(createFakeEngineSpan({ start: 0, end: 1, kvTokens: 16 }), options)
    await runner.close()
    expect(await failureOf(runner.open({ maxTokens: 1 }))).toBe('unreachable')
  })
})
