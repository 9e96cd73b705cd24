/** Blobs kept in pieces in a cache: what was fetched is there after a cut, and for others. */

import { ChoraleError } from '../errors.ts'
import {
  type BlobId,
  type BlobShelf,
  checkPieceList,
  digestOf,
  DIGEST_BYTES,
  isDigestHex,
  isPiece,
  PIECE_BYTES,
  pieceCount,
  pieceLength,
  toHex,
} from '../model/blob.ts'
import type { CacheStore } from './cache-store.ts'
import { type ChunkFile, openChunkFile } from './chunk-file.ts'

/** What of a blob has still to come. */
export interface MissingPieces {
  readonly pieces: readonly number[]
  readonly list: Uint8Array | undefined
}

export interface BlobStore extends BlobShelf {
  missing(blob: BlobId): Promise<MissingPieces>
  /** Keeps a list. @throws `protocol` unless it is the blob's, `capacity` when the disk is full. */
  keepList(blob: BlobId, list: Uint8Array): Promise<void>
  /** Keeps a piece. NOT checked: its bytes. @throws `capacity` when the disk is full. */
  keepPiece(blob: BlobId, index: number, bytes: Uint8Array): Promise<void>
  /** Bytes [offset, offset + length); undefined when some are missing, or damaged on the disk: they are missing then. */
  read(blob: BlobId, offset: number, length: number): Promise<Uint8Array | undefined>
  /** Forgets all of a blob. */
  forget(blob: BlobId): Promise<void>
  /** Keeps a manifest under the SHA-256 of its bytes. */
  keepManifest(bytes: Uint8Array): Promise<void>
  /** The hash of the manifest that was used for a model before. */
  usedManifest(modelId: string): Promise<string | undefined>
  useManifest(modelId: string, hash: string): Promise<void>
  close(): Promise<void>
}

const FOLDER = 'weights'
/** Open at once, two file handles each; those used longest ago are closed. */
const MAX_OPEN = 64
/** What other processes keep is seen after this long. */
const NAMES_MS = 1_000
/** The length before the list in its file. */
const LENGTH_BYTES = 8

