import { afterEach, describe, expect, it } from 'vitest'
import { createMetrics, type Metrics } from '../../src/metrics.ts'
import { encodeFrame } from '../../src/protocol/frame.ts'
import {
  DIRECTORY_PROTOCOL,
  PASS_PROTOCOL,
  PROTOCOL_VERSION,
  RECORDS_TOPIC,
  SPAN_PROTOCOL,
} from '../../src/protocol/ids.ts'
import { parseSpanMessage, type SpanMessage } from '../../src/protocol/messages.ts'
import { encodeSigned, parseSigned } from '../../src/protocol/signed.ts'
import { createDhtDirectory } from '../../src/swarm/dht-directory.ts'
import { frameStream } from '../../src/swarm/framed-stream.ts'
import { gossip } from '../../src/swarm/gossip.ts'
import { announceTo } from '../../src/swarm/directory-exchange.ts'
import { createIdentity, type Identity, signRecord } from '../../src/swarm/identity.ts'
import { showPass } from '../../src/swarm/pass-exchange.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { memoryReceiptStore } from '../../src/swarm/receipt-store.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { servePasses, signPass } from '../../src/swarm/serve-passes.ts'
import { MODEL, serverRecord } from '../contract/directory.ts'
import { someHidden } from '../contract/span-runner.ts'
import { fakeSpan } from './fake-span.ts'
import { type GatedSwarm, gatedSwarm } from './gated.ts'
import { HIDDEN, openingOf, serveFake, targetOf, TCP, until } from './loopback.ts'

let swarm: GatedSwarm | undefined
afterEach(async () => {
  await swarm?.close()
})

/** What `/metrics` shows, by name and labels; values of 0 and metrics without one left out. */
function shown(metrics: Metrics): Record<string, number> {
  const lines = metrics
    .render()
    .split('\n')
    .filter((line) => line.startsWith('chorale_'))
  const values = lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))])
  return Object.fromEntries(values.filter(([, value]) => value !== 0)) as Record<string, number>
}

/** What went up between two looks. */
function risen(before: Record<string, number>, after: Record<string, number>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(after)
      .filter(([name]) => /^chorale_(?:span|gate|question)_refusals_total|^chorale_gossip/.test(name))
      .map(([name, value]) => [name, value - (before[name] ?? 0)] as const)
      .filter(([, more]) => more > 0),
  )
}

async function start() {
  swarm = gatedSwarm()
  const metrics = createMetrics()
  const server = await swarm.peer({
    listen: [TCP],
    metrics,
    gateOptions: { metrics },
    gossip: gossip(),
    receipts: memoryReceiptStore(),
  })
  return { swarm, metrics, server }
}

/** Says HELLO and `frames` on a stream of its own. @returns whether it was opened, or why not. */
async function say(client: Peer, server: Peer, frames: readonly Uint8Array[]): Promise<string> {
  const stream = await client.openStream(server.id, server.addrs(), SPAN_PROTOCOL, { timeoutMs: 3_000 })
  const said = Promise.withResolvers<string>()
  const wire = frameStream<SpanMessage>(stream, {
    parse: parseSpanMessage,
    maxPayload: 1 << 20,
    onFrame: (message) => {
      if (message.type === 'opened') said.resolve('opened')
      if (message.type === 'error') said.resolve(message.code)
    },
    onClose: () => said.resolve('closed'),
  })
  const hello = { type: 'hello', version: PROTOCOL_VERSION, role: 'client', software: 'raw', dtypes: ['f32'] }
  wire.post(() => encodeFrame(hello))
  for (const frame of frames) wire.post(() => frame)
  return await said.promise
}

