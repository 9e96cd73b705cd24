import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ChainEvent, ChainOptions } from '../../src/session/chain-options.ts'
import { createChain } from '../../src/session/chain-span.ts'
import type { Failover, SpanRunner } from '../../src/session/span-runner.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { rows } from '../../src/tensor/tensor.ts'
import { failureOf, someHidden, spanRunnerContract, until } from '../contract/span-runner.ts'
import type { FakeMode, FakeSwarm } from './fake-swarm.ts'
import { createFakeSwarm } from './fake-swarm.ts'
import { startIdleTime } from './idle-time.ts'

const HIDDEN = 4
const BLOCKS = 6

const TWO_PER_BLOCK = [
  { id: 'a1', start: 0, end: 2 },
  { id: 'a2', start: 0, end: 2 },
  { id: 'b1', start: 2, end: 4 },
  { id: 'b2', start: 2, end: 4 },
  { id: 'c1', start: 4, end: 6 },
  { id: 'c2', start: 4, end: 6 },
]

/** A stall is noticed after 15 ms, of a time that passes while nothing else happens. */
function chainOver(swarm: FakeSwarm, options: Partial<ChainOptions> = {}) {
  return createChain({
    model: { modelId: 'fake@1', name: 'fake', blockCount: BLOCKS, hiddenSize: HIDDEN },
    directory: swarm.directory,
    connect: swarm.connect,
    chunkTokens: 3,
    hopOpenMs: 30,
    openWaitMs: 0,
    recoveryWaitMs: 0,
    pace: { minMs: 15, firstMs: 15, maxMs: 15 },
    bans: { baseMs: 5, maxMs: 20 },
    ...options,
  })
}

spanRunnerContract('chain over one server', async () => {
  const swarm = createFakeSwarm(HIDDEN, [{ id: 'a', start: 0, end: BLOCKS, kvTokens: 64 }])
  const runner = chainOver(swarm, { pace: { minMs: 2000 } })
  const freeTokens = () => swarm.server('a').freeTokens
  return { runner, kvTokens: 64, freeTokens, close: () => runner.close() }
})

spanRunnerContract('chain over three servers', async () => {
  const swarm = createFakeSwarm(
    HIDDEN,
    TWO_PER_BLOCK.filter(({ id }) => id.endsWith('1')).map((server) => ({ ...server, kvTokens: 64 })),
  )
  const runner = chainOver(swarm, { pace: { minMs: 2000 } })
  const freeTokens = () => Math.min(...[...swarm.servers.values()].map((server) => server.freeTokens))
  return { runner, kvTokens: 64, freeTokens, close: () => runner.close() }
})

const PROMPT = someHidden(11, HIDDEN, 5)
const DECODE = 6

/** A prompt and some single tokens through a fresh session; tokens depend on the outputs before, as in an answer. */
async function answer(runner: SpanRunner, onFailover?: (failover: Failover) => void): Promise<Tensor[]> {
  const session = await runner.open({ maxTokens: 32, ...(onFailover && { onFailover }) })
  try {
    const outputs = [await session.step(PROMPT, { want: 'last' })]
    for (let i = 0; i < DECODE; i++) {
      const last = outputs.at(-1)
      outputs.push(await session.step({ shape: last.shape, data: last.data.map((value) => value / 64) }))
    }
    return outputs
  } finally {
    await session.close()
  }
}

async function undisturbed(): Promise<Tensor[]> {
  return await answer(chainOver(createFakeSwarm(HIDDEN, TWO_PER_BLOCK)))
}

/** No server holds a session or a token of room any more. */
async function expectNothingLeft(swarm: FakeSwarm): Promise<void> {
  swarm.heal()
  await until(() => [...swarm.servers.values()].every((server) => server.openSessions === 0))
  for (const server of swarm.servers.values()) expect(server.freeTokens).toBe(4096)
}

