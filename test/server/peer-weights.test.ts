import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createCacheStore } from '../../node/cache-store.ts'
import { createNodePlatform } from '../../node/platform.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { createEngine } from '../../src/engine/select.ts'
import { silentLogger } from '../../src/log.ts'
import { type BlobShelf, PIECE_BYTES } from '../../src/model/blob.ts'
import { type NamedManifest, parseManifest, partBlob } from '../../src/model/manifest.ts'
import { createModelShelf } from '../../src/model/model-shelf.ts'
import type { Model } from '../../src/model/model.ts'
import { openModel } from '../../src/model/open-model.ts'
import { chooseManifest } from '../../src/server/choose-manifest.ts'
import {
  openPeerWeights,
  type PeerWeightsOptions,
  type WeightsProgress,
} from '../../src/server/peer-weights.ts'
import type { Span } from '../../src/session/span-runner.ts'
import { type BlobStore, openBlobStore } from '../../src/store/blob-store.ts'
import { askBlobOver, blobSources, fetchManifest } from '../../src/swarm/ask-blob.ts'
import { serveBlobs } from '../../src/swarm/blob-serve.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import { uploadLimits } from '../../src/swarm/upload-limit.ts'
import { tensor } from '../../src/tensor/tensor.ts'
import { serverRecord } from '../contract/directory.ts'
import { loopbackPeer, TCP } from '../swarm/loopback.ts'

const SPAN: Span = { start: 1, end: 5 }
const LIMITS = uploadLimits(200e6)

let model: Model
let manifest: NamedManifest
let shelf: BlobShelf
let engine: Engine

beforeAll(async () => {
  const platform = createNodePlatform(silentLogger)
  model = await openModel(join(import.meta.dirname, '../../models/storyteller'), platform)
  const made = createModelShelf(model)
  manifest = await made.addAll()
  shelf = made
  engine = (await createEngine(platform, { name: 'wasm', threads: 1 })).engine
})
afterAll(async () => {
  await engine.close()
  await model.close()
})

/** A shelf whose pieces come through `change`. */
const changed = (change: (bytes: Uint8Array) => Promise<Uint8Array | undefined>): BlobShelf => ({
  ...shelf,
  piece: async (root, index) => {
    const bytes = await shelf.piece(root, index)
    return bytes && (await change(bytes.slice()))
  },
})

