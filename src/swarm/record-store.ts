import { ChoraleError } from '../errors.ts'
import { MAX_RECORDS_PER_PEER, MAX_STORED_RECORDS } from '../protocol/limits.ts'
import type { Announcement } from '../protocol/records.ts'

/** A verified record with the bytes it came in, to be handed on unchanged. */
export interface StoredRecord extends Announcement {
  readonly bytes: Uint8Array
}

/** Verified server records in memory: one a peer and model, the newest, until it expires. */
export interface RecordStore {
  readonly size: number
  /**
   * Keeps a record unless a newer one of the same peer and model is known. Whether it was kept.
   * NOT checked: the signature; only verified records may come here.
   * @throws `limit` when the store or the peer's share is full.
   */
  put(entry: StoredRecord, now: number): boolean
  /** Unexpired records of a model, also of servers that left, so that the news spreads. */
  ofModel(modelId: string, now: number): StoredRecord[]
  /** One unexpired record of every model, the newest. */
  ofEachModel(now: number): StoredRecord[]
}

/** An empty store. `limits` are parameters for tests. */
export function createRecordStore(
  limits: { readonly records: number; readonly perPeer: number } = {
    records: MAX_STORED_RECORDS,
    perPeer: MAX_RECORDS_PER_PEER,
  },
): RecordStore {
  const byPeer = new Map<string, Map<string, StoredRecord>>()
  let size = 0

  const dropExpired = (now: number): void => {
    for (const [peerId, records] of byPeer) {
      for (const [modelId, { record }] of records) {
        if (record.expiresAt > now) continue
        records.delete(modelId)
        size--
      }
      if (records.size === 0) byPeer.delete(peerId)
    }
  }
  const live = function* (now: number): Generator<StoredRecord, void, void> {
    for (const records of byPeer.values()) {
      for (const entry of records.values()) if (entry.record.expiresAt > now) yield entry
    }
  }

  return {
    get size() {
      return size
    },
    put: (entry, now) => {
      const { peerId, modelId, issuedAt } = entry.record
      const known = byPeer.get(peerId)?.get(modelId)
      if (known !== undefined) {
        if (known.record.issuedAt >= issuedAt) return false
        byPeer.get(peerId)!.set(modelId, entry)
        return true
      }
      if (size >= limits.records || (byPeer.get(peerId)?.size ?? 0) >= limits.perPeer) dropExpired(now)
      if (size >= limits.records) {
        throw new ChoraleError('limit', `this directory is full with ${size} records`)
      }
      const records = byPeer.get(peerId) ?? new Map<string, StoredRecord>()
      if (records.size >= limits.perPeer) {
        throw new ChoraleError('limit', `peer ${peerId} is listed for ${records.size} models already`)
      }
      byPeer.set(peerId, records.set(modelId, entry))
      size++
      return true
    },
    ofModel: (modelId, now) => [...live(now)].filter(({ record }) => record.modelId === modelId),
    ofEachModel: (now) => {
      const newest = new Map<string, StoredRecord>()
      for (const entry of live(now)) {
        const known = newest.get(entry.record.modelId)
        if (known === undefined || known.record.issuedAt < entry.record.issuedAt) {
          newest.set(entry.record.modelId, entry)
        }
      }
      return [...newest.values()]
    },
  }
}
