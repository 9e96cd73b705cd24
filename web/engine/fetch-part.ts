import { ChoraleError, errorCode } from '../../src/errors.ts'
import { type BlobId, hashBlob, pieceLength } from '../../src/model/blob.ts'
import { type ClientPart, openClientPart, sha256Hex } from '../../src/model/client-part.ts'
import type { Model } from '../../src/model/model.ts'
import { type BlobStore, openBlobStore } from '../../src/store/blob-store.ts'
import type { BlobNeed } from '../../src/swarm/blob-fetch.ts'
import { memoryCache, opfsCache } from './blob-cache.ts'
import { fetchRuns, type WantedBlob } from './fetch-ranges.ts'
import type { PieceFetcher } from './piece-link.ts'

/** Who is asked for weights before the other one; `peers only`: the gateway gives none. */
export type FirstSource = 'gateway' | 'peers' | 'peers only'

/** Where blobs come from. */
export interface BlobSources {
  /** The gateway's API key. */
  readonly key: string | undefined
  /** Peers of the network; absent where there is none. */
  readonly pieces?: PieceFetcher
  /** Who is asked first (default the gateway); the other one has what is missing then. */
  readonly first?: FirstSource
  /** @param peers how many gave something so far */
  readonly onProgress: (loadedBytes: number, totalBytes: number, peers: number) => void
}

/** A client's part that is here in whole. */
export interface FetchedPart {
  readonly model: Model
  readonly fetchedBytes: number
  readonly cachedBytes: number
  /** Lets go of the bytes that the engine copied. */
  release(): void
}

/** Blobs in the order asked for. */
export interface FetchedBlobs {
  readonly blobs: readonly Uint8Array[]
  readonly fetchedBytes: number
  readonly cachedBytes: number
}

/** Blobs that turn out to be damaged, in the cache or at the gateway, are fetched again this often. */
const ROUNDS = 3
/** Peers that are asked first have this long to bring something; those asked last are all there is. */
const PEERS_FIRST_MS = 5_000
const PEERS_LAST_MS = 60_000

interface Part extends WantedBlob {
  readonly id: BlobId
  readonly store: BlobStore
  /** Undefined where the gateway's version names no root: then only the whole can be checked. */
  list: Uint8Array | undefined
  missing: Set<number>
  bytes: Uint8Array | undefined
}

/** Fetches a client's part through the cache. @throws `unreachable`, `not_found`, `bad_file`, `capacity`. */
export async function fetchClientPart(
  part: ClientPart,
  sources: BlobSources & { readonly url: string },
): Promise<FetchedPart> {
  const wanted = part.blobs.map((blob) => ({ blob, url: `${sources.url}/${blob.name}` }))
  const { blobs, ...counts } = await fetchBlobs(wanted, sources)
  const here = new Map(part.blobs.map(({ name }, i) => [name, blobs[i]!]))
  const model = openClientPart(part, async ({ name }) => {
    const bytes = here.get(name)
    if (bytes === undefined) throw new ChoraleError('internal', `blob ${name} was let go`)
    return bytes
  })
  return { model, ...counts, release: () => here.clear() }
}

/**
 * Fetches blobs from the gateway and from peers, through the cache; each is checked against its SHA-256, and piece by
 * piece where its root is known. What came stays when the rest fails.
 * @throws `unreachable`, `not_found`, `bad_file`, `capacity`.
 */
