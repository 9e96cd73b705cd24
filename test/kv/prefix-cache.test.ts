import { describe, expect, it } from 'vitest'
import { PAGE_TOKENS, PagePool, type PagedLease } from '../../src/kv/pages.ts'
import { createPrefixCache, type PrefixCache } from '../../src/kv/prefix-cache.ts'

const PAGE_BYTES = PAGE_TOKENS * 4

function open(pages: number, maxOutputBytes = 1e6) {
  const pool = new PagePool(pages * PAGE_TOKENS)
  const shared = pool.share(() => undefined)
  return { pool, shared, cache: createPrefixCache(shared, maxOutputBytes) }
}

/** Opens a session, fills a page for each key, from the cache where it can, and says which it had. */
function fill(
  pool: PagePool,
  cache: PrefixCache,
  keys: readonly string[],
): { lease: PagedLease; hits: string[] } {
  const lease = pool.lease(keys.length * PAGE_TOKENS)
  const hits: string[] = []
  for (const [index, key] of keys.entries()) {
    const output = cache.attach(lease, index, key)
    if (output !== undefined) {
      expect(output[0]).toBe(key.length)
      hits.push(key)
      continue
    }
    lease.advance(PAGE_TOKENS)
    if (!cache.keep(lease, index, key, new Float32Array(PAGE_TOKENS).fill(key.length))) break
  }
  return { lease, hits }
}

describe('createPrefixCache', () => {
  it('gives a page to whoever has its key, and its output', () => {
    const { cache, pool } = open(8)
    const first = fill(pool, cache, ['a', 'ab', 'abc'])
    const second = fill(pool, cache, ['a', 'ab', 'abx', 'abxy'])
    expect(second.hits).toEqual(['a', 'ab'])
    expect([...second.lease.pages.subarray(0, 2)]).toEqual([...first.lease.pages.subarray(0, 2)])
    expect(second.lease.pages[2]).not.toBe(first.lease.pages[2])
    expect(cache.size).toBe(5)
    expect(cache.outputBytes).toBe(5 * PAGE_BYTES)
  })

  it('evicts the prefix that was used longest ago, its end first, and only for room that is needed', () => {
    const { cache, pool } = open(6)
    for (const keys of [
      ['a', 'ab'],
      ['c', 'cd'],
    ])
      fill(pool, cache, keys).lease.release()
    // Used again: now older than c and cd only in when it was computed.
    fill(pool, cache, ['a']).lease.release()
    expect(cache.size).toBe(4)
    const lease = pool.lease(3 * PAGE_TOKENS)
    expect(cache.size).toBe(4)
    lease.advance(3 * PAGE_TOKENS)
    expect(cache.size).toBe(3)
    lease.release()
    expect(fill(pool, cache, ['c', 'cd']).hits).toEqual(['c', 'cd'])
    expect(fill(pool, cache, ['a', 'ab']).hits).toEqual(['a'])
  })

  it('never evicts what a session reads, and keeps no more outputs than it may', () => {
    const { cache, pool } = open(8, 2 * PAGE_BYTES)
    const { lease } = fill(pool, cache, ['a', 'ab'])
    const other = pool.lease(2 * PAGE_TOKENS)
    other.advance(2 * PAGE_TOKENS)
    expect(cache.keep(other, 0, 'x', new Float32Array(PAGE_TOKENS))).toBe(false)
    lease.release()
    expect(cache.keep(other, 0, 'x', new Float32Array(PAGE_TOKENS))).toBe(true)
    expect(cache.outputBytes).toBe(2 * PAGE_BYTES)
    expect(fill(pool, cache, ['a', 'ab']).hits).toEqual(['a'])
  })

  it('two sessions that computed the same page hold one afterwards', () => {
    const { cache, pool } = open(4)
    const leases = [pool.lease(PAGE_TOKENS), pool.lease(PAGE_TOKENS)]
    for (const lease of leases) lease.advance(PAGE_TOKENS)
    for (const lease of leases) expect(cache.keep(lease, 0, 'a', new Float32Array(PAGE_TOKENS))).toBe(true)
    expect(leases[1]?.pages[0]).toBe(leases[0]?.pages[0])
    // The page that was given back serves the rest of the cache.
    pool.lease(2 * PAGE_TOKENS).advance(2 * PAGE_TOKENS)
    expect(cache.size).toBe(1)
  })

  it('a lease that rolls back into its kept page takes it out; one it shares is copied', () => {
    const copied: number[][] = []
    const pool = new PagePool(4 * PAGE_TOKENS)
    const cache = createPrefixCache(
      pool.share((from, to) => copied.push([from, to])),
      1e6,
    )
    const [a, b] = [fill(pool, cache, ['a']).lease, fill(pool, cache, ['a']).lease]
    const page = a.pages[0]
    a.rollback(5)
    expect(copied).toEqual([[page, a.pages[0]]])
    expect(b.pages[0]).toBe(page)
    expect(cache.size).toBe(1)
    b.rollback(5)
    expect(copied).toHaveLength(1)
    expect(b.pages[0]).toBe(page)
    expect(cache.size).toBe(0)
    // A rollback to the page's start just leaves it.
    b.advance(PAGE_TOKENS - 5)
    cache.keep(b, 0, 'b', new Float32Array(PAGE_TOKENS).fill(1))
    b.rollback(0)
    expect(fill(pool, cache, ['b']).hits).toEqual(['b'])
  })

  it('stays within its bounds through 1,000 sessions, and every session gets its room', () => {
    const { cache, pool } = open(20, 12 * PAGE_BYTES)
    const leases: PagedLease[] = []
    let hits = 0
    for (let session = 0; session < 1_000; session++) {
      const story = `${session % 3}`
      const keys = [story, `${story}.`, `${story}.${session % 7}`, `${story}.${session}.`]
      const filled = fill(pool, cache, keys)
      hits += filled.hits.length
      leases.push(filled.lease)
      if (leases.length === 5) leases.splice(session % 5, 1)[0]?.release()
      expect(cache.size).toBeLessThanOrEqual(12)
      expect(cache.outputBytes).toBe(cache.size * PAGE_BYTES)
    }
    for (const lease of leases) lease.release()
    expect(hits).toBeGreaterThan(1_000)
    expect(pool.freeTokens).toBe(pool.tokens)
    pool.lease(pool.tokens).advance(pool.tokens)
    expect(cache.size).toBe(0)
  })
})