describe('openPeerWeights', () => {
  const closers: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const close of closers.splice(0).toReversed()) await close()
  })

  async function seeder(served: BlobShelf): Promise<Peer> {
    const peer = await loopbackPeer({ listen: [TCP] })
    closers.push(() => peer.close())
    await serveBlobs(peer, served, LIMITS)
    return peer
  }
  async function emptyStore(): Promise<BlobStore> {
    const folder = await mkdtemp(join(tmpdir(), 'chorale-weights-'))
    const store = openBlobStore(createCacheStore(folder))
    closers.push(async () => {
      await store.close()
      await rm(folder, { recursive: true })
    })
    return store
  }
  /** A server without files, and what it knows of `seeders`. */
  async function without(seeders: readonly Peer[], options: Partial<PeerWeightsOptions> = {}) {
    const peer = await loopbackPeer()
    closers.push(() => peer.close())
    const records = seeders.map((one) =>
      serverRecord(one.id, Date.now(), { addrs: one.addrs(), blobs: true, manifest: manifest.hash }),
    )
    let last: WeightsProgress | undefined
    const told: number[] = []
    const store = options.store ?? (await emptyStore())
    const weights = openPeerWeights({
      manifest,
      store,
      ask: askBlobOver(peer),
      sources: async () => blobSources(peer, records),
      onProgress: (progress) => {
        last = { ...progress, peers: new Map(progress.peers) }
        told.push(progress.loadedBytes)
      },
      log: silentLogger,
      ...options,
    })
    return { peer, weights, store, records, last: () => last!, told }
  }

  /** What the span makes of the same hidden states. */
  async function outputsOf(from: Model): Promise<Float32Array> {
    const span = await engine.loadSpan(from, { ...SPAN, kvTokens: 64 })
    try {
      const { hiddenSize } = model.spec
      const hidden = tensor(
        7,
        hiddenSize,
        Float32Array.from({ length: 7 * hiddenSize }, (_, i) => Math.sin(i)),
      )
      const lease = span.lease(64)
      const [first] = await span.step([{ lease, hidden }])
      return first!.data.slice()
    } finally {
      await span.close()
    }
  }

  it('a server without files gets its span from peers, one of which lies and one of which dies, and computes the same', async () => {
    const liar = await seeder(changed(async (bytes) => bytes.fill(bytes[0]! ^ 1, 0, 1)))
    let left = 3
    const dying = await seeder(
      changed(async (bytes) => {
        if (left-- === 0) queueMicrotask(() => void dying.close())
        return left < 0 ? undefined : bytes
      }),
    )
    const honest = await seeder(shelf)
    const { weights, last, told, store } = await without([liar, dying, honest])
    await weights.fetchSpan(SPAN)
    const { loadedBytes, totalBytes, cachedBytes, fallbackBytes, peers } = last()
    expect([loadedBytes, cachedBytes, fallbackBytes]).toEqual([totalBytes, 0, 0])
    expect(peers.has(liar.id)).toBe(false)
    expect([...peers.values()].reduce((sum, bytes) => sum + bytes, 0)).toBe(totalBytes)
    expect(told).toEqual([...told].sort((a, b) => a - b))
    expect(await outputsOf(weights.model)).toEqual(await outputsOf(model))
    // What it has it gives on, in the same pieces; what it never asked for it has not.
    const blob = partBlob(manifest.manifest, 'block.2')!
    expect(await store.have(blob.root)).toEqual({ byteLength: blob.byteLength })
    expect(await store.piece(blob.root, 1)).toEqual(await shelf.piece(blob.root, 1))
    expect(await store.have(partBlob(manifest.manifest, 'block.6')!.root)).toBeUndefined()
  })

  it('only a liar: nothing of it is kept, and the error says why', async () => {
    const liar = await seeder(changed(async (bytes) => bytes.reverse()))
    const { weights, store } = await without([liar], { patienceMs: 20_000, aloneMs: 200 })
    await expect(weights.fetchSpan(SPAN)).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringMatching(/other bytes.*try again/),
    })
    expect(await store.have(partBlob(manifest.manifest, 'block.1')!.root)).toBeUndefined()
  })

  it('a fetch that was cut goes on where it stopped, in another process too', async () => {
    const honest = await seeder(shelf)
    const folder = await mkdtemp(join(tmpdir(), 'chorale-weights-'))
    closers.push(() => rm(folder, { recursive: true }))
    const cut = openBlobStore(createCacheStore(folder))
    const abort = new AbortController()
    const first = await without([honest], {
      store: cut,
      onProgress: ({ loadedBytes }) => {
        if (loadedBytes > 4 * PIECE_BYTES) abort.abort()
      },
    })
    await expect(first.weights.fetchSpan(SPAN, abort.signal)).rejects.toMatchObject({ code: 'cancelled' })
    await cut.close()
    const again = openBlobStore(createCacheStore(folder))
    closers.push(() => again.close())
    const second = await without([honest], { store: again })
    await second.weights.fetchSpan(SPAN)
    const { cachedBytes, totalBytes, peers } = second.last()
    expect(cachedBytes).toBeGreaterThanOrEqual(4 * PIECE_BYTES)
    expect(peers.get(honest.id)).toBe(totalBytes - cachedBytes)
    expect(await outputsOf(second.weights.model)).toEqual(await outputsOf(model))
  })

  it('what no peer gives comes from files elsewhere, checked; other files are refused', async () => {
    const few = await seeder({
      ...shelf,
      have: async (root) => {
        const held = await shelf.have(root)
        return held && { ...held, pieces: Uint8Array.of(1) }
      },
    })
    const { weights, last } = await without([few], { fallback: async () => model, patienceMs: 1_500 })
    await weights.fetchSpan(SPAN)
    const { fallbackBytes, peers, totalBytes } = last()
    expect(peers.get(few.id)).toBe(4 * PIECE_BYTES)
    expect(fallbackBytes).toBe(totalBytes - 4 * PIECE_BYTES)
    expect(await outputsOf(weights.model)).toEqual(await outputsOf(model))

    const nobody = await without([], { fallback: async () => model, patienceMs: 200 })
    await nobody.weights.fetchSpan({ start: 0, end: 1 })
    expect(nobody.last().fallbackBytes).toBe(nobody.last().totalBytes)

    const changedModel: Model = {
      ...model,
      weights: {
        ...model.weights,
        blockRange: async (block, role, offset, length, signal) =>
          (await model.weights.blockRange!(block, role, offset, length, signal)).map((byte) => byte ^ 1),
      },
    }
    for (const wrong of [changedModel, { ...model, id: 'other@0123456789ab' }]) {
      const other = await without([], { fallback: async () => wrong, patienceMs: 200 })
      await expect(other.weights.fetchSpan(SPAN)).rejects.toThrow(
        /is not what manifest|the files are of other/,
      )
    }
  })

  it('a manifest comes from whoever has it, and only with the right bytes', async () => {
    const wrong = await seeder({ ...shelf, manifest: async () => new TextEncoder().encode('{}') })
    const honest = await seeder(shelf)
    const { peer, records } = await without([wrong, honest])
    const ask = askBlobOver(peer)
    const bytes = await fetchManifest(manifest.hash, blobSources(peer, records), ask)
    expect((await parseManifest(bytes!)).hash).toBe(manifest.hash)
    expect(await fetchManifest('00'.repeat(32), blobSources(peer, records.slice(1)), ask)).toBeUndefined()
  })

  it('damage on the disk shows when it is read, and is fetched again', async () => {
    const honest = await seeder(shelf)
    const folder = await mkdtemp(join(tmpdir(), 'chorale-weights-'))
    closers.push(() => rm(folder, { recursive: true }))
    const cache = createCacheStore(folder)
    const store = openBlobStore(cache)
    const { weights } = await without([honest], { store })
    await weights.fetchSpan(SPAN)
    await store.close()
    const blob = partBlob(manifest.manifest, 'block.3')!
    const file = await cache.open(`weights/blobs/${blob.root}`)
    await file.write(PIECE_BYTES + 5, new Uint8Array(100))
    await file.close()
    const again = openBlobStore(cache)
    closers.push(() => again.close())
    const second = await without([honest], { store: again })
    expect(await again.piece(blob.root, 1)).toBeUndefined()
    expect(await outputsOf(second.weights.model)).toEqual(await outputsOf(model))
  })
})

