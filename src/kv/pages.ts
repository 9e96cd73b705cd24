import { ChoraleError } from '../errors.ts'
import type { KvLease } from './lease.ts'

/** Tokens a page holds. Small enough that a short chat wastes little, large enough that tables stay short. */
export const PAGE_TOKENS = 16

/** A lease whose tokens live in pages: token t is row `pages[t >> 4] * 16 + (t & 15)` of the cache. */
export interface PagedLease extends KvLease {
  readonly pages: Int32Array
  /** Counts `tokens` as written. The caller has checked that they fit. */
  advance(tokens: number): void
  readonly released: boolean
}

/**
 * Hands out pages of a preallocated KV cache. Any free page serves any lease, so a cache never refuses for
 * fragmentation while it has room.
 *
 * Not checked: that a lease is used by one session only.
 */
export class PagePool {
  readonly tokens: number
  readonly #free: number[]

  /** @param kvTokens capacity; rounded up to whole pages. @throws `bad_request` unless it is a positive integer. */
  constructor(kvTokens: number) {
    const pages = Math.ceil(kvTokens / PAGE_TOKENS)
    if (!Number.isSafeInteger(kvTokens) || pages < 1) {
      throw new ChoraleError('bad_request', `a KV cache needs a positive number of tokens, got ${kvTokens}`)
    }
    this.tokens = pages * PAGE_TOKENS
    // Popped from the end: the lowest page goes out first.
    this.#free = Array.from({ length: pages }, (_, index) => pages - 1 - index)
  }

  get freeTokens(): number {
    return this.#free.length * PAGE_TOKENS
  }

  /** @throws `capacity` when fewer than `maxTokens` tokens are free, `bad_request` for a senseless count. */
  lease(maxTokens: number): PagedLease {
    if (!Number.isSafeInteger(maxTokens) || maxTokens < 1) {
      throw new ChoraleError('bad_request', `a lease needs a positive number of tokens, got ${maxTokens}`)
    }
    const needed = Math.ceil(maxTokens / PAGE_TOKENS)
    if (needed > this.#free.length) {
      throw new ChoraleError(
        'capacity',
        `KV cache full: ${maxTokens} tokens asked, ${this.freeTokens} of ${this.tokens} free; try again later or ask for a shorter session`,
      )
    }
    const pages = Int32Array.from({ length: needed }, () => this.#free.pop() ?? 0)
    let position = 0
    let released = false
    const free = this.#free
    return {
      maxTokens,
      pages,
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
        for (let index = pages.length - 1; index >= 0; index--) free.push(pages[index] ?? 0)
      },
    }
  }
}

/** @throws `capacity` when `tokens` more would pass the lease, `bad_request` when it was released. */
export function checkLeaseRoom(lease: PagedLease, tokens: number): void {
  if (lease.released) throw new ChoraleError('bad_request', 'the KV lease was already released')
  if (lease.position + tokens > lease.maxTokens) {
    throw new ChoraleError(
      'capacity',
      `the session's KV lease of ${lease.maxTokens} tokens is full: it holds ${lease.position} and the step brings ${tokens}`,
    )
  }
}
