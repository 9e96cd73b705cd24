import { parseManifest, partBlob, type WeightsManifest } from '../model/manifest.ts'
import { openBlobStore } from './blob-store.ts'
import type { CacheStore } from './cache-store.ts'

/** A model of which weights came from peers. */
export interface PeerModel {
  readonly modelId: string
  /** Hash of the manifest that was trusted. */
  readonly manifest: string
  /** Bytes on disk. */
  readonly bytes: number
}

/** Models with weights from peers in the cache, by id. */
export async function peerModels(cache: CacheStore): Promise<readonly PeerModel[]> {
  const models: PeerModel[] = []
  for (const { modelId, manifest, roots } of await known(cache)) {
    const sizes = await Promise.all(
      roots.flatMap((root) => filesOf(root).map((path) => cache.diskBytes(path))),
    )
    models.push({ modelId, manifest, bytes: sizes.reduce((sum, size) => sum + size, 0) })
  }
  return models
}

/**
 * Removes a model's weights that came from peers, and what manifest was trusted; parts that another model has too stay.
 * False when the cache knows nothing of it.
 */
export async function removePeerModel(cache: CacheStore, modelId: string): Promise<boolean> {
  const all = await known(cache)
  const model = all.find((one) => one.modelId === modelId)
  if (model === undefined) return false
  const others = new Set(all.flatMap((one) => (one === model ? [] : one.roots)))
  for (const root of model.roots.filter((one) => !others.has(one))) {
    for (const path of filesOf(root)) await cache.remove(path)
  }
  await cache.remove(`weights/models/${encodeURIComponent(modelId)}`)
  if (!all.some((one) => one !== model && one.manifest === model.manifest)) {
    await cache.remove(`weights/manifests/${model.manifest}.json`)
  }
  return true
}

async function known(
  cache: CacheStore,
): Promise<readonly { modelId: string; manifest: string; roots: readonly string[] }[]> {
  const store = openBlobStore(cache)
  const found = []
  for (const name of await cache.list('weights/models')) {
    const modelId = decodeURIComponent(name)
    const manifest = await store.usedManifest(modelId)
    const bytes = manifest === undefined ? undefined : await store.manifest(manifest)
    const parsed = bytes && (await parseManifest(bytes).catch(() => undefined))
    found.push({ modelId, manifest: manifest ?? '', roots: parsed ? rootsOf(parsed.manifest) : [] })
  }
  return found
}

function rootsOf(manifest: WeightsManifest): readonly string[] {
  const names = [
    'tokenizer',
    ...Object.keys(manifest.client),
    ...manifest.blocks.map((_, block) => `block.${block}`),
  ]
  return [...new Set(names.flatMap((name) => partBlob(manifest, name)?.root ?? []))]
}

function filesOf(root: string): readonly string[] {
  return ['', '.chunks', '.list'].map((suffix) => `weights/blobs/${root}${suffix}`)
}
