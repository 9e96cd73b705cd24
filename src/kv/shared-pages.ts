import type { KvLease } from './lease.ts'

/**
 * Full pages of a KV cache that outlive their session: a session that begins with the same tokens reads them instead
 * of computing them again. What is kept lives in room that no lease uses; leases get it back when they need it.
 *
 * Kept pages are never written: tokens go behind them, and a lease that rolls back into one gets a copy of its own.
 * Not checked: that a page holds the tokens its reader believes it does.
 */
export interface SharedPages {
  /** Tokens in a page. */
  readonly pageTokens: number
  /**
   * Keeps page `index` of a lease from now on. @returns the page's number in the cache.
   * @throws `bad_request` unless the lease is this cache's and open, and holds all tokens of the page.
   */
  keep(lease: KvLease, index: number): number
  /**
   * Lets a lease read the kept `page` as its page `index`, in place of what it holds there; its position is the end
   * of that page afterwards, or where it was when that is later.
   * @throws `bad_request` unless the page is kept and the lease is open, holds all tokens before the page and has
   * room for its tokens.
   */
  attach(lease: KvLease, index: number, page: number): void
  /** Frees the kept page that was left by its last reader longest ago. @returns false when all have readers. */
  evict(): boolean
  /** `listener` hears of every page that is kept no longer, before anything is written to it. One listener. */
  onLost(listener: (page: number) => void): void
}
