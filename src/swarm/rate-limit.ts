/** Token buckets, one a key: what is asked for too often is told when to come again. */
export interface RateLimit {
  /**
   * Takes one from the bucket of `key`, which fills at `perSecond` up to `burst`.
   * @returns 0 when there was one, otherwise the milliseconds until there is; nothing is taken then.
   */
  take(key: string, perSecond: number, burst: number): number
  /** Takes one even where there is none. @returns the milliseconds until the debt is paid. */
  owe(key: string, perSecond: number, burst: number): number
  readonly size: number
}

/** Buckets kept. Only admitted peers get one, so the least recently used is somebody who asks for nothing. */
const MAX_BUCKETS = 8192

interface Bucket {
  left: number
  at: number
}

/** No buckets yet; a new one is full. `now` in milliseconds of a clock that never runs back. */
export function createRateLimit(now: () => number, maxBuckets: number = MAX_BUCKETS): RateLimit {
  const buckets = new Map<string, Bucket>()

  const filled = (key: string, perSecond: number, burst: number): Bucket => {
    const at = now()
    const known = buckets.get(key)
    if (known) {
      known.left = Math.min(burst, known.left + ((at - known.at) / 1000) * perSecond)
      known.at = at
      return known
    }
    if (buckets.size >= maxBuckets) dropFullest()
    const fresh = { left: burst, at }
    buckets.set(key, fresh)
    return fresh
  }

  /** Of the oldest few the one that was used longest ago: exact order would cost a list on every message. */
  const dropFullest = (): void => {
    let oldest: string | undefined
    let looked = 0
    for (const [key, { at }] of buckets) {
      if (oldest === undefined || at < buckets.get(oldest)!.at) oldest = key
      if (++looked === 8) break
    }
    if (oldest !== undefined) buckets.delete(oldest)
  }

  return {
    take: (key, perSecond, burst) => {
      const bucket = filled(key, perSecond, burst)
      if (bucket.left < 1) return ((1 - bucket.left) / perSecond) * 1000
      bucket.left--
      return 0
    },
    owe: (key, perSecond, burst) => {
      const bucket = filled(key, perSecond, burst)
      bucket.left--
      return bucket.left >= 0 ? 0 : (-bucket.left / perSecond) * 1000
    },
    get size() {
      return buckets.size
    },
  }
}
