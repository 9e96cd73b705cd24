import { afterEach, describe, expect, it } from 'vitest'
import { attestTopic, DIRECTORY_PROTOCOL, KAD_PROTOCOL, SPAN_PROTOCOL } from '../../src/protocol/ids.ts'
import { createDhtDirectory } from '../../src/swarm/dht-directory.ts'
import { gossip } from '../../src/swarm/gossip.ts'
import { createIdentity } from '../../src/swarm/identity.ts'
import { RELAY_HOP_PROTOCOL, relayServer } from '../../src/swarm/relay.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { servePasses } from '../../src/swarm/serve-passes.ts'
import { MODEL, serverRecord } from '../contract/directory.ts'
import { someHidden } from '../contract/span-runner.ts'
import { FAKE_SUBNET } from '../ledger/fake-ledger.ts'
import { attack, GOSSIP_PROTOCOL, type Loot } from './attacker.ts'
import { fakeSpan } from './fake-span.ts'
import { gatedSwarm, type GatedSwarm } from './gated.ts'
import { HIDDEN, loopbackPeer, serveFake, targetOf, TCP, until } from './loopback.ts'

const swarms: GatedSwarm[] = []
afterEach(async () => {
  for (const swarm of swarms.splice(0)) await swarm.close()
})

async function victim() {
  const swarm = gatedSwarm()
  swarms.push(swarm)
  const server = await swarm.peer({
    listen: [TCP],
    relay: relayServer(),
    gossip: gossip(),
    gateOptions: { pending: { max: 8, waitMs: 1_000 } },
  })
  const directory = await createDhtDirectory(server, { serve: true })
  const span = fakeSpan()
  const { service } = await serveFake(server, span)
  await servePasses(server, { gate: swarm.gateOf(server) })
  await directory.announce(serverRecord(server.id, Date.now()), MODEL)
  const addr = server.addrs()[0]!
  return { swarm, server, directory, span, service, target: { id: server.id, addr } }
}

it('somebody with stake gets by the same attack all there is, or it would show nothing', async () => {
  const { swarm, server, directory, target } = await victim()
  const news = server.gossip!.join(attestTopic(FAKE_SUBNET), { maxBytes: 100, take: () => 'ignore' })
  const identity = await createIdentity()
  swarm.ledger.register({ id: 99, peerId: identity.peerId })
  await until(() => swarm.gateOf(server).check(identity.peerId, 'gossip').ok, 'it has stake')
  let told = 0
  const telling = setInterval(() => {
    news.publish(new TextEncoder().encode(`news ${told++}`)).catch(() => undefined)
  }, 100)
  const { got } = await attack(target, { identity, patienceMs: 3_000 }).finally(() => clearInterval(telling))
  expect(new Set(got)).toEqual(
    new Set([
      KAD_PROTOCOL,
      RELAY_HOP_PROTOCOL,
      GOSSIP_PROTOCOL,
      `${DIRECTORY_PROTOCOL} announced`,
      `${DIRECTORY_PROTOCOL} records`,
      `${SPAN_PROTOCOL} welcome`,
      `${SPAN_PROTOCOL} opened`,
    ]),
  )
  await directory.close()
})

const ATTACKERS = 1_000
const AT_ONCE = 25

