import { ChoraleError } from '../errors.ts'
import type { Logger } from '../log.ts'
import { type BlobId, hashBlob, isPiece, PIECE_BYTES, pieceCount, pieceLength } from '../model/blob.ts'
import { type NamedManifest, parseManifest, partBlob } from '../model/manifest.ts'
import { manifestModel } from '../model/manifest-model.ts'
import type { Model } from '../model/model.ts'
import { createPartReader, type PartName, type PartReader } from '../model/part-bytes.ts'
import type { Span } from '../session/span-runner.ts'
import type { BlobStore } from '../store/blob-store.ts'
import { type BlobNeed, fetchBlobs, type FetchReport } from '../swarm/blob-fetch.ts'
import type { AskBlob, BlobSource } from '../swarm/blob-source.ts'

/** How far a fetch is. */
export interface WeightsProgress {
  /** Bytes that are here and checked, of all that are needed. */
  readonly loadedBytes: number
  readonly totalBytes: number
  /** Of the loaded ones: those that were here before, and those of files elsewhere instead of peers. */
  readonly cachedBytes: number
  readonly fallbackBytes: number
  /** Bytes by peer. */
  readonly peers: ReadonlyMap<string, number>
}

export interface PeerWeightsOptions {
  /** Its hash must be trusted. */
  readonly manifest: NamedManifest
  /** What people call the model, and the hub's revision, as the network knows them. */
  readonly called?: { readonly name?: string; readonly revision?: string }
  readonly store: BlobStore
  readonly ask: AskBlob
  readonly sources: () => Promise<readonly BlobSource[]>
  /** The same model in files that can be read by range, for what no peer gives. Opened when it is needed. */
  readonly fallback?: () => Promise<Model>
  readonly onProgress?: (progress: WeightsProgress) => void
  /** Waits so long for a peer that has what is missing: default 5 s with a fallback, else 120 s. */
  readonly patienceMs?: number
  /** With nobody to ask: default the same. */
  readonly aloneMs?: number
  readonly log: Logger
}

/** A model whose weights come from other peers. */
export interface PeerWeights {
  /** Reading a weight fetches what of it is not here yet. */
  readonly model: Model
  /** Fetches all blocks of a span, several at once, through the store. @throws `unreachable`, `capacity`, `cancelled`. */
  fetchSpan(span: Span, signal?: AbortSignal): Promise<void>
  /** Fetches parts by name. Same errors. */
  fetchParts(names: readonly PartName[], signal?: AbortSignal): Promise<void>
  /** Closes the fallback where it was opened; the store stays open. */
  close(): Promise<void>
}

