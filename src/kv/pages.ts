import { ChoraleError } from '../errors.ts'
import type { KvLease } from './lease.ts'
import type { SharedPages } from './shared-pages.ts'

/** Tokens a page holds. Small enough that a short chat wastes little, large enough that tables stay short. */
export const PAGE_TOKENS = 16

/** A lease whose tokens live in pages: token t is row `pages[t >> 4] * 16 + (t & 15)` of the cache. */
export interface PagedLease extends KvLease {
  /** One entry for every page of `maxTokens`; those behind the tokens that `reserve` was asked for mean nothing yet. */
  readonly pages: Int32Array
  /** Gives the next `tokens` tokens their pages. The caller has checked that they fit. */
  reserve(tokens: number): void
  /** Counts `tokens` as written. The caller has checked that they fit. */
  advance(tokens: number): void
  readonly released: boolean
}

interface LeaseState {
  readonly maxTokens: number
  readonly pages: Int32Array
  /** Leading entries of `pages` that are pages. */
  held: number
  position: number
  released: boolean
}

/**
 * Hands out pages of a preallocated KV cache. Any free page serves any lease, so a cache never refuses for
 * fragmentation while it has room.
 *
 * A lease is a promise of room; it gets pages as its tokens come. Leases together never hold more pages than they
 * were promised, because a page that several of them read counts once for each: so there is always a page for a
 * token with room, and kept pages (`share`) never make a lease fail.
 *
 * Not checked: that a lease is used by one session only.
 */
export class PagePool {
  readonly tokens: number
  readonly #free: number[]
  /** Leases that hold each page. */
  readonly #holders: Int32Array
  readonly #kept = new Set<number>()
  /** Kept pages that no lease holds; the one that was left first comes first. */
  readonly #idle = new Set<number>()
  readonly #leases = new WeakMap<KvLease, LeaseState>()
  /** Pages promised to open leases. */
  #promised = 0
  #copyPage: (from: number, to: number) => void = () => undefined
  #lost: (page: number) => void = () => undefined

  /** @param kvTokens capacity; rounded up to whole pages. @throws `bad_request` unless it is a positive integer. */
  constructor(kvTokens: number) {
    const pages = Math.ceil(kvTokens / PAGE_TOKENS)
    if (!Number.isSafeInteger(kvTokens) || pages < 1) {
      throw new ChoraleError('bad_request', `a KV cache needs a positive number of tokens, got ${kvTokens}`)
    }
    this.tokens = pages * PAGE_TOKENS
    this.#holders = new Int32Array(pages)
    // Popped from the end: the lowest page goes out first.
    this.#free = Array.from({ length: pages }, (_, index) => pages - 1 - index)
  }

  /** Tokens that leases may still ask for; room that only kept pages use is free. */
  get freeTokens(): number {
    return this.tokens - this.#promised * PAGE_TOKENS
  }

  /** @throws `capacity` when fewer than `maxTokens` tokens are free, `bad_request` for a senseless count. */
  lease(maxTokens: number): PagedLease {
    if (!Number.isSafeInteger(maxTokens) || maxTokens < 1) {
      throw new ChoraleError('bad_request', `a lease needs a positive number of tokens, got ${maxTokens}`)
    }
    const needed = Math.ceil(maxTokens / PAGE_TOKENS)
    if (needed * PAGE_TOKENS > this.freeTokens) {
      throw new ChoraleError(
        'capacity',
        `KV cache full: ${maxTokens} tokens asked, ${this.freeTokens} of ${this.tokens} free; try again later or ask for a shorter session`,
      )
    }
    this.#promised += needed
    const pages = new Int32Array(needed)
    const state: LeaseState = { maxTokens, pages, held: 0, position: 0, released: false }
    const reserve = (tokens: number): void => {
      while (state.held * PAGE_TOKENS < state.position + tokens) pages[state.held++] = this.#take()
    }
    const lease: PagedLease = {
      maxTokens,
      pages,
      get position() {
        return state.position
      },
      get released() {
        return state.released
      },
      reserve,
      advance(tokens) {
        reserve(tokens)
        state.position += tokens
      },
      rollback: (target) => this.#rollback(state, target),
      release: () => {
        if (state.released) return
        state.released = true
        while (state.held > 0) this.#drop(pages[--state.held] as number)
        this.#promised -= needed
      },
    }
    this.#leases.set(lease, state)
    return lease
  }

