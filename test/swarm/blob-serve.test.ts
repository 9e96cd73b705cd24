import { afterEach, describe, expect, it } from 'vitest'
import { type BlobShelf, hashBlob, PIECE_BYTES } from '../../src/model/blob.ts'
import { encodeBlobQuestion, parseHeld } from '../../src/protocol/blob-messages.ts'
import { encodeCbor } from '../../src/protocol/cbor.ts'
import { askBlobOver } from '../../src/swarm/ask-blob.ts'
import { fetchBlobs } from '../../src/swarm/blob-fetch.ts'
import { serveBlobs } from '../../src/swarm/blob-serve.ts'
import { keepPass } from '../../src/swarm/keep-pass.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { servePasses } from '../../src/swarm/serve-passes.ts'
import { createUploadBudget, type UploadLimits, uploadLimits } from '../../src/swarm/upload-limit.ts'
import { gatedSwarm } from './gated.ts'
import { loopbackPeer, TCP, until } from './loopback.ts'

const bytes = new Uint8Array(6 * PIECE_BYTES + 10).map((_, i) => (i * 7 + (i >> 9)) & 255)
const blob = await hashBlob(bytes.length, async (at, length) => bytes.subarray(at, at + length))
const manifest = new Uint8Array(1_000).fill(7)
const HASH = '07'.repeat(32)

/** Has one blob and one manifest; `wait` before a piece is read. */
const shelf = (wait: () => Promise<void> = async () => undefined): BlobShelf => ({
  manifest: async (hash) => (hash === HASH ? manifest : undefined),
  have: async (root) => (root === blob.root ? { byteLength: bytes.length } : undefined),
  list: async (root) => (root === blob.root ? blob.list : undefined),
  piece: async (root, index) => {
    await wait()
    const at = index * PIECE_BYTES
    return root === blob.root && at < bytes.length ? bytes.slice(at, at + PIECE_BYTES) : undefined
  },
})
const OPEN: UploadLimits = { bytesPerSecond: 1e9, peerBytesPerMinute: 1e11, answers: 16, peerAnswers: 8 }

