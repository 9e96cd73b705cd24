import type { MultiaddrConnection, Stream, Upgrader } from '@libp2p/interface'
import { afterEach, describe, expect, it } from 'vitest'
import type { Peer } from '../../src/swarm/peer.ts'
import { headlessTransports, type TransportFactory } from '../../src/swarm/transports.ts'
import { loopbackPeer, TCP } from './loopback.ts'

const PROTOCOL = '/chorale/test-windows/1'
const peers: Peer[] = []

afterEach(async () => {
  await Promise.all(peers.splice(0).map((peer) => peer.close()))
})

/** Counts the messages that go out on connections which were dialled. */
function counting(factory: TransportFactory, count: () => void): TransportFactory {
  return (components) => {
    const transport = factory(components)
    const dial = transport.dial.bind(transport)
    transport.dial = (address, options) => {
      const { upgrader } = options
      const counted: Upgrader = {
        createInboundAbortSignal: (signal) => upgrader.createInboundAbortSignal(signal),
        getConnectionEncrypters: () => upgrader.getConnectionEncrypters(),
        getStreamMuxers: () => upgrader.getStreamMuxers(),
        upgradeInbound: (connection, more) => upgrader.upgradeInbound(connection, more),
        upgradeOutbound: (connection, more) => {
          const sender = connection as MultiaddrConnection & { sendData(data: Uint8Array): unknown }
          const sendData = sender.sendData.bind(sender)
          sender.sendData = (data) => {
            count()
            return sendData(data)
          }
          return upgrader.upgradeOutbound(connection, more)
        },
      }
      return dial(address, { ...options, upgrader: counted })
    }
    return transport
  }
}

/** A stream to a server that runs `serve` on its end, and the messages that the client has sent since. */
async function streamTo(serve: (stream: Stream) => void) {
  let sent = 0
  const server = await loopbackPeer({ listen: [TCP] })
  peers.push(server)
  await server.handle(PROTOCOL, serve, 8)
  const client = await loopbackPeer({
    transports: headlessTransports().map((factory) => counting(factory, () => sent++)),
    bootstrap: server.addrs(),
  })
  peers.push(client)
  const stream = await client.openStream(server.id, server.addrs(), PROTOCOL, { timeoutMs: 5_000 })
  return { stream, sent: () => sent }
}

/** Bytes that came, once there are `length` of them. */
async function receive(stream: Stream, length: number, onBytes: (total: number) => void = () => undefined) {
  const bytes = new Uint8Array(length)
  let total = 0
  await new Promise<void>((resolve, reject) => {
    stream.addEventListener('message', ({ data }) => {
      bytes.set(data.subarray(), total)
      total += data.byteLength
      onBytes(total)
      if (total === length) resolve()
    })
    stream.addEventListener('close', ({ error }) => reject(error ?? new Error('closed early')))
  })
  return bytes
}

describe('rareWindowUpdates', () => {
  it('answers small messages with a message for dozens of them, not for each', async () => {
    const messages = 200
    const size = 1_000
    const { stream, sent } = await streamTo((serving) => {
      // One after the other, as tokens come: each waits for the one before to be seen.
      serving.addEventListener('message', ({ data }) => {
        for (let i = 0; i < data.byteLength; i++) serving.send(new Uint8Array(size))
      })
    })
    stream.send(new Uint8Array(1))
    const before = sent()
    await receive(stream, messages * size, (total) => {
      if (total % size === 0 && total < messages * size) stream.send(new Uint8Array(1))
    })
    const asked = messages - 1
    expect(sent() - before - asked).toBeLessThan(messages / 10)
  })

  it('keeps a transfer of many windows going, in both directions', async () => {
    const length = 6_000_000
    const pattern = Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 12)) & 255)
    const { stream } = await streamTo((serving) => {
      serving.addEventListener('message', ({ data }) => serving.send(data.slice()))
    })
    const echoed = receive(stream, length)
    for (let at = 0; at < length; at += 50_000) {
      if (!stream.send(pattern.subarray(at, at + 50_000))) {
        while (stream.writableNeedsDrain)
          await new Promise((resolve) => stream.addEventListener('drain', resolve, { once: true }))
      }
    }
    const got = await echoed
    expect(got.every((byte, i) => byte === pattern[i])).toBe(true)
  })
})
