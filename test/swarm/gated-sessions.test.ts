import { afterEach, describe, expect, it } from 'vitest'
import { encodeFrame } from '../../src/protocol/frame.ts'
import { PROTOCOL_VERSION, SPAN_PROTOCOL } from '../../src/protocol/ids.ts'
import { parseSpanMessage, type SpanMessage } from '../../src/protocol/messages.ts'
import { memoryDirectory, memoryDirectoryState } from '../../src/session/memory-directory.ts'
import { createChain } from '../../src/session/chain-span.ts'
import { frameStream } from '../../src/swarm/framed-stream.ts'
import { keepPass } from '../../src/swarm/keep-pass.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { showPass } from '../../src/swarm/pass-exchange.ts'
import { servePasses, signPass } from '../../src/swarm/serve-passes.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { someHidden } from '../contract/span-runner.ts'
import { createFakeEngineSpan } from '../session/fake-engine-span.ts'
import { fakeSpan } from './fake-span.ts'
import { gatedSwarm, type GatedSwarm, setParameters } from './gated.ts'
import { HIDDEN, loopbackPeer, MODEL_ID, openingOf, serveFake, targetOf, TCP, until } from './loopback.ts'

const swarms: GatedSwarm[] = []
afterEach(async () => {
  for (const swarm of swarms.splice(0)) await swarm.close()
})

function newSwarm(): GatedSwarm {
  const swarm = gatedSwarm()
  swarms.push(swarm)
  return swarm
}

const connect = (client: Peer, server: Peer, span: ReturnType<typeof fakeSpan>) =>
  connectRemoteSpan(client, targetOf(server, span), { hiddenSize: HIDDEN })