  /**
   * Lets pages outlive their leases.
   * @param copyPage copies the keys and values of all blocks from one page to another, before the next step runs.
   */
  share(copyPage: (from: number, to: number) => void): SharedPages {
    this.#copyPage = copyPage
    return {
      pageTokens: PAGE_TOKENS,
      keep: (lease, index) => this.#keep(this.#stateOf(lease), index),
      attach: (lease, index, page) => this.#attach(this.#stateOf(lease), index, page),
      evict: () => {
        const page = this.#evict()
        if (page !== undefined) this.#free.push(page)
        return page !== undefined
      },
      onLost: (listener) => {
        this.#lost = listener
      },
    }
  }

  #keep(state: LeaseState, index: number): number {
    if (!Number.isSafeInteger(index) || index < 0 || (index + 1) * PAGE_TOKENS > state.position) {
      throw new ChoraleError(
        'bad_request',
        `page ${index} can't be kept: the session holds ${state.position} tokens`,
      )
    }
    const page = state.pages[index] as number
    this.#kept.add(page)
    return page
  }

  #attach(state: LeaseState, index: number, page: number): void {
    const end = (index + 1) * PAGE_TOKENS
    if (
      !this.#kept.has(page) ||
      !(index >= 0) ||
      end - PAGE_TOKENS > state.position ||
      end > state.maxTokens
    ) {
      throw new ChoraleError(
        'bad_request',
        `page ${page} can't be page ${index} of a session with ${state.position} of ${state.maxTokens} tokens`,
      )
    }
    // Held first: it may be the lease's own page.
    this.#idle.delete(page)
    this.#hold(page, 1)
    if (index < state.held) this.#drop(state.pages[index] as number)
    else state.held++
    state.pages[index] = page
    state.position = Math.max(state.position, end)
  }

  #rollback(state: LeaseState, target: number): void {
    if (!Number.isSafeInteger(target) || target < 0 || target > state.position) {
      throw new ChoraleError(
        'bad_request',
        `can't roll back to token ${target}: the session holds ${state.position}`,
      )
    }
    const held = Math.ceil(target / PAGE_TOKENS)
    // Last page first, so that an end is always evicted before what it continues.
    while (state.held > held) this.#drop(state.pages[--state.held] as number)
    if (target % PAGE_TOKENS !== 0) this.#own(state, held - 1)
    state.position = target
  }

  /** Makes page `index` of the lease one that it may write to. */
  #own(state: LeaseState, index: number): void {
    const page = state.pages[index] as number
    if (!this.#kept.has(page)) return
    if (this.#holders[page] === 1) return this.#lose(page)
    const own = this.#take()
    this.#copyPage(page, own)
    state.pages[index] = own
    this.#drop(page)
  }

  /** A page for one more holder: leases hold fewer pages than they were promised, and the others are free or idle. */
  #take(): number {
    const page = this.#free.pop() ?? this.#evict()
    if (page === undefined)
      throw new ChoraleError('internal', 'a KV lease wants more pages than it was promised')
    this.#hold(page, 1)
    return page
  }

  /** @returns how many leases hold the page now. */
  #hold(page: number, change: 1 | -1): number {
    const holders = (this.#holders[page] as number) + change
    this.#holders[page] = holders
    return holders
  }

  #drop(page: number): void {
    if (this.#hold(page, -1) > 0) return
    if (this.#kept.has(page)) this.#idle.add(page)
    else this.#free.push(page)
  }

  #evict(): number | undefined {
    const [page] = this.#idle
    if (page !== undefined) this.#lose(page)
    return page
  }

  #lose(page: number): void {
    this.#idle.delete(page)
    this.#kept.delete(page)
    this.#lost(page)
  }

  #stateOf(lease: KvLease): LeaseState {
    const state = this.#leases.get(lease)
    if (state === undefined || state.released) {
      throw new ChoraleError('bad_request', 'the KV lease belongs to another span or was released')
    }
    return state
  }
}

/** Gives the tokens before `position` their pages. The caller has checked that they fit. */
export function reserveTo(lease: PagedLease, position: number): void {
  lease.reserve(position - lease.position)
}

/** Counts the tokens before `position` as written. The caller has checked that they fit. */
export function advanceTo(lease: PagedLease, position: number): void {
  lease.advance(position - lease.position)
}
