import { sha256 } from '@noble/hashes/sha2.js'
import { afterEach, describe, expect, it } from 'vitest'
import { parseAuditAnswer } from '../../src/attest/audit-messages.ts'
import { type AuditStore, createAuditStore } from '../../src/attest/audit-store.ts'
import { contentHash } from '../../src/attest/evidence.ts'
import { createReportPool, type ReportPool } from '../../src/attest/report-pool.ts'
import { silentLogger } from '../../src/log.ts'
import {
  type AttestExchange,
  type AttestExchangeOptions,
  startAttestExchange,
} from '../../src/server/attest-exchange.ts'
import { gossip, MAX_GOSSIP_BYTES } from '../../src/swarm/gossip.ts'
import { verifySignature } from '../../src/swarm/identity.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { report, type SignedSession, signSession } from '../attest/peers.ts'
import { FAKE_SUBNET } from '../ledger/fake-ledger.ts'
import { gatedSwarm } from '../swarm/gated.ts'
import { TCP, until } from '../swarm/loopback.ts'

interface Member {
  readonly nodeId: number
  readonly peer: Peer
  readonly pool: ReportPool
  readonly store: AuditStore
  readonly exchange: AttestExchange
  readonly proofs: Map<string, Uint8Array>
  readonly options: AttestExchangeOptions
}