describe('serveBlobs', () => {
  const closers: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const close of closers.splice(0).toReversed()) await close()
  })
  async function pair(limits: UploadLimits, served = shelf(), now?: () => number) {
    const server = await loopbackPeer({ listen: [TCP] })
    closers.push(() => server.close())
    const client = await loopbackPeer({ bootstrap: server.addrs() })
    closers.push(() => client.close())
    return { server, client, service: await serveBlobs(server, served, limits, now) }
  }
  const ask = (client: Peer, server: Peer, question: Uint8Array) =>
    askBlobOver(client)({ peerId: server.id, addrs: server.addrs() }, question, {
      maxAnswerBytes: PIECE_BYTES,
      timeoutMs: 5_000,
      signal: AbortSignal.timeout(10_000),
    })
  const piece = (index: number) => encodeBlobQuestion({ ask: 'piece', root: blob.root, index })

  it('answers each question, and says when there is nothing', async () => {
    const { client, server, service } = await pair(OPEN)
    expect(await ask(client, server, encodeBlobQuestion({ ask: 'manifest', hash: HASH }))).toEqual(manifest)
    expect(
      await ask(client, server, encodeBlobQuestion({ ask: 'manifest', hash: blob.root })),
    ).toBeUndefined()
    const held = await ask(client, server, encodeBlobQuestion({ ask: 'have', roots: [HASH, blob.root] }))
    expect(parseHeld(held!, 2)).toEqual([undefined, { byteLength: bytes.length }])
    expect(await ask(client, server, encodeBlobQuestion({ ask: 'list', root: blob.root }))).toEqual(blob.list)
    const last = await ask(client, server, piece(6))
    expect(last).toEqual(bytes.subarray(6 * PIECE_BYTES))
    expect(await ask(client, server, piece(7))).toBeUndefined()
    expect(service.sent).toEqual({ pieces: 1, bytes: manifest.length + blob.list.length + 10 })
  })

  it('a question that is none is a protocol error, and the peer is served on', async () => {
    const { client, server } = await pair(OPEN)
    await expect(ask(client, server, encodeCbor({ ask: 'x' }))).rejects.toMatchObject({ code: 'protocol' })
    await expect(ask(client, server, new Uint8Array(5_000))).rejects.toThrow()
    expect(await ask(client, server, piece(0))).toHaveLength(PIECE_BYTES)
  })

  it('over the rate it refuses with the time to come again, and reads nothing', async () => {
    let reads = 0
    const { client, server, service } = await pair(
      { ...OPEN, bytesPerSecond: 2 * PIECE_BYTES },
      shelf(async () => void reads++),
    )
    await ask(client, server, piece(0))
    await ask(client, server, piece(1))
    const refusal = ask(client, server, piece(2))
    await expect(refusal).rejects.toMatchObject({ code: 'capacity' })
    const { retryAfterMs } = (await refusal.catch((error: unknown) => error)) as { retryAfterMs: number }
    expect(retryAfterMs).toBeGreaterThan(0)
    expect(retryAfterMs).toBeLessThanOrEqual(500)
    expect([reads, service.refused]).toEqual([2, 1])
    await until(
      async () => (await ask(client, server, piece(2)).catch(() => undefined)) !== undefined,
      'room again',
    )
  })

  it('questions that are no pieces have a rate of their own, a peer', async () => {
    let looked = 0
    const counting: BlobShelf = { ...shelf(), have: async () => void looked++ }
    const { client, server } = await pair(OPEN, counting, () => 0)
    const have = encodeBlobQuestion({ ask: 'have', roots: [HASH] })
    let refusals = 0
    for (let round = 0; round < 30; round++) {
      const asked = Array.from({ length: 8 }, () => ask(client, server, have).catch(() => refusals++))
      await Promise.all(asked)
    }
    expect([looked, refusals]).toEqual([200, 40])
    expect(await ask(client, server, piece(0))).toHaveLength(PIECE_BYTES)
  })

  it('one peer’s minute does not take the others’ share', async () => {
    const { client, server } = await pair({ ...OPEN, peerBytesPerMinute: PIECE_BYTES })
    const other = await loopbackPeer({ bootstrap: server.addrs() })
    closers.push(() => other.close())
    await ask(client, server, piece(0))
    await expect(ask(client, server, piece(1))).rejects.toMatchObject({ code: 'capacity' })
    expect(await ask(other, server, piece(1))).toHaveLength(PIECE_BYTES)
  })

  it('answers at once are bounded, of one peer and of all', async () => {
    let release = (): void => undefined
    const held = new Promise<void>((resolve) => (release = resolve))
    const { client, server } = await pair(
      { ...OPEN, answers: 3, peerAnswers: 2 },
      shelf(() => held),
    )
    const other = await loopbackPeer({ bootstrap: server.addrs() })
    closers.push(() => other.close())
    const waiting = [ask(client, server, piece(0)), ask(client, server, piece(1))]
    await expect(ask(client, server, piece(2))).rejects.toMatchObject({ code: 'capacity', retryAfterMs: 200 })
    waiting.push(ask(other, server, piece(0)))
    await expect(ask(other, server, piece(1))).rejects.toMatchObject({ code: 'capacity' })
    release()
    for (const answer of await Promise.all(waiting)) expect(answer).toHaveLength(PIECE_BYTES)
    expect(await ask(client, server, piece(2))).toHaveLength(PIECE_BYTES)
  })

  it('a tight limit slows a fetch and does not fail it', async () => {
    const { client, server, service } = await pair({ ...OPEN, bytesPerSecond: 3 * PIECE_BYTES })
    const got = new Uint8Array(bytes.length)
    const started = performance.now()
    const { missing, left } = await fetchBlobs(
      [{ root: blob.root, byteLength: bytes.length, pieces: [0, 1, 2, 3, 4, 5, 6] }],
      {
        ask: askBlobOver(client),
        sources: async () => [{ peerId: server.id, addrs: server.addrs() }],
        keepList: async () => undefined,
        keepPiece: async (_, index, part) => got.set(part, index * PIECE_BYTES),
      },
    )
    expect(missing).toEqual([])
    expect(left.size).toBe(0)
    expect(Buffer.compare(got, bytes)).toBe(0)
    // Three pieces are in the bucket, the other four come at three a second.
    expect(performance.now() - started).toBeGreaterThan(900)
    expect(service.refused).toBeGreaterThan(0)
  })

  it('only who has stake, or a pass, gets anything', async () => {
    const swarm = gatedSwarm()
    closers.push(() => swarm.close())
    const server = await swarm.peer({ listen: [TCP] })
    const staked = await swarm.peer({ bootstrap: server.addrs() })
    const guest = await swarm.peer({ node: false, gated: false, bootstrap: server.addrs() })
    await serveBlobs(server, shelf(), OPEN)
    expect(await ask(staked, server, piece(0))).toHaveLength(PIECE_BYTES)
    await expect(ask(guest, server, piece(0))).rejects.toThrow()
    swarm.unstake(staked)
    await until(() => !swarm.gateOf(server).check(staked.id, 'connect').ok, 'its stake is gone')
    await expect(ask(staked, server, piece(0))).rejects.toThrow()
  })

  it('a guest with a pass gets pieces', async () => {
    const swarm = gatedSwarm()
    closers.push(() => swarm.close())
    const server = await swarm.peer({ listen: [TCP] })
    const gate = swarm.gateOf(server)
    await servePasses(server, { gate, issue: { tokens: 100 } })
    await serveBlobs(server, shelf(), OPEN)
    const tab = await swarm.peer({ node: false, gated: false, bootstrap: server.addrs() })
    const keeper = await keepPass(tab)
    closers.push(async () => keeper.close())
    await keeper.first(5_000)
    await until(() => gate.check(tab.id, 'connect').ok, 'the pass was shown')
    expect(await ask(tab, server, piece(3))).toHaveLength(PIECE_BYTES)
  })
})

