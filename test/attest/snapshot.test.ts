import { beforeAll, describe, expect, it } from 'vitest'
import { type OpenReport, openReport, parseReport } from '../../src/attest/epoch-report.ts'
import { createReportPool } from '../../src/attest/report-pool.ts'
import {
  deriveFacts,
  encodeManifest,
  encodeProposalArgs,
  evidenceOf,
  type LedgerView,
  parseManifest,
  parseProposalArgs,
  snapshotDigest,
} from '../../src/attest/snapshot.ts'
import { openWorkProof } from '../../src/attest/work-receipt.ts'
import { isChoraleError } from '../../src/errors.ts'
import { decodeCborMap, encodeCbor } from '../../src/protocol/cbor.ts'
import { encodePassBody, parsePass } from '../../src/protocol/pass.ts'
import { encodeSigned } from '../../src/protocol/signed.ts'
import { type Peer, peer, report, signSession, verify } from './peers.ts'

let peers: Peer[]
let client: Peer
let view: LedgerView
const IDS = [1, 2, 3, 4]

beforeAll(async () => {
  peers = await Promise.all(IDS.map(async (id) => await peer(id)))
  client = await peer(99)
  view = {
    subnetId: 1,
    epoch: 4,
    block: 105,
    blockHash: `0x${'ab'.repeat(32)}`,
    nodes: IDS.map((nodeId) => ({ nodeId, peerId: peers[nodeId - 1]!.peerId, coldkey: `0x${nodeId}` })),
    owners: new Map([
      ...peers.map(({ peerId }, i) => [peerId, `0x${i + 1}`] as const),
      [client.peerId, '0x99'],
    ]),
    accountants: new Set([3]),
    from: 1_000,
    until: 2_000,
  }
})

const open = async (
  nodeId: number,
  change = {},
  seen = IDS.filter((id) => id !== nodeId),
): Promise<OpenReport> =>
  await openReport(await report(peers[nodeId - 1]!, { nodeId, ...change }, seen), verify)
const sees = (uptimes: Record<number, number>, end = 8) => ({
  sightings: Object.entries(uptimes).map(([id, uptime]) => ({ nodeId: Number(id), start: 0, end, uptime })),
})
const step = (seq: number, tokens: number) => ({
  seq,
  position: seq === 0 ? 0 : 8 + seq - 1,
  tokens,
  input: Uint8Array.of(seq),
  output: Uint8Array.of(seq, 1),
})
const work = async (server: number, id: number, issuedAt = 1_500, from = client) =>
  (
    await signSession(
      { server: peers[server - 1]!, client: from, modelId: 'story@1', start: 0, end: 8, issuedAt, id },
      [step(0, 8), step(1, 1), step(2, 1)],
    )
  ).proof