describe('a gated span', () => {
  it('serves a staked client, and refuses one without stake before it has read anything', async () => {
    const swarm = newSwarm()
    const span = fakeSpan()
    const server = await swarm.peer({ listen: [TCP] })
    await serveFake(server, span)
    const client = await swarm.peer()
    const session = await connect(client, server, span).open({ maxTokens: 8 })
    expect((await session.step(someHidden(1, HIDDEN, 1))).shape).toEqual([1, HIDDEN])
    await session.close()
    // It has no gate of its own, so it tries.
    const stranger = await swarm.peer({ node: false, gated: false })
    await expect(connect(stranger, server, span).open({ maxTokens: 8 })).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringContaining(`${stranger.id} has no stake`),
    })
    expect(swarm.gateOf(server).refusals.get('span stake')).toBe(1)
  })

  it('a client does not ask, or believe, a server without stake', async () => {
    const swarm = newSwarm()
    const span = fakeSpan()
    const server = await swarm.peer({ listen: [TCP], node: false, gated: false })
    await serveFake(server, span)
    const client = await swarm.peer()
    await expect(connect(client, server, span).open({ maxTokens: 8 })).rejects.toMatchObject({
      code: 'refused',
    })
    expect(swarm.gateOf(client).refusals.get('dial stake')).toBe(1)
  })

  it('stake withdrawn cuts sessions and connections within one block, at both ends', async () => {
    const swarm = newSwarm()
    const span = fakeSpan()
    const server = await swarm.peer({ listen: [TCP] })
    const { service } = await serveFake(server, span)
    const client = await swarm.peer()
    const session = await connect(client, server, span).open({ maxTokens: 8 })
    await session.step(someHidden(1, HIDDEN, 1))
    const started = performance.now()
    swarm.unstake(client)
    await until(() => service.streams === 0 && span.kvTokensFree === 4096, 'the session is gone')
    expect(performance.now() - started).toBeLessThan(1_000)
    await expect(session.step(someHidden(1, HIDDEN, 2))).rejects.toMatchObject({ code: 'refused' })
    expect(service.counters.refusals.get('refused')).toBe(1)
    await until(() => server.measures().size === 0, 'the connection is gone')
  })

  it('nobody is served after the grace without a ledger, and everybody again when it is back', async () => {
    const swarm = newSwarm()
    const span = fakeSpan()
    const server = await swarm.peer({ listen: [TCP] })
    await serveFake(server, span)
    const client = await swarm.peer()
    setParameters(swarm.ledger, { graceMs: 600 })
    await until(() => swarm.sets.every((set) => set.parameters.graceMs === 600), 'the grace is short')
    const session = await connect(client, server, span).open({ maxTokens: 8 })
    swarm.ledger.condition = 'down'
    await until(() => !swarm.gateOf(server).check(client.id, 'infer').ok, 'the grace is over')
    await expect(session.step(someHidden(1, HIDDEN, 1))).rejects.toMatchObject({ code: 'refused' })
    swarm.ledger.condition = 'up'
    await until(() => swarm.gateOf(client).check(server.id, 'serve').ok, 'the ledger is back')
    swarm.ledger.mine()
    const again = await connect(client, server, span).open({ maxTokens: 8 })
    swarm.ledger.mine()
    expect((await again.step(someHidden(1, HIDDEN, 1))).shape).toEqual([1, HIDDEN])
  })

  it('too many sessions are a matter of capacity that says when to come again', async () => {
    const swarm = newSwarm()
    const span = fakeSpan()
    const server = await swarm.peer({ listen: [TCP] })
    await serveFake(server, span, { maxSessions: 64 })
    // Its stake is three times the least, so it may have three times the base.
    const client = await swarm.peer({ node: { stake: 300n } })
    setParameters(swarm.ledger, { rate: { sessionsPerMinute: { base: 2, max: 100 } } })
    const runner = connect(client, server, span)
    await until(() => swarm.gateOf(server).parameters.rate.sessionsPerMinute.base === 2, 'the rate is low')
    for (let i = 0; i < 6; i++) await (await runner.open({ maxTokens: 8 })).close()
    const refusal = runner.open({ maxTokens: 8 })
    await expect(refusal).rejects.toMatchObject({
      code: 'capacity',
      message: expect.stringContaining('more than 6 sessions a minute'),
    })
    const { retryAfterMs } = (await refusal.catch((error: unknown) => error)) as { retryAfterMs: number }
    expect(retryAfterMs).toBeGreaterThan(1_000)
    expect(retryAfterMs).toBeLessThan(60_000)
  })

  it('too many messages are read later, and none is lost', async () => {
    const swarm = newSwarm()
    const span = fakeSpan()
    const server = await swarm.peer({ listen: [TCP] })
    await serveFake(server, span)
    const client = await swarm.peer({ node: { stake: 100n } })
    setParameters(swarm.ledger, { rate: { messagesPerSecond: { base: 20, max: 20 } } })
    await until(() => swarm.gateOf(server).parameters.rate.messagesPerSecond.base === 20, 'the rate is low')
    const session = await connect(client, server, span).open({ maxTokens: 64 })
    const started = performance.now()
    for (let i = 0; i < 60; i++) await session.step(someHidden(1, HIDDEN, i))
    // 40 at once, the others at 20 a second; each message of receipts counts too.
    expect(performance.now() - started).toBeGreaterThan(600)
    expect(session.position).toBe(60)
    await session.close()
  })
})

