/** What `chorale serve` knows of weights that travel between peers: `--weights`, `--manifest`, `--share`. */

import { setTimeout as sleep } from 'node:timers/promises'
import { ChoraleError, errorMessage } from '../../../src/errors.ts'
import type { Logger } from '../../../src/log.ts'
import type { BlobShelf } from '../../../src/model/blob.ts'
import { createModelShelf, joinShelves } from '../../../src/model/model-shelf.ts'
import type { Model } from '../../../src/model/model.ts'
import type { ModelRecord, ServerRecord } from '../../../src/routing/snapshot.ts'
import { type ChosenManifest, chooseManifest } from '../../../src/server/choose-manifest.ts'
import {
  openPeerWeights,
  type PeerWeights,
  readTrustedManifest,
  type WeightsProgress,
} from '../../../src/server/peer-weights.ts'
import type { Span } from '../../../src/session/span-runner.ts'
import { cachedModels } from '../../../src/store/cached-models.ts'
import { type BlobStore, openBlobStore } from '../../../src/store/blob-store.ts'
import { locateModel, type ModelPorts, resolveModel } from '../../../src/store/resolve-model.ts'
import { askBlobOver, blobSources, fetchManifest } from '../../../src/swarm/ask-blob.ts'
import { serveBlobs } from '../../../src/swarm/blob-serve.ts'
import { uploadLimits } from '../../../src/swarm/upload-limit.ts'
import type { Network } from '../../join-network.ts'
import { readPerModel } from './per-model.ts'
import { parseMemory } from './values.ts'

export interface WeightsFlags {
  weights?: string[]
  manifest?: string[]
  share?: string
}

/** Where the weights of a model on the command line come from. */
export interface WeightsWish {
  readonly fromPeers: boolean
  /** Hash of the manifest that the operator trusts. */
  readonly pinned: string | undefined
}

/** Given to others when weights come from others and nothing is said. */
const DEFAULT_SHARE_BYTES = 8e6

/** Reads the flags. @throws `bad_config`. */
export function readWeightsFlags(
  flags: WeightsFlags,
  models: readonly string[],
): { readonly wishes: readonly WeightsWish[]; readonly shareBytes: number | undefined } {
  const weights = readPerModel('weights', flags.weights ?? [], models)
  const manifest = readPerModel('manifest', flags.manifest ?? [], models)
  const wishes = models.map((model, i) => {
    const from = weights.named.get(i) ?? weights.common ?? 'files'
    if (from !== 'files' && from !== 'peers') {
      throw new ChoraleError('bad_config', `--weights ${from}: give files (those of ${model}) or peers`, {
        field: 'weights',
      })
    }
    const pinned = manifest.named.get(i) ?? (models.length === 1 ? manifest.common : undefined)
    if (pinned !== undefined && !/^[0-9a-f]{64}$/.test(pinned)) {
      throw new ChoraleError('bad_config', `--manifest ${pinned.slice(0, 80)}: give 64 hex digits`, {
        field: 'manifest',
      })
    }
    if (pinned !== undefined && from !== 'peers') {
      throw new ChoraleError('bad_config', '--manifest needs --weights peers: files are what they are', {
        field: 'manifest',
      })
    }
    return { fromPeers: from === 'peers', pinned }
  })
  const byDefault = wishes.some(({ fromPeers }) => fromPeers) ? DEFAULT_SHARE_BYTES : undefined
  const shareBytes =
    flags.share === undefined
      ? byDefault
      : flags.share === '0'
        ? undefined
        : parseMemory(flags.share, 'share')
  return { wishes, shareBytes }
}

/** What this process gives to others, of all its models. */
export interface Sharing {
  /** Shares a model that is whole on this machine, or these blocks of one that is not. Reads in the background. */
  shareFiles(model: Model, whole: boolean, span: Span): void
  shareStore(modelId: string, manifest: string, store: BlobStore): void
  /** For the server's record of a model. */
  recordOf(modelId: string): Pick<ServerRecord, 'blobs' | 'manifest'>
  close(): Promise<void>
}

/** @param bytesPerSecond undefined: nothing is shared */
export async function startSharing(
  network: Network,
  bytesPerSecond: number | undefined,
  options: { readonly log: Logger; readonly onManifest: (modelId: string, manifest: string) => void },
): Promise<Sharing> {
  const { log, onManifest } = options
  const shelves: BlobShelf[] = []
  const records = new Map<string, Pick<ServerRecord, 'blobs' | 'manifest'>>()
  const ended = new AbortController()
  const shelfOf = new Map<string, ReturnType<typeof createModelShelf>>()
  let reading: Promise<unknown> = Promise.resolve()
  const service =
    bytesPerSecond === undefined
      ? undefined
      : await serveBlobs(network.peer, joinShelves(shelves), uploadLimits(bytesPerSecond))

  const read = async (model: Model, whole: boolean, { start, end }: Span): Promise<void> => {
    const shelf = shelfOf.get(model.id) ?? createModelShelf(model)
    if (!shelfOf.has(model.id)) shelves.push(shelf)
    shelfOf.set(model.id, shelf)
    if (whole) {
      if (records.has(model.id)) return
      const { hash } = await shelf.addAll(ended.signal)
      records.set(model.id, { blobs: true, manifest: hash })
      onManifest(model.id, hash)
      return
    }
    const blocks = Array.from({ length: end - start }, (_, i) => `block.${start + i}`)
    await shelf.add(blocks, ended.signal)
    records.set(model.id, { blobs: true })
  }
  return {
    shareFiles: (model, whole, span) => {
      if (service === undefined) return
      reading = reading
        .then(() => read(model, whole, span))
        .catch((error: unknown) => {
          if (!ended.signal.aborted)
            log.warn('weights are not shared', { model: model.id, reason: errorMessage(error) })
        })
    },
    shareStore: (modelId, manifest, store) => {
      if (service === undefined) return void records.set(modelId, { manifest })
      if (!shelves.includes(store)) shelves.push(store)
      records.set(modelId, { blobs: true, manifest })
    },
    recordOf: (modelId) => records.get(modelId) ?? {},
    close: async () => {
      ended.abort()
      await reading
      await service?.close()
    },
  }
}