describe('1,000 peers without stake', () => {
  it('get no DHT entry, relay slot, news, record, pass or session, and staked clients are served meanwhile', async () => {
    const { swarm, server, directory, span, service, target } = await victim()
    const client = await swarm.peer({ bootstrap: server.addrs(), gossip: gossip() })
    const asked = await createDhtDirectory(client, { serve: false })
    const topic = attestTopic(FAKE_SUBNET)
    const news = server.gossip!.join(topic, { maxBytes: 100, take: () => 'ignore' })
    let heard = 0
    client.gossip!.join(topic, {
      maxBytes: 100,
      take: () => {
        heard++
        return 'accept'
      },
    })
    await until(() => news.listeners === 1, 'the staked client listens')
    const session = await connectRemoteSpan(client, targetOf(server, span), { hiddenSize: HIDDEN }).open({
      maxTokens: 1024,
    })
    const loot: Loot[] = []
    let served = 0
    const lanes = Array.from({ length: AT_ONCE }, async () => {
      for (let i = 0; i < ATTACKERS / AT_ONCE; i++) loot.push(await attack(target))
    })
    const attacked = Promise.all(lanes)
    const serving = (async () => {
      while (loot.length < ATTACKERS) {
        await session.step(someHidden(1, HIDDEN, served++))
        // A publisher is heard once a second, and 30 times in a row.
        if (served % 10 === 0) await news.publish(new TextEncoder().encode(`news ${served}`))
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    })()
    await Promise.all([attacked, serving])
    expect(loot).toHaveLength(ATTACKERS)
    expect([...new Set(loot.flatMap(({ got }) => got))]).toEqual([])
    // Some came as far as to be asked for a pass, or the test would show nothing about the protocols.
    expect(loot.filter(({ connected }) => connected).length).toBeGreaterThan(20)
    expect(served).toBeGreaterThan(10)
    expect(heard).toBeGreaterThan(0)
    expect(news.listeners).toBe(1)
    expect(session.position).toBe(served)
    // Only the session of the staked client ever held room.
    expect(span.kvTokensFree).toBe(4096 - 1024)
    expect(service.counters.sessions).toBe(1)
    // The first record may have ended meanwhile, on a busy machine.
    await directory.announce(serverRecord(server.id, Date.now()), MODEL)
    const known: string[] = []
    for await (const id of client.closestPeers(new Uint8Array(32), AbortSignal.timeout(2_000))) known.push(id)
    expect(known.every((id) => id === server.id || id === client.id)).toBe(true)
    expect((await asked.servers(MODEL.modelId)).map(({ peerId }) => peerId)).toEqual([server.id])
    const gate = swarm.gateOf(server)
    const places = new Set([...gate.refusals.keys()].map((key) => key.split(' ')[0]))
    for (const place of ['connect', 'dht', 'directory', 'gossip', 'relay', 'span'])
      expect(places).toContain(place)
    await until(() => gate.pending.size === 0, 'nobody waits any more')
    await until(() => server.measures().size <= 1, 'only the client is connected')
    await asked.close()
    await directory.close()
  }, 240_000)
})

describe('relays and directories with a gate', () => {
  it('a relay gives places to staked peers only, and leads nobody else to them', async () => {
    const { swarm, server } = await victim()
    const listen = server.addrs().map((address) => `${address}/p2p-circuit`)
    const staked = await swarm.peer({ mode: 'client', listen, bootstrap: server.addrs() })
    await until(() => staked.addrs().length > 0, 'the staked peer has a place')
    await serveFake(staked, fakeSpan())
    // A listener that gets no place fails to start or has no address.
    const stranger = await loopbackPeer({ mode: 'client', listen, bootstrap: server.addrs() }).catch(
      () => undefined,
    )
    if (stranger) {
      await new Promise((resolve) => setTimeout(resolve, 300))
      expect(stranger.addrs()).toEqual([])
      const dial = stranger.openStream(staked.id, staked.addrs(), '/chorale/span/1', { timeoutMs: 2_000 })
      await expect(dial).rejects.toMatchObject({ code: expect.stringMatching(/unreachable|timeout/) })
      await stranger.close()
    }
    const client = await swarm.peer({ bootstrap: server.addrs() })
    const span = fakeSpan()
    const runner = connectRemoteSpan(client, targetOf(staked, span), { hiddenSize: HIDDEN })
    const session = await runner.open({ maxTokens: 8 })
    expect((await session.step(someHidden(1, HIDDEN, 1))).shape).toEqual([1, HIDDEN])
    // The place goes with the stake.
    swarm.unstake(staked)
    await expect(session.step(someHidden(1, HIDDEN, 2))).rejects.toMatchObject({
      code: expect.stringMatching(/refused|session_lost/),
    })
  })

  it('a record counts while its publisher has stake: for who keeps it, hands it out and reads it', async () => {
    const { swarm, server, directory } = await victim()
    const other = await swarm.peer({ bootstrap: server.addrs() })
    const published = await createDhtDirectory(other, { serve: false })
    await published.announce(serverRecord(other.id, Date.now()), MODEL)
    const client = await swarm.peer({ bootstrap: server.addrs() })
    const asked = await createDhtDirectory(client, { serve: false })
    await until(async () => (await asked.servers(MODEL.modelId)).length === 2, 'both are listed')
    swarm.unstake(other)
    await until(async () => (await asked.servers(MODEL.modelId)).length === 1, 'one is listed')
    expect((await directory.servers(MODEL.modelId)).map(({ peerId }) => peerId)).toEqual([server.id])
    // A directory without a gate hands it out all the same: readers check for themselves.
    const careless = await swarm.peer({ listen: [TCP], gated: false })
    const lax = await createDhtDirectory(careless, { serve: true })
    await lax.announce(serverRecord(careless.id, Date.now()), MODEL)
    const liar = await loopbackPeer({ bootstrap: careless.addrs() })
    const lies = await createDhtDirectory(liar, { serve: false })
    await lies.announce(serverRecord(liar.id, Date.now()), MODEL)
    const reader = await swarm.peer({ bootstrap: careless.addrs() })
    const read = await createDhtDirectory(reader, { serve: false })
    const found = await read.servers(MODEL.modelId)
    expect(found.map(({ peerId }) => peerId)).toEqual([careless.id])
    expect(swarm.gateOf(reader).refusals.get('record stake')).toBeGreaterThan(0)
    await Promise.all([read, lies, lax, asked, published, directory].map((each) => each.close()))
    await liar.close()
  })
})
