import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { encodeFrame, FrameReader } from '../../src/protocol/frame.ts'
import {
  encodeGrant,
  grantSignedBytes,
  type HandoverGrant,
  parseGrant,
} from '../../src/protocol/handover-grant.ts'
import { type HandoverMessage, parseHandoverMessage } from '../../src/protocol/handover-messages.ts'
import { HANDOVER_PROTOCOL, PROTOCOL_VERSION, SPAN_PROTOCOL } from '../../src/protocol/ids.ts'
import { CLOCK_TOLERANCE_MS, MAX_GRANT_BYTES, MAX_HANDOVER_PART_BYTES } from '../../src/protocol/limits.ts'
import { parseSpanMessage, type SpanMessage } from '../../src/protocol/messages.ts'
import { encodeSigned } from '../../src/protocol/signed.ts'
import type { HandoverGrantFrom, SpanSession } from '../../src/session/span-runner.ts'
import { createIdentity, type Identity, signBytes } from '../../src/swarm/identity.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { ODD_SPEC, randomModel } from '../engine/random-model.ts'
import { noise } from '../engine/span-runs.ts'
import { gatedSwarm } from './gated.ts'
import { createHandoverSwarm, type HandoverServer, type HandoverSwarm } from './handover-swarm.ts'
import { loopbackPeer, openingOf, TCP, until } from './loopback.ts'

const model = randomModel(ODD_SPEC, () => 'F32')
const HIDDEN = ODD_SPEC.hiddenSize
const engine = createReferenceEngine()
const BLOCKS = { start: 0, end: 3 }

async function sign(
  identity: Identity,
  grant: HandoverGrant,
  change: (body: Uint8Array) => void = () => undefined,
): Promise<Uint8Array> {
  const body = new Uint8Array(encodeGrant(grant))
  const signature = await signBytes(identity, grantSignedBytes(body))
  change(body)
  return encodeSigned({ body, signature }, 'hand-over grant', MAX_GRANT_BYTES)
}

/** Asks for a session by hand; what the server says, message by message. */
async function ask(from: Peer, server: Peer, grant: Uint8Array, take: object = {}) {
  const stream = await from.openStream(server.id, server.addrs(), HANDOVER_PROTOCOL, { timeoutMs: 3_000 })
  const messages: HandoverMessage[] = []
  let closed = false
  const reader = new FrameReader<HandoverMessage>(parseHandoverMessage, MAX_HANDOVER_PART_BYTES)
  stream.addEventListener('message', ({ data }) =>
    reader.push(data.subarray(), (message) => {
      messages.push(message)
      if (message.type === 'done') void stream.close()
    }),
  )
  stream.addEventListener('close', () => (closed = true))
  stream.addEventListener('remoteCloseWrite', () => (closed = true))
  stream.send(encodeFrame({ type: 'take', from: 0, to: 40, inputs: false, ...take }, grant))
  await until(() => closed, 'the server closes')
  return messages
}