export async function fetchBlobs(wanted: readonly WantedBlob[], sources: BlobSources): Promise<FetchedBlobs> {
  const disk = openBlobStore(opfsCache())
  const parts = await Promise.all(wanted.map((one) => openPart(one, disk)))
  const total = sum(parts.map(({ id }) => id.byteLength))
  let loaded = total - sum(parts.map(missingBytes))
  const cachedBytes = loaded
  let fetchedBytes = 0
  let peers = 0
  const got = (bytes: number): void => {
    loaded += bytes
    fetchedBytes += bytes
    sources.onProgress(loaded, total, peers)
  }
  const keep = async (part: Part, index: number, bytes: Uint8Array): Promise<void> => {
    if (!part.missing.has(index)) return
    await part.store.keepPiece(part.id, index, bytes)
    part.missing.delete(index)
    got(bytes.length)
  }
  const incomplete = () => parts.filter((part) => part.missing.size > 0)

  const fromPeers = async (patienceMs: number): Promise<void> => {
    const byRoot = new Map(
      incomplete().flatMap((part) => (part.blob.root === undefined ? [] : [[part.id.root, part] as const])),
    )
    if (sources.pieces === undefined || byRoot.size === 0) return
    const needs: BlobNeed[] = [...byRoot.values()].map(({ id, list, missing }) => ({
      ...id,
      pieces: [...missing],
      ...(list && { list }),
    }))
    peers += await sources.pieces(
      needs,
      {
        list: async (root, list) => {
          const part = byRoot.get(root)!
          part.list = list
          await part.store.keepList(part.id, list)
        },
        piece: async (root, index, bytes) => {
          peers ||= 1
          await keep(byRoot.get(root)!, index, bytes)
        },
      },
      patienceMs,
    )
  }
  const fromGateway = async (): Promise<void> => {
    for (const part of incomplete())
      await fetchRuns(part, sources.key, (index, bytes) => keep(part, index, bytes))
  }
  const peersLast = () => fromPeers(PEERS_LAST_MS)
  const steps = {
    gateway: [fromGateway, peersLast],
    peers: [() => fromPeers(PEERS_FIRST_MS), fromGateway, peersLast],
    'peers only': [peersLast],
  }[sources.first ?? 'gateway']

  sources.onProgress(loaded, total, 0)
  try {
    for (let round = 0; parts.some(({ bytes }) => bytes === undefined); round++) {
      let failure: unknown
      for (const step of steps) {
        if (incomplete().length === 0) break
        await step().catch((error: unknown) => (failure = preferred(failure, error)))
      }
      const [short] = incomplete()
      if (short !== undefined) {
        throw (
          failure ??
          new ChoraleError('unreachable', `neither the gateway nor a peer gives ${short.blob.name}`)
        )
      }
      for (const part of parts) {
        if (part.bytes !== undefined) continue
        part.bytes = await readWhole(part)
        if (part.bytes !== undefined) continue
        loaded -= part.id.byteLength - missingBytes(part)
        if (round + 1 < ROUNDS) continue
        throw new ChoraleError('bad_file', `${part.blob.name} came with other bytes than were promised`)
      }
    }
    return {
      blobs: parts.map(({ bytes }) => bytes!),
      fetchedBytes,
      cachedBytes: Math.min(cachedBytes, total),
    }
  } finally {
    await disk.close()
  }
}

async function openPart(wanted: WantedBlob, disk: BlobStore): Promise<Part> {
  const { byteLength, root, sha256 } = wanted.blob
  const id = { root: root ?? sha256, byteLength }
  const open = async (store: BlobStore): Promise<Part> => {
    const { list, pieces } = await store.missing(id)
    return { ...wanted, id, store, list, missing: new Set(pieces), bytes: undefined }
  }
  // No private file system, or another tab writes the same blob: this one goes without.
  return await open(disk).catch(() => open(openBlobStore(memoryCache())))
}

/** All bytes, checked; undefined when they are not what was promised: nothing is kept of them then. */
async function readWhole(part: Part): Promise<Uint8Array | undefined> {
  const { blob, id, store } = part
  const bytes = await store.read(id, 0, id.byteLength)
  if (bytes !== undefined && (await sha256Hex(bytes)) === blob.sha256) {
    // With its list it can be given to others.
    if (blob.root !== undefined && part.list === undefined) {
      const { list } = await hashBlob(id.byteLength, async (at, length) => bytes.subarray(at, at + length))
      await store.keepList(id, list).catch(() => undefined)
    }
    return bytes
  }
  // Damaged pieces are missing by now; where all seem to be right the whole is wrong.
  const { pieces } = await store.missing(id)
  if (pieces.length === 0) await store.forget(id)
  part.missing = new Set((await store.missing(id)).pieces)
  return undefined
}

/** Of two failures the one that says more: a full disk before an absent source. */
function preferred(before: unknown, error: unknown): unknown {
  return before === undefined || errorCode(error) === 'capacity' ? error : before
}

function missingBytes({ id, missing }: Part): number {
  return sum([...missing].map((index) => pieceLength(id.byteLength, index)))
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
