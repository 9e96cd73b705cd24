import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createCacheStore } from '../../node/cache-store.ts'
import { createFileStore } from '../../node/file-store.ts'
import { PIECE_BYTES, pieceCount } from '../../src/model/blob.ts'
import { type NamedManifest, partBlob } from '../../src/model/manifest.ts'
import { createModelShelf } from '../../src/model/model-shelf.ts'
import { openModel } from '../../src/model/open-model.ts'
import { type BlobStore, openBlobStore } from '../../src/store/blob-store.ts'
import type { CacheStore } from '../../src/store/cache-store.ts'
import { peerModels, removePeerModel } from '../../src/store/peer-models.ts'

const PARTS = ['block.0', 'block.7'] as const

describe('weights from peers in a cache', () => {
  let folder: string
  let cache: CacheStore
  let store: BlobStore
  let named: NamedManifest

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'chorale-peer-models-'))
    cache = createCacheStore(folder)
    store = openBlobStore(cache)
    const model = await openModel(join(import.meta.dirname, '../../models/storyteller'), {
      files: createFileStore(),
    })
    const shelf = createModelShelf(model)
    named = await shelf.addAll()
    for (const name of PARTS) {
      const blob = partBlob(named.manifest, name)!
      await store.keepList(blob, (await shelf.list(blob.root))!)
      for (let index = 0; index < pieceCount(blob.byteLength); index++) {
        await store.keepPiece(blob, index, (await shelf.piece(blob.root, index))!)
      }
    }
    await store.keepManifest(named.bytes)
    await store.useManifest(model.id, named.hash)
    await model.close()
  })
  afterEach(async () => {
    await store.close()
    await rm(folder, { recursive: true })
  })

  it('are listed by model with what they take, and removed whole', async () => {
    const { modelId } = named.manifest
    const [listed, ...more] = await peerModels(cache)
    const size = PARTS.reduce((sum, name) => sum + partBlob(named.manifest, name)!.byteLength, 0)
    expect(more).toEqual([])
    expect(listed).toMatchObject({ modelId, manifest: named.hash })
    expect(listed!.bytes).toBeGreaterThanOrEqual(size)
    expect(listed!.bytes).toBeLessThan(size + 64 * 1024)
    expect(await removePeerModel(cache, 'other@0123456789ab')).toBe(false)
    expect(await removePeerModel(cache, modelId)).toBe(true)
    expect(await peerModels(cache)).toEqual([])
    for (const kind of ['blobs', 'manifests', 'models']) {
      expect(await readdir(join(folder, 'weights', kind)), kind).toEqual([])
    }
  })

  it('what another model has too stays', async () => {
    await store.useManifest('copy@0123456789ab', named.hash)
    await removePeerModel(cache, named.manifest.modelId)
    const [left] = await peerModels(cache)
    expect(left?.modelId).toBe('copy@0123456789ab')
    const blob = partBlob(named.manifest, 'block.7')!
    const again = openBlobStore(cache)
    expect(await again.have(blob.root)).toEqual({ byteLength: blob.byteLength })
    await again.close()
  })

  it('a list that was torn is asked for again; a damaged manifest is none', async () => {
    const blob = partBlob(named.manifest, 'block.0')!
    const file = await cache.open(`weights/blobs/${blob.root}.list`)
    await file.write(12, new Uint8Array(5))
    await file.close()
    const again = openBlobStore(cache)
    expect(await again.have(blob.root)).toBeUndefined()
    expect(await again.missing(blob)).toEqual({ pieces: [], list: undefined })
    await cache.writeText(`weights/manifests/${named.hash}.json`, '{}')
    expect(await again.manifest(named.hash)).toBeUndefined()
    expect(await again.manifest('../../etc')).toBeUndefined()
    expect((await peerModels(cache))[0]).toMatchObject({ bytes: 0 })
    await again.close()
  })

  it('strangers’ questions make no files', async () => {
    const before = (await readdir(join(folder, 'weights/blobs'))).length
    for (const root of ['0'.repeat(64), 'x', '../models', '']) {
      expect(await store.have(root)).toBeUndefined()
      expect(await store.list(root)).toBeUndefined()
      expect(await store.piece(root, 0)).toBeUndefined()
    }
    const blob = partBlob(named.manifest, 'block.0')!
    expect(await store.piece(blob.root, Math.ceil(blob.byteLength / PIECE_BYTES))).toBeUndefined()
    expect((await readdir(join(folder, 'weights/blobs'))).length).toBe(before)
  })
})
