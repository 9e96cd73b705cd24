import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createChain } from '../../src/session/chain-span.ts'
import type { ChainOptions } from '../../src/session/chain-options.ts'
import { createHistory } from '../../src/session/history.ts'
import type { Failover } from '../../src/session/span-runner.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { someHidden, until } from '../contract/span-runner.ts'
import { createFakeSwarm, type FakeHandover, type FakeServerSpec, type FakeSwarm } from './fake-swarm.ts'
import { startIdleTime } from './idle-time.ts'

const HIDDEN = 4
const BLOCKS = 6

/** Two servers a span, and some that cut the blocks elsewhere. */
const SERVERS: readonly FakeServerSpec[] = [
  { id: 'a1', start: 0, end: 2, handsOver: true },
  { id: 'a2', start: 0, end: 2, handsOver: true },
  { id: 'b1', start: 2, end: 4, handsOver: true },
  { id: 'b2', start: 2, end: 4, handsOver: true },
  { id: 'c1', start: 4, end: 6, handsOver: true },
  { id: 'c2', start: 4, end: 6, handsOver: true },
]
const CUT_ELSEWHERE: readonly FakeServerSpec[] = [
  { id: 'a1', start: 0, end: 3, handsOver: true },
  { id: 'b1', start: 3, end: 6, handsOver: true },
  { id: 'x1', start: 0, end: 1, handsOver: true, throughput: 10 },
  { id: 'x2', start: 1, end: 3, handsOver: true, throughput: 10 },
  { id: 'y1', start: 3, end: 5, handsOver: true, throughput: 10 },
  { id: 'y2', start: 5, end: 6, handsOver: true, throughput: 10 },
  { id: 'z1', start: 0, end: 6, handsOver: true, throughput: 0.1 },
  { id: 'z2', start: 0, end: 6, throughput: 0.1 },
]

function chainOver(swarm: FakeSwarm, options: Partial<ChainOptions> = {}) {
  return createChain({
    model: { modelId: 'fake@1', name: 'fake', blockCount: BLOCKS, hiddenSize: HIDDEN },
    directory: swarm.directory,
    connect: swarm.connect,
    chunkTokens: 8,
    hopOpenMs: 30,
    openWaitMs: 0,
    recoveryWaitMs: 0,
    pace: { minMs: 15, firstMs: 15, maxMs: 15 },
    bans: { baseMs: 5, maxMs: 20 },
    ...options,
  })
}

async function expectNothingLeft(swarm: FakeSwarm): Promise<void> {
  swarm.heal()
  await until(() => [...swarm.servers.values()].every((server) => server.openSessions === 0))
  for (const server of swarm.servers.values()) expect(server.freeTokens).toBe(4096)
}

let endIdleTime: () => void
beforeEach(() => {
  endIdleTime = startIdleTime()
})
afterEach(() => endIdleTime())

