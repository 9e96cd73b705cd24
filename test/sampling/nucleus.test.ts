import { describe, expect, it } from 'vitest'
import { argmax, exactTopP } from '../../src/sampling/filters.ts'
import { nucleus } from '../../src/sampling/nucleus.ts'
import { random } from '../gpu/test-context.ts'

/** Logits of many shapes: peaked, flat, in steps (ties everywhere), with far outliers. */
function logitsOf(next: () => number, count: number, shape: number): Float64Array {
  const width = [3, 0.001, 12, 200, 6][shape] as number
  const logits = Float64Array.from({ length: count }, () => Math.fround((next() + next() + next()) * width))
  if (shape === 2) return logits.map(Math.round)
  if (shape === 4) for (let i = 0; i < 20; i++) logits[Math.floor(Math.abs(next()) * count)] = 20 + 5 * next()
  return logits
}

describe('nucleus', () => {
  it('is what the exact rule keeps, in its order, and nearly always decides', () => {
    const next = random(11)
    let decided = 0
    let cases = 0
    for (let round = 0; round < 400; round++) {
      const count = 1 + Math.floor(Math.abs(next()) * (round % 8 === 0 ? 20_000 : 700))
      const logits = logitsOf(next, count, round % 5)
      const max = logits[argmax(logits)] as number
      const temperature = [0.05, 0.7, 1, 1.9, 100][Math.floor(Math.abs(next()) * 5)] as number
      const p = [0.01, 0.5, 0.9, 0.95, 0.9999][Math.floor(Math.abs(next()) * 5)] as number
      const kept = nucleus(logits, p, temperature, max)
      cases++
      if (kept === undefined) continue
      decided++
      expect([...kept]).toEqual([...exactTopP(logits, undefined, p, temperature, max)])
    }
    expect(decided / cases).toBeGreaterThan(0.95)
  })

  it('leaves what is too close to call to the exact rule', () => {
    // Two equal tokens: the first one's share is p itself.
    expect(nucleus(Float64Array.of(1, 1), 0.5, 1, 1)).toBeUndefined()
    expect(exactTopP(Float64Array.of(1, 1), undefined, 0.5, 1, 1)).toEqual(Uint32Array.of(0))
    expect(nucleus(Float64Array.of(1, 1), 0.5 - 1e-6, 1, 1)).toEqual(Uint32Array.of(0))
    expect(nucleus(Float64Array.of(1, 1), 0.5 + 1e-6, 1, 1)).toEqual(Uint32Array.of(0, 1))
  })

  it('carries nothing over from one call to the next', () => {
    const wide = Float64Array.from({ length: 3000 }, (_, id) => -id / 500)
    const first = nucleus(wide, 0.9, 1, 0)
    nucleus(Float64Array.of(5, 1, 3), 0.9, 1, 5)
    expect(nucleus(wide, 0.9, 1, 0)).toEqual(first)
  })
})
