import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { allFinite, argmax, minP, topK, topP } from '../../src/sampling/filters.ts'

/** Few distinct values, so that ties are common. */
const logitsArbitrary = fc
  .array(fc.oneof(fc.integer({ min: -4, max: 4 }), fc.double({ min: -40, max: 40, noNaN: true })), {
    minLength: 1,
    maxLength: 200,
  })
  .map((values) => Float64Array.from(values, Math.fround))

const ranked = (logits: Float64Array, ids: readonly number[]) =>
  ids.toSorted((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)
const allIds = (logits: Float64Array) => Array.from(logits, (_, id) => id)
const ascending = (ids: Iterable<number>) => [...ids].sort((a, b) => a - b)

describe('topK', () => {
  it('keeps the first k of a full sort, lower ids first on ties', () => {
    fc.assert(
      fc.property(logitsArbitrary, fc.nat(), (logits, draw) => {
        const k = 1 + (draw % logits.length)
        expect(ascending(topK(logits, k))).toEqual(ascending(ranked(logits, allIds(logits)).slice(0, k)))
      }),
      { numRuns: 2000 },
    )
  })
})

describe('topP', () => {
  it('keeps the shortest prefix of a full sort that reaches p, over all tokens or some', () => {
    fc.assert(
      fc.property(
        logitsArbitrary,
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        fc.double({ min: 0.1, max: 3, noNaN: true }),
        fc.boolean(),
        (logits, p, temperature, some) => {
          const ids = some ? topK(logits, Math.ceil(logits.length / 2)) : undefined
          const pool = ids === undefined ? allIds(logits) : ascending(ids)
          const max = Math.max(...logits)
          const weight = (id: number) => Math.exp(((logits[id] as number) - max) / temperature)
          const total = pool.reduce((sum, id) => sum + weight(id), 0)
          const order = ranked(logits, pool)
          let reached = 0
          let size = 0
          while (size < order.length && (size === 0 || reached < p * total)) {
            reached += weight(order[size] as number)
            size++
          }
          // A sum that meets p to the last bit may fall on either side when summed otherwise.
          fc.pre(Math.abs(reached - p * total) > 1e-9 * total || size === order.length)
          const before = reached - weight(order[size - 1] as number)
          fc.pre(Math.abs(before - p * total) > 1e-9 * total)
          expect([...topP(logits, ids, p, temperature, max)]).toEqual(order.slice(0, size))
        },
      ),
      { numRuns: 2000 },
    )
  })

  it('keeps the most likely token when p is 0, and the lowest id of equals', () => {
    expect([...topP(Float64Array.of(1, 3, 3), undefined, 0, 1, 3)]).toEqual([1])
  })
})

describe('minP', () => {
  it('keeps tokens at least that share as likely as the best', () => {
    const logits = Float64Array.from([0, Math.log(0.5), Math.log(0.2), Math.log(0.09)])
    expect([...minP(logits, undefined, 0.1, 1, 0)]).toEqual([0, 1, 2])
    expect([...minP(logits, undefined, 1, 1, 0)]).toEqual([0])
    expect([...minP(logits, Uint32Array.of(3, 0, 2), 0.1, 1, 0)]).toEqual([0, 2])
    expect([...minP(logits, undefined, 0.1, 2, 0)]).toEqual([0, 1, 2, 3])
  })
})

describe('argmax', () => {
  it('takes the lowest id of equals', () => {
    expect(argmax(Float32Array.of(-1, 2, 2, 1))).toBe(1)
  })

  it('allFinite sees what is not, wherever it stands', () => {
    for (const length of [0, 1, 3, 4, 9, 1024]) {
      const numbers = new Float32Array(length).map((_, i) => (i - 3) * 1e35)
      expect(allFinite(numbers)).toBe(true)
      for (const bad of [Number.NaN, Infinity, -Infinity]) {
        for (let at = 0; at < Math.min(length, 12); at++) {
          const spoiled = numbers.slice()
          spoiled[at] = bad
          expect(allFinite(spoiled)).toBe(false)
        }
      }
    }
  })
})