describe('hand-overs of a chain', () => {
  it.each(['ok', 'half', 'wrong', 'refused', 'stuck'] as const)(
    'answers are undisturbed whatever the old server hands over: %s',
    async (how) => {
      const swarm = createFakeSwarm(HIDDEN, SERVERS)
      const twin = await chainOver(createFakeSwarm(HIDDEN, SERVERS)).open({ maxTokens: 256 })
      const failovers: Failover[] = []
      const session = await chainOver(swarm).open({
        maxTokens: 256,
        onFailover: (failover) => failovers.push(failover),
      })
      const both = async (input: Tensor) => expect(await session.step(input)).toEqual(await twin.step(input))
      await both(someHidden(100, HIDDEN, 1))
      const old = session.route[1]!.peer
      const fresh = old === 'b1' ? 'b2' : 'b1'
      swarm.server(old).handover = how
      let steps = 0
      swarm.server(fresh).onStep = () => void steps++
      swarm.server(old).leave()
      await until(() => failovers.length === 1, 40_000)
      expect(failovers).toMatchObject([{ from: old, to: [fresh] }])
      const handed = { ok: 99, half: 49, wrong: undefined, refused: undefined, stuck: 99 }[how]
      expect(failovers[0]!.handedTokens).toBe(handed)
      if (how === 'ok') expect(steps).toBe(1)
      for (let i = 0; i < 5; i++) await both(someHidden(1, HIDDEN, i + 2))
      await Promise.all([session.close(), twin.close()])
      await expectNothingLeft(swarm)
    },
  )

  it('a span whose inputs nobody knows comes back together with the one before it, again and again', async () => {
    const swarm = createFakeSwarm(HIDDEN, CUT_ELSEWHERE)
    const twin = await chainOver(createFakeSwarm(HIDDEN, SERVERS)).open({ maxTokens: 256 })
    const failovers: Failover[] = []
    const session = await chainOver(swarm).open({
      maxTokens: 256,
      onFailover: (failover) => failovers.push(failover),
    })
    const both = async (input: Tensor) => expect(await session.step(input)).toEqual(await twin.step(input))
    expect(session.route.map(({ peer }) => peer)).toEqual(['a1', 'b1'])
    await both(someHidden(80, HIDDEN, 1))
    swarm.server('a1').leave()
    await until(() => failovers.length === 1)
    await both(someHidden(1, HIDDEN, 2))
    expect(session.route.map(({ peer }) => peer)).toEqual(['x1', 'x2', 'b1'])
    expect(failovers[0]).toMatchObject({ handedTokens: 79, to: ['x1', 'x2'] })
    // Nobody but x2 can take its blocks alone, and what went into them was never here: the whole chain goes to z.
    swarm.server('x2').mode = 'dead'
    await both(someHidden(1, HIDDEN, 3))
    expect(failovers[1]).toMatchObject({ from: 'x2', span: { start: 0 } })
    for (let i = 0; i < 3; i++) await both(someHidden(1, HIDDEN, i + 4))
    await Promise.all([session.close(), twin.close()])
    await expectNothingLeft(swarm)
  })

  it('spans that are lost together are replayed side by side', async () => {
    const swarm = createFakeSwarm(HIDDEN, SERVERS)
    const session = await chainOver(swarm).open({ maxTokens: 256 })
    await session.step(someHidden(60, HIDDEN, 1))
    const [a, , c] = session.route.map(({ peer }) => peer)
    const others = ['a1', 'a2', 'c1', 'c2'].filter((id) => id !== a && id !== c).map((id) => swarm.server(id))
    const order: string[] = []
    for (const server of others) server.onStep = () => void order.push(server.id[0]!)
    swarm.server(a!).mode = swarm.server(c!).mode = 'dead'
    // Who is silent is found out by a step; both are dead by then.
    await session.rollback(59)
    await session.step(someHidden(1, HIDDEN, 2))
    // Eight pieces each: had one waited for the other, all of one would come before any of the other.
    expect(order.indexOf('c')).toBeLessThan(order.lastIndexOf('a') - 1)
    expect(order.slice(0, 4).toSorted().join('')).toBe('aacc')
    await session.close()
    await expectNothingLeft(swarm)
  })

  it(
    'gives the undisturbed answer with leaving, failing and lying servers and rollbacks in between, 300 cases',
    { timeout: 60_000 },
    async () => {
      const event = fc.record({
        op: fc.constantFrom(
          'step',
          'long',
          'rollback',
          'leave',
          'leave',
          'leave',
          'dead',
          'wait',
          'wait',
          'how',
        ),
        server: fc.nat(7),
        tokens: fc.integer({ min: 1, max: 5 }),
        how: fc.constantFrom<FakeHandover>('half', 'wrong', 'stuck', 'refused'),
      })
      let handed = 0
      await fc.assert(
        fc.asyncProperty(
          fc.boolean(),
          fc.array(event, { minLength: 1, maxLength: 14 }),
          async (cut, events) => {
            const specs = cut ? CUT_ELSEWHERE : SERVERS
            const swarm = createFakeSwarm(HIDDEN, specs)
            const twin = await chainOver(createFakeSwarm(HIDDEN, SERVERS)).open({ maxTokens: 512 })
            const session = await chainOver(swarm).open({
              maxTokens: 512,
              onFailover: ({ handedTokens = 0 }) => (handed += handedTokens),
            })
            const both = async (input: Tensor) =>
              expect(await session.step(input)).toEqual(await twin.step(input))
            // Some server of each block stays well, or nobody could go on.
            const safe = cut ? ['z2'] : ['a2', 'b2', 'c2']
            await both(someHidden(40, HIDDEN, 99))
            for (const [i, { op, server, tokens, how }] of events.entries()) {
              const target = swarm.server(specs[server % specs.length]!.id)
              const well = safe.includes(target.id)
              if (op === 'leave' && !well) target.leave()
              else if (op === 'dead' && !well) target.mode = 'dead'
              else if (op === 'how') target.handover = how
              else if (op === 'wait') await new Promise((resolve) => setTimeout(resolve, tokens))
              else if (op === 'rollback') {
                const to = Math.max(0, session.position - tokens * tokens)
                await Promise.all([session.rollback(to), twin.rollback(to)])
              } else if (op === 'step' || op === 'long')
                await both(someHidden(op === 'long' ? 5 * tokens : tokens, HIDDEN, i))
            }
            await both(someHidden(1, HIDDEN, 98))
            await Promise.all([session.close(), twin.close()])
            await expectNothingLeft(swarm)
          },
        ),
        { numRuns: 300, endOnFailure: true },
      )
      // It happened, and not only in theory.
      expect(handed).toBeGreaterThan(1_000)
    },
  )
})

describe('createHistory', () => {
  it('takes over what another one knows, and no row that nobody knows is ever read', () => {
    const whole = createHistory(2, 8)
    whole.append({ shape: [3, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6) })
    const twin = createHistory(2, 8)
    twin.adopt(whole, 2)
    expect([twin.start, twin.length]).toEqual([0, 2])
    expect([...twin.rows(0, 2).data]).toEqual([1, 2, 3, 4])
    const late = createHistory(2, 8)
    late.adopt(undefined, 3)
    late.append({ shape: [1, 2], data: Float32Array.of(7, 8) })
    expect([late.start, late.length]).toEqual([3, 4])
    expect([...late.rows(3, 4).data]).toEqual([7, 8])
    expect(() => late.rows(2, 4)).toThrow(/begins at row 3/)
    const third = createHistory(2, 8)
    third.adopt(late, 4)
    expect([third.start, third.length]).toEqual([3, 4])
    expect(() => third.adopt(late, 5)).toThrow(/does not reach/)
    third.truncate(2)
    expect([third.start, third.length]).toEqual([2, 2])
    third.truncate(0)
    expect(third.start).toBe(0)
    expect(() => late.append({ shape: [5, 2], data: new Float32Array(10) })).toThrow(/exceeds/)
  })
})
