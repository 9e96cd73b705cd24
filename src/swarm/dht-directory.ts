import { ChoraleError, errorCode, errorMessage, isChoraleError } from '../errors.ts'
import { DIRECTORY_PROTOCOL, RECORDS_TOPIC } from '../protocol/ids.ts'
import { MAX_RECORD_BYTES, MAX_RECORD_LIFETIME_MS } from '../protocol/limits.ts'
import { rank } from '../routing/best-span.ts'
import type { ModelRecord, ServerRecord } from '../routing/snapshot.ts'
import type { Directory } from '../session/directory.ts'
import { announceTo, checkPublisher, listFrom, serveDirectory } from './directory-exchange.ts'
import { signRecord, verifyRecord } from './identity.ts'
import type { Peer } from './peer.ts'
import { createRecordStore, type RecordStore, type StoredRecord } from './record-store.ts'

export interface DhtDirectoryOptions {
  /** Keep and hand out others' records. Servers and bootstrap peers do; clients only ask. */
  readonly serve: boolean
  readonly now?: () => number
}

/** A `Directory` that also has to be closed. */
export interface DhtDirectory extends Directory {
  /** Servers of a model that are known here without asking anybody. */
  known(modelId: string): readonly ServerRecord[]
  /** Calls back for each record that says something new, of servers that leave too; returns how to stop. */
  watch(listener: (record: ServerRecord) => void): () => void
  close(): Promise<void>
}

/** Peers asked at once for one question, and given a record. */
export const MAX_ASKED = 20
/** After the first answer, how long to wait for the others: a stalled peer must not slow a client down. */
const STRAGGLERS_MS = 250
/** How long a fresh peer waits for its first directory peer. */
const FIRST_PEER_MS = 2_000
/** How long a walk through the DHT may take, and how long its result is used. */
const WALK_MS = 5_000
const WALK_FRESH_MS = 30_000
/** What a record must change to be news for everybody; load and free room are told to those who ask. */
const NEWS = ['start', 'end', 'state', 'throughput', 'engine', 'precision', 'version'] as const
const TIMES: ReadonlySet<string> = new Set(['issuedAt', 'expiresAt'])
/** The key under which one record of every model is kept. */
const MODELS_KEY = 'chorale:models'
/** Servers of one model that bring their record there: more would make every server of the network ask the same few peers. */
const MODEL_SPEAKERS = 8

/**
 * The directory as a distributed hash table with several signed values a key.
 *
 * Kademlia's own values hold one record a key, too few for the servers of a model. So the DHT finds the k peers
 * nearest to the model's key, and those keep the records (`/chorale/directory/1`), each verified before it is kept
 * and dropped when it expires, newest first. Directory peers that are connected anyway are asked too: in a small
 * swarm that is all of them, and an answer takes one round trip. Peers that take part in gossip know who joins, moves or
 * leaves before anybody asks.
 */
