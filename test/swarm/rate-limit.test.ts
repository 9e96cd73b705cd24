import { describe, expect, it } from 'vitest'
import { createRateLimit } from '../../src/swarm/rate-limit.ts'

describe('createRateLimit', () => {
  it('gives a burst, then at the rate, and says how long to wait', () => {
    let now = 0
    const limit = createRateLimit(() => now)
    for (let i = 0; i < 3; i++) expect(limit.take('a', 10, 3)).toBe(0)
    expect(limit.take('a', 10, 3)).toBe(100)
    now += 50
    expect(limit.take('a', 10, 3)).toBe(50)
    now += 50
    expect(limit.take('a', 10, 3)).toBe(0)
    // Others have buckets of their own, and idling fills to the burst only.
    expect(limit.take('b', 10, 3)).toBe(0)
    now += 60_000
    for (let i = 0; i < 3; i++) expect(limit.take('a', 10, 3)).toBe(0)
    expect(limit.take('a', 10, 3)).toBeGreaterThan(0)
  })

  it('owe takes what is not there, and the debt is paid at the rate', () => {
    let now = 0
    const limit = createRateLimit(() => now)
    expect([1, 2, 3, 4].map(() => limit.owe('a', 10, 2))).toEqual([0, 0, 100, 200])
    now += 200
    expect(limit.owe('a', 10, 2)).toBe(100)
  })

  it('keeps no more buckets than it may', () => {
    let now = 0
    const limit = createRateLimit(() => now, 100)
    for (let i = 0; i < 10_000; i++) {
      now++
      limit.take(`peer-${i}`, 1, 1)
      expect(limit.size).toBeLessThanOrEqual(100)
    }
  })
})
