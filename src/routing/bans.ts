/**
 * Which servers a client keeps away from, and for how long. Pure: every function returns a new list.
 *
 * A ban is this client's own opinion and nobody else's: it costs the server nothing but this client's sessions.
 */

/** What a client remembers of one server's failures. */
export interface Ban {
  /** Failures in a row, at least 1 for a ban; 0 for a mere refusal. */
  readonly failures: number
  /** When the latest failure was noticed, ms since the epoch. */
  readonly since: number
  /** When the server may be used again, ms since the epoch. */
  readonly until: number
}

export type Bans = ReadonlyMap<string, Ban>

export const noBans: Bans = new Map()

export interface BanOptions {
  /** First ban; each further failure in a row doubles it. */
  readonly baseMs?: number
  readonly maxMs?: number
}

/** Long enough that a crashed server is not asked again by the same step, short enough for a restart. */
const BASE_MS = 2_000
/** A server that fails for hours is still tried every two minutes, so that its recovery is noticed. */
const MAX_MS = 120_000
/** A full server is asked again soon: sessions end every few seconds. */
const REFUSED_MS = 1_000
/** Even as a last resort a server is left alone this long after a failure, or a dead one would be asked in a busy loop. */
const LAST_RESORT_MS = 1_000

/** Peer ids cost a swarm of liars nothing: beyond this many, bans that ended are dropped. */
const MAX_REMEMBERED = 4_096

/** The list after `peer` failed at `now`: its ban is twice the one before, up to `maxMs`. Never shortens a ban. */
export function banPeer(bans: Bans, peer: string, now: number, options: BanOptions = {}): Bans {
  const { baseMs = BASE_MS, maxMs = MAX_MS } = options
  const before = bans.get(peer)
  const failures = (before?.failures ?? 0) + 1
  // 2 ** 30 × the base is beyond any maximum; the bound keeps the power finite.
  const duration = Math.min(baseMs * 2 ** Math.min(failures - 1, 30), maxMs)
  const until = Math.max(before?.until ?? 0, now + duration)
  return remember(bans, peer, { failures, since: now, until }, now)
}

/** The list after `peer` refused a session for want of room: it is skipped for a second and nothing is held against it. */
export function skipPeer(bans: Bans, peer: string, now: number): Bans {
  const before = bans.get(peer)
  const until = Math.max(before?.until ?? 0, now + REFUSED_MS)
  return remember(bans, peer, { failures: before?.failures ?? 0, since: now, until }, now)
}

function remember(bans: Bans, peer: string, ban: Ban, now: number): Bans {
  const known = bans.size < MAX_REMEMBERED ? bans : [...bans].filter(([, { until }]) => until > now)
  return new Map(known).set(peer, ban)
}

/** The list after `peer` worked well: its failures are forgotten. */
export function forgivePeer(bans: Bans, peer: string): Bans {
  if (!bans.has(peer)) return bans
  const left = new Map(bans)
  left.delete(peer)
  return left
}

/**
 * When each ban ends, for `Snapshot.bannedUntil`; ended ones are left out.
 *
 * With `lastResort` only failures of the last second count: when nobody else serves a block, a server that failed
 * a while ago is better than no answer.
 */
export function bannedUntil(
  bans: Bans,
  now: number,
  options: { lastResort?: boolean } = {},
): ReadonlyMap<string, number> {
  const active = new Map<string, number>()
  for (const [peer, ban] of bans) {
    const until = options.lastResort ? Math.min(ban.until, ban.since + LAST_RESORT_MS) : ban.until
    if (until > now) active.set(peer, until)
  }
  return active
}