/** @throws `internal` when the fallback is another model (from fetches). */
export function openPeerWeights(options: PeerWeightsOptions): PeerWeights {
  const { manifest: named, store, log, onProgress } = options
  const { manifest } = named
  const liars = new Set<string>()
  let fallback: Promise<Model> | undefined
  // One fetch at a time: two readers of one part must not fetch it twice.
  let queue: Promise<unknown> = Promise.resolve()

  const blobOf = (name: PartName): BlobId => {
    const blob = partBlob(manifest, name)
    if (blob === undefined) throw new ChoraleError('not_found', `${manifest.modelId} has no part "${name}"`)
    return blob
  }

  const fetchParts = async (names: readonly PartName[], signal?: AbortSignal): Promise<void> => {
    const turn = queue.then(() => fetchNow(names, signal))
    queue = turn.catch(() => undefined)
    await turn
  }

  const fetchNow = async (names: readonly PartName[], signal: AbortSignal | undefined): Promise<void> => {
    const nameOf = new Map(names.map((name) => [blobOf(name).root, name]))
    const needs: BlobNeed[] = []
    const progress = { loadedBytes: 0, totalBytes: 0, cachedBytes: 0, fallbackBytes: 0 }
    const peers = new Map<string, number>()
    for (const name of nameOf.values()) {
      const blob = blobOf(name)
      const { pieces, list } = await store.missing(blob)
      const missingBytes = pieces.reduce((sum, index) => sum + pieceLength(blob.byteLength, index), 0)
      progress.totalBytes += blob.byteLength
      progress.cachedBytes += blob.byteLength - missingBytes
      if (pieces.length > 0) needs.push({ ...blob, pieces, ...(list && { list }) })
    }
    progress.loadedBytes = progress.cachedBytes
    const tell = () => onProgress?.({ ...progress, peers })
    tell()
    if (needs.length === 0) return
    const report = await fetchBlobs(needs, {
      ask: options.ask,
      sources: options.sources,
      liars,
      onLiar: (peerId, why) => log.warn('a peer sent wrong weights and is asked no more', { peerId, why }),
      keepList: async (root, list) => await store.keepList(blobOf(nameOf.get(root)!), list),
      keepPiece: async (root, index, bytes, from) => {
        await store.keepPiece(blobOf(nameOf.get(root)!), index, bytes)
        progress.loadedBytes += bytes.length
        peers.set(from, (peers.get(from) ?? 0) + bytes.length)
        tell()
      },
      patienceMs: options.patienceMs ?? (options.fallback ? 5_000 : 120_000),
      ...(options.aloneMs !== undefined && { aloneMs: options.aloneMs }),
      ...(signal && { signal }),
    })
    for (const need of report.missing) {
      if (options.fallback === undefined) throw nobodyHas(nameOf.get(need.root)!, need, report)
      await fetchFrom(
        await openFallback(options.fallback),
        nameOf.get(need.root)!,
        need,
        (bytes) => {
          progress.loadedBytes += bytes
          progress.fallbackBytes += bytes
          tell()
        },
        signal,
      )
    }
  }

  const openFallback = async (open: () => Promise<Model>): Promise<PartReader> => {
    const opening = (fallback ??= open())
    // The next try opens anew.
    const model = await opening.catch((error: unknown) => {
      if (fallback === opening) fallback = undefined
      throw error
    })
    if (model.id === manifest.modelId) return createPartReader(model)
    throw new ChoraleError(
      'bad_config',
      `the files are of ${model.id}, the peers' weights of ${manifest.modelId}`,
    )
  }

  /** Pieces of files elsewhere, checked as those of peers are. */
  const fetchFrom = async (
    reader: PartReader,
    name: PartName,
    { pieces, list, ...need }: BlobNeed,
    onBytes: (bytes: number) => void,
    signal: AbortSignal | undefined,
  ): Promise<void> => {
    const blob = blobOf(name)
    const wrong = () =>
      new ChoraleError('bad_file', `${name} of the files is not what manifest ${named.hash} names`)
    let known = list
    if (known === undefined) {
      const made = await hashBlob(need.byteLength, (at, length) => reader.read(name, at, length, signal))
      if (made.root !== blob.root) throw wrong()
      known = made.list
      await store.keepList(blob, known)
    }
    for (const index of pieces) {
      signal?.throwIfAborted()
      const bytes = await reader.read(name, index * PIECE_BYTES, pieceLength(need.byteLength, index), signal)
      if (!(await isPiece(known, index, bytes))) throw wrong()
      await store.keepPiece(blob, index, bytes)
      onBytes(bytes.length)
    }
  }

  const model = manifestModel(
    manifest,
    async (name, offset, length, signal) => {
      const blob = blobOf(name)
      // Damaged pieces show when they are read, and are fetched again.
      for (let tries = 0; tries < 3; tries++) {
        const bytes = await store.read(blob, offset, length)
        if (bytes !== undefined) return bytes
        await fetchParts([name], signal)
      }
      throw new ChoraleError('bad_file', `the cache does not keep ${name} of ${manifest.modelId}`)
    },
    options.called,
  )
  return {
    model,
    fetchParts,
    close: async () => {
      const model = await fallback?.catch(() => undefined)
      await model?.close()
    },
    fetchSpan: ({ start, end }, signal) =>
      fetchParts(
        Array.from({ length: end - start }, (_, i) => `block.${start + i}`),
        signal,
      ),
  }
}

/** A manifest of bytes that have the hash that is trusted, of the model that is meant. @throws `bad_file`, `refused`. */
export async function readTrustedManifest(
  bytes: Uint8Array,
  wanted: { readonly hash: string; readonly modelId: string },
): Promise<NamedManifest> {
  const named = await parseManifest(bytes)
  if (named.hash !== wanted.hash || named.manifest.modelId !== wanted.modelId) {
    throw new ChoraleError(
      'refused',
      `manifest ${named.hash} is of ${named.manifest.modelId}, wanted was ${wanted.hash} of ${wanted.modelId}`,
      { field: 'manifest' },
    )
  }
  return named
}

function nobodyHas(name: PartName, { pieces, byteLength }: BlobNeed, { left }: FetchReport): ChoraleError {
  const why = [...left].map(([peer, reason]) => `${peer}: ${reason}`).join('; ')
  return new ChoraleError(
    'unreachable',
    `no peer gave ${pieces.length} of ${pieceCount(byteLength)} pieces of ${name}` +
      ` (${why === '' ? 'none shares them' : why.slice(0, 400)}); what came is kept, try again`,
  )
}
