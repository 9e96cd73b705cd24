import { afterEach, describe, expect, it } from 'vitest'
import { encodeFrame } from '../../src/protocol/frame.ts'
import { DIRECTORY_PROTOCOL } from '../../src/protocol/ids.ts'
import { isSpeaker, createDhtDirectory } from '../../src/swarm/dht-directory.ts'
import { announceTo, listFrom } from '../../src/swarm/directory-exchange.ts'
import { createIdentity, signRecord } from '../../src/swarm/identity.ts'
import type { Peer, PeerOptions } from '../../src/swarm/peer.ts'
import { MODEL, serverRecord } from '../contract/directory.ts'
import { loopbackPeer, TCP, until } from './loopback.ts'

describe('createDhtDirectory', () => {
  const closers: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const close of closers.splice(0).toReversed()) await close()
  })

  async function member(options: Partial<PeerOptions> = {}, serve = true) {
    const peer = await loopbackPeer({ ...(serve && { listen: [TCP] }), ...options })
    closers.push(() => peer.close())
    const directory = await createDhtDirectory(peer, { serve })
    closers.push(() => directory.close())
    return { peer, directory }
  }
  const recordOf = (peer: Peer, changes = {}) => serverRecord(peer.id, Date.now(), changes)

  it('a client that has just started sees the servers within 1.5 s', async () => {
    const boot = await member()
    const servers = await Promise.all([0, 1, 2].map(() => member({ bootstrap: boot.peer.addrs() })))
    await Promise.all(servers.map(({ peer, directory }) => directory.announce(recordOf(peer), MODEL)))
    const started = performance.now()
    const client = await member({ bootstrap: boot.peer.addrs() }, false)
    expect(await client.directory.servers(MODEL.modelId)).toHaveLength(3)
    expect(performance.now() - started).toBeLessThan(1_500)
  })

  it('a directory peer refuses forged, expired and oversized records and keeps answering', async () => {
    const boot = await member()
    const { peer } = await member({ bootstrap: boot.peer.addrs() }, false)
    const announce = async (bytes: Uint8Array) => await announceTo(peer, boot.peer.id, bytes)
    const good = await signRecord(peer.identity, { record: recordOf(peer), model: MODEL })
    const forged = good.slice()
    forged[forged.length - 1]! ^= 1
    await expect(announce(forged)).rejects.toThrow(/not signed by that peer/)
    const issuedAt = Date.now() - 60_000
    const expired = { record: recordOf(peer, { issuedAt, expiresAt: issuedAt + 1_000 }), model: MODEL }
    await expect(announce(await signRecord(peer.identity, expired))).rejects.toThrow(/expired/)
    await expect(announce(new Uint8Array(4000))).rejects.toMatchObject({
      code: expect.stringMatching(/session_lost|protocol/),
    })
    expect(await listFrom(peer, boot.peer.id, MODEL.modelId, undefined)).toEqual([])
    // Another peer's record may be handed on by anybody: its signature is what counts.
    const other = await createIdentity()
    await announce(await signRecord(other, { record: serverRecord(other.peerId, Date.now()), model: MODEL }))
    await announce(good)
    expect(await listFrom(peer, boot.peer.id, MODEL.modelId, undefined)).toHaveLength(2)
  })

  it('a lying directory peer can hide records, not make them', async () => {
    const boot = await member()
    const server = await member({ bootstrap: boot.peer.addrs() })
    await server.directory.announce(recordOf(server.peer), MODEL)
    const liar = await loopbackPeer({ listen: [TCP] })
    closers.push(() => liar.close())
    const { encodeRecordList } = await import('../../src/protocol/directory-messages.ts')
    const real = await signRecord(liar.identity, { record: recordOf(liar), model: MODEL })
    const fake = real.slice()
    fake[100]! ^= 1
    await liar.handle(
      DIRECTORY_PROTOCOL,
      (stream) => {
        stream.addEventListener('message', () => {
          stream.send(encodeFrame({ type: 'records' }, encodeRecordList([fake, new Uint8Array(9), real])))
        })
      },
      32,
    )
    const client = await member({ bootstrap: [...boot.peer.addrs(), ...liar.addrs()] }, false)
    const ids = async () => (await client.directory.servers(MODEL.modelId)).map(({ peerId }) => peerId).sort()
    await expect.poll(ids).toEqual([server.peer.id, liar.id].sort())
  })

  it('a directory peer that stalls does not hold a question up', async () => {
    const boot = await member()
    const server = await member({ bootstrap: boot.peer.addrs() })
    await server.directory.announce(recordOf(server.peer), MODEL)
    const mute = await loopbackPeer({ listen: [TCP] })
    closers.push(() => mute.close())
    let asked = 0
    await mute.handle(DIRECTORY_PROTOCOL, () => void asked++, 32)
    const client = await member({ bootstrap: [...boot.peer.addrs(), ...mute.addrs()] }, false)
    await expect.poll(() => client.directory.servers(MODEL.modelId)).toHaveLength(1)
    await until(
      async () => (await client.directory.servers(MODEL.modelId), asked > 0),
      'the mute peer is asked',
    )
    const started = performance.now()
    expect(await client.directory.servers(MODEL.modelId)).toHaveLength(1)
    expect(performance.now() - started).toBeLessThan(1_000)
  })

  it('servers are still found when the bootstrap peer is gone', async () => {
    const boot = await member()
    const servers = await Promise.all([0, 1].map(() => member({ bootstrap: boot.peer.addrs() })))
    await Promise.all(servers.map(({ peer, directory }) => directory.announce(recordOf(peer), MODEL)))
    const client = await member({ bootstrap: boot.peer.addrs() }, false)
    await expect.poll(() => client.directory.servers(MODEL.modelId)).toHaveLength(2)
    await boot.directory.close()
    await boot.peer.close()
    expect(await client.directory.servers(MODEL.modelId)).toHaveLength(2)
  })

  it('an aborted question is cancelled', async () => {
    const boot = await member()
    const client = await member({ bootstrap: boot.peer.addrs() }, false)
    await expect(client.directory.servers(MODEL.modelId, AbortSignal.abort())).rejects.toMatchObject({
      code: 'cancelled',
    })
  })
})