describe('messages that are refused', () => {
  it('each kind of wrong opening is counted under the field that is wrong', async () => {
    const { swarm: peers, metrics, server } = await start()
    await serveFake(server, fakeSpan())
    const client = await peers.peer()
    const good = await openingOf(client, server)
    expect(await say(client, server, [encodeFrame(good)])).toBe('opened')
    const kinds: readonly (readonly [field: string, open: object])[] = [
      // Replayed.
      ['session', good],
      // Forged.
      ['signature', { ...(await openingOf(client, server)), signature: new Uint8Array(64).fill(1) }],
      // Changed after it was signed.
      ['signature', { ...(await openingOf(client, server)), body: (await openingOf(client, server)).body }],
      // Re-addressed: a server's own opening shown to another, and another client's.
      ['server', await openingOf(client, server, { server: client.id })],
      ['client', await openingOf(client, server, { client: server.id })],
      // Expired, and of a clock that is ahead.
      ['issuedAt', await openingOf(client, server, { issuedAt: Date.now() - 60_000 })],
      ['issuedAt', await openingOf(client, server, { issuedAt: Date.now() + 60_000 })],
    ]
    for (const [field, open] of kinds) {
      const before = shown(metrics)
      expect(await say(client, server, [encodeFrame(open)])).toBe('protocol')
      await until(() => Object.keys(risen(before, shown(metrics))).length >= 2, `${field} is counted`)
      expect(risen(before, shown(metrics))).toEqual({
        [`chorale_gate_refusals_total{at="span",field="${field}"}`]: 1,
        [`chorale_span_refusals_total{code="protocol",field="${field}"}`]: 1,
      })
    }
    // Truncated: the signed body, and the frame.
    const cut = await openingOf(client, server)
    for (const frame of [
      encodeFrame({ ...cut, body: cut.body.subarray(0, 40) }),
      encodeFrame(cut).map((byte, i) => (i === 0 ? byte - 20 : byte)),
    ]) {
      const before = shown(metrics)
      expect(await say(client, server, [frame, frame])).toMatch(/protocol|closed/)
      await until(() => Object.keys(risen(before, shown(metrics))).length > 0, 'it is counted')
      expect(risen(before, shown(metrics))).toEqual({
        'chorale_span_refusals_total{code="protocol",field=""}': 1,
      })
    }
    // And a frame whose end never comes, because the stream is closed inside it.
    const before = shown(metrics)
    const stream = await client.openStream(server.id, server.addrs(), SPAN_PROTOCOL, { timeoutMs: 3_000 })
    stream.send(encodeFrame(cut).subarray(0, 100))
    await stream.close()
    await until(() => Object.keys(risen(before, shown(metrics))).length > 0, 'it is counted')
    expect(risen(before, shown(metrics))).toEqual({
      'chorale_span_refusals_total{code="session_lost",field="frame"}': 1,
    })
    const text = metrics.render()
    expect(text).not.toContain(client.id)
    expect(text).not.toContain(server.id)
  })

  it('passes that are forged, re-addressed, expired or cut are counted under the field', async () => {
    const { swarm: peers, metrics, server } = await start()
    const sponsor = await createIdentity()
    peers.ledger.register({ id: 900, peerId: sponsor.peerId })
    await until(() => server.gate?.staked(sponsor.peerId, 'sponsor').ok === true, 'the sponsor is known')
    const gate = peers.gateOf(server)
    await servePasses(server, { gate })
    const now = Date.now()
    const passFor = (audience: string, more: object = {}) =>
      signPass(sponsor, {
        audience,
        models: [],
        tokens: 10,
        sessions: 1,
        issuedAt: now,
        expiresAt: now + 60_000,
        ...more,
      })
    const forged = (bytes: Uint8Array): Uint8Array => {
      const { body } = parseSigned(bytes, 'pass', 4_096)
      return encodeSigned({ body, signature: new Uint8Array(64).fill(3) }, 'pass', 4_096)
    }
    for (const [field, code, make] of [
      ['signature', 'refused', async (client: Peer) => forged(await passFor(client.id))],
      ['audience', 'refused', () => passFor(server.id)],
      [
        'expiresAt',
        'refused',
        (client: Peer) => passFor(client.id, { issuedAt: now - 90_000, expiresAt: now - 60_000 }),
      ],
      ['protocol', 'protocol', async (client: Peer) => (await passFor(client.id)).subarray(0, 60)],
    ] as const) {
      const client = await peers.peer({ node: false, gated: false, bootstrap: server.addrs() })
      const before = shown(metrics)
      await expect(showPass(client, server.id, await make(client))).rejects.toThrow()
      expect(risen(before, shown(metrics))).toEqual({
        [`chorale_gate_refusals_total{at="pass",field="${field}"}`]: 1,
        [`chorale_question_refusals_total{protocol="${PASS_PROTOCOL}",code="${code}",field="${field === 'protocol' ? '' : field}"}`]: 1,
      })
      await client.close()
    }
    const tab = await peers.peer({ node: false, gated: false, bootstrap: server.addrs() })
    await showPass(tab, server.id, await passFor(tab.id))
    expect(shown(metrics)).toMatchObject({ chorale_passes_taken_total: 1 })
  })

  it('records that are forged, of another peer, expired or cut are counted under the field', async () => {
    const { swarm: peers, metrics, server } = await start()
    await createDhtDirectory(server, { serve: true })
    const client = await peers.peer({ bootstrap: server.addrs() })
    const stranger = await createIdentity()
    const record = (identity: Identity, more: object = {}) =>
      signRecord(identity, {
        record: { ...serverRecord(identity.peerId, Date.now()), ...more },
        model: MODEL,
      })
    const forged = await record(client.identity)
    forged[forged.length - 1]! ^= 1
    const replayed = { issuedAt: Date.now() - 600_000, expiresAt: Date.now() - 500_000 }
    for (const [code, field, bytes, place] of [
      ['protocol', 'signature', forged, []],
      ['refused', '', await record(stranger), ['chorale_gate_refusals_total{at="record",field="stake"}']],
      ['protocol', 'expiresAt', await record(client.identity, replayed), []],
      ['protocol', '', (await record(client.identity)).subarray(0, 50), []],
    ] as const) {
      const before = shown(metrics)
      await expect(announceTo(client, server.id, bytes)).rejects.toThrow()
      expect(Object.keys(risen(before, shown(metrics))).toSorted()).toEqual([
        ...place,
        `chorale_question_refusals_total{protocol="${DIRECTORY_PROTOCOL}",code="${code}",field="${field}"}`,
      ])
    }
  })

  it('gossip is counted by what became of it and why', async () => {
    const { swarm: peers, metrics, server } = await start()
    await createDhtDirectory(server, { serve: true })
    const publisher = await peers.peer({ listen: [TCP], gossip: gossip(), bootstrap: server.addrs() })
    const channel = publisher.gossip!.join(RECORDS_TOPIC, { maxBytes: 16_000, take: () => 'accept' })
    await until(() => channel.listeners > 0, 'it is listened to')
    const reasons = async (data: Uint8Array): Promise<Record<string, number>> => {
      const before = shown(metrics)
      await channel.publish(data)
      await until(() => Object.keys(risen(before, shown(metrics))).length > 0, 'it came')
      return risen(before, shown(metrics))
    }
    const record = async (more: object = {}) =>
      await signRecord(publisher.identity, {
        record: { ...serverRecord(publisher.id, Date.now()), ...more },
        model: MODEL,
      })
    expect(await reasons(await record())).toEqual({
      'chorale_gossip_messages_total{verdict="accept",reason="new"}': 1,
    })
    const old = await record({ issuedAt: Date.now() - 600_000, expiresAt: Date.now() - 500_000 })
    expect(await reasons(old)).toEqual({
      'chorale_gossip_messages_total{verdict="ignore",reason="content"}': 1,
    })
    const forged = await record()
    forged[forged.length - 1]! ^= 1
    expect(await reasons(forged)).toEqual({
      'chorale_gossip_messages_total{verdict="reject",reason="signature"}': 1,
    })
    expect(await reasons(Uint8Array.of(1, 2, 3))).toEqual({
      'chorale_gossip_messages_total{verdict="reject",reason="protocol"}': 1,
    })
  })
})

