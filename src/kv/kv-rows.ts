import { ChoraleError } from '../errors.ts'
import type { KvLease } from './lease.ts'

/** Tokens [from, to) of the blocks [start, end). */
export interface KvRange {
  readonly start: number
  readonly end: number
  readonly from: number
  readonly to: number
}

/**
 * A span's keys and values in the layout that all engines share, so that another machine may go on with a session.
 *
 * Rows of a range are [blocks][keys, values][tokens, kvHeads, headDim] in float32, keys normed and rotated as attention
 * reads them. Reading and writing change no bit where both caches have the same precision.
 */
export interface KvRows {
  /** What the cache keeps: float32 that was kept as `f16` is another number. */
  readonly precision: 'f32' | 'f16'
  /** Values of one token's keys, and of its values, in one block: kvHeads * headDim. */
  readonly width: number
  /** @throws `bad_request` for tokens or blocks that the lease does not hold. */
  read(lease: KvLease, range: KvRange): Float32Array | Promise<Float32Array>
  /**
   * Writes tokens behind the lease's position, which stays; any range in any order, before `advance`. Not during a step of
   * the lease. NOT checked: that the numbers are right. @throws `bad_request`, `not_supported` for a range that the cache
   * can't take.
   */
  write(lease: KvLease, range: KvRange, rows: Float32Array): void
  /** Counts everything before `position` as written. @throws `bad_request` when the lease has no room or is beyond. */
  advance(lease: KvLease, position: number): void
}

/** Values of a range's rows. */
export function kvValues({ start, end, from, to }: KvRange, width: number): number {
  return 2 * (end - start) * (to - from) * width
}

/** What an engine says of its cache. */
export interface KvRowsPlaces<Lease extends KvLease & { readonly released: boolean }> {
  readonly precision: KvRows['precision']
  readonly width: number
  /** The span's blocks. */
  readonly start: number
  readonly end: number
  readonly leases: { get(key: KvLease): Lease | undefined }
  /** Makes room for the tokens before `position`. */
  readonly reserve: (lease: Lease, position: number) => void
  /** Counts the tokens before `position` as written. */
  readonly advance: (lease: Lease, position: number) => void
  readonly read: (lease: Lease, range: KvRange, rows: Float32Array) => void | Promise<void>
  readonly write: (lease: Lease, range: KvRange, rows: Float32Array) => void
}

/** Checks ranges before an engine's cache is touched: all refuse the same ones in the same words. */
export function createKvRows<Lease extends KvLease & { readonly released: boolean }>(
  places: KvRowsPlaces<Lease>,
): KvRows {
  const { precision, width } = places

  const known = (key: KvLease): Lease => {
    const lease = places.leases.get(key)
    if (lease === undefined || lease.released) {
      throw new ChoraleError('bad_request', 'the KV lease belongs to another span or was released')
    }
    return lease
  }
  const check = (range: KvRange, first: number, last: number): void => {
    const { start, end, from, to } = range
    const whole = [start, end, from, to].every((value) => Number.isSafeInteger(value))
    if (!whole || start < places.start || end > places.end || start >= end) {
      throw new ChoraleError(
        'bad_request',
        `blocks ${start}:${end} are not among this span's ${places.start}:${places.end}`,
      )
    }
    if (from < first || to > last || from >= to) {
      throw new ChoraleError('bad_request', `tokens ${from}:${to} are not among ${first}:${last}`)
    }
  }

  return {
    precision,
    width,
    read(key, range) {
      const lease = known(key)
      check(range, 0, lease.position)
      const rows = new Float32Array(kvValues(range, width))
      const done = places.read(lease, range, rows)
      return done instanceof Promise ? done.then(() => rows) : rows
    },
    write(key, range, rows) {
      const lease = known(key)
      check(range, lease.position, lease.maxTokens)
      if (rows.length !== kvValues(range, width)) {
        throw new ChoraleError(
          'bad_request',
          `${rows.length} values for a range of ${kvValues(range, width)}`,
        )
      }
      places.reserve(lease, range.to)
      places.write(lease, range, rows)
    },
    advance(key, position) {
      const lease = known(key)
      if (!Number.isSafeInteger(position) || position < lease.position || position > lease.maxTokens) {
        throw new ChoraleError(
          'bad_request',
          `can't go on to token ${position}: the session holds ${lease.position} of ${lease.maxTokens}`,
        )
      }
      places.reserve(lease, position)
      places.advance(lease, position)
    },
  }
}

/** Calls `visit` for keys (0) and values (1) of each block of a range, with where their rows begin. */
export function eachKvPart(
  { start, end, from, to }: KvRange,
  width: number,
  visit: (block: number, part: 0 | 1, at: number) => void,
): void {
  const size = (to - from) * width
  for (let block = start; block < end; block++) {
    const at = 2 * (block - start) * size
    visit(block, 0, at)
    visit(block, 1, at + size)
  }
}
