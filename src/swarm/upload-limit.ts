import { PIECE_BYTES } from '../model/blob.ts'

/** What a peer gives away of its line and its memory for others' weights. */
export interface UploadLimits {
  /** To all together. */
  readonly bytesPerSecond: number
  /** To one peer. */
  readonly peerBytesPerMinute: number
  /** Answers under way to all together, each with a piece in memory. */
  readonly answers: number
  /** Of these, to one peer. */
  readonly peerAnswers: number
}

/** Limits for a line that may give `bytesPerSecond`: one peer gets three quarters of it at most. */
export function uploadLimits(bytesPerSecond: number): UploadLimits {
  return { bytesPerSecond, peerBytesPerMinute: bytesPerSecond * 45, answers: 32, peerAnswers: 8 }
}

/** Bytes that may go out. */
export interface UploadBudget {
  /** Takes `bytes` for `peerId`. @returns 0, or the milliseconds until there is room; nothing is taken then. */
  take(peerId: string, bytes: number): number
  /** Gives back what was taken and not sent. */
  giveBack(peerId: string, bytes: number): void
}

/** Peers with a bucket of their own. Above, the one that asked longest ago starts anew. */
const MAX_PEERS = 4_096

interface Bucket {
  left: number
  at: number
}

/**
 * Buckets that fill steadily and hold at most a second's, or a minute's for a peer, and never less than a piece.
 * @param now milliseconds of a clock that never runs back
 */
export function createUploadBudget(limits: UploadLimits, now: () => number): UploadBudget {
  const total = { perMs: limits.bytesPerSecond / 1_000, room: Math.max(PIECE_BYTES, limits.bytesPerSecond) }
  const each = {
    perMs: limits.peerBytesPerMinute / 60_000,
    room: Math.max(PIECE_BYTES, limits.peerBytesPerMinute),
  }
  const all: Bucket = { left: total.room, at: now() }
  const peers = new Map<string, Bucket>()

  const fill = (bucket: Bucket, { perMs, room }: typeof total): Bucket => {
    const at = now()
    bucket.left = Math.min(room, bucket.left + (at - bucket.at) * perMs)
    bucket.at = at
    return bucket
  }
  const bucketOf = (peerId: string): Bucket => {
    const bucket = peers.get(peerId) ?? { left: each.room, at: now() }
    // The order of a map is that of its insertions: the first one asked longest ago.
    peers.delete(peerId)
    peers.set(peerId, bucket)
    for (const oldest of peers.keys()) {
      if (peers.size <= MAX_PEERS) break
      peers.delete(oldest)
    }
    return fill(bucket, each)
  }
  /** A full bucket is enough for anything: it is in debt then. */
  const wait = (bucket: Bucket, bytes: number, { perMs, room }: typeof total): number =>
    Math.max(0, Math.ceil((Math.min(bytes, room) - bucket.left) / perMs))

  return {
    take: (peerId, bytes) => {
      const own = bucketOf(peerId)
      const waitMs = Math.max(wait(own, bytes, each), wait(fill(all, total), bytes, total))
      if (waitMs > 0) return waitMs
      own.left -= bytes
      all.left -= bytes
      return 0
    },
    giveBack: (peerId, bytes) => {
      all.left += bytes
      const own = peers.get(peerId)
      if (own !== undefined) own.left += bytes
    },
  }
}