export async function createDhtDirectory(peer: Peer, options: DhtDirectoryOptions): Promise<DhtDirectory> {
  const now = options.now ?? Date.now
  const store = createRecordStore()
  /** This peer's own records, to be given to directory peers that connect later. */
  const own = new Map<string, StoredRecord>()
  const walks = new Map<string, { peers: string[]; at: number; running: boolean }>()
  const stopped = new AbortController()
  const listeners = new Set<(record: ServerRecord) => void>()

  /** Keeps a verified record. Whether it is newer than what was known. */
  const put = (entry: StoredRecord): boolean => {
    const { modelId, peerId } = entry.record
    const old = listeners.size > 0 ? recordOf(store, modelId, peerId, now()) : undefined
    if (!store.put(entry, now())) return false
    if (listeners.size > 0 && isNews(old, entry.record)) {
      for (const listener of listeners) listener(entry.record)
    }
    return true
  }

  const shared: RecordStore = {
    get size() {
      return store.size
    },
    put,
    ofModel: store.ofModel,
    ofEachModel: store.ofEachModel,
  }
  const service = options.serve ? await serveDirectory(peer, shared, now) : undefined
  let connected = new Set<string>()
  const waitingForFirst = new Set<() => void>()

  const unwatch = await peer.watch(DIRECTORY_PROTOCOL, (peers) => {
    const fresh = [...peers].filter((id) => !connected.has(id))
    connected = new Set(peers)
    if (connected.size > 0) for (const done of waitingForFirst) done()
    for (const id of fresh) {
      for (const { bytes, record } of own.values()) {
        if (record.expiresAt > now()) announceTo(peer, id, bytes).catch((error: unknown) => missed(id, error))
      }
    }
  })

  /** Everything a record must be to be kept, as in `/chorale/directory/1`. */
  const gossip = peer.gossip?.join(RECORDS_TOPIC, {
    maxBytes: MAX_RECORD_BYTES,
    take: async ({ data }) => {
      const bytes = data.slice()
      const entry = await verifyRecord(bytes, now()).then(
        (announcement) => ({ ...announcement, bytes }),
        (error: unknown) => {
          // Whoever has a wrong clock, perhaps this peer: it is not the forwarder's fault.
          if (isChoraleError(error) && TIMES.has(error.field ?? '')) return undefined
          throw error
        },
      )
      if (entry === undefined) return 'ignore'
      // `refused` ignores it: another peer may know the ledger's newest block already, or not yet.
      if (peer.gate) checkPublisher(peer.gate, entry.record.peerId)
      const { issuedAt, modelId, peerId } = entry.record
      // Its publisher may have given it to this peer itself, and not to those that hear it from here.
      const known = !put(entry) && recordOf(store, modelId, peerId, now())
      return !known || known.issuedAt === issuedAt ? 'accept' : 'ignore'
    },
  })

  const missed = (id: string, error: unknown): void => {
    peer.log.debug('directory peer did not answer', { peer: id, reason: errorMessage(error) })
  }

  const firstPeer = async (signal: AbortSignal | undefined): Promise<void> => {
    if (connected.size > 0 || !peer.joined) return
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        waitingForFirst.delete(done)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, FIRST_PEER_MS)
      waitingForFirst.add(done)
      signal?.addEventListener('abort', done)
    })
  }

  /** Starts a walk to `key` in the background unless a fresh result is there; returns the last result. */
  const nearest = (key: string): readonly string[] => {
    const walk = walks.get(key) ?? { peers: [], at: -Infinity, running: false }
    walks.set(key, walk)
    if (!walk.running && now() - walk.at > WALK_FRESH_MS && connected.size > 0) {
      walk.running = true
      void (async () => {
        try {
          const found: string[] = []
          const signal = AbortSignal.any([stopped.signal, AbortSignal.timeout(WALK_MS)])
          for await (const id of peer.closestPeers(new TextEncoder().encode(key), signal)) found.push(id)
          walk.peers = found.filter((id) => id !== peer.id)
        } catch (error) {
          peer.log.debug('DHT walk failed', { reason: errorMessage(error) })
        } finally {
          walk.at = now()
          walk.running = false
        }
      })()
    }
    return walk.peers
  }

  const targets = (...keys: string[]): string[] => {
    const near = keys.flatMap(nearest)
    return [...new Set([...near, ...connected])].slice(0, MAX_ASKED)
  }

  const speaks = ({ modelId, peerId }: ServerRecord): boolean =>
    isSpeaker(
      peerId,
      known(modelId).map((record) => record.peerId),
    )

  const publish = async (entry: StoredRecord): Promise<void> => {
    const last = own.get(entry.record.modelId)
    own.set(entry.record.modelId, entry)
    put(entry)
    await firstPeer(undefined)
    if (gossip && isNews(last?.record, entry.record)) {
      gossip.publish(entry.bytes).catch((error: unknown) => {
        peer.log.debug('gossip was not sent', { reason: errorMessage(error) })
      })
    }
    await settleSoon(
      targets(modelKey(entry.record.modelId), ...(speaks(entry.record) ? [MODELS_KEY] : [])),
      (id) => announceTo(peer, id, entry.bytes),
      missed,
    )
  }

  const collect = async (modelId: string | undefined, signal: AbortSignal | undefined): Promise<void> => {
    await firstPeer(signal)
    const key = modelId === undefined ? MODELS_KEY : modelKey(modelId)
    await settleSoon(
      targets(key),
      async (id) => {
        for (const bytes of await listFrom(peer, id, modelId, signal)) await keep(id, bytes)
      },
      missed,
    )
    if (signal?.aborted === true) throw new ChoraleError('cancelled', 'the directory query was cancelled')
  }

  const keep = async (from: string, bytes: Uint8Array): Promise<void> => {
    try {
      const entry = { ...(await verifyRecord(bytes, now())), bytes }
      if (peer.gate) checkPublisher(peer.gate, entry.record.peerId)
      put(entry)
    } catch (error) {
      // One bad record must not hide the good ones that came with it.
      peer.log.debug('directory peer handed out a bad record', { peer: from, reason: errorMessage(error) })
    }
  }

  const sign = async (record: ServerRecord, model: ModelRecord): Promise<StoredRecord> => {
    const bytes = await signRecord(peer.identity, { record, model })
    return { record, model, bytes }
  }

  const known = (modelId: string): ServerRecord[] => {
    const records = store.ofModel(modelId, now()).map(({ record }) => record)
    return records.filter(
      ({ peerId, state }) => state !== 'offline' && peer.gate?.staked(peerId, 'directory').ok !== false,
    )
  }

  return {
    announce: async (record, model) => await publish(await sign(record, model)),
    withdraw: async (modelId) => {
      const last = own.get(modelId)
      if (last === undefined || last.record.state === 'offline') return
      const issuedAt = Math.max(now(), last.record.issuedAt + 1)
      // It must outlive every earlier record, or one of those could be replayed after it.
      const expiresAt = Math.min(
        Math.max(issuedAt + 60_000, last.record.expiresAt + 1),
        issuedAt + MAX_RECORD_LIFETIME_MS,
      )
      await publish(await sign({ ...last.record, state: 'offline', issuedAt, expiresAt }, last.model))
    },
    servers: async (modelId, signal) => {
      await collect(modelId, signal)
      return known(modelId)
    },
    models: async (signal) => {
      await collect(undefined, signal)
      return store.ofEachModel(now()).map(({ model }) => model)
    },
    known: (modelId) => known(modelId),
    watch: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: async () => {
      stopped.abort()
      gossip?.close()
      unwatch()
      await service?.close()
    },
  }
}