describe('PagePool.share', () => {
  const refused = expect.objectContaining({ code: 'bad_request' })

  it('keeps full pages of open leases only', () => {
    const { pool, shared } = open(4)
    const lease = pool.lease(32)
    lease.advance(17)
    expect(() => shared.keep(lease, 1)).toThrow(refused)
    expect(() => shared.keep(lease, -1)).toThrow(refused)
    expect(() => shared.keep(open(4).pool.lease(16), 0)).toThrow(refused)
    shared.keep(lease, 0)
    lease.release()
    expect(() => shared.keep(lease, 0)).toThrow(refused)
  })

  it('attaches kept pages only, where the lease has come to and has room', () => {
    const { pool, shared } = open(4)
    const lease = pool.lease(32)
    lease.advance(32)
    const page = shared.keep(lease, 0)
    const other = pool.lease(24)
    expect(() => shared.attach(other, 0, lease.pages[1] as number)).toThrow(refused)
    expect(() => shared.attach(other, 1, page)).toThrow(refused)
    shared.attach(other, 0, page)
    expect(other.position).toBe(16)
    expect(() => shared.attach(other, 1, page)).toThrow(refused)
  })

  it('evicts nothing while every kept page is read', () => {
    const { pool, shared } = open(4)
    const lease = pool.lease(16)
    lease.advance(16)
    shared.keep(lease, 0)
    expect(shared.evict()).toBe(false)
    lease.release()
    expect(shared.evict()).toBe(true)
    expect(shared.evict()).toBe(false)
  })
})
