import { afterEach, describe, expect, it } from 'vitest'
import { createDhtDirectory } from '../../src/swarm/dht-directory.ts'
import { attestTopic, RECORDS_TOPIC } from '../../src/protocol/ids.ts'
import { createMutes, MUTE_MS } from '../../src/swarm/gossip-mutes.ts'
import { type Gossip, gossip, MAX_GOSSIP_BYTES } from '../../src/swarm/gossip.ts'
import { signRecord } from '../../src/swarm/identity.ts'
import type { Peer, PeerOptions } from '../../src/swarm/peer.ts'
import { ChoraleError } from '../../src/errors.ts'
import { MODEL, serverRecord } from '../contract/directory.ts'
import { FAKE_SUBNET } from '../ledger/fake-ledger.ts'
import { type GatedSwarm, gatedSwarm } from './gated.ts'
import { loopbackPeer, TCP, until } from './loopback.ts'

const text = (words: string) => new TextEncoder().encode(words)
const TOPIC = RECORDS_TOPIC

function gossipOf(peer: Peer): Gossip {
  if (peer.gossip === undefined) throw new Error('this peer takes no part in gossip')
  return peer.gossip
}

/** A peer's ear: what it heard, from whom. */
function listen(peer: Peer, topic = TOPIC, maxBytes = 1_000) {
  const heard: { text: string; publisher: string; forwarder: string }[] = []
  const channel = gossipOf(peer).join(topic, {
    maxBytes,
    take: ({ data, publisher, forwarder }) => {
      const words = new TextDecoder().decode(data)
      if (words.startsWith('wrong')) throw new ChoraleError('protocol', 'wrong')
      if (words.startsWith('old')) return 'ignore'
      heard.push({ text: words, publisher, forwarder })
      return 'accept'
    },
  })
  return { peer, channel, heard, texts: () => heard.map(({ text: words }) => words) }
}

