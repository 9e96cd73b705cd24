import { isJsonObject } from '../model/json.ts'
import type { CacheStore } from './cache-store.ts'
import { openChunkFile } from './chunk-file.ts'
import { hubCachePath } from './hub.ts'

/** A hub model of which the cache holds something. */
export interface CachedModel {
  readonly name: string
  /** Revisions that were asked for, each with the commit it was last. */
  readonly revisions: Readonly<Record<string, string>>
  /** Bytes on disk. */
  readonly bytes: number
  /** Bytes of the files that were opened which are not here; 0: those files work offline. */
  readonly missingBytes: number
}

/** Hub models in the cache, by name. Records that are damaged are passed over. */
export async function cachedModels(cache: CacheStore): Promise<readonly CachedModel[]> {
  const models: CachedModel[] = []
  for (const folder of await cache.list('hub')) {
    const name = decodeURIComponent(folder)
    const base = hubCachePath(name)
    const revisions: Record<string, string> = {}
    for (const ref of await cache.list(`${base}/refs`)) {
      revisions[decodeURIComponent(ref)] = (await cache.readText(`${base}/refs/${ref}`)) ?? ''
    }
    models.push({
      name,
      revisions,
      bytes: await cache.diskBytes(base),
      missingBytes: await missingBytes(cache, base),
    })
  }
  return models
}

/** Removes everything of a hub model; false when the cache holds nothing of it. */
export async function removeCachedModel(cache: CacheStore, name: string): Promise<boolean> {
  const known = (await cache.list('hub')).includes(encodeURIComponent(name))
  if (known) await cache.remove(hubCachePath(name))
  return known
}

async function missingBytes(cache: CacheStore, base: string): Promise<number> {
  const blobs = new Map<string, number>()
  for (const commit of await cache.list(`${base}/snapshots`)) {
    for (const file of await cache.list(`${base}/snapshots/${commit}`)) {
      const { blob, size } = parse(await cache.readText(`${base}/snapshots/${commit}/${file}`))
      if (typeof blob === 'string' && typeof size === 'number') blobs.set(blob, size)
    }
  }
  let missing = 0
  for (const [blob, size] of blobs) {
    const chunks = await openChunkFile(cache, `${base}/blobs/${blob}`, size)
    for (const { length } of await chunks.missing([{ offset: 0, length: size }])) missing += length
    await chunks.close()
  }
  return missing
}

function parse(text: string | undefined): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text ?? 'null')
    return isJsonObject(value) ? value : {}
  } catch {
    return {}
  }
}
