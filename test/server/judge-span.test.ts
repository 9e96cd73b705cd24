import { describe, expect, it } from 'vitest'
import { createJudgeSpans, type JudgeOptions } from '../../src/server/judge-span.ts'
import { createSpanHost } from '../../src/server/span-host.ts'
import { someHidden } from '../contract/span-runner.ts'
import { fakeSpan } from '../swarm/fake-span.ts'
import { HIDDEN, MODEL_ID, until } from '../swarm/loopback.ts'

const OTHER = { start: 4, end: 8 }

function setup(options: Partial<JudgeOptions> = {}) {
  const host = createSpanHost({
    span: fakeSpan({ kvTokens: 64 }),
    modelId: MODEL_ID,
    hiddenSize: HIDDEN,
    engine: 'fake',
    limits: { maxSessions: 8, maxSessionsPerPeer: 8, maxLeaseTokens: 64 },
  })
  const loads: string[] = []
  let closed = 0
  const judge = createJudgeSpans({
    peerId: 'self',
    model: { modelId: MODEL_ID, hiddenSize: HIDDEN, blockCount: 8 },
    engine: 'fake',
    host: () => host,
    load: async (span, kvTokens) => {
      loads.push(`${span.start}:${span.end} ${kvTokens}`)
      const loaded = fakeSpan({ ...span, kvTokens })
      return await Promise.resolve({
        ...loaded,
        close: async () => {
          closed++
          await loaded.close()
        },
      })
    },
    bytesOf: ({ start, end }, kvTokens) => (end - start) * 1_000 + kvTokens,
    maxBytes: 4_100,
    queued: () => 0,
    ...options,
  })
  return { host, judge, loads, closed: () => closed }
}

describe('createJudgeSpans', () => {
  it('judges its own span on the span that is served, others on one that is loaded for it', async () => {
    const { host, judge, loads, closed } = setup()
    const own = await judge(MODEL_ID, 0, 4, 16)
    const session = await own.runner.open({ maxTokens: 16 })
    expect(host.load().sessions).toBe(1)
    expect((await session.step(someHidden(2, HIDDEN, 1))).shape).toEqual([2, HIDDEN])
    await session.rollback(1)
    expect(session.position).toBe(1)
    await session.close()
    await own.close()
    expect(host.load().sessions).toBe(0)
    const other = await judge(MODEL_ID, 4, 8, 16)
    expect(other.runner.span).toMatchObject(OTHER)
    expect(other.compute).toBe('float32')
    await other.close()
    expect(loads).toEqual(['4:8 16'])
    expect(closed()).toBe(1)
  })

  it('leaves sessions their room: a full span is loaded a second time', async () => {
    const { host, judge, loads } = setup()
    const session = await host.open({ modelId: MODEL_ID, start: 0, end: 4, maxTokens: 48, peerId: 'client' })
    await (await judge(MODEL_ID, 0, 4, 16)).close()
    expect(loads).toEqual(['0:4 16'])
    await session.close()
  })

  it('one span at a time, also after one that could not be loaded', async () => {
    let failing = true
    const { judge, loads } = setup()
    const first = await judge(MODEL_ID, 4, 8, 8)
    const second = judge(MODEL_ID, 5, 8, 8)
    const third = judge(MODEL_ID, 4, 7, 8).finally(() => (failing = false))
    await Promise.resolve()
    expect(loads).toEqual(['4:8 8'])
    await first.close()
    await (await second).close()
    await (await third).close()
    expect(loads).toEqual(['4:8 8', '5:8 8', '4:7 8'])
    expect(failing).toBe(false)
    const broken = setup({ load: () => Promise.reject(new Error('no memory')) })
    await expect(broken.judge(MODEL_ID, 4, 8, 8)).rejects.toThrow(/no memory/)
    await expect(broken.judge(MODEL_ID, 4, 8, 8)).rejects.toThrow(/no memory/)
  })

  it('has no opinion on what it has not, or has no room for', async () => {
    const { judge, loads } = setup()
    await expect(judge('other@1', 0, 4, 8)).rejects.toMatchObject({ code: 'not_found' })
    await expect(judge(MODEL_ID, 4, 9, 8)).rejects.toMatchObject({ code: 'not_found' })
    await expect(judge(MODEL_ID, 2, 8, 8)).rejects.toThrow(/6.*:8|2:8 take 1 MB/)
    await expect(judge(MODEL_ID, 2, 8, 8)).rejects.toMatchObject({ code: 'capacity' })
    expect(loads).toEqual([])
    await (await judge(MODEL_ID, 4, 8, 8)).close()
  })

  it('its steps wait while sessions have steps, for a while', async () => {
    let queued = 3
    const { judge } = setup({ queued: () => queued })
    const span = await judge(MODEL_ID, 4, 8, 8)
    const session = await span.runner.open({ maxTokens: 8 })
    let done = false
    const step = session.step(someHidden(1, HIDDEN, 1)).finally(() => (done = true))
    const started = performance.now()
    await until(() => performance.now() - started > 50, 'time passes')
    expect(done).toBe(false)
    queued = 0
    await step
    expect(performance.now() - started).toBeLessThan(190)
    queued = 1
    await session.step(someHidden(1, HIDDEN, 1))
    expect(performance.now() - started).toBeGreaterThan(200)
    await session.close()
    await span.close()
  })
})