describe('passes', () => {
  it('a client without stake chats at its sponsor’s expense, and the sponsor is charged', async () => {
    const swarm = newSwarm()
    const span = fakeSpan()
    const server = await swarm.peer({ listen: [TCP] })
    const sponsor = await swarm.peer({ listen: [TCP] })
    await serveFake(server, span)
    const issuer = await servePasses(sponsor, { gate: swarm.gateOf(sponsor), issue: { tokens: 100 } })
    await servePasses(server, { gate: swarm.gateOf(server) })
    const tab = await swarm.peer({ node: false, gated: false, bootstrap: sponsor.addrs() })
    const keeper = await keepPass(tab)
    await keeper.first(3_000)
    expect(keeper.good).toBe(true)
    expect(issuer.issued).toBe(1)
    const session = await connect(tab, server, span).open({ maxTokens: 8 })
    await session.step(someHidden(3, HIDDEN, 1))
    await session.close()
    expect(swarm.gateOf(server).passes.uses()).toEqual([
      { sponsor: sponsor.id, tokens: 3, sessions: 1, passes: 1 },
    ])
    keeper.close()
  })

  it('a pass is spent where it was used up, and worth nothing with another key', async () => {
    const swarm = newSwarm()
    const span = fakeSpan()
    const server = await swarm.peer({ listen: [TCP] })
    const sponsor = await swarm.peer()
    await serveFake(server, span)
    const tab = await swarm.peer({ node: false, gated: false })
    const now = Date.now()
    const pass = {
      audience: tab.id,
      models: [MODEL_ID],
      tokens: 4,
      sessions: 9,
      issuedAt: now,
      expiresAt: now + 60_000,
    }
    tab.pass = await signPass(sponsor.identity, pass)
    const session = await connect(tab, server, span).open({ maxTokens: 8 })
    await session.step(someHidden(3, HIDDEN, 1))
    await expect(session.step(someHidden(2, HIDDEN, 1))).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringContaining('good for 4 tokens'),
    })
    // The same pass again does not begin anew.
    const second = await connect(tab, server, span).open({ maxTokens: 8 })
    await expect(second.step(someHidden(2, HIDDEN, 1))).rejects.toMatchObject({ code: 'refused' })
    const thief = await swarm.peer({ node: false, gated: false })
    thief.pass = tab.pass
    await expect(connect(thief, server, span).open({ maxTokens: 8 })).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringContaining('the pass is for'),
    })
    const other = await swarm.peer({ node: false, gated: false })
    other.pass = await signPass(sponsor.identity, { ...pass, audience: other.id, models: ['other@1'] })
    await expect(connect(other, server, span).open({ maxTokens: 8 })).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringContaining('not for fake@1'),
    })
  })

  it('clients go with their sponsor: its stake withdrawn cuts them', async () => {
    const swarm = newSwarm()
    const span = fakeSpan()
    const server = await swarm.peer({ listen: [TCP] })
    const sponsor = await swarm.peer()
    const { service } = await serveFake(server, span)
    const tab = await swarm.peer({ node: false, gated: false })
    const now = Date.now()
    tab.pass = await signPass(sponsor.identity, {
      audience: tab.id,
      models: [],
      tokens: 4,
      sessions: 9,
      issuedAt: now,
      expiresAt: now + 60_000,
    })
    await connect(tab, server, span).open({ maxTokens: 8 })
    swarm.unstake(sponsor)
    await until(() => service.streams === 0, 'the session is cut')
  })

  it('a pass is renewed before it ends; one that ended admits nobody', async () => {
    const swarm = newSwarm()
    const sponsor = await swarm.peer({ listen: [TCP], gateOptions: { pending: { max: 8, waitMs: 1_500 } } })
    const gate = swarm.gateOf(sponsor)
    const issuer = await servePasses(sponsor, { gate, issue: { lifetimeMs: 2_000 } })
    const tab = await swarm.peer({ node: false, gated: false, bootstrap: sponsor.addrs() })
    const keeper = await keepPass(tab)
    await keeper.first(10_000)
    const first = tab.pass
    await until(() => issuer.issued >= 3, 'it is renewed', 15_000)
    expect(tab.pass).not.toEqual(first)
    expect(gate.check(tab.id, 'infer').ok).toBe(true)
    keeper.close()
    await until(() => !gate.check(tab.id, 'infer').ok, 'it ended')
    // It comes back at once, without a pass, and may wait for one.
    await until(
      () => (gate.refusals.get('connect late') ?? 0) > 0,
      'its second connection is cut too',
      10_000,
    )
    await until(() => tab.measures().size === 0 && sponsor.measures().size === 0, 'the client is cut')
    // The library would dial again and again, a hundred times a second.
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    expect(gate.refusals.get('connect stake') ?? 0).toBeLessThan(4)
  })

  it('a pass is renewed though the clock says it is too early', async () => {
    const swarm = newSwarm()
    const sponsor = await swarm.peer({ listen: [TCP] })
    const issuer = await servePasses(sponsor, {
      gate: swarm.gateOf(sponsor),
      issue: { lifetimeMs: 4_000 },
    })
    const tab = await swarm.peer({ node: false, gated: false, bootstrap: sponsor.addrs() })
    let lateMs = 0
    // Timers count another clock's milliseconds, and may be one of them early.
    const keeper = await keepPass(tab, { now: () => Date.now() - lateMs })
    await keeper.first(10_000)
    lateMs = 50
    await until(() => issuer.issued >= 2, 'it is renewed before it ends', 3_900)
    keeper.close()
  })

  it('three bad passes end a connection that is not admitted', async () => {
    const swarm = newSwarm()
    const server = await swarm.peer({ listen: [TCP] })
    const gate = swarm.gateOf(server)
    await servePasses(server, { gate })
    const stranger = await swarm.peer({ node: false, gated: false, bootstrap: server.addrs() })
    const now = Date.now()
    const own = await signPass(stranger.identity, {
      audience: stranger.id,
      models: [],
      tokens: 1,
      sessions: 1,
      issuedAt: now,
      expiresAt: now + 1_000,
    })
    for (let i = 0; i < 3; i++) {
      await expect(showPass(stranger, server.id, own)).rejects.toMatchObject({
        code: 'refused',
        message: expect.stringContaining('sponsor is not admitted'),
      })
    }
    expect(gate.refusals.get('pass sponsor')).toBe(3)
    await until(() => stranger.measures().size === 0, 'it is cut')
  })

  it('whoever shows nothing is cut after a short time, and few may wait', async () => {
    const swarm = newSwarm()
    const server = await swarm.peer({ listen: [TCP], gateOptions: { pending: { max: 2, waitMs: 1_500 } } })
    const gate = swarm.gateOf(server)
    const strangers = await Promise.all([1, 2, 3].map(() => swarm.peer({ node: false, gated: false })))
    await serveFake(server, fakeSpan())
    // Each opens a stream and says nothing.
    const dials = await Promise.allSettled(
      strangers.map((peer) =>
        peer.openStream(server.id, server.addrs(), SPAN_PROTOCOL, { timeoutMs: 2_000 }),
      ),
    )
    expect(dials.filter(({ status }) => status === 'fulfilled').length).toBeLessThanOrEqual(2)
    expect(gate.pending.size).toBeLessThanOrEqual(2)
    await until(() => gate.pending.size === 0, 'they are cut')
    await until(() => strangers.every((peer) => peer.measures().size === 0), 'the connections are gone')
  })
})