export interface PeerFilesOptions {
  readonly reference: string
  readonly revision: string | undefined
  readonly pinned: string | undefined
  readonly network: Network
  readonly ports: ModelPorts
  readonly signal: AbortSignal
  readonly onWaiting: (what: string) => void
  readonly onProgress: (progress: WeightsProgress) => void
  readonly log: Logger
}

/** A model whose weights come from peers. */
export interface PeerFiles extends PeerWeights {
  readonly manifest: ChosenManifest
  readonly store: BlobStore
}

const POLL_MS = 1_000
/** Somebody who has the model may be about to start. */
const PATIENCE_MS = 60_000
/** Where there are files to fall back on. */
const SHORT_PATIENCE_MS = 5_000

/**
 * Finds a model in the network, its manifest, and peers that give its weights.
 * @throws `not_found` when no server has it, or none names a manifest, for a minute; `refused` when they disagree.
 */
export async function openPeerFiles(options: PeerFilesOptions): Promise<PeerFiles> {
  const { network, pinned, ports, reference, revision, signal, log } = options
  const store = openBlobStore(ports.cache)
  const ask = askBlobOver(network.peer)
  const isKnown = await hasFiles(reference, ports)
  const patienceMs = isKnown ? SHORT_PATIENCE_MS : PATIENCE_MS
  const deadline = Date.now() + patienceMs
  const wait = async (what: string): Promise<void> => {
    if (Date.now() > deadline) {
      throw new ChoraleError('not_found', `${reference}: ${what}, for ${patienceMs / 1000} s`, {
        field: 'weights',
      })
    }
    options.onWaiting(what)
    await sleep(POLL_MS, undefined, { signal }).catch(() => signal.throwIfAborted())
  }
  for (;;) {
    const record = findModel(reference, await network.directory.models(signal))
    if (record === undefined) {
      await wait('no server in the network has it')
      continue
    }
    const { modelId } = record
    const servers = await network.directory.servers(modelId, signal)
    const chosen = chooseManifest(servers, { pinned, used: await store.usedManifest(modelId) })
    if (chosen === undefined) {
      await wait('no server says which weights are the right ones (chorale serve --share)')
      continue
    }
    const bytes =
      (await store.manifest(chosen.hash)) ??
      (await fetchManifest(chosen.hash, blobSources(network.peer, servers), ask, signal))
    if (bytes === undefined) {
      await wait(`no peer gives manifest ${chosen.hash}`)
      continue
    }
    const manifest = await readTrustedManifest(bytes, { hash: chosen.hash, modelId })
    await store.keepManifest(bytes)
    await store.useManifest(modelId, chosen.hash)
    const weights = openPeerWeights({
      manifest,
      called: { name: record.name, ...(record.revision !== undefined && { revision: record.revision }) },
      store,
      ask,
      sources: async () => blobSources(network.peer, await network.directory.servers(modelId)),
      ...(isKnown && { fallback: () => resolveModel(reference, ports, { revision, signal }) }),
      onProgress: options.onProgress,
      log,
    })
    return { ...weights, manifest: chosen, store }
  }
}

/** Whether all of a model is on this machine: its own files, or a hub model that was pulled. */
export async function isWhole(reference: string, ports: ModelPorts): Promise<boolean> {
  const place = await locateModel(reference, ports)
  if (place.kind === 'local') return true
  const cached = await cachedModels(ports.cache)
  return cached.some(({ name, missingBytes }) => name === place.repo && missingBytes === 0)
}

/** Whether a reference leads to files as well: of this machine, or of the hub. */
export async function hasFiles(reference: string, ports: ModelPorts): Promise<boolean> {
  return await locateModel(reference, ports).then(
    () => true,
    () => false,
  )
}

/** The model that a person means: its id, or its name where only one has it. @throws `bad_config` when several do. */
function findModel(reference: string, models: readonly ModelRecord[]): ModelRecord | undefined {
  const last = reference.split('/').findLast((part) => part !== '') ?? reference
  const exact = models.find(({ modelId }) => modelId === reference)
  if (exact !== undefined) return exact
  const named = models.filter(
    ({ modelId, name }) => name === reference || modelId.slice(0, modelId.lastIndexOf('@')) === last,
  )
  if (named.length > 1) {
    throw new ChoraleError(
      'bad_config',
      `${reference}: the network has several of that name, name one: ${named.map(({ modelId }) => modelId).join(', ')}`,
      { field: 'model' },
    )
  }
  return named[0]
}
