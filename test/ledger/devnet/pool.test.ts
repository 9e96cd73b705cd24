import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TransactionPool } from '../../../src/ledger/devnet/pool.ts'

const tag = (account: number, nonce: number) => Uint8Array.of(account, nonce & 255, nonce >> 8)

/** What validation says of an account's nonce when the state is at `next`. */
function valid(
  account: number,
  nonce: number,
  options: { next?: number; priority?: number; longevity?: number } = {},
) {
  const { next = 0, priority = 1, longevity = 100 } = options
  return {
    priority: BigInt(priority),
    requires: nonce > next ? [tag(account, nonce - 1)] : [],
    provides: [tag(account, nonce)],
    longevity: BigInt(longevity),
  }
}

const body = new Uint8Array(10)
const order = (pool: TransactionPool) => pool.ready().map(({ hash }) => hash)

describe('TransactionPool', () => {
  it('makes a future extrinsic ready when what it requires arrives, through any chain', () => {
    const pool = new TransactionPool()
    expect(pool.add('c', body, valid(1, 2), 0).state).toBe('future')
    expect(pool.add('b', body, valid(1, 1), 0).state).toBe('future')
    expect(pool.readyCount).toBe(0)
    expect(pool.add('a', body, valid(1, 0), 0)).toEqual({ state: 'ready', promoted: ['b', 'c'] })
    expect(order(pool)).toEqual(['a', 'b', 'c'])
  })

  it('makes a future extrinsic ready when what it requires gets into a block', () => {
    const pool = new TransactionPool()
    pool.add('a', body, valid(1, 0), 0)
    pool.include('a')
    expect(pool.add('c', body, valid(1, 2), 0).state).toBe('future')
    expect(pool.add('b', body, valid(1, 1), 0)).toEqual({ state: 'ready', promoted: ['c'] })
  })

  it('orders by priority within what dependencies allow, then by age', () => {
    const pool = new TransactionPool()
    pool.add('low', body, valid(1, 0, { priority: 1 }), 0)
    pool.add('high but second', body, valid(1, 1, { priority: 9 }), 0)
    pool.add('middle', body, valid(2, 0, { priority: 5 }), 0)
    pool.add('middle, later', body, valid(3, 0, { priority: 5 }), 0)
    expect(order(pool)).toEqual(['middle', 'middle, later', 'low', 'high but second'])
  })

  it('replaces an extrinsic only by one that pays more', () => {
    const pool = new TransactionPool()
    pool.add('a', body, valid(1, 0, { priority: 5 }), 0)
    pool.add('next', body, valid(1, 1), 0)
    expect(() => pool.add('same', body, valid(1, 0, { priority: 5 }), 0)).toThrow(
      'Priority is too low: (5 vs 5)',
    )
    pool.add('more', body, valid(1, 0, { priority: 6 }), 0)
    expect(pool.takeUsurped()).toEqual(['a'])
    expect(order(pool)).toEqual(['more', 'next'])
  })

  it('refuses what it has, what it banned, and what it has no room for', () => {
    const pool = new TransactionPool({ count: 2, bytes: 25 })
    pool.add('a', body, valid(1, 0), 0)
    expect(() => pool.check('a', 10, 0)).toThrow('Already Imported')
    pool.remove('a', { block: 5 })
    expect(() => pool.check('a', 10, 34)).toThrow('temporarily banned')
    expect(() => pool.check('a', 10, 35)).not.toThrow()
    pool.add('b', body, valid(1, 0), 0)
    expect(() => pool.check('c', 16, 0)).toThrow('Immediately Dropped')
    pool.add('c', body, valid(2, 0), 0)
    expect(() => pool.check('d', 1, 0)).toThrow('Immediately Dropped')
  })

  it('takes out what depended on a removed extrinsic', () => {
    const pool = new TransactionPool()
    for (const nonce of [0, 1, 2]) pool.add(`a${nonce}`, body, valid(1, nonce), 0)
    pool.add('b', body, valid(2, 0), 0)
    expect(pool.remove('a1')).toEqual(['a1', 'a2'])
    expect(order(pool)).toEqual(['a0', 'b'])
  })

  it('takes out what has lived too long', () => {
    const pool = new TransactionPool()
    pool.add('a', body, valid(1, 0, { longevity: 3 }), 10)
    expect(pool.expire(13)).toEqual([])
    expect(pool.expire(14)).toEqual(['a'])
    expect(pool.size).toBe(0)
  })

  it('promotes and removes a chain as long as the pool in no time', () => {
    const pool = new TransactionPool()
    for (let nonce = 8000; nonce > 0; nonce--) pool.add(`${nonce}`, body, valid(1, nonce), 0)
    expect(pool.add('0', body, valid(1, 0), 0).promoted).toHaveLength(8000)
    expect(order(pool).slice(0, 3)).toEqual(['0', '1', '2'])
    expect(pool.remove('1')).toHaveLength(8000)
    expect(order(pool)).toEqual(['0'])
  })

  it('never offers an extrinsic before what it requires, and loses none, in any order of arrival', () => {
    const nonces = fc.record({ account: fc.nat(3), nonce: fc.nat(6), priority: fc.nat(3) })
    fc.assert(
      fc.property(
        fc.uniqueArray(nonces, { selector: ({ account, nonce }) => `${account}/${nonce}` }),
        (list) => {
          const pool = new TransactionPool()
          for (const { account, nonce, priority } of list) {
            pool.add(`${account}/${nonce}`, body, valid(account, nonce, { priority }), 0)
          }
          const next = [0, 0, 0, 0]
          for (const hash of order(pool)) {
            const [account, nonce] = hash.split('/').map(Number)
            expect(nonce).toBe(next[account!])
            next[account!]!++
          }
          const has = new Set(list.map(({ account, nonce }) => `${account}/${nonce}`))
          for (const [account, reached] of next.entries())
            expect(has.has(`${account}/${reached}`)).toBe(false)
          expect(pool.size).toBe(list.length)
        },
      ),
      { numRuns: 500 },
    )
  })
})
