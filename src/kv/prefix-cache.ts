import type { KvLease } from './lease.ts'
import type { SharedPages } from './shared-pages.ts'

/**
 * Kept pages of a span's KV cache by what they hold, each with the span's output for its tokens: a session whose
 * next page has the same key needs no computation.
 *
 * A key must name the inputs of the page and of all pages before it, without collisions: whoever knows a key gets
 * the page. A page is kept only behind kept ones, and the one that no session has used longest goes first.
 */
export interface PrefixCache {
  /** Tokens in a page. */
  readonly pageTokens: number
  /** Pages kept now. */
  readonly size: number
  /** Bytes of their outputs; the pages themselves are part of the KV cache. */
  readonly outputBytes: number
  /**
   * Makes the page with this key page `index` of the lease. @returns its output [pageTokens, hiddenSize], not to be
   * changed; undefined when there is none, or the lease has no room for a whole page.
   */
  attach(lease: KvLease, index: number, key: string): Float32Array | undefined
  /**
   * Keeps page `index` of the lease, just computed, under this key; when the key has a page already, the lease
   * reads that one and frees its own. @param output is kept, not copied.
   * @returns false when there is no room for the output: the lease's further pages then have no place either.
   */
  keep(lease: KvLease, index: number, key: string, output: Float32Array): boolean
}

interface Entry {
  readonly key: string
  readonly page: number
  readonly output: Float32Array
}

/** @param maxOutputBytes most bytes of outputs: what the cache may take besides the engine's KV memory. */
export function createPrefixCache(pages: SharedPages, maxOutputBytes: number): PrefixCache {
  const byKey = new Map<string, Entry>()
  const byPage = new Map<number, Entry>()
  let outputBytes = 0
  pages.onLost((page) => {
    const entry = byPage.get(page)
    if (entry === undefined) return
    byPage.delete(page)
    byKey.delete(entry.key)
    outputBytes -= entry.output.byteLength
  })
  return {
    pageTokens: pages.pageTokens,
    get size() {
      return byKey.size
    },
    get outputBytes() {
      return outputBytes
    },
    attach(lease, index, key) {
      const entry = byKey.get(key)
      if (entry === undefined || (index + 1) * pages.pageTokens > lease.maxTokens) return undefined
      pages.attach(lease, index, entry.page)
      return entry.output
    },
    keep(lease, index, key, output) {
      const known = byKey.get(key)
      if (known !== undefined) {
        pages.attach(lease, index, known.page)
        return true
      }
      while (outputBytes + output.byteLength > maxOutputBytes) if (!pages.evict()) return false
      const entry: Entry = { key, page: pages.keep(lease, index), output }
      byKey.set(key, entry)
      byPage.set(entry.page, entry)
      outputBytes += output.byteLength
      return true
    },
  }
}