describe('chooseManifest', () => {
  const [a, b, c] = ['a', 'b', 'c'].map((digit) => digit.repeat(64)) as [string, string, string]
  const votes = (...manifests: (string | undefined)[]) =>
    manifests.map((hash, i) => serverRecord(`p${i}`, 0, hash === undefined ? {} : { manifest: hash }))

  it('goes by what is pinned, then by what was used, then by more than half', () => {
    const records = votes(a, a, b, undefined)
    expect(chooseManifest(records, { pinned: c, used: b })).toEqual({
      hash: c,
      why: 'pinned',
      votes: 0,
      against: 3,
    })
    expect(chooseManifest(records, { used: b })).toEqual({ hash: b, why: 'used', votes: 1, against: 2 })
    expect(chooseManifest(records, {})).toEqual({ hash: a, why: 'agreed', votes: 2, against: 1 })
    expect(chooseManifest(votes(undefined), {})).toBeUndefined()
  })

  it('refuses where nobody has a majority, and counts a peer once', () => {
    expect(() => chooseManifest(votes(a, b), {})).toThrow(/none has a majority.*--manifest/)
    expect(() => chooseManifest(votes(a, a, b, c), {})).toThrow(/none has a majority/)
    const twice = [...votes(a, b), serverRecord('p0', 0, { manifest: a, start: 1 })]
    expect(() => chooseManifest(twice, {})).toThrow(/none has a majority/)
  })
})