describe('createChain', () => {
  let endIdleTime: () => void
  beforeEach(() => {
    endIdleTime = startIdleTime()
  })
  afterEach(() => endIdleTime())

  it.each(['dead', 'stalled', 'nan', 'short'] as const)(
    'replaces a server that turns %s at any step of prefill and decode, bit for bit',
    async (mode) => {
      const expected = await undisturbed()
      for (let at = 0; at < 9; at++) {
        const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
        const failovers: Failover[] = []
        let hit: string | undefined
        for (const server of [swarm.server('b1'), swarm.server('b2')]) {
          server.onStep = (step) => {
            if (step !== at || hit) return
            hit = server.id
            server.mode = mode
          }
        }
        expect(await answer(chainOver(swarm), (failover) => failovers.push(failover))).toEqual(expected)
        expect(failovers).toHaveLength(1)
        expect(failovers[0]).toMatchObject({ span: { start: 2, end: 4 }, from: hit })
        expect(failovers[0]?.to).toEqual([hit === 'b1' ? 'b2' : 'b1'])
        await expectNothingLeft(swarm)
      }
    },
  )

  it(
    'gives the undisturbed answer whatever happens to one server of each span, 300 cases',
    { timeout: 60_000 },
    async () => {
      const expected = await undisturbed()
      const fault = fc.record({
        span: fc.constantFrom('a', 'b', 'c'),
        at: fc.integer({ min: 0, max: 12 }),
        mode: fc.constantFrom<FakeMode>('dead', 'dead', 'stalled', 'nan', 'short'),
      })
      await fc.assert(
        fc.asyncProperty(fc.array(fault, { maxLength: 4 }), async (faults) => {
          const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
          for (const { span, at, mode } of faults) {
            const pair = [swarm.server(`${span}1`), swarm.server(`${span}2`)]
            for (const server of pair) {
              const before = server.onStep
              server.onStep = (step) => {
                before?.(step)
                // Two servers per block: one of them stays well.
                if (step === at && pair.every((other) => other.mode === 'ok')) server.mode = mode
              }
            }
          }
          expect(await answer(chainOver(swarm))).toEqual(expected)
          await expectNothingLeft(swarm)
        }),
        { numRuns: 300, seed: 3 },
      )
    },
  )

  it('survives servers that come back: one fault after the other in a long answer', async () => {
    const expected = await undisturbed()
    const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
    let steps = 0
    for (const server of swarm.servers.values()) {
      server.onStep = () => {
        if (++steps % 19 !== 0) return
        for (const other of swarm.servers.values()) other.mode = 'ok'
        server.mode = 'dead'
      }
    }
    expect(await answer(chainOver(swarm, { recoveryWaitMs: 20_000 }))).toEqual(expected)
    expect(steps).toBeGreaterThan(28)
    await expectNothingLeft(swarm)
  })

  it('replaces one span by two servers', async () => {
    const expected = await undisturbed()
    const swarm = createFakeSwarm(HIDDEN, [
      { id: 'a', start: 0, end: 2 },
      { id: 'b', start: 2, end: 6 },
      { id: 'c', start: 2, end: 3, throughput: 1 },
      { id: 'd', start: 3, end: 6, throughput: 1 },
    ])
    swarm.server('b').onStep = (step) => {
      if (step === 5) swarm.server('b').mode = 'dead'
    }
    const failovers: Failover[] = []
    expect(await answer(chainOver(swarm), (failover) => failovers.push(failover))).toEqual(expected)
    expect(failovers.map(({ to }) => to)).toEqual([['c', 'd']])
    await expectNothingLeft(swarm)
  })

  it('replaces a neighbour too when the lost span alone has no replacement', async () => {
    const swarm = createFakeSwarm(HIDDEN, [
      { id: 'a', start: 0, end: 2 },
      { id: 'b', start: 2, end: 4 },
      { id: 'c', start: 4, end: 6 },
      { id: 'wide', start: 2, end: 6, throughput: 1 },
    ])
    swarm.server('b').onStep = (step) => {
      if (step === 2) swarm.server('b').mode = 'dead'
    }
    const failovers: Failover[] = []
    expect(await answer(chainOver(swarm), (failover) => failovers.push(failover))).toEqual(
      await undisturbed(),
    )
    expect(failovers).toMatchObject([{ span: { start: 2, end: 6 }, from: 'b', to: ['wide'] }])
    await expectNothingLeft(swarm)
  })

  it('keeps the outputs a caller asked for across a failure in the middle of a prefill', async () => {
    const whole = await (async () => {
      const session = await chainOver(createFakeSwarm(HIDDEN, TWO_PER_BLOCK)).open({ maxTokens: 16 })
      return await session.step(PROMPT)
    })()
    const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
    let hit = false
    for (const server of [swarm.server('c1'), swarm.server('c2')]) {
      server.onStep = (step) => {
        if (step !== 2 || hit) return
        hit = true
        server.mode = 'dead'
      }
    }
    const session = await chainOver(swarm).open({ maxTokens: 16 })
    expect(await session.step(PROMPT)).toEqual(whole)
    expect(hit).toBe(true)
    expect(session.position).toBe(11)
    await session.close()
    await expectNothingLeft(swarm)
  })

  it('rolls back through a server that died meanwhile', async () => {
    const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
    const session = await chainOver(swarm).open({ maxTokens: 16 })
    const first = await session.step(PROMPT)
    for (const hop of session.route) swarm.server(hop.peer).mode = 'dead'
    await session.rollback(4)
    const again = await session.step(rows(PROMPT, 4, 11))
    expect([...again.data]).toEqual([...rows(first, 4, 11).data])
    await session.close()
    await expectNothingLeft(swarm)
  })

  it('open: tries others when servers are dead, stalled or full', async () => {
    for (const mode of ['dead', 'stalled', 'full'] as const) {
      const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
      for (const id of ['a1', 'b2', 'c1']) swarm.server(id).mode = mode
      const session = await chainOver(swarm).open({ maxTokens: 8 })
      expect(session.route.map((hop) => hop.peer)).toEqual(['a2', 'b1', 'c2'])
      await session.close()
      await expectNothingLeft(swarm)
    }
  })

  it('open: names the blocks nobody serves', async () => {
    const swarm = createFakeSwarm(
      HIDDEN,
      TWO_PER_BLOCK.filter(({ start }) => start !== 2),
    )
    const chain = chainOver(swarm)
    await expect(chain.open({ maxTokens: 8 })).rejects.toMatchObject({
      code: 'no_chain',
      message: expect.stringMatching(/blocks 2:4 of fake/),
    })
    expect(await chain.readiness()).toEqual({ ready: false, missing: [{ start: 2, end: 4 }] })
    await expectNothingLeft(swarm)
  })

  it('open: says capacity when servers are only full', async () => {
    const swarm = createFakeSwarm(
      HIDDEN,
      TWO_PER_BLOCK.map((server) => ({ ...server, kvTokens: 16 })),
    )
    expect(await failureOf(chainOver(swarm).open({ maxTokens: 17 }))).toBe('capacity')
    const refusing = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
    for (const server of refusing.servers.values()) server.mode = 'full'
    expect(await failureOf(chainOver(refusing).open({ maxTokens: 8 }))).toBe('capacity')
  })

  it('waits for a lost span to be served again, and says which blocks are missing when it is not', async () => {
    const alone = TWO_PER_BLOCK.filter(({ id }) => id.endsWith('1'))
    const expected = await undisturbed()
    const swarm = createFakeSwarm(HIDDEN, alone)
    swarm.server('b1').onStep = (step) => {
      if (step !== 6) return
      swarm.server('b1').mode = 'dead'
      setTimeout(() => (swarm.server('b1').mode = 'ok'), 60)
    }
    expect(await answer(chainOver(swarm, { recoveryWaitMs: 20_000 }))).toEqual(expected)
    await expectNothingLeft(swarm)

    swarm.server('b1').onStep = () => (swarm.server('b1').mode = 'dead')
    await expect(answer(chainOver(swarm, { recoveryWaitMs: 100 }))).rejects.toMatchObject({
      message: expect.stringMatching(/blocks 2:4|b1 is gone/),
    })
    await expectNothingLeft(swarm)
  })

  it("does not blame servers for the caller's own errors", async () => {
    const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
    const events: ChainEvent[] = []
    const session = await chainOver(swarm, { onEvent: (event) => events.push(event) }).open({ maxTokens: 8 })
    for (const server of swarm.servers.values()) server.mode = 'bad_request'
    expect(await failureOf(session.step(someHidden(2, HIDDEN, 1)))).toBe('bad_request')
    await session.close()
    expect(events.map((event) => event.type)).toEqual(['opened'])
    await expectNothingLeft(swarm)
  })

  it('cancel at any step of prefill and decode frees every server, stalled ones included', async () => {
    for (let at = 0; at < 12; at++) {
      const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
      const stop = new AbortController()
      let steps = 0
      for (const server of swarm.servers.values()) {
        server.onStep = () => {
          if (steps++ !== at) return
          server.mode = at % 2 ? 'stalled' : 'ok'
          stop.abort()
        }
      }
      const session = await chainOver(swarm, { pace: { minMs: 60_000 } }).open({ maxTokens: 16 })
      expect(await failureOf(session.step(PROMPT, { signal: stop.signal }))).toBe('cancelled')
      expect(await failureOf(session.step(PROMPT))).toBe('cancelled')
      await session.close()
      await expectNothingLeft(swarm)
    }
  })

  it('cancel while it waits for a lost span ends at once', async () => {
    const swarm = createFakeSwarm(
      HIDDEN,
      TWO_PER_BLOCK.filter(({ id }) => id.endsWith('1')),
    )
    const stop = new AbortController()
    const chain = chainOver(swarm, { recoveryWaitMs: 60_000, bans: { baseMs: 60_000, maxMs: 60_000 } })
    const session = await chain.open({ maxTokens: 16 })
    swarm.server('b1').mode = 'dead'
    const step = session.step(PROMPT, { signal: stop.signal })
    setTimeout(() => stop.abort(), 30)
    expect(await failureOf(step)).toBe('cancelled')
    await session.close()
    await expectNothingLeft(swarm)
  })

  it('close during a step frees every server', async () => {
    const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
    const session = await chainOver(swarm, { pace: { minMs: 60_000 } }).open({ maxTokens: 16 })
    for (const server of swarm.servers.values()) server.mode = 'stalled'
    const step = session.step(PROMPT)
    await session.close()
    expect(await failureOf(step)).toBe('cancelled')
    await expectNothingLeft(swarm)
  })

  it('gives up with session_lost when every replacement fails', async () => {
    const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
    const session = await chainOver(swarm, { attempts: 4 }).open({ maxTokens: 16 })
    swarm.server('b1').mode = swarm.server('b2').mode = 'nan'
    expect(['session_lost', 'no_chain']).toContain(await failureOf(session.step(PROMPT)))
    await session.close()
    await expectNothingLeft(swarm)
  })

  it('pipelines a prefill: hops work on different pieces at the same time', async () => {
    const swarm = createFakeSwarm(
      HIDDEN,
      TWO_PER_BLOCK.filter(({ id }) => id.endsWith('1')),
    )
    const order: string[] = []
    for (const server of swarm.servers.values()) server.onStep = (step) => order.push(`${server.id}.${step}`)
    const session = await chainOver(swarm).open({ maxTokens: 16 })
    await session.step(PROMPT)
    expect(order).toHaveLength(12)
    // The second piece enters the chain before the first has left it.
    expect(order.indexOf('a1.1')).toBeLessThan(order.indexOf('c1.0'))
    await session.close()
  })

  it('goes to another server before one leaves, at any step of prefill and decode, bit for bit', async () => {
    const expected = await undisturbed()
    for (let at = 0; at < 9; at++) {
      const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
      const failovers: Failover[] = []
      let left: string | undefined
      for (const server of [swarm.server('b1'), swarm.server('b2')]) {
        server.onStep = (step) => {
          if (step !== at || left) return
          left = server.id
          server.leave()
        }
      }
      const runner = chainOver(swarm)
      const session = await runner.open({ maxTokens: 32, onFailover: (failover) => failovers.push(failover) })
      const outputs = [await session.step(PROMPT, { want: 'last' })]
      for (let i = 0; i < DECODE; i++) {
        const last = outputs.at(-1)
        outputs.push(await session.step({ shape: last.shape, data: last.data.map((value) => value / 64) }))
      }
      expect(outputs).toEqual(expected)
      // Nobody waits for the next question: a server that leaves is free soon.
      await until(() => swarm.server(left!).openSessions === 0)
      expect(failovers).toMatchObject([
        {
          span: { start: 2, end: 4 },
          from: left,
          to: [left === 'b1' ? 'b2' : 'b1'],
          reason: 'the server leaves',
        },
      ])
      await session.close()
      await expectNothingLeft(swarm)
    }
  })

  it('stays with a server that leaves while nobody can take over, and closes cleanly under a hand-over', async () => {
    const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
    swarm.server('a2').mode = 'full'
    const session = await chainOver(swarm).open({ maxTokens: 32 })
    await session.step(PROMPT)
    swarm.server('a1').leave()
    await session.step(PROMPT)
    expect(session.route[0]?.peer).toBe('a1')
    const b = session.route[1]!.peer
    swarm.server(b).leave()
    await session.close()
    await expectNothingLeft(swarm)
  })

  it('gives the undisturbed answer with leaving and failing servers, rollbacks in between, 300 cases', async () => {
    const reference = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
    const event = fc.record({
      op: fc.constantFrom('step', 'step', 'rollback', 'leave', 'dead', 'wait'),
      server: fc.constantFrom('a1', 'b1', 'c1'),
      tokens: fc.integer({ min: 1, max: 5 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(event, { minLength: 1, maxLength: 10 }), async (events) => {
        const swarm = createFakeSwarm(HIDDEN, TWO_PER_BLOCK)
        const session = await chainOver(swarm).open({ maxTokens: 64 })
        const twin = await chainOver(reference).open({ maxTokens: 64 })
        for (const [i, { op, server, tokens }] of events.entries()) {
          if (op === 'leave') swarm.server(server).leave()
          else if (op === 'dead') swarm.server(server).mode = 'dead'
          else if (op === 'wait') await new Promise((resolve) => setTimeout(resolve, 1))
          else if (op === 'rollback') {
            const to = Math.max(0, session.position - tokens)
            await Promise.all([session.rollback(to), twin.rollback(to)])
          } else {
            const input = someHidden(tokens, HIDDEN, i)
            expect(await session.step(input)).toEqual(await twin.step(input))
          }
        }
        await Promise.all([session.close(), twin.close()])
        await expectNothingLeft(swarm)
      }),
      { numRuns: 300 },
    )
  })
})
