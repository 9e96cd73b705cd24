import { beforeAll, describe, expect, it } from 'vitest'
import { createAuditStore } from '../../src/attest/audit-store.ts'
import { encodeContentRequest, parseContentRequest } from '../../src/attest/content-messages.ts'
import { createObserver, createSightingLog, presentNodes, workProofs } from '../../src/attest/served-work.ts'
import { openWorkProof } from '../../src/attest/work-receipt.ts'
import { type Peer, peer, type SignedSession, signSession, verify } from './peers.ts'

describe('workProofs', () => {
  let server: Peer
  let client: Peer
  beforeAll(async () => {
    server = await peer(1)
    client = await peer(2)
  })
  const session = async (id: number, tokens: number, issuedAt = 1_500) =>
    await signSession({ server, client, modelId: 'm@1', start: 0, end: 4, issuedAt, id, perReceipt: 1 }, [
      { seq: 0, position: 0, tokens, input: new Uint8Array(100), output: new Uint8Array(100) },
      { seq: 1, position: tokens, tokens: 1, input: new Uint8Array(10), output: new Uint8Array(10) },
    ])
  const storeOf = (...all: SignedSession[]) => {
    const store = createAuditStore({ maxSessionBytes: 300 })
    for (const { opening, session: id, steps } of all) {
      store.open(id, opening)
      for (const step of steps) store.step(id, step)
    }
    return store
  }
  const window = { from: 1_000, until: 2_000 }

  it('are of whole sessions of the epoch that both signed, the longest first', async () => {
    const [short, long, early] = [await session(1, 3), await session(2, 9), await session(3, 3, 10)]
    const store = storeOf(short, long, early)
    for (const receipt of [short, long, early].flatMap(({ receipts }) => receipts)) store.receipt(receipt)
    const proofs = await Promise.all(
      workProofs(store, window).map(async (proof) => await openWorkProof(proof, verify)),
    )
    expect(proofs.map(({ session: id }) => id)).toEqual([long.session, short.session])
  })

  it('are none of sessions without the last agreement, with a gap, or not kept whole', async () => {
    const whole = await session(1, 3)
    const unsigned = storeOf(whole)
    for (const { ack: _, ...receipt } of whole.receipts) unsigned.receipt(receipt)
    expect(workProofs(unsigned, window)).toEqual([])
    const gap = storeOf(whole)
    gap.receipt(whole.receipts[1]!)
    expect(workProofs(gap, window)).toEqual([])
    const cut = createAuditStore({ maxSessionBytes: 205 })
    cut.open(whole.session, whole.opening)
    for (const step of whole.steps) cut.step(whole.session, step)
    for (const receipt of whole.receipts) cut.receipt(receipt)
    expect(workProofs(cut, window)).toEqual([])
  })
})

describe('createSightingLog', () => {
  it('says the span seen most often, and at how many looks', () => {
    const log = createSightingLog()
    log.look(4, [
      { nodeId: 2, start: 0, end: 8 },
      { nodeId: 1, start: 0, end: 4 },
    ])
    log.look(4, [{ nodeId: 1, start: 4, end: 8 }])
    log.look(4, [{ nodeId: 1, start: 4, end: 8 }])
    expect(log.sightings(4)).toEqual([
      { nodeId: 1, start: 4, end: 8, uptime: 1000 },
      { nodeId: 2, start: 0, end: 8, uptime: 333 },
    ])
    expect(log.sightings(5)).toBe(undefined)
  })

  it('forgets old epochs', () => {
    const log = createSightingLog()
    for (let epoch = 0; epoch < 5; epoch++) log.look(epoch, [{ nodeId: 1, start: 0, end: 1 }])
    expect([0, 1, 2, 3, 4].filter((epoch) => log.sightings(epoch))).toEqual([2, 3, 4])
  })
})

describe('presentNodes', () => {
  it('are ledger nodes that serve the model now, with the longest span of each', () => {
    const record = (peerId: string, start: number, end: number, change = {}) => ({
      peerId,
      modelId: 'm@1',
      start,
      end,
      state: 'online' as const,
      ...change,
    })
    const nodes = [
      { id: 1, peerId: 'a' },
      { id: 2, peerId: 'b' },
      { id: 3, peerId: 'c' },
    ]
    const records = [
      record('a', 0, 2),
      record('a', 4, 8),
      record('b', 0, 8, { modelId: 'other@1' }),
      record('c', 0, 8, { state: 'offline' }),
      record('stranger', 0, 8),
    ]
    expect(presentNodes(records, nodes, 'm@1')).toEqual([{ nodeId: 1, start: 4, end: 8 }])
  })
})

describe('createObserver', () => {
  it('says nothing of epochs that it was not there for', async () => {
    const log = createSightingLog()
    const served = { modelId: 'm@1', blockCount: 8, start: 0, end: 8 }
    const observe = createObserver({ peerId: 'a', served: () => served, log, store: createAuditStore() })
    const view = { epoch: 4, from: 0, until: 1 }
    expect(await observe(view)).toBe(undefined)
    log.look(4, [])
    expect(await observe(view)).toEqual({ peerId: 'a', ...served, sightings: [], receipts: [] })
  })
})

describe('content requests', () => {
  it('are a hash and nothing else', () => {
    const hash = 'ab'.repeat(32)
    expect(parseContentRequest(encodeContentRequest(hash))).toBe(hash)
    expect(() => parseContentRequest(new Uint8Array(31))).toThrow(/32 bytes/)
  })
})
