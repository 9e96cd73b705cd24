import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { PrefixCache } from '../../src/kv/prefix-cache.ts'
import { createPrefixTrail } from '../../src/session/prefix-trail.ts'
import { tensor } from '../../src/tensor/tensor.ts'

const PAGE = 4
const HIDDEN = 2

/** Two values a token, as the trail's sessions get them. */
const inputOf = (token: number): number[] => [token, -token]
/** What a span answers for the last of these tokens. */
const outputOf = (tokens: readonly number[]): number[] => [
  tokens.reduce((mix, token) => (mix * 31 + token) % 8191, 1),
  tokens.length,
]
const sha256 = (...parts: Uint8Array[]): Uint8Array =>
  new Uint8Array(parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest())

/** The name of the last of these pages, computed from the start. */
function nameOf(tokens: readonly number[]): string {
  let link: Uint8Array = new Uint8Array(32)
  for (let from = 0; from < tokens.length; from += PAGE) {
    const page = Float32Array.from(tokens.slice(from, from + PAGE).flatMap(inputOf))
    link = sha256(link, sha256(new Uint8Array(page.buffer)))
  }
  return Buffer.from(link).toString('hex')
}

describe('createPrefixTrail', () => {
  it('names every page by all tokens before its end, whatever steps and rollbacks led there', async () => {
    const operation = fc.oneof(
      {
        weight: 3,
        arbitrary: fc.record({ count: fc.integer({ min: 1, max: 11 }), story: fc.constantFrom(0, 0, 0, 10) }),
      },
      { weight: 2, arbitrary: fc.record({ back: fc.nat({ max: 14 }) }) },
    )
    let hits = 0
    let kept = 0
    await fc.assert(
      fc.asyncProperty(
        fc.array(operation, { minLength: 5, maxLength: 30 }),
        fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
        async (operations, full) => {
          const tokens: number[] = []
          const lease = { maxTokens: 400, position: 0, rollback: () => undefined, release: () => undefined }
          const known = new Map<string, Float32Array>()
          const cache: PrefixCache = {
            pageTokens: PAGE,
            size: 0,
            outputBytes: 0,
            attach(_, index, key) {
              const output = known.get(key)
              if (output) lease.position = (index + 1) * PAGE
              hits += output ? 1 : 0
              return output
            },
            keep(_, index, key, output) {
              const held = tokens.slice(0, (index + 1) * PAGE)
              expect(held).toHaveLength((index + 1) * PAGE)
              expect(key).toBe(nameOf(held))
              const expected = held.flatMap((_token, t) => outputOf(held.slice(0, t + 1)))
              expect([...output]).toEqual(expected.slice(-PAGE * HIDDEN))
              // A cache may be full now and have room later.
              if (full[known.size % full.length] === true && kept % 7 === 3) return false
              kept++
              known.set(key, output)
              return true
            },
          }
          const trail = createPrefixTrail(cache, lease, HIDDEN)
          for (const operation of operations) {
            if ('back' in operation) {
              tokens.length = lease.position = Math.max(0, tokens.length - operation.back)
              trail.rollback(tokens.length)
              continue
            }
            const from = tokens.length
            const step = Array.from({ length: operation.count }, (_, t) => operation.story + ((from + t) % 7))
            tokens.push(...step)
            const hidden = Float32Array.from(step.flatMap(inputOf))
            const found = await trail.reuse(tensor(step.length, HIDDEN, hidden))
            const rows = found.reduce((sum, { shape }) => sum + shape[0], 0)
            const outputs = step.flatMap((_token, t) => outputOf(tokens.slice(0, from + t + 1)))
            expect(found.flatMap(({ data }) => [...data])).toEqual(outputs.slice(0, rows * HIDDEN))
            expect(lease.position).toBe(from + rows)
            const left = step.length - rows
            if (left === 0) continue
            lease.position = tokens.length
            await trail.finish(
              tensor(left, HIDDEN, hidden.slice(rows * HIDDEN)),
              tensor(left, HIDDEN, Float32Array.from(outputs.slice(rows * HIDDEN))),
            )
          }
        },
      ),
      { numRuns: 1_000 },
    )
    expect(hits).toBeGreaterThan(500)
    expect(kept).toBeGreaterThan(3_000)
  })

  it('follows a session again after a rollback to the start of the page before', async () => {
    const kept: number[] = []
    const lease = { maxTokens: 400, position: 0, rollback: () => undefined, release: () => undefined }
    const cache: PrefixCache = {
      pageTokens: PAGE,
      size: 0,
      outputBytes: 0,
      attach: () => undefined,
      keep: (_, index) => kept.push(index) > 0,
    }
    const trail = createPrefixTrail(cache, lease, HIDDEN)
    const step = async (count: number) => {
      const rows = tensor(count, HIDDEN, new Float32Array(count * HIDDEN))
      await trail.reuse(rows)
      lease.position += count
      await trail.finish(rows, rows)
    }
    const back = (position: number) => {
      lease.position = position
      trail.rollback(position)
    }
    await step(18)
    expect(kept).toEqual([0, 1, 2, 3])
    // Inside the page before: still held. Further back: only whole pages.
    back(14)
    await step(4)
    expect(kept.splice(0)).toEqual([0, 1, 2, 3, 3])
    back(5)
    await step(4)
    expect(kept).toEqual([])
    back(4)
    await step(4)
    expect(kept).toEqual([1])
    await step(3)
    back(9)
    await step(3)
    expect(kept).toEqual([1, 2])
  })
})