describe('who may have a session', () => {
  let swarm: HandoverSwarm
  let old: HandoverServer
  let taker: Peer
  let stranger: Peer
  let session: SpanSession
  let honest: HandoverGrantFrom
  let grant: HandoverGrant

  beforeAll(async () => {
    swarm = await createHandoverSwarm(model)
    old = await swarm.server({ engine, ...BLOCKS })
    taker = await loopbackPeer({ listen: [TCP] })
    stranger = await loopbackPeer()
    swarm.onClose(() => taker.close())
    swarm.onClose(() => stranger.close())
    session = await connectRemoteSpan(swarm.client, old.record, { hiddenSize: HIDDEN }).open({
      maxTokens: 64,
    })
    await session.step(noise(40, HIDDEN))
    honest = await session.handover!.grant(taker.id, BLOCKS)
    grant = parseGrant(honest.grant).grant
  })
  afterAll(() => swarm.close())

  it('the server that its client named gets it', async () => {
    const messages = await ask(taker, old.peer, honest.grant)
    expect(messages.at(0)).toMatchObject({ type: 'held', to: 40, precision: 'f32', engine: 'reference' })
    expect(messages.at(-1)).toEqual({ type: 'done' })
    const parts = messages.flatMap((message) => (message.type === 'part' ? [message] : []))
    expect([parts.at(0)?.from, parts.at(-1)?.to]).toEqual([0, 40])
  })

  it('not more than there is, nor what was not kept', async () => {
    const [held] = await ask(taker, old.peer, honest.grant, { from: 30, to: 60 })
    expect(held).toMatchObject({ type: 'held', to: 40 })
    expect(await ask(taker, old.peer, honest.grant, { inputs: true })).toMatchObject([
      { type: 'refused', code: 'not_found' },
    ])
  })

  it('nobody else gets it: not with the same grant, a forged one, an old one, or one for more', async () => {
    expect(await ask(stranger, old.peer, honest.grant)).toMatchObject([{ type: 'refused', code: 'refused' }])
    const other = await createIdentity()
    for (const [name, bytes] of [
      ['signed by another', await sign(other, grant)],
      ['another client’s', await sign(other, { ...grant, client: other.peerId })],
      ['for a stranger, by a stranger', await sign(stranger.identity, { ...grant, to: stranger.id })],
      ['changed', await sign(swarm.client.identity, grant, (body) => (body[body.length - 1]! ^= 1))],
      [
        'too old',
        await sign(swarm.client.identity, { ...grant, issuedAt: Date.now() - CLOCK_TOLERANCE_MS - 9 }),
      ],
      [
        'too new',
        await sign(swarm.client.identity, { ...grant, issuedAt: Date.now() + CLOCK_TOLERANCE_MS + 900 }),
      ],
      ['for another server', await sign(swarm.client.identity, { ...grant, from: stranger.id })],
      ['for more blocks', await sign(swarm.client.identity, { ...grant, end: 4 })],
      ['another session', await sign(swarm.client.identity, { ...grant, session: new Uint8Array(16) })],
    ] as const) {
      const messages = await ask(taker, old.peer, bytes)
      expect(messages, name).toHaveLength(1)
      expect(messages[0]!.type, name).toBe('refused')
    }
  })

  it('garbage, silence and a second question end the stream and nothing else', async () => {
    for (let i = 0; i < 20; i++) {
      const stream = await stranger.openStream(old.peer.id, old.peer.addrs(), HANDOVER_PROTOCOL, {
        timeoutMs: 3_000,
      })
      let closed = false
      stream.addEventListener('close', () => (closed = true))
      stream.addEventListener('remoteCloseWrite', () => (closed = true))
      stream.send(crypto.getRandomValues(new Uint8Array(64)))
      await until(() => closed, 'the server closes')
    }
    expect((await ask(taker, old.peer, honest.grant)).at(-1)).toEqual({ type: 'done' })
    expect(session.position).toBe(40)
  })

  it('a session gives itself so many times and no more; a new server can’t be made to take what is not for it', async () => {
    let last: HandoverMessage | undefined
    for (let i = 0; i < 16 && last?.type !== 'refused'; i++) {
      last = (await ask(taker, old.peer, honest.grant)).at(-1)
    }
    expect(last).toMatchObject({ type: 'refused', code: 'capacity' })
    const fresh = await swarm.server({ engine, ...BLOCKS })
    const next = await connectRemoteSpan(swarm.client, fresh.record, { hiddenSize: HIDDEN }).open({
      maxTokens: 64,
    })
    // The grant names another server.
    expect(await next.handover!.adopt([honest], { from: 0, to: 39, deadlineMs: 2_000 })).toBe(0)
    // A grant of another client, as one that listened in would show.
    const theirs = await sign(stranger.identity, { ...grant, client: stranger.id, to: fresh.peer.id })
    expect(
      await next.handover!.adopt([{ ...honest, grant: theirs }], { from: 0, to: 39, deadlineMs: 2_000 }),
    ).toBe(0)
    // Not all blocks.
    const part = await session.handover!.grant(fresh.peer.id, { start: 0, end: 2 })
    expect(await next.handover!.adopt([part], { from: 0, to: 39, deadlineMs: 2_000 })).toBe(0)
    expect(next.position).toBe(0)
    await next.step(noise(3, HIDDEN))
    await expect(next.handover!.adopt([part], { from: 4, to: 39, deadlineMs: 2_000 })).rejects.toMatchObject({
      code: 'bad_request',
    })
    await next.close()
  })

  it.each([
    ['before its session is open', false, { seq: 0, from: 0, position: 9 }, 'adopt before open'],
    ['beyond the lease', true, { seq: 0, from: 0, position: 65 }, 'passes the lease of 64'],
    ['from where the session is not', true, { seq: 0, from: 5, position: 9 }, 'the session is at 0 and 0'],
    ['out of turn', true, { seq: 3, from: 0, position: 9 }, 'the session is at 0 and 0'],
    ['of sources that are none', true, { seq: 0, from: 0, position: 9 }, 'CBOR|sources|cbor'],
  ])('ADOPT %s is refused, and the server goes on', async (_, opened, adopt, message) => {
    const stream = await swarm.client.openStream(old.peer.id, old.peer.addrs(), SPAN_PROTOCOL, {
      timeoutMs: 3_000,
    })
    const messages: SpanMessage[] = []
    const reader = new FrameReader<SpanMessage>(parseSpanMessage, 1 << 23)
    stream.addEventListener('message', ({ data }) =>
      reader.push(data.subarray(), (read) => messages.push(read)),
    )
    stream.send(
      encodeFrame({
        type: 'hello',
        version: PROTOCOL_VERSION,
        role: 'client',
        software: 'raw',
        dtypes: ['f32'],
      }),
    )
    if (opened) {
      stream.send(encodeFrame(await openingOf(swarm.client, old.peer, { ...BLOCKS, maxTokens: 64 })))
      await until(() => messages.some(({ type }) => type === 'opened'), 'it is open')
    }
    stream.send(encodeFrame({ type: 'adopt', deadlineMs: 500, ...adopt }, Uint8Array.of(0xff, 1, 2)))
    await until(() => messages.some(({ type }) => type === 'error'), 'it is refused')
    expect(messages.at(-1)).toMatchObject({
      type: 'error',
      code: 'protocol',
      message: expect.stringMatching(new RegExp(message)),
    })
    expect(session.position).toBe(40)
  })

  it('no session, no hand-over', async () => {
    const bytes = await sign(swarm.client.identity, { ...grant, issuedAt: Date.now() })
    await session.close()
    await until(() => old.host.load().sessions === 0, 'the session ends')
    expect(await ask(taker, old.peer, bytes)).toMatchObject([{ type: 'refused', code: 'not_found' }])
  })
})

