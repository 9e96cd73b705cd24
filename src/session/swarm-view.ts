import type { BanOptions, Bans } from '../routing/bans.ts'
import { bannedUntil, banPeer, forgivePeer, noBans, skipPeer } from '../routing/bans.ts'
import type { ModelRecord, PeerMeasure, ServerRecord, Snapshot } from '../routing/snapshot.ts'
import type { Directory } from './directory.ts'
import { raceDeadline } from './race-signal.ts'

/** What one client knows of a model's servers: the directory's records, its own measures and its own bans. */
export interface SwarmView {
  /**
   * The picture to route by. Records younger than `maxAgeMs` are not asked for again; a directory that fails leaves
   * the last ones in use. Those younger than `staleMs` are used at once, and asked for again behind the caller's back.
   * @throws the directory's error when there are none, `timeout` when it does not answer.
   */
  snapshot(options?: { maxAgeMs?: number; staleMs?: number; lastResort?: boolean }): Promise<Snapshot>
  ban(peer: string, options?: BanOptions): void
  /** Leaves the peer out for a second. */
  skip(peer: string): void
  /** Forgets the peer's failures, unless it is banned right now: another session knows something newer. */
  forgive(peer: string): void
  /** When the ban of `peer` ends, ms since the epoch; undefined when it has none. */
  banEnds(peer: string): number | undefined
}

/** A directory walks a DHT: a few seconds are normal, more means that it hangs. */
const DIRECTORY_MS = 10_000

/** @param clock milliseconds since the epoch, on the scale of the records' `expiresAt`. */
export function createSwarmView(
  model: Pick<ModelRecord, 'modelId' | 'blockCount'>,
  directory: Directory,
  measures: () => ReadonlyMap<string, PeerMeasure>,
  clock: () => number,
): SwarmView {
  let bans: Bans = noBans
  let servers: readonly ServerRecord[] = []
  let fetchedAt = -Infinity
  let behind: Promise<void> | undefined

  async function refresh(): Promise<void> {
    const asked = clock()
    const stop = new AbortController()
    try {
      const walk = directory.servers(model.modelId, stop.signal)
      servers = await raceDeadline(walk, DIRECTORY_MS, 'the directory gave no answer')
      fetchedAt = asked
    } catch (error) {
      stop.abort()
      if (servers.length === 0) throw error
    }
  }

  return {
    async snapshot({ maxAgeMs = 0, staleMs = maxAgeMs, lastResort = false } = {}) {
      const age = clock() - fetchedAt
      if (age > (servers.length > 0 ? staleMs : maxAgeMs) || fetchedAt === -Infinity) await refresh()
      else if (age > maxAgeMs) behind ??= refresh().finally(() => (behind = undefined))
      const now = clock()
      return {
        blockCount: model.blockCount,
        servers,
        measures: measures(),
        bannedUntil: bannedUntil(bans, now, { lastResort }),
        now,
      }
    },
    ban: (peer, options) => {
      bans = banPeer(bans, peer, clock(), options)
    },
    skip: (peer) => {
      bans = skipPeer(bans, peer, clock())
    },
    forgive: (peer) => {
      const ban = bans.get(peer)
      if (ban && ban.until <= clock()) bans = forgivePeer(bans, peer)
    },
    banEnds: (peer) => bans.get(peer)?.until,
  }
}