/** Opens the store in `cache`. Several processes may use one at a time. */
export function openBlobStore(cache: CacheStore): BlobStore {
  const open = new Map<string, Promise<ChunkFile>>()
  const lists = new Map<string, BlobId & { readonly list: Uint8Array }>()
  let names: Promise<ReadonlySet<string>> = Promise.resolve(new Set())
  let namesAt = -Infinity
  const path = (root: string) => `${FOLDER}/blobs/${root}`
  const manifestPath = (hash: string) => `${FOLDER}/manifests/${hash}.json`
  const modelPath = (modelId: string) => `${FOLDER}/models/${encodeURIComponent(modelId)}`

  /** The pieces of a blob; an eviction waits for nobody, so a file is used within the turn it was asked for. */
  const chunksOf = async ({ root, byteLength }: BlobId): Promise<ChunkFile> => {
    const known = open.get(root)
    const file = known ?? openChunkFile(cache, path(root), byteLength)
    open.delete(root)
    open.set(root, file)
    try {
      return await file
    } catch (error) {
      open.delete(root)
      throw error
    }
  }
  const inUse = new Map<string, number>()
  const using = async <T>(blob: BlobId, use: (chunks: ChunkFile) => Promise<T>): Promise<T> => {
    inUse.set(blob.root, (inUse.get(blob.root) ?? 0) + 1)
    try {
      return await use(await chunksOf(blob))
    } finally {
      const left = (inUse.get(blob.root) ?? 1) - 1
      if (left > 0) inUse.set(blob.root, left)
      else inUse.delete(blob.root)
      for (const [root, file] of open) {
        if (open.size <= MAX_OPEN) break
        if (inUse.has(root)) continue
        open.delete(root)
        void file.then((chunks) => chunks.close()).catch(() => undefined)
      }
    }
  }

  /** A blob whose list is here. */
  const known = async (root: string): Promise<(BlobId & { readonly list: Uint8Array }) | undefined> => {
    const kept = lists.get(root)
    if (kept !== undefined || !isDigestHex(root)) return kept
    // Looking must make no files: strangers ask for anything, as often as they like.
    if (performance.now() - namesAt > NAMES_MS) {
      namesAt = performance.now()
      names = cache.list(`${FOLDER}/blobs`).then((found) => new Set(found))
    }
    if (!(await names).has(`${root}.list`)) return undefined
    const file = await cache.open(`${path(root)}.list`)
    try {
      const bytes = await file.read(0, await file.size())
      if (bytes.length < LENGTH_BYTES + DIGEST_BYTES) return undefined
      const byteLength = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true))
      const blob = { root, byteLength, list: bytes.slice(LENGTH_BYTES) }
      await checkPieceList(blob, blob.list)
      lists.set(root, blob)
      return blob
    } catch (error) {
      // A torn list is fetched again.
      if (error instanceof ChoraleError && error.code === 'protocol') return undefined
      throw error
    } finally {
      await file.close()
    }
  }

  const missingPieces = async (blob: BlobId): Promise<readonly number[]> => {
    const runs = await using(blob, (chunks) => chunks.missing([{ offset: 0, length: blob.byteLength }]))
    return runs.flatMap(({ offset, length }) =>
      Array.from({ length: pieceCount(length) }, (_, i) => offset / PIECE_BYTES + i),
    )
  }

  return {
    missing: async (blob) => {
      return { pieces: await missingPieces(blob), list: (await known(blob.root))?.list }
    },
    keepList: async (blob, list) => {
      await checkPieceList(blob, list)
      const bytes = new Uint8Array(LENGTH_BYTES + list.length)
      new DataView(bytes.buffer).setBigUint64(0, BigInt(blob.byteLength), true)
      bytes.set(list, LENGTH_BYTES)
      const file = await cache.open(`${path(blob.root)}.list`)
      try {
        await file.write(0, bytes)
      } finally {
        await file.close()
      }
      lists.set(blob.root, { root: blob.root, byteLength: blob.byteLength, list })
    },
    keepPiece: async (blob, index, bytes) => {
      await using(blob, (chunks) => chunks.put(index * PIECE_BYTES, bytes))
    },
    read: async (blob, offset, length) =>
      await using(blob, async (chunks) => {
        const missing = await chunks.missing([{ offset, length }])
        return missing.length > 0 ? undefined : await chunks.read(offset, length)
      }),
    forget: async (blob) => {
      await using(blob, (chunks) => chunks.clear())
      lists.delete(blob.root)
      await cache.remove(`${path(blob.root)}.list`)
    },
    keepManifest: async (bytes) => {
      await cache.writeText(manifestPath(toHex(await digestOf(bytes))), new TextDecoder().decode(bytes))
    },
    usedManifest: async (modelId) => {
      const hash = await cache.readText(modelPath(modelId))
      return isDigestHex(hash) ? hash : undefined
    },
    useManifest: (modelId, hash) => cache.writeText(modelPath(modelId), hash),
    manifest: async (hash) => {
      const text = isDigestHex(hash) ? await cache.readText(manifestPath(hash)) : undefined
      const bytes = text === undefined ? undefined : new TextEncoder().encode(text)
      return bytes !== undefined && toHex(await digestOf(bytes)) === hash ? bytes : undefined
    },
    have: async (root) => {
      const blob = await known(root)
      if (blob === undefined) return undefined
      const { byteLength } = blob
      const missing = await missingPieces(blob)
      if (missing.length === 0) return { byteLength }
      const count = pieceCount(byteLength)
      if (missing.length === count) return undefined
      const pieces = new Uint8Array(Math.ceil(count / 8))
      for (let index = 0; index < count; index++) pieces[index >> 3]! |= 1 << (index & 7)
      for (const index of missing) pieces[index >> 3]! &= ~(1 << (index & 7))
      return { byteLength, pieces }
    },
    list: async (root) => (await known(root))?.list,
    piece: async (root, index) => {
      const blob = await known(root)
      if (blob === undefined || index >= pieceCount(blob.byteLength)) return undefined
      const [offset, length] = [index * PIECE_BYTES, pieceLength(blob.byteLength, index)]
      const bytes = await using(blob, async (chunks) =>
        (await chunks.missing([{ offset, length }])).length > 0
          ? undefined
          : await chunks.read(offset, length),
      )
      return bytes !== undefined && (await isPiece(blob.list, index, bytes)) ? bytes.slice() : undefined
    },
    close: async () => {
      const files = [...open.values()]
      open.clear()
      await Promise.all(files.map(async (file) => await (await file).close()))
    },
  }
}
