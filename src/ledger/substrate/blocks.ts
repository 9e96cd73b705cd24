import { ChoraleError, errorMessage } from '../../errors.ts'
import type { Logger } from '../../log.ts'
import type { LedgerBlock, LedgerEvent } from '../ledger.ts'
import { readEvents } from './events.ts'
import { type Header, readHash, readHeader } from './header.ts'
import { fromHex, toHex } from '../hex.ts'
import type { Node } from './reconnecting.ts'
import type { Runtimes } from './runtimes.ts'
import { storagePrefix } from './storage-keys.ts'

/** Every best block once, in order. */
export interface Blocks {
  /** Calls back with decoded events, starting with the next block. */
  watch(listener: (block: LedgerBlock) => void): () => void
  /** Calls back with headers alone. */
  watchHeaders(listener: (header: Header) => Promise<void> | void): () => void
  /** Calls back with the number of a newly finalized block. */
  watchFinalized(listener: (header: Header) => void): () => void
  /** The best and the finalized header as last heard. */
  readonly best: Header
  readonly finalized: Header
  /** Events of one block. */
  events(hash: string): Promise<readonly LedgerEvent[]>
  close(): void
}

/** Blocks that are made up for after an interruption or a reorg; older ones are skipped, and the gap shows in `parentHash`. */
export const MAX_GAP = 2048
/** Hashes of delivered blocks kept to find where a branch leaves. */
const MAX_KNOWN = 2 * MAX_GAP
/** Pause after a block that could not be read. */
const RETRY_MS = 500
const EVENTS_KEY = toHex(storagePrefix({ prefix: 'System', name: 'Events' }))

/** Follows the node's best and finalized blocks over reconnects. */
export async function followBlocks(node: Node, runtimes: Runtimes, log: Logger): Promise<Blocks> {
  const listeners = new Set<(block: LedgerBlock) => void>()
  const headerListeners = new Set<(header: Header) => Promise<void> | void>()
  const finalizedListeners = new Set<(header: Header) => void>()
  const known = new Set<string>()
  const ownHashes = await hashesLikeUs(node)
  let best = await header(undefined)
  let finalized = await header(readHash(await node.ask('chain_getFinalizedHead')))
  remember(best.hash)
  /** One block after the other, whatever arrives meanwhile; only the newest head waits. */
  let waiting: Header | undefined
  let busy = false
  let retry: ReturnType<typeof setTimeout> | undefined
  let stopped = false

  async function header(hash: string | undefined): Promise<Header> {
    const raw = await node.ask('chain_getHeader', hash === undefined ? [] : [hash])
    return named(readHeader(raw), hash)
  }

  /** On a chain that hashes otherwise than Blake2-256 the node is asked what it calls the block. */
  async function named(read: Header, hash: string | undefined): Promise<Header> {
    if (hash !== undefined) return { ...read, hash }
    if (ownHashes) return read
    return { ...read, hash: readHash(await node.ask('chain_getBlockHash', [read.number])) }
  }

  function remember(hash: string): void {
    known.add(hash)
    if (known.size > MAX_KNOWN) for (const oldest of known) return void known.delete(oldest)
  }

  async function advance(): Promise<void> {
    if (busy) return
    busy = true
    clearTimeout(retry)
    let missed: Header | undefined
    try {
      // oxlint-disable-next-line no-unmodified-loop-condition -- close() sets it during the waits
      while (waiting !== undefined && !stopped) {
        const head = waiting
        missed = head
        waiting = undefined
        for (const next of await pathTo(head)) {
          if (stopped) return
          await deliver(next)
        }
      }
    } catch (error) {
      // What was not delivered is not marked as seen: this try or the next head leads there again.
      log.warn('blocks of the ledger could not be followed', { reason: errorMessage(error) })
      retry = setTimeout(() => {
        waiting ??= missed
        void advance()
      }, RETRY_MS)
    } finally {
      busy = false
    }
  }

  /** Headers from the first one not delivered yet up to `head`. */
  async function pathTo(head: Header): Promise<Header[]> {
    if (known.has(head.hash) && head.hash === best.hash) return []
    const path = [head]
    let first = head
    while (!known.has(first.parentHash) && first.number > 1 && path.length < MAX_GAP) {
      first = await header(first.parentHash)
      path.push(first)
    }
    return path.reverse()
  }

  async function deliver(next: Header): Promise<void> {
    if (next.newRuntime) await runtimes.refresh()
    if (listeners.size > 0) {
      const block = {
        number: next.number,
        hash: next.hash,
        parentHash: next.parentHash,
        events: await events(next.hash, next.parentHash),
      }
      for (const listener of listeners) told(() => listener(block))
    }
    best = next
    remember(next.hash)
    for (const listener of headerListeners) await listener(next)
  }

  /** A listener's fault must neither stop the others nor the blocks. */
  function told(tell: () => void): void {
    try {
      tell()
    } catch (error) {
      log.error('a listener of ledger blocks failed', { reason: errorMessage(error) })
    }
  }

  /** A block's events are written by the runtime of its parent's state. */
  async function events(hash: string, parentHash?: string): Promise<readonly LedgerEvent[]> {
    const parent = parentHash ?? (await header(hash)).parentHash
    const codec = await runtimes.at(parent)
    const raw = await node.ask('state_getStorage', [EVENTS_KEY, hash])
    return raw === null || raw === undefined ? [] : readEvents(codec, fromHex(raw, 'events'))
  }

  const stopFollowing = node.onConnection((connection) => {
    const heads = { subscribe: 'chain_subscribeNewHeads', unsubscribe: 'chain_unsubscribeNewHeads' }
    const final = {
      subscribe: 'chain_subscribeFinalizedHeads',
      unsubscribe: 'chain_unsubscribeFinalizedHeads',
    }
    const subscribed = Promise.all([
      connection.subscribe(heads, [], (raw) => {
        void named(readHeader(raw), undefined)
          .then((head) => {
            waiting = head
            return advance()
          })
          .catch(() => undefined)
      }),
      connection.subscribe(final, [], (raw) => {
        void named(readHeader(raw), undefined)
          .then((head) => {
            finalized = head
            for (const listener of finalizedListeners) listener(head)
            return undefined
          })
          .catch(() => undefined)
      }),
    ])
    subscribed.catch((error: unknown) => connection.close(errorMessage(error)))
  })

  return {
    watch: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    watchHeaders: (listener) => {
      headerListeners.add(listener)
      return () => headerListeners.delete(listener)
    },
    watchFinalized: (listener) => {
      finalizedListeners.add(listener)
      return () => finalizedListeners.delete(listener)
    },
    get best() {
      return best
    },
    get finalized() {
      return finalized
    },
    events: (hash) => events(hash),
    close: () => {
      stopped = true
      clearTimeout(retry)
      stopFollowing()
      listeners.clear()
      headerListeners.clear()
      finalizedListeners.clear()
    },
  }
}

/** Whether the hash of the genesis header is its Blake2-256. */
async function hashesLikeUs(node: Node): Promise<boolean> {
  const genesis = readHash(await node.ask('chain_getBlockHash', [0]))
  const raw = await node.ask('chain_getHeader', [genesis])
  if (raw === null) throw new ChoraleError('ledger', 'the node has no genesis header')
  return readHeader(raw).hash === genesis
}
