import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { byteBudget } from '../../src/swarm/span-host.ts'
import { MAX_QUEUED_BYTES_PER_SESSION } from '../../src/protocol/limits.ts'
import { encodeFrame } from '../../src/protocol/frame.ts'
import { type FramedStream, frameStream } from '../../src/swarm/framed-stream.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { someHidden } from '../contract/span-runner.ts'
import { fakeSpan } from './fake-span.ts'
import { loopbackPeer, serveFake, targetOf, TCP, until } from './loopback.ts'

const MIB = 1024 * 1024

describe('backpressure', () => {
  let server: Peer
  let client: Peer
  beforeAll(async () => {
    server = await loopbackPeer({ listen: [TCP] })
    client = await loopbackPeer()
  })
  afterAll(async () => {
    await client.close()
    await server.close()
  })

  it('frameStream: a reader that pauses stops the sender, memory stays bounded, nothing is lost', async () => {
    const payload = new Uint8Array(MIB)
    const frames = 64
    let reading: FramedStream | undefined
    let received = 0
    const parse = () => 'frame'
    const options = { parse, maxPayload: 2 * MIB, onClose: () => undefined }
    await server.handle(
      '/slow/1',
      (stream) => {
        reading = frameStream(stream, { ...options, onFrame: () => received++ })
        reading.pause()
      },
      4,
    )
    const stream = await client.openStream(server.id, server.addrs(), '/slow/1', { timeoutMs: 3_000 })
    const sender = frameStream(stream, { ...options, onFrame: () => undefined })
    let sent = 0
    let most = 0
    const sending = Array.from({ length: frames }, () =>
      sender.send(() => {
        sent++
        most = Math.max(most, stream.writeBufferLength)
        return encodeFrame({ type: 'x' }, payload)
      }),
    )
    await until(() => reading !== undefined && sender.congested, 'the sender waits')
    // Whatever is still moving comes to rest: the count must not grow while the reader is paused.
    let before = -1
    await until(async () => {
      before = sent
      await new Promise((resolve) => setTimeout(resolve, 150))
      return sent === before
    }, 'the sender stops')
    expect(sent).toBeLessThan(12)
    expect(stream.writeBufferLength).toBeLessThan(2 * MIB)
    expect(received).toBe(0)
    reading?.resume()
    await Promise.all(sending)
    await until(() => received === frames, 'all frames arrive')
    expect(most).toBeLessThan(2 * MIB)
    await sender.close()
    await server.unhandle('/slow/1')
  })

  it('serveSpan: a client that floods steps is stopped while the engine is slow, and loses none', async () => {
    const hiddenSize = 4096
    const tokens = 64
    const stepBytes = tokens * hiddenSize * 4
    let release = (): void => undefined
    const held = new Promise<void>((resolve) => (release = resolve))
    const span = fakeSpan({ gate: () => held })
    const { service } = await serveFake(server, span, { hiddenSize })
    const session = await connectRemoteSpan(client, targetOf(server, span), { hiddenSize }).open({
      maxTokens: 4096,
    })
    const hidden = someHidden(tokens, hiddenSize, 1)
    const steps = Array.from({ length: 48 }, () => session.step(hidden, { want: 'none' }))
    let before = -1
    await until(async () => {
      before = service.counters.bytesIn
      await new Promise((resolve) => setTimeout(resolve, 200))
      return before > 0 && service.counters.bytesIn === before
    }, 'the server stops reading')
    // What was read when it paused: the limit, and what one read of the window may have completed.
    expect(service.counters.bytesIn).toBeLessThanOrEqual(MAX_QUEUED_BYTES_PER_SESSION + 4 * stepBytes)
    expect(service.counters.bytesIn).toBeGreaterThanOrEqual(MAX_QUEUED_BYTES_PER_SESSION)
    release()
    await Promise.all(steps)
    expect(session.position).toBe(48 * tokens)
    expect(service.counters.bytesIn).toBe(48 * stepBytes)
    await session.close()
    await service.close('done')
  })

  it('byteBudget: says when it is full and wakes who waits when it is not', () => {
    const budget = byteBudget(100)
    let woken = 0
    budget.take(60)
    expect(budget.full).toBe(false)
    budget.take(60)
    expect(budget.full).toBe(true)
    budget.onRoom(() => woken++)
    budget.give(10)
    expect([budget.full, woken]).toEqual([true, 0])
    budget.give(60)
    expect([budget.full, woken]).toEqual([false, 1])
    budget.give(50)
    expect(woken).toBe(1)
  })
})