describe('startAttestExchange', () => {
  const closers: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const close of closers.splice(0).toReversed()) await close()
  })

  /** Nodes 1, 2, …; each is connected to the first. */
  async function members(count: number, accountants: readonly number[] = []): Promise<Member[]> {
    const swarm = gatedSwarm()
    closers.push(() => swarm.close())
    const all: Member[] = []
    const ids = new Map<number, string>()
    for (let nodeId = 1; nodeId <= count; nodeId++) {
      const bootstrap = all[0]?.peer.addrs() ?? []
      const peer = await swarm.peer({ listen: [TCP], gossip: gossip(), bootstrap })
      ids.set(nodeId, peer.id)
      const pool = createReportPool({
        subnetId: FAKE_SUBNET,
        verify: verifySignature,
        isNode: (id, peerId) => ids.get(id) === peerId,
      })
      const store = createAuditStore()
      const proofs = new Map<string, Uint8Array>()
      const options: AttestExchangeOptions = {
        peer,
        subnetId: FAKE_SUBNET,
        pool,
        store,
        proofOf: (hash) => Promise.resolve(proofs.get(hash)),
        mayAudit: (peerId) => accountants.some((id) => ids.get(id) === peerId),
        peers: () => ids,
        addrsOf: (peerId) => all.find((other) => other.peer.id === peerId)?.peer.addrs() ?? [],
        log: silentLogger,
      }
      const exchange = await startAttestExchange(options)
      closers.push(() => exchange.close())
      all.push({ nodeId, peer, pool, store, exchange, proofs, options })
    }
    await until(
      () => all.every(({ exchange }, i) => exchange.listeners >= (i === 0 ? count - 1 : 1)),
      'all listen',
    )
    return all
  }
  const signerOf = ({ peer }: Member) => ({
    peerId: peer.id,
    sign: async (bytes: Uint8Array) => await peer.identity.privateKey.sign(bytes),
  })
  const session = (server: Member, client: Member, id: number): Promise<SignedSession> =>
    signSession(
      {
        server: signerOf(server),
        client: signerOf(client),
        modelId: 'story@1',
        start: 0,
        end: 8,
        issuedAt: 1_000,
        id,
      },
      [0, 1, 2].map((seq) => ({
        seq,
        position: seq,
        tokens: 1,
        input: sha256(Uint8Array.of(id, seq)),
        output: sha256(Uint8Array.of(id, seq, 1)),
      })),
    )

  it('reports reach every pool: short ones at once, long ones by their hash', async () => {
    const all = await members(4)
    const [a, b] = all as [Member, Member]
    const small = await report(signerOf(b), { nodeId: 2 })
    const sessions = await Promise.all(Array.from({ length: 40 }, (_, id) => session(a, b, id)))
    const big = await report(signerOf(a), { nodeId: 1, receipts: sessions.map(({ proof }) => proof) })
    expect(big.length).toBeGreaterThan(MAX_GOSSIP_BYTES)
    for (const [from, bytes] of [
      [b, small],
      [a, big],
    ] as const) {
      await from.pool.add(bytes)
      await from.exchange.publish(bytes)
      const hash = contentHash(bytes)
      await until(() => all.every(({ pool }) => pool.opened(hash) !== undefined), 'everybody has it')
    }
  })

  it('who comes later is told again', async () => {
    const [a, b] = (await members(2)) as [Member, Member]
    const bytes = await report(signerOf(a), { nodeId: 1 })
    await a.pool.add(bytes)
    await b.exchange.close()
    await until(() => a.exchange.listeners === 0, 'nobody listens')
    await a.exchange.publish(bytes)
    await a.exchange.repeat()
    const late = await startAttestExchange({ ...b.options })
    closers.push(() => late.close())
    await until(() => a.exchange.listeners > 0, 'somebody listens')
    expect(b.pool.get(contentHash(bytes))).toBeUndefined()
    await a.exchange.repeat()
    await until(() => b.pool.get(contentHash(bytes)) !== undefined, 'it is told')
  })

  it('nobody publishes for another; what is no report is rejected', async () => {
    const [a, b] = (await members(2)) as [Member, Member]
    const others = await report(signerOf(a), { nodeId: 1 })
    await b.exchange.publish(others)
    await until(() => a.peer.gossip!.verdicts.reject > 0, 'it is rejected')
    expect(a.pool.get(contentHash(others))).toBeUndefined()
  })

  it('a report of a node that the ledger does not know here yet is nobody’s fault', async () => {
    const [a, b] = (await members(2)) as [Member, Member]
    const early = await report(signerOf(b), { nodeId: 7 })
    await b.exchange.publish(early)
    await until(() => a.peer.gossip!.verdicts.ignore > 0, 'it is ignored')
    expect(a.peer.gossip!.verdicts.reject).toBe(0)
  })

  it('an announced report that nobody has, or that is none, costs a question and nothing else', async () => {
    const [a, b] = (await members(2)) as [Member, Member]
    const long = new Uint8Array(MAX_GOSSIP_BYTES + 1)
    await b.exchange.publish(long)
    await until(() => a.peer.gossip!.verdicts.accept > 0, 'the announcement is taken')
    await a.exchange.idle()
    expect(a.pool.get(contentHash(long))).toBeUndefined()
    const other = long.fill(1)
    b.pool.keep(4, other)
    await b.exchange.publish(other)
    await until(() => a.peer.gossip!.verdicts.accept > 1, 'the announcement is taken')
    await a.exchange.idle()
    expect(a.pool.get(contentHash(other))).toBeUndefined()
  })

  it('content comes from whoever has it, holders first, and is what was asked for', async () => {
    const [a, b, c] = (await members(3)) as [Member, Member, Member]
    const manifest = new Uint8Array(5_000).fill(9)
    const hash = c.pool.keep(4, manifest)
    expect(await a.exchange.fetch(hash, [3])).toEqual(manifest)
    const proof = new Uint8Array(3 * 2 ** 20).fill(5)
    c.proofs.set(contentHash(proof), proof)
    // The named holder has it not, or something else: others are asked.
    b.proofs.set(contentHash(proof), new Uint8Array(10))
    const got = await a.exchange.fetch(contentHash(proof), [2])
    expect(Buffer.compare(got!, proof)).toBe(0)
    expect(await a.exchange.fetch(contentHash(new Uint8Array(3)), [2, 3])).toBeUndefined()
  })

  it('sessions are shown to accountants only', async () => {
    const [server, accountant, other] = (await members(3, [2])) as [Member, Member, Member]
    const signed = await session(server, other, 1)
    server.store.open(signed.session, signed.opening)
    for (const step of signed.steps) server.store.step(signed.session, step)
    for (const receipt of signed.receipts) server.store.receipt(receipt)
    const request = { session: signed.session, through: 0 }
    const answer = parseAuditAnswer(await accountant.exchange.ask(server.peer.id, request))
    expect(answer.steps.map(({ input }) => input)).toEqual(signed.steps.map(({ input }) => input))
    await expect(other.exchange.ask(server.peer.id, request)).rejects.toMatchObject({ code: 'refused' })
    const unknown = { session: '00'.repeat(16), through: 0 }
    const refusal = await accountant.exchange.ask(server.peer.id, unknown)
    expect(() => parseAuditAnswer(refusal)).toThrow(/not kept/)
    // Two answers at a time; who finds the server busy asks again, and is no worse off.
    const asked = Array.from({ length: 4 }, () => accountant.exchange.ask(server.peer.id, request))
    for (const bytes of await Promise.all(asked)) expect(parseAuditAnswer(bytes).steps).toHaveLength(3)
  })
})
