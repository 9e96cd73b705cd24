import { createRateLimit } from './rate-limit.ts'

/**
 * Who is not listened to for a while. gossipsub forgets a score within a minute, and at once when the peer comes back on a
 * new connection; this is kept by peer id alone.
 */
export interface Mutes {
  has(peerId: string): boolean
  /** Notes a message that was wrong for everybody: the third within about a minute mutes the peer. */
  strike(peerId: string): void
}

/** Long enough that lies cost their publisher its part in an epoch's news, short enough to mend a bad version. */
export const MUTE_MS = 10 * 60_000
const STRIKES = 3
const STRIKES_PER_SECOND = 1 / 60
/** Only peers with stake get so far as to be muted; the ones muted longest ago make room. */
const MAX_MUTED = 4_096

/** Nobody is muted yet. `now` in milliseconds of a clock that never runs back. */
export function createMutes(now: () => number): Mutes {
  const until = new Map<string, number>()
  const strikes = createRateLimit(now)
  const mute = (peerId: string): void => {
    until.delete(peerId)
    const [oldest] = until.keys()
    if (until.size >= MAX_MUTED && oldest !== undefined) until.delete(oldest)
    until.set(peerId, now() + MUTE_MS)
  }
  return {
    has: (peerId) => {
      const end = until.get(peerId)
      if (end === undefined || end > now()) return end !== undefined
      until.delete(peerId)
      return false
    },
    strike: (peerId) => {
      if (strikes.take(peerId, STRIKES_PER_SECOND, STRIKES - 1) > 0) mute(peerId)
    },
  }
}
