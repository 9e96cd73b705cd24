import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bannedUntil, banPeer, forgivePeer, noBans, skipPeer } from '../../src/routing/bans.ts'

const options = { baseMs: 1_000, maxMs: 60_000 }

describe('banPeer', () => {
  it('doubles with every failure in a row up to the maximum', () => {
    let bans = noBans
    const durations = Array.from({ length: 9 }, () => {
      bans = banPeer(bans, 'p', 0, options)
      return bans.get('p')!.until
    })
    expect(durations).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000])
  })

  it('never ends a ban earlier than before, whatever follows, but by forgiving', () => {
    const event = fc.record({
      kind: fc.constantFrom('fail', 'skip'),
      peer: fc.constantFrom('a', 'b'),
      wait: fc.nat(5_000),
    })
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), (events) => {
        let bans = noBans
        let now = 0
        for (const { kind, peer, wait } of events) {
          now += wait
          const before = bans
          bans = kind === 'fail' ? banPeer(bans, peer, now, options) : skipPeer(bans, peer, now)
          for (const [id, ban] of before) {
            expect(bans.get(id)!.until).toBeGreaterThanOrEqual(ban.until)
            expect(bans.get(id)!.failures).toBeGreaterThanOrEqual(ban.failures)
          }
          expect(bannedUntil(bans, now).get(peer)).toBeGreaterThan(now)
          for (const until of bannedUntil(bans, now).values()) expect(until).toBeLessThanOrEqual(now + 60_000)
        }
      }),
      { numRuns: 1000 },
    )
  })

  it('stays finite after very many failures', () => {
    let bans = noBans
    for (let i = 0; i < 2_000; i++) bans = banPeer(bans, 'p', i, options)
    expect(bans.get('p')?.until).toBe(1_999 + 60_000)
  })

  it('forgets ended bans when there are thousands', () => {
    const ended = Array.from(
      { length: 5_000 },
      (_, i) => [`p${i}`, { failures: 1, since: 0, until: 1_000 }] as const,
    )
    const bans = banPeer(
      new Map([...ended, ['running', { failures: 1, since: 0, until: 9_000 }]]),
      'new',
      5_000,
    )
    expect([...bans.keys()]).toEqual(['running', 'new'])
  })

  it('changes no list it was given', () => {
    const before = banPeer(noBans, 'p', 0)
    const copy = new Map(before)
    banPeer(before, 'p', 1)
    skipPeer(before, 'p', 1)
    forgivePeer(before, 'p')
    expect(before).toEqual(copy)
  })
})

describe('bannedUntil', () => {
  it('leaves ended bans out', () => {
    const bans = banPeer(noBans, 'p', 0, options)
    expect(bannedUntil(bans, 999).has('p')).toBe(true)
    expect(bannedUntil(bans, 1_000).has('p')).toBe(false)
  })

  it('as a last resort only counts failures of the last second', () => {
    let bans = noBans
    for (let i = 0; i < 5; i++) bans = banPeer(bans, 'p', 0, options)
    expect(bannedUntil(bans, 2_000).has('p')).toBe(true)
    expect(bannedUntil(bans, 999, { lastResort: true }).has('p')).toBe(true)
    expect(bannedUntil(bans, 1_000, { lastResort: true }).has('p')).toBe(false)
  })
})

describe('forgivePeer', () => {
  it('starts the back-off anew', () => {
    let bans = banPeer(banPeer(noBans, 'p', 0, options), 'p', 0, options)
    bans = banPeer(forgivePeer(bans, 'p'), 'p', 10_000, options)
    expect(bans.get('p')?.until).toBe(11_000)
  })
})
