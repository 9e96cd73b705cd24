import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { removeNode, updateSubnetMisc } from '../../../src/ledger/calls.ts'
import { disputesPallet } from '../../../src/ledger/devnet/native/disputes.ts'
import { guardExit } from '../../../src/ledger/devnet/native/disputes/exit-guard.ts'
import { networkPallet } from '../../../src/ledger/devnet/native/network/network-pallet.ts'
import type { Ledger } from '../../../src/ledger/ledger.ts'
import { createStakeSet, type StakeSet } from '../../../src/ledger/stake-set.ts'
import { connectLedger } from '../../../src/ledger/substrate.ts'
import type { SpanSession } from '../../../src/session/span-runner.ts'
import { createIdentity, type Identity } from '../../../src/swarm/identity.ts'
import type { Peer } from '../../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../../src/swarm/remote-span.ts'
import { createStakeGate, type StakeGate } from '../../../src/swarm/stake-gate.ts'
import { fakeSpan } from '../../swarm/fake-span.ts'
import { HIDDEN, loopbackPeer, serveFake, targetOf, TCP, until } from '../../swarm/loopback.ts'
import { type FaultyNode, faultyNode } from './faulty-node.ts'
import { COLDKEYS, foundSubnet, notElected, owner, registration } from './found-subnet.ts'

/** Real peers and the real ledger client against a dev node that dies, dawdles, forks, and is another one. */

const GRACE_MS = 1_500
const quick = { timeoutMs: 3_000, healthMs: 300, retryMs: { first: 20, most: 100 } }

interface Member {
  readonly ledger: Ledger
  readonly stakes: StakeSet
  readonly gate: StakeGate
  readonly peer: Peer
}

const closers: (() => Promise<unknown>)[] = []
let faulty: FaultyNode
let subnetId: number
let server: Member
let client: Member
/** A client with stake that checks nothing itself: what it is told is the server's word. */
let open: Peer
/** Becomes a node and stops being one. */
let fifth: Member

const span = fakeSpan()

async function member(identity: Identity, listen: readonly string[] | undefined): Promise<Member> {
  const ledger = await connectLedger(faulty.url, quick)
  const stakes = await createStakeSet({ ledger, subnetId })
  const gate = createStakeGate({ stakes })
  const peer = await loopbackPeer({ identity, gate, ...(listen && { listen }) })
  closers.push(async () => {
    await peer.close()
    gate.close()
    stakes.close()
    await ledger.close()
  })
  return { ledger, stakes, gate, peer }
}

beforeAll(async () => {
  faulty = await faultyNode()
  closers.push(() => faulty.close())
  const ids = await Promise.all(Array.from({ length: 6 }, () => createIdentity()))
  const founder = await connectLedger(faulty.url, quick)
  subnetId = await foundSubnet(
    faulty.node,
    founder,
    ids.slice(0, 4).map(({ peerId }) => peerId),
    { client: ids[5]!.peerId, misc: JSON.stringify({ graceMs: GRACE_MS }) },
  )
  await founder.close()
  server = await member(ids[0]!, [TCP])
  client = await member(ids[1]!, undefined)
  fifth = await member(ids[4]!, undefined)
  open = await loopbackPeer({ identity: ids[5]! })
  closers.push(() => open.close())
  await serveFake(server.peer, span, { maxSessions: 64 })
}, 20_000)

afterAll(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
}, 20_000)

const row = { shape: [1, HIDDEN] as const, data: new Float32Array(HIDDEN).fill(0.5) }

async function session(peer: Peer = client.peer): Promise<SpanSession> {
  const runner = connectRemoteSpan(peer, targetOf(server.peer, span), { hiddenSize: HIDDEN })
  return await runner.open({ maxTokens: 64 })
}

async function works(peer: Peer = client.peer): Promise<void> {
  const one = await session(peer)
  await one.step(row)
  await one.close()
}

/** What a call is refused with. */
async function refusal(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toMatchObject({ name: 'ChoraleError' })
  return (error as Error).message
}

const recovered = () =>
  until(
    () =>
      works()
        .then(() => works(open))
        .then(
          () => true,
          () => false,
        ),
    'everything goes on by itself',
    8_000,
  )
const closed = () =>
  until(
    () => [client, server].every(({ gate }) => !gate.check(server.peer.id, 'serve').ok),
    'closed',
    GRACE_MS + 3_000,
  )

/** Nothing is admitted any more, for the reason given: running sessions, new ones, at both ends. */
async function expectClosed(reason: RegExp, live: readonly SpanSession[]): Promise<void> {
  await closed()
  for (const one of live) expect(await refusal(one.step(row))).toMatch(/the ledger could not be read/)
  const said = [await refusal(session()), await refusal(session(open))]
  for (const message of said) {
    expect(message).toMatch(/the ledger could not be read for \d+ s \(.*\): nobody is admitted until it can/)
    expect(message).toMatch(reason)
  }
}

