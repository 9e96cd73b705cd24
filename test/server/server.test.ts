import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ChoraleError } from '../../src/errors.ts'
import type { ServerRecord } from '../../src/routing/snapshot.ts'
import { type ServerOptions, startServer } from '../../src/server/server.ts'
import { measureThroughput } from '../../src/server/throughput.ts'
import type { Directory } from '../../src/session/directory.ts'
import type { Span } from '../../src/session/span-runner.ts'
import { memoryDirectory, memoryDirectoryState } from '../../src/session/memory-directory.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { failureOf, someHidden } from '../contract/span-runner.ts'
import { fakeSpan } from '../swarm/fake-span.ts'
import { HIDDEN, loopbackPeer, MODEL_ID, targetOf, TCP, until } from '../swarm/loopback.ts'

const MODEL = { modelId: MODEL_ID, name: 'fake', blockCount: 8, hiddenSize: HIDDEN }

describe('startServer', () => {
  let peer: Peer
  let client: Peer
  beforeAll(async () => {
    peer = await loopbackPeer({ listen: [TCP] })
    client = await loopbackPeer()
  })
  afterAll(async () => {
    await client.close()
    await peer.close()
  })

  function setup(options: Partial<ServerOptions> = {}) {
    const span = fakeSpan({ kvTokens: 256 })
    const announced: ServerRecord[] = []
    const memory = memoryDirectory(memoryDirectoryState(), peer.id)
    const directory: Directory = {
      ...memory,
      announce: async (record, model) => {
        announced.push(record)
        await memory.announce(record, model)
      },
    }
    const start = () =>
      startServer({
        peer,
        directory,
        model: MODEL,
        span: { start: 0, end: 4 },
        load: async () => span,
        engine: 'fake',
        ...options,
      })
    const connect = () => connectRemoteSpan(client, targetOf(peer, span), { hiddenSize: HIDDEN })
    return { span, announced, directory, start, connect, states: () => announced.map(({ state }) => state) }
  }

  it('announces joining, then online with its measured speed and room, renews, and leaves', async () => {
    const { announced, directory, start, states } = setup({ announceMs: 40 })
    const server = await start()
    expect(states().slice(0, 2)).toEqual(['joining', 'online'])
    expect(announced[1]).toMatchObject({
      peerId: peer.id,
      addrs: peer.addrs(),
      freeKvTokens: 256,
      engine: 'fake',
    })
    expect(announced[1]!.throughput).toBeGreaterThan(0)
    expect(announced[1]!.throughput).toBe(server.throughput)
    await until(() => announced.length > 3, 'it announces again')
    const issued = announced.map(({ issuedAt }) => issuedAt)
    expect(issued).toEqual([...new Set(issued)].sort((a, b) => a - b))
    await server.stop(0)
    expect(server.state).toBe('offline')
    expect(await directory.servers(MODEL_ID)).toEqual([])
    const count = announced.length
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(announced.length).toBe(count)
  })

  it('tells of sessions and free room soon after they change, and counts', async () => {
    const { announced, start, connect } = setup()
    const server = await start()
    const session = await connect().open({ maxTokens: 100 })
    await session.step(someHidden(3, HIDDEN, 1))
    await until(() => announced.at(-1)?.sessions === 1, 'the news is out')
    expect(announced.at(-1)).toMatchObject({ state: 'online', sessions: 1, freeKvTokens: 156 })
    expect(server.counters).toMatchObject({
      sessions: 1,
      tokens: 3,
      bytesIn: 3 * HIDDEN * 4,
      bytesOut: 3 * HIDDEN * 4,
    })
    await session.close()
    await until(() => announced.at(-1)?.sessions === 0, 'the news is out')
    await server.stop(0)
  })

  it('drains: present sessions go on, new ones are refused, then it leaves', async () => {
    const { start, connect, states } = setup()
    const server = await start()
    const session = await connect().open({ maxTokens: 16 })
    const stopped = server.stop(10_000)
    expect(await failureOf(connect().open({ maxTokens: 16 }))).toBe('capacity')
    expect(states().at(-1)).toBe('draining')
    // The client is told at once, so that it goes elsewhere by itself.
    await session.leaving
    await session.step(someHidden(1, HIDDEN, 1))
    await session.close()
    await stopped
    expect(server.state).toBe('offline')
  })

  it('drains no longer than asked: then sessions are ended', async () => {
    const { start, connect, span } = setup()
    const server = await start()
    const session = await connect().open({ maxTokens: 16 })
    await server.stop(50)
    expect(await failureOf(session.step(someHidden(1, HIDDEN, 1)))).toBe('session_lost')
    expect(span.kvTokensFree).toBe(256)
  })

  it.each([true, false])(
    'moves to another span (overlap %s): sessions go on until the wait is over',
    async (overlap) => {
      const spans: Span[] = []
      const { announced, start, connect } = setup({
        load: async (span) => {
          spans.push(span)
          return fakeSpan({ ...span, kvTokens: 256 })
        },
      })
      const server = await start()
      const session = await connect().open({ maxTokens: 16 })
      const before = await session.step(someHidden(1, HIDDEN, 1))
      const moved = server.move({ start: 4, end: 8 }, { overlap, drainMs: 300 })
      expect((await session.step(someHidden(1, HIDDEN, 1))).shape).toEqual(before.shape)
      await moved
      expect(server.span).toEqual({ start: 4, end: 8 })
      expect(spans).toEqual([
        { start: 0, end: 4 },
        { start: 4, end: 8 },
      ])
      const seen = announced.map(({ start: first, state }) => `${first} ${state}`)
      expect(seen.includes('4 joining')).toBe(!overlap)
      expect(seen.at(-1)).toBe('4 online')
      expect(await failureOf(connect().open({ maxTokens: 16 }))).toBe('not_supported')
      await until(() => server.sessions === 0, 'the old span ended its session')
      expect(await failureOf(session.step(someHidden(1, HIDDEN, 1)))).toBe('session_lost')
      await server.stop(0)
    },
  )

  it('comes back to its span when the new one can not be loaded', async () => {
    let loads = 0
    const { start, connect } = setup({
      load: async (span) => {
        if (++loads === 2) throw new ChoraleError('engine', 'no memory')
        return fakeSpan({ ...span, kvTokens: 256 })
      },
    })
    const server = await start()
    await expect(server.move({ start: 4, end: 8 }, { overlap: false, drainMs: 0 })).rejects.toThrow(
      'no memory',
    )
    expect(server).toMatchObject({ state: 'online', span: { start: 0, end: 4 } })
    const session = await connect().open({ maxTokens: 16 })
    await session.close()
    await server.stop(0)
  })

  it('takes its announcement back when loading fails', async () => {
    const { directory, start } = setup({
      load: async () => {
        throw new ChoraleError('engine', 'no memory')
      },
    })
    await expect(start()).rejects.toThrow('no memory')
    expect(await directory.servers(MODEL_ID)).toEqual([])
  })

  it('one more session than allowed is refused, also in a burst', async () => {
    const { start, connect } = setup({ maxSessions: 3 })
    const server = await start()
    const runner = connect()
    const burst = await Promise.allSettled(Array.from({ length: 8 }, () => runner.open({ maxTokens: 4 })))
    expect(burst.filter(({ status }) => status === 'fulfilled')).toHaveLength(3)
    expect(server.counters.refusals.get('capacity')).toBe(5)
    expect(server.sessions).toBe(3)
    await server.stop(0)
  })
})

describe('measureThroughput', () => {
  it('counts single tokens after the first one and leaves the cache free', async () => {
    let clock = 0
    const span = fakeSpan({ kvTokens: 100, gate: () => void (clock += 50) })
    expect(await measureThroughput(span, HIDDEN, { now: () => clock, budgetMs: 400 })).toBe(20)
    expect(span.kvTokensFree).toBe(100)
  })

  it('stops when the cache is full', async () => {
    let clock = 0
    const span = fakeSpan({ kvTokens: 4, gate: () => void (clock += 1) })
    expect(await measureThroughput(span, HIDDEN, { now: () => clock, budgetMs: 1e9 })).toBe(1000)
  })
})