describe('deriveFacts', () => {
  it('counts a span that half of the others saw, and the median of their uptimes', async () => {
    const reports = [
      await open(1, { ...sees({ 2: 1000, 3: 700, 4: 500 }) }),
      await open(2, { ...sees({ 1: 900, 3: 100, 4: 500 }) }),
      await open(3, { ...sees({ 1: 800, 2: 1000 }, 7) }),
      await open(4, { ...sees({ 1: 1000, 3: 1000 }) }),
    ]
    const facts = deriveFacts(view, reports)
    expect(facts).toMatchObject({ epoch: 4, blockCount: 8 })
    expect(facts.nodes.map(({ nodeId, end, uptime }) => [nodeId, end, uptime])).toEqual([
      // 2 of 3 saw blocks 0:8.
      [1, 8, 900],
      // 1 of 3 did.
      [2, 0, 1000],
      [3, 8, 700],
      [4, 8, 500],
    ])
    expect(deriveFacts(view, reports.toReversed())).toEqual(facts)
  })

  it('does not let an owner confirm its own nodes, unless it owns all', async () => {
    const reports = [
      await open(1, sees({ 2: 1000 })),
      await open(2, sees({ 1: 1000 })),
      await open(3, sees({})),
    ]
    const pair = view.nodes.map((node) => ({ ...node, coldkey: node.nodeId < 3 ? '0x1' : node.coldkey }))
    const ends = (nodes: LedgerView['nodes']) =>
      deriveFacts({ ...view, nodes }, reports).nodes.map(({ end }) => end)
    expect(ends(pair)).toEqual([0, 0, 0])
    expect(ends(view.nodes.map((node) => ({ ...node, coldkey: '0x1' })))).toEqual([8, 8, 0])
  })

  it('leaves out reports of other epochs, subnets, peers and models', async () => {
    const reports = [
      await open(1),
      await open(2, { epoch: 3 }),
      await open(3, { subnetId: 2 }),
      await openReport(await report(peers[0]!, { nodeId: 4 }), verify),
    ]
    expect(deriveFacts(view, reports).nodes.map(({ nodeId }) => nodeId)).toEqual([1])
    const other = [await open(1), await open(2), await open(3, { modelId: 'toy@1', blockCount: 64, end: 64 })]
    expect(deriveFacts(view, other).nodes.map(({ nodeId }) => nodeId)).toEqual([1, 2])
    expect(deriveFacts(view, [])).toEqual({ epoch: 4, blockCount: 0, nodes: [] })
  })

  it('counts work once, of this epoch, that another owner answers for', async () => {
    const sponsored = await signSession(
      {
        server: peers[0]!,
        client: await peer(77),
        modelId: 'story@1',
        start: 0,
        end: 8,
        issuedAt: 1_500,
        id: 6,
      },
      [step(0, 8)],
    )
    const amount = async (...receipts: Uint8Array[]) =>
      deriveFacts(view, [await open(1, { receipts })]).nodes[0]!.work
    const once = 8n * (8n + 2n * 4n)
    expect(await amount(await work(1, 1))).toBe(once)
    expect(await amount(await work(1, 1), await work(1, 2))).toBe(2n * once)
    expect(await amount(await work(1, 1), await work(1, 1))).toBe(once)
    expect(await amount(await work(1, 1, 999))).toBe(0n)
    expect(await amount(await work(1, 1, 2_000))).toBe(0n)
    expect(await amount(await work(1, 1, 1_500, peers[0]))).toBe(0n)
    expect(await amount(sponsored.proof)).toBe(0n)
    const proof = await withPass(sponsored.proof, peers[2]!, await peer(77))
    expect(await amount(proof)).toBe(8n * 8n)
    expect(await amount(await withPass(sponsored.proof, peers[0]!, await peer(77)))).toBe(0n)
  })

  it('counts what chosen accountants found of others', async () => {
    const audits = [
      { nodeId: 1, session: 'a', outcome: 'passed' as const },
      { nodeId: 1, session: 'a', outcome: 'failed' as const },
      { nodeId: 1, session: 'b', outcome: 'unavailable' as const },
      { nodeId: 3, session: 'c', outcome: 'passed' as const },
    ]
    const facts = deriveFacts(view, [await open(1), await open(2, { audits }), await open(3, { audits })])
    expect(facts.nodes.map(({ auditsPassed, auditsFailed }) => [auditsPassed, auditsFailed])).toEqual([
      [1, 1],
      [0, 0],
      [0, 0],
    ])
  })
})

async function withPass(proof: Uint8Array, sponsor: Peer, audience: Peer): Promise<Uint8Array> {
  const body = encodePassBody({
    sponsor: sponsor.peerId,
    audience: audience.peerId,
    models: [],
    tokens: 100,
    sessions: 1,
    issuedAt: 1_000,
    expiresAt: 2_000,
    nonce: new Uint8Array(16),
  })
  const unsigned = encodeSigned({ body, signature: new Uint8Array(64) }, 'pass', 4096)
  const { signedBytes } = parsePass(unsigned, audience.peerId, 1_500)
  const pass = encodeSigned({ body, signature: await sponsor.sign(signedBytes) }, 'pass', 4096)
  return encodeCbor({ ...decodeCborMap(proof, 'proof'), pass })
}

describe('openReport', () => {
  it('reads back what was signed', async () => {
    const receipts = [await work(1, 1)]
    const bytes = await report(peers[0]!, { nodeId: 1, receipts }, [2, 3])
    const opened = await openReport(bytes, verify)
    expect(opened.report).toMatchObject({ nodeId: 1, epoch: 4, start: 0, end: 8, receipts })
    expect(opened.receipts).toMatchObject([{ prefilled: 8, decoded: 2, payer: client.peerId }])
  })

  it('refuses a signature of another, a changed byte, and receipts of other servers', async () => {
    const bytes = await report(peers[0]!, { nodeId: 1 })
    const stolen = await report({ ...peers[0]!, sign: (message) => peers[1]!.sign(message) }, { nodeId: 1 })
    await expect(openReport(stolen, verify)).rejects.toMatchObject({ code: 'protocol', field: 'signature' })
    const changed = bytes.slice()
    changed[20]! ^= 1
    await expect(openReport(changed, verify)).rejects.toMatchObject({ code: 'protocol' })
    const others = await report(peers[0]!, { nodeId: 1, receipts: [await work(2, 1)] })
    await expect(openReport(others, verify)).rejects.toMatchObject({ field: 'receipts' })
  })

  it('refuses a proof of work that only one side signed', async () => {
    const proof = await work(1, 1)
    for (const field of ['signed', 'ack'] as const) {
      const map = { ...decodeCborMap(proof, 'proof') }
      const part = (map[field] as Uint8Array).slice()
      part[part.length - 1]! ^= 1
      await expect(openWorkProof(encodeCbor({ ...map, [field]: part }), verify)).rejects.toMatchObject({
        field: field === 'ack' ? 'ack' : 'signature',
      })
    }
    const { ack: _, ...without } = decodeCborMap(proof, 'proof')
    await expect(openWorkProof(encodeCbor(without), verify)).rejects.toMatchObject({ field: 'ack' })
  })

  it('reads or refuses whatever bytes come', async () => {
    let state = 7
    const random = (below: number) => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) % below
    const whole = await report(peers[0]!, { nodeId: 1, receipts: [await work(1, 1)] }, [2, 3])
    const manifest = encodeManifest(view, new Map([[1, 'ab'.repeat(32)]]))
    for (let i = 0; i < 30_000; i++) {
      const source = i % 2 === 0 ? whole : manifest
      const bytes = source.slice(0, random(20) === 0 ? random(source.length) : source.length)
      for (let flips = random(4); flips >= 0; flips--) bytes[random(bytes.length)] = random(256)
      try {
        if (i % 2 === 0) parseReport(bytes)
        else parseManifest(bytes, view)
      } catch (error) {
        if (!isChoraleError(error) || error.code !== 'protocol') throw error
      }
    }
  })
})