describe('a signed opening', () => {
  it.each<[string, (client: Peer, server: Peer) => Promise<object>, RegExp]>([
    [
      'for another server',
      (client, server) => openingOf(client, server, { server: client.id }),
      /addressed to/,
    ],
    [
      'of another client',
      (client, server) => openingOf(client, server, { client: server.id }),
      /the connection is of/,
    ],
    [
      'too old',
      (client, server) => openingOf(client, server, { issuedAt: Date.now() - 31_000 }),
      /check both clocks/,
    ],
    [
      'of the future',
      (client, server) => openingOf(client, server, { issuedAt: Date.now() + 60_000 }),
      /future/,
    ],
    ['of nothing', (client, server) => openingOf(client, server, { start: 4 }), /empty span 4:4/],
    [
      'signed by another key',
      async (client, server) => ({ ...(await openingOf(client, server)), signature: new Uint8Array(64) }),
      /not signed by/,
    ],
    [
      'changed after it was signed',
      async (client, server) => ({
        ...(await openingOf(client, server)),
        body: (await openingOf(client, server)).body,
      }),
      /not signed by/,
    ],
    [
      'cut short',
      async (client, server) => {
        const open = await openingOf(client, server)
        return { ...open, body: open.body.subarray(0, 40) }
      },
      /opening/,
    ],
  ])('%s is refused with the reason', async (_, forge, reason) => {
    const server = await loopbackPeer({ listen: [TCP] })
    const client = await loopbackPeer()
    const span = fakeSpan()
    const { service } = await serveFake(server, span)
    expect(await rawOpen(client, server, await forge(client, server))).toMatch(reason)
    expect(service.counters.refusals.get('protocol')).toBe(1)
    expect(span.kvTokensFree).toBe(4096)
    await client.close()
    await server.close()
  })

  it('counts once: the same bytes again are refused, in another stream too', async () => {
    const server = await loopbackPeer({ listen: [TCP] })
    const client = await loopbackPeer()
    await serveFake(server, fakeSpan())
    const open = await openingOf(client, server)
    expect(await rawOpen(client, server, open)).toBe('opened')
    expect(await rawOpen(client, server, open)).toMatch(/came before/)
    await client.close()
    await server.close()
  })
})

