import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PAGE_TOKENS, PagePool, type PagedLease } from '../../src/kv/pages.ts'

/** A lease whose tokens all have their pages. */
function leaseAll(pool: PagePool, tokens: number): PagedLease {
  const lease = pool.lease(tokens)
  lease.reserve(tokens)
  return lease
}

describe('PagePool', () => {
  it('never hands a page to two leases and gets every page back', () => {
    const operation = fc.oneof(
      fc.record({ kind: fc.constant('lease' as const), tokens: fc.integer({ min: 1, max: 100 }) }),
      fc.record({ kind: fc.constant('release' as const), tokens: fc.integer({ min: 0, max: 20 }) }),
    )
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const pool = new PagePool(320)
        const open: PagedLease[] = []
        for (const { kind, tokens } of operations) {
          if (kind === 'release') open.splice(tokens % Math.max(open.length, 1), 1)[0]?.release()
          else if (Math.ceil(tokens / PAGE_TOKENS) * PAGE_TOKENS <= pool.freeTokens)
            open.push(leaseAll(pool, tokens))
          else expect(() => pool.lease(tokens)).toThrow(/KV cache full/)
          const used = open.flatMap((lease) => [...lease.pages])
          expect(new Set(used).size).toBe(used.length)
          expect(used.length * PAGE_TOKENS + pool.freeTokens).toBe(pool.tokens)
        }
        for (const lease of open) lease.release()
        expect(pool.freeTokens).toBe(pool.tokens)
      }),
    )
  })

  it('rounds its size up to whole pages', () => {
    expect(new PagePool(1).tokens).toBe(PAGE_TOKENS)
    expect(new PagePool(17).tokens).toBe(2 * PAGE_TOKENS)
  })

  it('release twice frees once', () => {
    const pool = new PagePool(32)
    const lease = pool.lease(16)
    lease.release()
    lease.release()
    expect(pool.freeTokens).toBe(32)
  })

  it('rollback beyond the position is refused', () => {
    const lease = new PagePool(32).lease(16)
    lease.advance(5)
    expect(() => lease.rollback(6)).toThrow(/holds 5/)
    lease.rollback(2)
    expect(lease.position).toBe(2)
  })

  it('refuses senseless sizes', () => {
    for (const size of [0, -1, 1.5, NaN, Infinity]) {
      expect(() => new PagePool(size)).toThrow(/positive/)
      expect(() => new PagePool(32).lease(size)).toThrow(/positive/)
    }
  })
})
