import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openSpanDoor, pickHost } from '../../src/server/span-door.ts'
import { startServer } from '../../src/server/server.ts'
import { memoryDirectory, memoryDirectoryState } from '../../src/session/memory-directory.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import type { SpanHost } from '../../src/swarm/span-host.ts'
import { failureOf, someHidden } from '../contract/span-runner.ts'
import { fakeSpan } from '../swarm/fake-span.ts'
import { loopbackPeer, TCP } from '../swarm/loopback.ts'

const NARROW = { modelId: 'narrow@1', name: 'narrow', blockCount: 8, hiddenSize: 64 }
const WIDE = { modelId: 'wide@1', name: 'wide', blockCount: 4, hiddenSize: 96 }

describe('several servers behind one door', () => {
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

  async function setup(maxSessions?: number) {
    const state = memoryDirectoryState()
    const directory = memoryDirectory(state, peer.id)
    const door = await openSpanDoor(peer, maxSessions === undefined ? {} : { maxSessions })
    const start = (model: typeof NARROW, span: { start: number; end: number }) =>
      startServer({
        peer,
        directory,
        door,
        model,
        span,
        load: async (blocks) => fakeSpan({ ...blocks, kvTokens: 256 }),
        engine: 'fake',
      })
    const narrow = await start(NARROW, { start: 0, end: 4 })
    const wide = await start(WIDE, { start: 2, end: 4 })
    const connect = (model: typeof NARROW, span: { start: number; end: number }) =>
      connectRemoteSpan(
        client,
        { peerId: peer.id, addrs: peer.addrs(), modelId: model.modelId, ...span, engine: '?' },
        { hiddenSize: model.hiddenSize },
      )
    const stop = async () => {
      await Promise.all([narrow.stop(0), wide.stop(0)])
      await door.close('the test is over')
    }
    return { directory, narrow, wide, connect, stop }
  }

  it('one peer is listed for each model, and sessions name theirs', async () => {
    const { directory, connect, narrow, wide, stop } = await setup()
    expect(await directory.servers(NARROW.modelId)).toMatchObject([{ peerId: peer.id, start: 0, end: 4 }])
    expect(await directory.servers(WIDE.modelId)).toMatchObject([{ peerId: peer.id, start: 2, end: 4 }])
    const first = await connect(NARROW, narrow.span).open({ maxTokens: 16 })
    const second = await connect(WIDE, wide.span).open({ maxTokens: 16 })
    // Rows of each model's own width, at the same time.
    const [a, b] = await Promise.all([first.step(someHidden(2, 64, 1)), second.step(someHidden(3, 96, 2))])
    expect([a.shape, b.shape]).toEqual([
      [2, 64],
      [3, 96],
    ])
    expect([narrow.sessions, wide.sessions]).toEqual([1, 1])
    await first.close()
    await second.close()
    await stop()
  })

  it('a model that is not here is refused by name; other blocks by those that are', async () => {
    const { connect, stop } = await setup()
    const unknown = connect({ ...NARROW, modelId: 'other@1' }, { start: 0, end: 4 })
    expect(await failureOf(unknown.open({ maxTokens: 16 }))).toBe('not_found')
    expect(await failureOf(connect(WIDE, { start: 0, end: 4 }).open({ maxTokens: 16 }))).toBe('not_supported')
    await stop()
  })

  it('sessions of all models count together', async () => {
    const { connect, narrow, wide, stop } = await setup(2)
    const sessions = [
      await connect(NARROW, narrow.span).open({ maxTokens: 16 }),
      await connect(WIDE, wide.span).open({ maxTokens: 16 }),
    ]
    expect(await failureOf(connect(NARROW, narrow.span).open({ maxTokens: 16 }))).toBe('capacity')
    for (const session of sessions) await session.close()
    await stop()
  })

  it('one span moves and leaves while the other’s sessions go on', async () => {
    const { connect, directory, narrow, wide, stop } = await setup()
    const staying = await connect(WIDE, wide.span).open({ maxTokens: 16 })
    const leaving = await connect(NARROW, narrow.span).open({ maxTokens: 16 })
    await narrow.move({ start: 4, end: 8 }, { overlap: true, drainMs: 5_000 })
    await leaving.step(someHidden(1, 64, 1))
    const moved = await connect(NARROW, { start: 4, end: 8 }).open({ maxTokens: 16 })
    await narrow.stop(0)
    expect(await failureOf(leaving.step(someHidden(1, 64, 1)))).toBe('session_lost')
    expect(await failureOf(moved.step(someHidden(1, 64, 1)))).toBe('session_lost')
    expect((await staying.step(someHidden(1, 96, 1))).shape).toEqual([1, 96])
    expect(await directory.servers(NARROW.modelId)).toEqual([])
    expect(await directory.servers(WIDE.modelId)).toHaveLength(1)
    expect(await failureOf(connect(NARROW, { start: 4, end: 8 }).open({ maxTokens: 16 }))).toBe('not_found')
    await staying.close()
    await stop()
  })
})

describe('pickHost', () => {
  const host = (modelId: string, start: number, end: number, sessions = 0) =>
    ({ modelId, span: { start, end }, load: () => ({ sessions, freeKvTokens: 0 }) }) as SpanHost
  const hosts = [host('a', 0, 4, 1), host('a', 6, 8, 2), host('b', 0, 8, 3)]

  it('takes the span of just these blocks, else the model’s first one', () => {
    expect(pickHost(hosts, 9, { modelId: 'a', start: 6, end: 8 })).toBe(hosts[1])
    expect(pickHost(hosts, 9, { modelId: 'a', start: 1, end: 2 })).toBe(hosts[0])
    expect(pickHost(hosts, 9, { modelId: 'b', start: 0, end: 8 })).toBe(hosts[2])
  })

  it('names what it holds, and how full it is', () => {
    const ask = { modelId: 'c', start: 0, end: 8 }
    expect(() => pickHost(hosts, 9, ask)).toThrow('this server runs a, a, b, not c')
    expect(() => pickHost([], 9, ask)).toThrow('this server runs no model, not c')
    expect(() => pickHost(hosts, 6, { ...ask, modelId: 'b' })).toThrow('6 of 6 sessions')
  })
})
