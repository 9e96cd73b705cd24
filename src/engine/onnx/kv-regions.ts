import { ChoraleError } from '../../errors.ts'
import type { KvLease } from '../../kv/lease.ts'

/**
 * A lease whose tokens lie in one piece: rows [offset, offset + capacity) of the cache.
 * `offset` may change between steps, when regions are moved together.
 */
export interface KvRegion extends KvLease {
  readonly offset: number
  /** Rows: one more than `maxTokens`, for the filler row of a one-token step. */
  readonly capacity: number
  readonly released: boolean
  /** Counts `tokens` as written. The caller has checked that they fit. */
  advance(tokens: number): void
}

/** Sessions at once in one span; bounds the rows set aside for filler. A CPU that runs WebAssembly serves far fewer. */
export const MAX_REGIONS = 64

interface Region {
  offset: number
  readonly capacity: number
}

/**
 * Hands out contiguous regions of a preallocated cache. When room is there but in pieces, regions are moved
 * together, so a lease is refused only when the tokens are really taken.
 */
export class KvRegions {
  readonly tokens: number
  /** Rows the cache must have. */
  readonly rows: number
  readonly #regions: Region[] = []
  readonly #move: (target: number, source: number, rows: number) => void

  /**
   * @param move copies rows inside the cache; ranges may overlap.
   * @throws `bad_request` unless `tokens` is a positive integer.
   */
  constructor(tokens: number, move: (target: number, source: number, rows: number) => void) {
    if (!Number.isSafeInteger(tokens) || tokens < 1) {
      throw new ChoraleError('bad_request', `a KV cache needs a positive number of tokens, got ${tokens}`)
    }
    this.tokens = tokens
    this.rows = tokens + Math.min(tokens, MAX_REGIONS)
    this.#move = move
  }

  get freeTokens(): number {
    let taken = 0
    for (const region of this.#regions) taken += region.capacity - 1
    return this.tokens - taken
  }

  /** @throws `capacity` when fewer than `maxTokens` tokens are free, `bad_request` for a senseless count. */
  lease(maxTokens: number): KvRegion {
    if (!Number.isSafeInteger(maxTokens) || maxTokens < 1) {
      throw new ChoraleError('bad_request', `a lease needs a positive number of tokens, got ${maxTokens}`)
    }
    if (maxTokens > this.freeTokens) {
      throw new ChoraleError(
        'capacity',
        `KV cache full: ${maxTokens} tokens asked, ${this.freeTokens} of ${this.tokens} free; try again later or ask for a shorter session`,
      )
    }
    if (this.#regions.length >= MAX_REGIONS) {
      throw new ChoraleError(
        'capacity',
        `${MAX_REGIONS} sessions are open, the most one span holds; try again later`,
      )
    }
    const capacity = maxTokens + 1
    const region: Region = { offset: this.#place(capacity), capacity }
    this.#regions.push(region)
    this.#regions.sort((a, b) => a.offset - b.offset)
    return this.#open(region, maxTokens)
  }

  /** The lowest gap of `capacity` rows; there is one at the end once regions are moved together. */
  #place(capacity: number): number {
    let end = 0
    for (const region of this.#regions) {
      if (region.offset - end >= capacity) return end
      end = region.offset + region.capacity
    }
    if (this.rows - end >= capacity) return end
    let packed = 0
    for (const region of this.#regions) {
      if (region.offset > packed) this.#move(packed, region.offset, region.capacity)
      region.offset = packed
      packed += region.capacity
    }
    return packed
  }

  #open(region: Region, maxTokens: number): KvRegion {
    const regions = this.#regions
    let position = 0
    let released = false
    return {
      maxTokens,
      capacity: region.capacity,
      get offset() {
        return region.offset
      },
      get position() {
        return position
      },
      get released() {
        return released
      },
      advance(tokens) {
        position += tokens
      },
      rollback(target) {
        if (!Number.isSafeInteger(target) || target < 0 || target > position) {
          throw new ChoraleError(
            'bad_request',
            `can't roll back to token ${target}: the session holds ${position}`,
          )
        }
        position = target
      },
      release() {
        if (released) return
        released = true
        regions.splice(regions.indexOf(region), 1)
      },
    }
  }
}