describe('a ledger node that is killed', () => {
  it('within the grace all goes on, after it all is refused and says why; the same chain on the same port heals', async () => {
    const live = [await session(), await session(open)]
    for (const one of live) await one.step(row)
    await faulty.kill()
    await until(
      () => [client, server].every(({ ledger }) => ledger.status.state === 'unreachable'),
      'noticed',
    )
    for (const one of live) await one.step(row)
    await works()
    await works(open)
    await expectClosed(/unreachable|ECONN|connection|closed/i, live)
    await faulty.start()
    await recovered()
  }, 15_000)
})

describe('a ledger node that is slow', () => {
  const setGrace = async (graceMs: number): Promise<void> => {
    await server.ledger.submit(updateSubnetMisc(subnetId, JSON.stringify({ graceMs })), owner)
    await until(
      () => [client, server].every(({ stakes }) => stakes.parameters.graceMs === graceMs),
      'the new grace counts everywhere',
    )
  }

  it('within the grace all goes on; slower than that is as good as dead, and quick again heals', async () => {
    await setGrace(3_000)
    faulty.delayMs = 700
    const live = await session()
    const started = performance.now()
    let answers = 0
    while (performance.now() - started < 3_500) {
      await client.ledger.head()
      answers++
      await live.step(row)
      await works(open)
    }
    expect(answers).toBeLessThan(4)
    faulty.delayMs = 0
    await setGrace(GRACE_MS)
    faulty.delayMs = 4_000
    await expectClosed(/does not answer|did not answer/, [live])
    faulty.delayMs = 0
    faulty.cut()
    await recovered()
  }, 25_000)
})

describe('a fork before finality', () => {
  it('a removal that is undone: cut at once, admitted again; a registration that vanishes: out again', async () => {
    const [own] = (await server.ledger.nodes(subnetId)).filter(({ peerId }) => peerId === client.peer.id)
    await notElected(faulty.node, server.ledger, subnetId, [own!.id])
    faulty.node.finalityLag = 20
    const live = await session()
    await live.step(row)
    await server.ledger.submit(removeNode(subnetId, own!.id), COLDKEYS[1]!)
    await until(() => !server.gate.check(client.peer.id, 'infer').ok, 'the removal counts')
    expect(await refusal(live.step(row))).toMatch(/no node|not admitted|has no stake|lost/)
    faulty.node.reorg(1, 'drop')
    await recovered()

    const { id } = fifth.peer
    expect(server.gate.check(id, 'infer').ok).toBe(false)
    await server.ledger.submit(registration(subnetId, 4, id), COLDKEYS[4]!)
    await until(() => server.gate.check(id, 'infer').ok, 'the registration counts')
    await works(fifth.peer)
    faulty.node.reorg(1, 'drop')
    await until(() => !server.gate.check(id, 'infer').ok, 'it never was')
    // Nothing works from now on; what begins while its connection is being cut is lost with it, unexplained.
    await until(
      async () => /not admitted|no node|has no stake/.test(await refusal(works(fifth.peer))),
      'it is refused by name',
    )
    faulty.node.finalityLag = 0
    await recovered()
  }, 15_000)
})

describe('another chain behind the same URL', () => {
  it('is not believed: within the grace all goes on, after it all is refused; the right one heals', async () => {
    const live = await session()
    await faulty.kill()
    await faulty.start({ otherChain: true })
    await until(
      () => [client, server].every(({ ledger }) => ledger.status.state === 'wrong-chain'),
      'noticed',
    )
    await live.step(row)
    await works(open)
    await expectClosed(/follows Faulty with genesis 0x[0-9a-f]{64}, not 0x/, [live])
    await faulty.kill()
    await faulty.start()
    await recovered()
  }, 15_000)
})

describe('a node with a later runtime', () => {
  it('calls and reads follow its metadata at once: a call right after the reconnection, and one more', async () => {
    const live = await session()
    await live.step(row)
    await faulty.kill()
    await until(() => server.ledger.status.state === 'unreachable', 'noticed')
    // The upgrade renumbers the pallet: what old metadata encodes would be another call.
    const network = { ...networkPallet({ epochBlocks: 20, local: true, guardExit }), index: 99 }
    await faulty.start({
      specVersion: 2,
      pallets: [network, disputesPallet({ epochBlocks: 20, local: true })],
    })
    await until(() => server.ledger.status.state === 'reachable', 'it is back')
    for (const graceMs of [GRACE_MS + 1, GRACE_MS]) {
      await server.ledger.submit(updateSubnetMisc(subnetId, JSON.stringify({ graceMs })), owner)
      await until(() => client.stakes.parameters.graceMs === graceMs, 'read by the new metadata')
    }
    await live.step(row)
    await recovered()
  }, 15_000)
})