describe('metrics of a server', () => {
  it('sessions, tokens, bytes, steps and receipts are counted, and checks of stake', async () => {
    const { swarm: peers, metrics, server } = await start()
    const span = fakeSpan()
    await serveFake(server, span)
    const client = await peers.peer()
    const session = await connectRemoteSpan(client, targetOf(server, span), { hiddenSize: HIDDEN }).open({
      maxTokens: 64,
    })
    await session.step(someHidden(5, HIDDEN, 1), { want: 'last' })
    for (let i = 0; i < 3; i++) await session.step(someHidden(1, HIDDEN, i))
    await session.close()
    await until(
      () => shown(metrics)['chorale_receipts_given_total{result="agreed"}'] === 2,
      'both are agreed to',
    )
    expect(shown(metrics)).toMatchObject({
      chorale_sessions_opened_total: 1,
      chorale_tokens_served_total: 8,
      'chorale_hop_bytes_total{direction="in"}': 8 * HIDDEN * 4,
      'chorale_hop_bytes_total{direction="out"}': 4 * HIDDEN * 4,
      'chorale_step_seconds_count{kind="decode"}': 3,
      'chorale_step_seconds_count{kind="prefill"}': 1,
    })
    expect(shown(metrics)['chorale_gate_checks_total{result="passed"}']).toBeGreaterThan(4)
    const stranger = await peers.peer({ node: false, gated: false })
    await expect(
      connectRemoteSpan(stranger, targetOf(server, span), { hiddenSize: HIDDEN }).open({ maxTokens: 4 }),
    ).rejects.toThrow()
    expect(shown(metrics)['chorale_gate_checks_total{result="refused"}']).toBeGreaterThan(0)
    expect(client.metrics.render()).toContain('chorale_receipts_taken_total{result="agreed"} 2\n')
  })
})
