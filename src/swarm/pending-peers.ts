/** Connected peers that are not admitted yet: few, and for a short time only. */
export interface PendingPeers {
  readonly size: number
  /** Lets a peer wait for its admission. @returns why it may not. */
  enter(peerId: string): string | undefined
  /** It was admitted, or left by itself. */
  leave(peerId: string): void
  /** Notes a pass that was no good. */
  strike(peerId: string): void
  close(): void
}

export interface PendingPeersOptions {
  /** Peers that may wait at once. Stops a crowd without stake from taking all connections. */
  readonly max: number
  /** How long one may wait, in milliseconds. */
  readonly waitMs: number
  /** Called for a peer whose time is over. */
  readonly onLate: (peerId: string) => void
}

/** One that was cut comes back after this long: the slots are for others meanwhile. */
const AWAY_MS = 10_000
/** Peers remembered as cut. */
const MAX_AWAY = 4096
/** Bad passes before a waiting peer is cut: each costs a check of a signature. */
const MAX_STRIKES = 3

/** Nobody waits yet. */
export function createPendingPeers({ max, waitMs, onLate }: PendingPeersOptions): PendingPeers {
  const waiting = new Map<string, { readonly timer: ReturnType<typeof setTimeout>; strikes: number }>()
  const away = new Map<string, number>()

  const leave = (peerId: string): void => {
    clearTimeout(waiting.get(peerId)?.timer)
    waiting.delete(peerId)
  }
  const cut = (peerId: string): void => {
    leave(peerId)
    away.delete(peerId)
    if (away.size >= MAX_AWAY) for (const oldest of away.keys()) if (away.delete(oldest)) break
    away.set(peerId, Date.now() + AWAY_MS)
    onLate(peerId)
  }

  return {
    get size() {
      return waiting.size
    },
    enter: (peerId) => {
      const until = away.get(peerId)
      if (until !== undefined) {
        if (until > Date.now()) return 'it was cut shortly ago, without a pass'
        away.delete(peerId)
      }
      if (waiting.has(peerId)) return undefined
      if (waiting.size >= max) return `${waiting.size} peers wait for admission already`
      waiting.set(peerId, { timer: setTimeout(() => cut(peerId), waitMs), strikes: 0 })
      return undefined
    },
    leave,
    strike: (peerId) => {
      const entry = waiting.get(peerId)
      if (entry && ++entry.strikes >= MAX_STRIKES) cut(peerId)
    },
    close: () => {
      for (const { timer } of waiting.values()) clearTimeout(timer)
      waiting.clear()
    },
  }
}