describe('gossip', () => {
  const closers: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const close of closers.splice(0).toReversed()) await close()
  })
  async function open(options: Partial<PeerOptions> = {}): Promise<Peer> {
    const peer = await loopbackPeer({ listen: [TCP], gossip: gossip(), ...options })
    closers.push(() => peer.close())
    return peer
  }
  function gated(): GatedSwarm {
    const swarm = gatedSwarm()
    closers.push(() => swarm.close())
    return swarm
  }
  /** Peers in a line: each knows the one before only. */
  async function line(count: number) {
    const ears = [listen(await open())]
    while (ears.length < count) ears.push(listen(await open({ bootstrap: ears.at(-1).peer.addrs() })))
    await until(
      () => ears.every(({ channel }, i) => channel.listeners >= (i === 0 || i === count - 1 ? 1 : 2)),
      'all know their neighbours',
    )
    return ears
  }

  it('a message reaches peers that know the publisher through others only, each once', async () => {
    const ears = await line(4)
    await ears[0]!.channel.publish(text('news'))
    await until(() => ears.slice(1).every(({ heard }) => heard.length > 0), 'all heard it', 3_000)
    await ears[0]!.channel.publish(text('news'))
    await ears[0]!.channel.publish(text('more'))
    await until(() => ears.slice(1).every(({ texts }) => texts().includes('more')), 'all heard more', 3_000)
    for (const { texts } of ears.slice(1)) expect(texts()).toEqual(['news', 'more'])
    expect(ears[3]!.heard[0]).toMatchObject({ publisher: ears[0]!.peer.id, forwarder: ears[2]!.peer.id })
    expect(ears[0]!.heard).toEqual([])
  })

  it('what a peer rejects or ignores goes no further; three wrong messages mute it, on a new connection too', async () => {
    const clock = { now: 0 }
    const at = () => clock.now
    const liar = await open()
    const b = listen(await open({ bootstrap: liar.addrs(), gossip: gossip(at) }))
    const c = listen(await open({ bootstrap: b.peer.addrs(), gossip: gossip(at) }))
    const ofB = () => gossipOf(b.peer)
    const sum = () => Object.values(ofB().verdicts).reduce((all, one) => all + one)
    let words = listen(liar)
    await until(() => words.channel.listeners > 0 && b.channel.listeners > 1, 'all know their neighbours')
    await words.channel.publish(text('old news'))
    await until(() => ofB().verdicts.ignore === 1, 'b ignored it')
    expect(ofB().score(liar.id)).toBeGreaterThanOrEqual(0)
    for (const n of [1, 2, 3]) await words.channel.publish(text(`wrong ${n}`))
    await until(() => ofB().score(liar.id) < -80, 'the liar is graylisted')
    await until(() => gossipOf(c.peer).verdicts.reject === 3 || ofB().verdicts.reject === 3, 'both know')

    /** Whether b hears what the liar says now, once something of an honest peer went the same way after it. */
    let tries = 0
    const isHeard = async (): Promise<boolean> => {
      tries++
      await words.channel.publish(text(`fine ${tries}`))
      await c.channel.publish(text(`honest ${tries}`))
      await until(() => b.texts().includes(`honest ${tries}`), 'the honest peer is heard')
      return b.texts().includes(`fine ${tries}`)
    }
    expect(await isHeard()).toBe(false)
    // A new connection: the library has forgotten what it held against this peer.
    await liar.close()
    await until(() => !b.peer.measures().has(liar.id), 'the liar is gone')
    // For one heartbeat it goes by the score of before.
    await new Promise((resolve) => setTimeout(resolve, 400))
    const back = await open({ identity: liar.identity, bootstrap: b.peer.addrs() })
    words = listen(back)
    // What it subscribes to is noted, or it would hear nothing when it is heard again.
    await until(() => words.channel.listeners > 0 && b.channel.listeners === 2, 'it is back')
    for (let i = 0; i < 3; i++) expect(await isHeard()).toBe(false)
    clock.now = MUTE_MS - 1
    expect(await isHeard()).toBe(false)
    const before = sum()
    clock.now = MUTE_MS + 1
    await until(isHeard, 'it is heard again after ten minutes', 10_000)
    expect(sum()).toBeGreaterThan(before)
    expect(b.texts().filter((each) => /wrong|old/.test(each))).toEqual([])
    expect(c.texts().filter((each) => /wrong|old/.test(each))).toEqual([])
  })

  it('two wrong messages mute nobody, a third within a minute does', () => {
    let now = 0
    const mutes = createMutes(() => now)
    mutes.strike('a')
    mutes.strike('a')
    expect(mutes.has('a')).toBe(false)
    // One a minute is forgiven.
    now = 60_000
    mutes.strike('a')
    expect(mutes.has('a')).toBe(false)
    mutes.strike('a')
    expect(mutes.has('a')).toBe(true)
    expect(mutes.has('b')).toBe(false)
    now += MUTE_MS
    expect(mutes.has('a')).toBe(false)
  })

  it('too long: not sent; sent all the same: rejected unread', async () => {
    const big = await open()
    const small = await open({ bootstrap: big.addrs() })
    const from = listen(big, TOPIC, MAX_GOSSIP_BYTES)
    const to = listen(small, TOPIC, 100)
    await until(() => from.channel.listeners > 0 && to.channel.listeners > 0, 'both listen')
    await expect(to.channel.publish(new Uint8Array(101))).rejects.toMatchObject({ code: 'limit' })
    await expect(from.channel.publish(new Uint8Array(MAX_GOSSIP_BYTES + 1))).rejects.toMatchObject({
      code: 'limit',
    })
    await from.channel.publish(new Uint8Array(101))
    await until(() => gossipOf(small).verdicts.reject === 1, 'it is rejected')
    expect(to.heard).toEqual([])
    await until(() => gossipOf(small).score(big.id) < 0, 'it is held against the sender')
  })

  it('a publisher that floods is heard up to its rate', async () => {
    const [a, b] = await line(2)
    for (let n = 0; n < 60; n++) await a!.channel.publish(text(`n${n}`))
    const seen = () => gossipOf(b!.peer).verdicts
    await until(() => seen().accept + seen().ignore === 60, 'all came')
    expect(seen().accept).toBeGreaterThanOrEqual(30)
    expect(seen().accept).toBeLessThan(36)
    expect(gossipOf(b!.peer).score(a!.peer.id)).toBeGreaterThanOrEqual(0)
  })

  it('topics are those of the peer, each joined once', async () => {
    const peer = await open()
    listen(peer)
    expect(() => listen(peer)).toThrow(/not free/)
    expect(() => listen(peer, attestTopic(1))).toThrow(/not free/)
  })

  it('without stake nothing is taken, passed on, or heard', async () => {
    const swarm = gated()
    const hub = await swarm.peer({ listen: [TCP], gossip: gossip() })
    const other = await swarm.peer({ gossip: gossip(), bootstrap: hub.addrs(), listen: [TCP] })
    // A client's peer id: it may connect and ask, and is too low for gossip.
    const low = await swarm.peer({
      gossip: gossip(),
      gated: false,
      node: { class: 'Registered' },
      bootstrap: hub.addrs(),
    })
    const [h, o, l] = [listen(hub), listen(other), listen(low)]
    await until(() => h.channel.listeners >= 1 && l.channel.listeners >= 1, 'they see each other')
    await l.channel.publish(text('from below'))
    await h.channel.publish(text('from the hub'))
    await until(() => o.texts().includes('from the hub'), 'staked peers hear it')
    await until(() => gossipOf(hub).score(low.id) <= -1_000, 'its score says so')
    await l.channel.publish(text('once more'))
    await o.channel.publish(text('from the other'))
    await until(() => h.texts().includes('from the other'), 'staked peers hear it')
    expect(h.texts()).toEqual(['from the other'])
    expect(o.texts()).toEqual(['from the hub'])
    expect(l.texts()).toEqual([])
  })

  it('who loses its stake is cut from gossip', async () => {
    const swarm = gated()
    const hub = await swarm.peer({ listen: [TCP], gossip: gossip() })
    const other = await swarm.peer({ listen: [TCP], gossip: gossip(), bootstrap: hub.addrs() })
    const topic = attestTopic(FAKE_SUBNET)
    const [h, o] = [listen(hub, topic), listen(other, topic)]
    await until(() => o.channel.listeners > 0 && h.channel.listeners > 0, 'both listen')
    await o.channel.publish(text('one'))
    await until(() => h.texts().includes('one'), 'one is heard')
    swarm.unstake(other)
    await until(() => h.channel.listeners === 0, 'it is cut')
    expect(hub.measures().size).toBe(0)
  })

  it('a banned peer is out whatever the ledger says', async () => {
    const swarm = gated()
    const hub = await swarm.peer({ listen: [TCP], gossip: gossip() })
    const other = await swarm.peer({ listen: [TCP], gossip: gossip(), bootstrap: hub.addrs() })
    const [h, o] = [listen(hub), listen(other)]
    await until(() => o.channel.listeners > 0 && h.channel.listeners > 0, 'both listen')
    swarm.gateOf(hub).ban(other.id, 'it lied')
    expect(swarm.gateOf(hub).check(other.id, 'connect')).toEqual({ ok: false, reason: 'it lied' })
    expect(await swarm.gateOf(hub).resolve(other.id, 'gossip')).toMatchObject({ ok: false })
    await until(() => h.channel.listeners === 0, 'it is cut')
  })

  describe('of server records', () => {
    async function member(bootstrap?: readonly string[]) {
      const peer = await open(bootstrap && { bootstrap })
      const directory = await createDhtDirectory(peer, { serve: true })
      closers.push(() => directory.close())
      return { peer, directory }
    }

    it('everybody knows who joins, moves and leaves within 300 ms, without asking', async () => {
      const boot = await member()
      const others = await Promise.all([1, 2, 3].map(() => member(boot.peer.addrs())))
      const [server] = others
      const all = [boot, ...others.slice(1)]
      await until(() => all.every(({ peer }) => peer.measures().size > 0), 'connected')
      const knows = (end: number | undefined) => () =>
        all.every(({ directory }) => directory.known(MODEL.modelId)[0]?.end === end)
      let at = Date.now()
      const tell = async (changes: object): Promise<void> => {
        at = Math.max(at + 1, Date.now())
        await server!.directory.announce(serverRecord(server!.peer.id, at, changes), MODEL)
      }
      // Once everybody is in everybody's mesh.
      await tell({ state: 'joining', end: 2 })
      await until(knows(2), 'it is known to join', 3_000)
      const news: string[] = []
      all[2]!.directory.watch(({ state, start, end }) => news.push(`${state} ${start}:${end}`))
      for (const end of [4, 6]) {
        const started = performance.now()
        void tell({ end })
        await until(knows(end), `blocks 0:${end} are known`, 2_000)
        expect(performance.now() - started).toBeLessThan(300)
      }
      const started = performance.now()
      void server!.directory.withdraw(MODEL.modelId)
      await until(knows(undefined), 'it is known to have left', 2_000)
      expect(performance.now() - started).toBeLessThan(300)
      expect(news).toEqual(['online 0:4', 'online 0:6', 'offline 0:6'])
    })

    it('forged, expired and cut ones are taken from nobody', async () => {
      const honest = await member()
      const liar = await open({ bootstrap: honest.peer.addrs() })
      const channel = listen(liar, TOPIC, MAX_GOSSIP_BYTES).channel
      await until(() => channel.listeners > 0, 'somebody listens')
      const record = serverRecord(liar.id, Date.now())
      const good = await signRecord(liar.identity, { record, model: MODEL })
      const forged = good.slice()
      forged[forged.length - 1]! ^= 1
      await channel.publish(forged)
      await until(() => gossipOf(honest.peer).verdicts.reject === 1, 'the forged one is rejected')
      const issuedAt = Date.now() - 60_000
      const expired = { record: { ...record, issuedAt, expiresAt: issuedAt + 1_000 }, model: MODEL }
      await channel.publish(await signRecord(liar.identity, expired))
      await until(() => gossipOf(honest.peer).verdicts.ignore === 1, 'the expired one is ignored')
      await channel.publish(good.subarray(0, 100))
      await until(() => gossipOf(honest.peer).verdicts.reject === 2, 'the cut one is rejected')
      expect(honest.directory.known(MODEL.modelId)).toEqual([])
    })
  })
})