describe('manifest and args', () => {
  it('read back, and are the same for the same evidence in any order', async () => {
    const reports = [await open(1), await open(2), await open(3)]
    const evidence = evidenceOf(reports)
    const bytes = encodeManifest(view, evidence)
    expect(parseManifest(bytes, view)).toEqual(evidence)
    const turned = evidenceOf(reports.toReversed())
    expect(snapshotDigest(view, turned)).toBe(snapshotDigest(view, evidence))
    const args = { block: 105, manifest: snapshotDigest(view, evidence) }
    expect(parseProposalArgs(encodeProposalArgs(args))).toEqual(args)
  })

  it.each([
    ['epoch', { epoch: 5 }],
    ['subnetId', { subnetId: 2 }],
    ['blockHash', { blockHash: `0x${'00'.repeat(32)}` }],
  ])('refuse a manifest of another snapshot: %s', (field, change) => {
    const bytes = encodeManifest({ ...view, ...change }, new Map())
    expect(() => parseManifest(bytes, view)).toThrow(expect.objectContaining({ code: 'protocol', field }))
  })
})

describe('createReportPool', () => {
  const isNode = (id: number, peerId: string) => peers[id - 1]?.peerId === peerId
  const make = (maxBytes?: number) =>
    createReportPool({ subnetId: 1, verify, isNode, ...(maxBytes !== undefined && { maxBytes }) })

  it('keeps reports once and shows them by content address', async () => {
    const pool = make()
    const bytes = await report(peers[0]!, { nodeId: 1 })
    expect([await pool.add(bytes), await pool.add(bytes)]).toEqual([true, false])
    const [counted] = pool.counted(view)
    expect(pool.get(counted!.hash)).toEqual(bytes)
  })

  it('counts nothing of a node that signed two reports, and takes no third', async () => {
    const pool = make()
    await pool.add(await report(peers[0]!, { nodeId: 1 }, [2]))
    await pool.add(await report(peers[1]!, { nodeId: 2 }))
    await pool.add(await report(peers[0]!, { nodeId: 1 }, [3]))
    expect(pool.counted(view).map((opened) => opened.report.nodeId)).toEqual([2])
    await expect(pool.add(await report(peers[0]!, { nodeId: 1 }, [4]))).rejects.toThrow(/twice already/)
  })

  it.each([
    ['another subnet', 1, { subnetId: 2 }],
    ['a stranger', 2, {}],
    ['a past epoch', 1, { epoch: 1 }],
    ['a far future', 1, { epoch: 900 }],
  ])('refuses %s', async (_, nodeId, change) => {
    const pool = make()
    pool.forgetBefore(3)
    await expect(pool.add(await report(peers[0]!, { nodeId, ...change }))).rejects.toMatchObject({
      code: 'protocol',
    })
  })

  it('is full at its limit, and has room again after old epochs', async () => {
    const pool = make(700)
    await pool.add(await report(peers[0]!, { nodeId: 1 }, [2]))
    await pool.add(await report(peers[1]!, { nodeId: 2 }, [1]))
    await expect(pool.add(await report(peers[2]!, { nodeId: 3 }, [1]))).rejects.toMatchObject({
      code: 'limit',
    })
    pool.forgetBefore(5)
    expect(await pool.add(await report(peers[2]!, { nodeId: 3, epoch: 5 }))).toBe(true)
  })
})
