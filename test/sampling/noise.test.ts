import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { errorCode } from '../../src/errors.ts'
import {
  GUMBEL_MAX,
  gumbel,
  gumbelArgmax,
  gumbelArgmaxOf,
  gumbelOfWord,
  seedKey,
} from '../../src/sampling/gumbel.ts'
import { exp, ln } from '../../src/sampling/ln.ts'
import { philox4x32 } from '../../src/sampling/philox.ts'

const vectors = JSON.parse(readFileSync(join(import.meta.dirname, '../vectors/gumbel.json'), 'utf8')) as {
  cases: [seed: string, position: number, tokenId: number, g: number][]
  words: [number, number][]
}

/** Distance in units in the last place. */
function ulps(a: number, b: number): number {
  const view = new DataView(new ArrayBuffer(16))
  view.setFloat64(0, a)
  view.setFloat64(8, b)
  return Math.abs(Number(view.getBigInt64(0) - view.getBigInt64(8)))
}

/** A small generator for bulk test data (Mulberry32); fast-check draws the rest. */
function randomStream(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

describe('philox4x32', () => {
  it.each([
    [[0, 0, 0, 0], [0, 0], '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      '408f276d 41c83b0e a20bc7c6 6d5451fd',
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      'd16cfe09 94fdcceb 5001e420 24126ea1',
    ],
  ])('gives the known answers of Random123 for counter %j', (counter, key, words) => {
    const out = new Uint32Array(4)
    const [c0, c1, c2, c3] = counter as [number, number, number, number]
    philox4x32(c0, c1, c2, c3, key[0] as number, key[1] as number, out)
    expect([...out].map((word) => word.toString(16).padStart(8, '0')).join(' ')).toBe(words)
  })
})

describe('ln and exp', () => {
  it('are within 1 ulp of Math.log and Math.exp on 400,000 values', () => {
    const random = randomStream(1)
    let worstLn = 0
    let worstExp = 0
    for (let round = 0; round < 100_000; round++) {
      const inside = random()
      const wide = 2 ** (random() * 2000 - 1000)
      const nearOne = 1 + (random() - 0.5) * 2 ** (-random() * 50)
      const tiny = 5e-324 * Math.floor(random() * 2 ** 40)
      for (const x of [inside, wide, nearOne, tiny]) worstLn = Math.max(worstLn, ulps(ln(x), Math.log(x)))
      for (const x of [-30 * inside, (inside - 0.5) * 1500, (inside - 0.5) * 1e-7]) {
        worstExp = Math.max(worstExp, ulps(exp(x), Math.exp(x)))
      }
    }
    expect(worstLn).toBeLessThanOrEqual(1)
    expect(worstExp).toBeLessThanOrEqual(1)
  })

  it('treat the edges as Math.log and Math.exp do', () => {
    for (const x of [0, -0, 1, -1, Infinity, -Infinity, Number.NaN]) expect(ln(x)).toBe(Math.log(x))
    for (const x of [0, -0, Infinity, -Infinity, Number.NaN, 710, -746]) expect(exp(x)).toBe(Math.exp(x))
  })
})

describe('gumbel', () => {
  it('equals the vectors made with 40-digit arithmetic', () => {
    expect(vectors.cases.length).toBeGreaterThan(200)
    for (const [seed, position, tokenId, g] of vectors.cases) {
      expect(gumbel(seedKey(BigInt(seed)), position, tokenId) * 65536).toBe(g)
    }
    for (const [word, g] of vectors.words) expect(gumbelOfWord(word) * 65536).toBe(g)
  })

  it('stays within the documented bounds', () => {
    expect(gumbelOfWord(0xffffffff)).toBeLessThan(GUMBEL_MAX)
    expect(gumbelOfWord(0xffffffff)).toBeGreaterThan(22.87)
    expect(gumbelOfWord(0)).toBeGreaterThan(-3.14)
  })

  it('has the mean and variance of the Gumbel distribution', () => {
    const key = seedKey(3)
    let sum = 0
    let squares = 0
    const count = 200_000
    for (let id = 0; id < count; id++) {
      const g = gumbel(key, 5, id)
      sum += g
      squares += g * g
    }
    const mean = sum / count
    // Euler's constant and π²/6; standard errors 0.0029 and about 0.008.
    expect(Math.abs(mean - 0.5772)).toBeLessThan(0.012)
    expect(Math.abs(squares / count - mean * mean - Math.PI ** 2 / 6)).toBeLessThan(0.04)
  })

  it('refuses seeds outside 64 bits', () => {
    for (const seed of [-1, 1.5, 2 ** 53, -1n, 1n << 64n, Number.NaN]) {
      expect(() => seedKey(seed)).toThrow(/seed .* is not an integer/)
    }
    expect(seedKey((1n << 64n) - 1n)).toEqual({ low: 0xffffffff, high: 0xffffffff })
    try {
      seedKey(-1)
    } catch (error) {
      expect(errorCode(error)).toBe('bad_request')
    }
  })
})

describe('gumbelArgmax', () => {
  it('passes tokens over without changing the winner', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 400 }),
        fc.double({ min: 0.01, max: 20, noNaN: true }),
        fc.double({ min: 0.05, max: 5, noNaN: true }),
        fc.maxSafeNat(),
        fc.nat(5000),
        (size, spread, temperature, seed, position) => {
          const random = randomStream(seed % 2 ** 31)
          const logits = Float64Array.from({ length: size }, () => Math.fround((random() - 0.5) * spread))
          const key = seedKey(seed)
          let best = 0
          let bestScore = -Infinity
          for (let id = 0; id < size; id++) {
            const score = (logits[id] as number) + temperature * gumbel(key, position, id)
            if (score > bestScore) {
              best = id
              bestScore = score
            }
          }
          const start = Math.floor(random() * size)
          expect(gumbelArgmax(logits, temperature, key, position, start)).toBe(best)
          const ids = Array.from({ length: size }, (_, id) => size - 1 - id)
          expect(gumbelArgmaxOf(ids, logits, temperature, key, position)).toBe(best)
        },
      ),
      { numRuns: 1000 },
    )
  })
})
