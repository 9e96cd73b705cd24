import { afterEach, describe, expect, it } from 'vitest'
import { createFrame, encodeFrame } from '../../src/protocol/frame.ts'
import { PROTOCOL_VERSION, SPAN_PROTOCOL } from '../../src/protocol/ids.ts'
import { parseSpanMessage, type SpanMessage } from '../../src/protocol/messages.ts'
import type { PushLinks, SpanSession } from '../../src/session/span-runner.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { type FramedStream, frameStream } from '../../src/swarm/framed-stream.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { someHidden } from '../contract/span-runner.ts'
import { createFakeEngineSpan } from '../session/fake-engine-span.ts'
import { HIDDEN, loopbackPeer, serveFake, targetOf, TCP, until } from './loopback.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function peerOf(listen?: string[]): Promise<Peer> {
  const peer = await loopbackPeer(listen ? { listen } : {})
  closers.push(() => peer.close())
  return peer
}

async function serverOf(start: number, end: number) {
  const peer = await peerOf([TCP])
  const engine = createFakeEngineSpan({ start, end, kvTokens: 256 })
  const { service } = await serveFake(peer, engine)
  return { peer, engine, service, target: targetOf(peer, engine) }
}

const token = Uint8Array.from({ length: 16 }, (_, i) => i)

/** Two servers and a client with a session on each, linked as asked. */
async function pair(links: (a: Peer, b: Peer) => [PushLinks, PushLinks]) {
  const [a, b, client] = await Promise.all([serverOf(0, 2), serverOf(2, 4), peerOf()])
  const plans = links(a.peer, b.peer)
  const sessions = await Promise.all(
    [a, b].map(({ target }, i) =>
      connectRemoteSpan(client, target, { hiddenSize: HIDDEN }).open({ maxTokens: 64, push: plans[i]! }),
    ),
  )
  return { a, b, client, first: sessions[0]!, second: sessions[1]! }
}

const linked = (a: Peer, b: Peer): [PushLinks, PushLinks] => [
  { next: { token, peerId: b.id, addrs: b.addrs() } },
  { accept: { token, peerId: a.id } },
]

/** What the two spans give when the client carries everything. */
async function carried(inputs: readonly Tensor[]): Promise<Tensor[]> {
  const { first, second } = await pair(() => [{}, {}])
  const outputs: Tensor[] = []
  for (const input of inputs) outputs.push(await second.step(await first.step(input)))
  return outputs
}

function pushed(first: SpanSession, second: SpanSession, input: Tensor) {
  const one = first.push!.begin(input.shape[0], 'all')
  const two = second.push!.begin(input.shape[0], 'all')
  one.send(input, [two])
  return { one, two }
}

describe('servers that push', () => {
  it('give the outputs that the client path gives, and show the client what they passed on', async () => {
    const inputs = [someHidden(5, HIDDEN, 1), someHidden(1, HIDDEN, 2), someHidden(1, HIDDEN, 3)]
    const expected = await carried(inputs)
    const { first, second } = await pair(linked)
    for (const [i, input] of inputs.entries()) {
      const { one, two } = pushed(first, second, input)
      expect((await two.answer).hidden).toEqual(expected[i])
      const { hidden, pushed: went } = await one.answer
      expect(went).toBe(true)
      expect(hidden.shape).toEqual(input.shape)
    }
    expect(second.position).toBe(7)
  })

  it('without a way to the next server say so; the client carries the step, twice is harmless', async () => {
    const inputs = [someHidden(3, HIDDEN, 1), someHidden(1, HIDDEN, 2)]
    const expected = await carried(inputs)
    const { first, second } = await pair((a, b) => [
      { next: { token, peerId: b.id, addrs: ['/ip4/127.0.0.1/tcp/1'] } },
      { accept: { token, peerId: a.id } },
    ])
    for (const [i, input] of inputs.entries()) {
      const { one, two } = pushed(first, second, input)
      const { hidden, pushed: went } = await one.answer
      expect(went).toBe(false)
      two.send(hidden, [])
      two.send(hidden, [])
      expect((await two.answer).hidden).toEqual(expected[i])
    }
    // A third time, after the answer: it is dropped too, and the session goes on.
    expect(second.position).toBe(4)
  })

  it('a rollback before the next step is obeyed by servers further along', async () => {
    const inputs = [someHidden(4, HIDDEN, 1), someHidden(1, HIDDEN, 9)]
    const expected = await carried(inputs)
    const { first, second } = await pair(linked)
    await pushed(first, second, inputs[0]!).two.answer
    const wrong = pushed(first, second, someHidden(3, HIDDEN, 5))
    await Promise.all([wrong.one.answer, wrong.two.answer])
    await first.rollback(4)
    await second.rollback(4)
    expect((await pushed(first, second, inputs[1]!).two.answer).hidden).toEqual(expected[1])
  })

  it('steps that were given up are forgotten on both ends, and those after them run', async () => {
    const inputs = [someHidden(2, HIDDEN, 1), someHidden(1, HIDDEN, 2)]
    const expected = await carried(inputs)
    const { first, second } = await pair(linked)
    await pushed(first, second, inputs[0]!).two.answer
    // Announced to the second server and never sent by anybody.
    const lost = second.push!.begin(1, 'all')
    second.push!.forget(lost.seq)
    await expect(lost.answer).rejects.toMatchObject({ code: 'session_lost' })
    expect((await pushed(first, second, inputs[1]!).two.answer).hidden).toEqual(expected[1])
  })

  it.each<[string, (a: Peer, b: Peer, other: Peer) => PushLinks]>([
    ['another peer than the one named', (a) => ({ accept: { token, peerId: a.id } })],
    ['another token', (_a, _b, other) => ({ accept: { token: new Uint8Array(16), peerId: other.id } })],
  ])('refuse steps of %s', async (_, accept) => {
    const intruder = await peerOf()
    const { b, first, second } = await pair((a, peer) => [{}, accept(a, peer, intruder)])
    const messages: SpanMessage[] = []
    const stream = await intruder.openStream(b.peer.id, b.peer.addrs(), SPAN_PROTOCOL, { timeoutMs: 2_000 })
    const wire: FramedStream = frameStream<SpanMessage>(stream, {
      parse: parseSpanMessage,
      maxPayload: 0,
      onFrame: (message) => messages.push(message),
      onClose: () => undefined,
    })
    const hello = { type: 'hello', version: PROTOCOL_VERSION, role: 'server', software: 'x', dtypes: ['f32'] }
    wire.post(() => encodeFrame(hello))
    wire.post(() => encodeFrame({ type: 'attach', token }))
    const step = { type: 'step', seq: 0, position: 0, tokens: 1, want: 'all', deadlineMs: 1_000 }
    wire.post(() => createFrame(step, HIDDEN * 4).bytes)
    await until(() => messages.length > 0, 'the server says something')
    // The session never saw the step: its own first one has number 0.
    const output = await second.step(await first.step(someHidden(1, HIDDEN, 1)))
    expect(output.shape).toEqual([1, HIDDEN])
    expect(b.engine.calls.reduce((sum, count) => sum + count, 0)).toBe(1)
    wire.fail(new Error('done') as never)
  })
})