describe('stake', () => {
  const gated = gatedSwarm()
  afterEach(() => gated.close())

  it('both servers of a hand-over need it; without, the history is replayed', async () => {
    const swarm = await createHandoverSwarm(model, (options) => gated.peer(options))
    const old = await swarm.server({ engine, ...BLOCKS })
    const session = await swarm.chain().open({ maxTokens: 128 })
    const input = noise(60, HIDDEN)
    await session.step(input, { want: 'last' })
    const outsider = await gated.peer({ node: false, gated: false, listen: [TCP] })
    const hop = await connectRemoteSpan(swarm.client, old.record, { hiddenSize: HIDDEN }).open({
      maxTokens: 64,
    })
    await hop.step(noise(40, HIDDEN))
    const { grant } = await hop.handover!.grant(outsider.id, BLOCKS)
    const asked = ask(outsider, old.peer, grant)
    // Cut as a connection, or refused as a server: nothing comes either way.
    expect((await asked.catch(() => [])).filter(({ type }) => type === 'part')).toEqual([])
    await hop.close()
    const fresh = await swarm.server({ engine, ...BLOCKS })
    old.leave()
    await until(() => swarm.failovers.length === 1, 'the session moves')
    expect(swarm.failovers).toMatchObject([{ to: [fresh.peer.id], handedTokens: 59 }])
    await session.close()
    await swarm.close()
  })
})