/** What the server says to HELLO and this OPEN: `opened`, or its reason. */
async function rawOpen(client: Peer, server: Peer, open: object): Promise<string> {
  const stream = await client.openStream(server.id, server.addrs(), SPAN_PROTOCOL, { timeoutMs: 3_000 })
  const said = Promise.withResolvers<string>()
  const wire = frameStream<SpanMessage>(stream, {
    parse: parseSpanMessage,
    maxPayload: 0,
    onFrame: (message) => {
      if (message.type === 'opened') said.resolve('opened')
      if (message.type === 'error') said.resolve(message.message)
    },
    onClose: () => said.resolve('closed without a word'),
  })
  const hello = { type: 'hello', version: PROTOCOL_VERSION, role: 'client', software: 'raw', dtypes: ['f32'] }
  wire.post(() => encodeFrame(hello))
  wire.post(() => encodeFrame(open))
  return await said.promise
}

describe('stake withdrawn mid-answer', () => {
  it.each([
    ['pushed', true],
    ['carried by the client', false],
  ])('the answer completes elsewhere, equal (%s)', async (_, push) => {
    const swarm = newSwarm()
    const spans = [
      [0, 2],
      [2, 4],
      [2, 4],
      [4, 6],
    ] as const
    const servers = await Promise.all(
      spans.map(async ([start, end]) => {
        const peer = await swarm.peer({ listen: [TCP] })
        const engine = createFakeEngineSpan({ start, end, kvTokens: 64 })
        await serveFake(peer, engine)
        return { peer, engine }
      }),
    )
    const client = await swarm.peer()
    const state = memoryDirectoryState()
    const model = { modelId: MODEL_ID, name: 'fake', blockCount: 6, hiddenSize: HIDDEN }
    for (const { peer, engine } of servers) {
      const record = {
        ...targetOf(peer, engine),
        state: 'online' as const,
        throughput: 1000,
        freeKvTokens: 64,
        sessions: 0,
        precision: 'f32',
        version: '0',
        issuedAt: 0,
        expiresAt: Number.MAX_SAFE_INTEGER,
      }
      await memoryDirectory(state, peer.id).announce(record, model)
    }
    const runner = createChain({
      model,
      directory: memoryDirectory(state, client.id),
      connect: (server) => connectRemoteSpan(client, server, { hiddenSize: HIDDEN }),
      chunkTokens: 3,
      openWaitMs: 0,
      push,
      bans: { baseMs: 50, maxMs: 100 },
    })
    const answer = async (
      onStep: (step: number, route: readonly { peer: string }[]) => void,
    ): Promise<Tensor[]> => {
      const reasons: string[] = []
      const session = await runner.open({ maxTokens: 32, onFailover: ({ reason }) => reasons.push(reason) })
      const outputs = [await session.step(someHidden(11, HIDDEN, 5), { want: 'last' })]
      for (let step = 0; step < 8; step++) {
        onStep(step, session.route)
        const last = outputs.at(-1)
        outputs.push(await session.step({ shape: last.shape, data: last.data.map((value) => value / 64) }))
      }
      await session.close()
      expect(reasons, reasons.join(' | ')).toHaveLength(cut === undefined ? 0 : 1)
      return outputs
    }
    let cut: string | undefined
    const undisturbed = await answer(() => undefined)
    const disturbed = await answer((step, route) => {
      if (step !== 4) return
      cut = route[1]!.peer
      swarm.unstake(servers.find(({ peer }) => peer.id === cut)!.peer)
    })
    expect(disturbed).toEqual(undisturbed)
    await until(() => servers.every(({ engine }) => engine.kvTokensFree === 64), 'all leases are free')
  })
})