describe('createPeer', () => {
  it('names what it tried when no bootstrap peer is reachable', async () => {
    const gone = await loopbackPeer({ listen: [TCP] })
    const addrs = gone.addrs()
    await gone.close()
    const joining = loopbackPeer({ bootstrap: addrs, bootstrapTimeoutMs: 300 })
    await expect(joining).rejects.toMatchObject({
      code: 'unreachable',
      field: 'bootstrap',
      message: expect.stringMatching(/no bootstrap peer is reachable: .*ECONNREFUSED.*Check that it runs/),
    })
  })

  it('waits for a bootstrap peer that comes up a little later', async () => {
    const first = await loopbackPeer({ listen: [TCP] })
    const address = first.addrs()[0]!
    const { identity } = first
    await first.close()
    const joining = loopbackPeer({ bootstrap: [address], bootstrapTimeoutMs: 5_000 })
    const late = new Promise<Peer>((resolve) => {
      setTimeout(() => resolve(loopbackPeer({ listen: [address.replace(/\/p2p\/.*/, '')], identity })), 600)
    })
    const [joined, boot] = await Promise.all([joining, late])
    await joined.close()
    await boot.close()
  })

  it('refuses an unreadable address and a port in use', async () => {
    await expect(loopbackPeer({ listen: ['localhost:80'] })).rejects.toMatchObject({ code: 'bad_config' })
    await expect(loopbackPeer({ bootstrap: ['nowhere'] })).rejects.toMatchObject({
      code: 'bad_config',
      field: 'bootstrap',
    })
    const first = await loopbackPeer({ listen: [TCP] })
    const taken = first.addrs()[0]!.replace(/\/p2p\/.*/, '')
    await expect(loopbackPeer({ listen: [taken] })).rejects.toMatchObject({
      code: 'bad_config',
      message: expect.stringContaining('is the port in use?'),
    })
    await first.close()
  })
})

describe('isSpeaker', () => {
  it('eight of many servers speak for their model, all of few, and everybody counts alike', () => {
    const servers = Array.from({ length: 100 }, (_, i) => `peer-${i}`)
    expect(servers.filter((peerId) => isSpeaker(peerId, servers))).toHaveLength(8)
    const few = servers.slice(0, 8)
    expect(few.every((peerId) => isSpeaker(peerId, few))).toBe(true)
    // Who does not know of itself yet, or of nobody, speaks.
    expect(isSpeaker('alone', [])).toBe(true)
  })
})