describe('createUploadBudget', () => {
  it('never gives more than rate × time and a bucket, whoever asks how', () => {
    let now = 0
    const limits = uploadLimits(1e6)
    const budget = createUploadBudget(limits, () => now)
    let given = 0
    const ofPeer = new Map<string, number>()
    for (let i = 0; i < 20_000; i++) {
      now += (i * 7919) % 13
      const peer = `p${i % 3}`
      const size = 1 + ((i * 104_729) % PIECE_BYTES)
      if (budget.take(peer, size) > 0) continue
      given += size
      ofPeer.set(peer, (ofPeer.get(peer) ?? 0) + size)
    }
    expect(given).toBeLessThanOrEqual(1e6 + now * 1e3)
    expect(given).toBeGreaterThan(0.9 * now * 1e3)
    for (const bytes of ofPeer.values()) {
      expect(bytes).toBeLessThanOrEqual(limits.peerBytesPerMinute * (1 + now / 60_000))
    }
  })

  it('says when to come again, and what is given back is there', () => {
    let now = 0
    const budget = createUploadBudget({ ...OPEN, bytesPerSecond: PIECE_BYTES }, () => now)
    expect(budget.take('a', PIECE_BYTES)).toBe(0)
    expect(budget.take('a', PIECE_BYTES / 2)).toBe(500)
    now += 500
    expect(budget.take('a', PIECE_BYTES / 2)).toBe(0)
    budget.giveBack('a', PIECE_BYTES / 2)
    expect(budget.take('a', PIECE_BYTES / 2)).toBe(0)
    // What is larger than a full bucket is given when it is full, and owed.
    now += 10_000
    expect(budget.take('a', 3 * PIECE_BYTES)).toBe(0)
    expect(budget.take('a', 1)).toBeGreaterThan(1_900)
  })
})