/**
 * Whether a server is one of the few that bring the record of their model to the list of all models. Servers know each
 * other by gossip and count alike. Pure.
 */
export function isSpeaker(peerId: string, servers: readonly string[]): boolean {
  const own = rank(peerId, 0)
  return servers.filter((other) => rank(other, 0) < own).length < MODEL_SPEAKERS
}

function recordOf(
  store: RecordStore,
  modelId: string,
  peerId: string,
  now: number,
): ServerRecord | undefined {
  return store.ofModel(modelId, now).find(({ record }) => record.peerId === peerId)?.record
}

function isNews(old: ServerRecord | undefined, record: ServerRecord): boolean {
  if (old === undefined || old.expiresAt <= record.issuedAt) return true
  const { intent } = record
  return (
    NEWS.some((field) => old[field] !== record[field]) ||
    old.intent?.start !== intent?.start ||
    old.intent?.end !== intent?.end ||
    old.addrs.join() !== record.addrs.join()
  )
}

function modelKey(modelId: string): string {
  return `chorale:model:${modelId}`
}

/** Runs `task` for all peers at once; done when all are, or `STRAGGLERS_MS` after the first that succeeded. */
async function settleSoon(
  peers: readonly string[],
  task: (peerId: string) => Promise<void>,
  onError: (peerId: string, error: unknown) => void,
): Promise<void> {
  if (peers.length === 0) return
  let timer: ReturnType<typeof setTimeout> | undefined
  await new Promise<void>((resolve) => {
    let open = peers.length
    for (const id of peers) {
      task(id)
        .then(() => {
          timer ??= setTimeout(resolve, STRAGGLERS_MS)
          return undefined
        })
        .catch((error: unknown) => {
          if (errorCode(error) !== 'cancelled') onError(id, error)
        })
        .finally(() => {
          if (--open === 0) resolve()
        })
    }
  })
  clearTimeout(timer)
}
