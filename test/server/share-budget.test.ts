import { describe, expect, it } from 'vitest'
import type { ServerRecord } from '../../src/routing/snapshot.ts'
import { shareBudget, type WantedModel } from '../../src/server/share-budget.ts'
import { serverRecord } from '../contract/directory.ts'

const NOW = 1_800_000_000_000
const SELF = { peerId: 'me', now: NOW }

const served = (peerId: string, start: number, end: number, more: Partial<ServerRecord> = {}) =>
  serverRecord(peerId, NOW, { start, end, ...more })
const model = (changes: Partial<WantedModel> = {}): WantedModel => ({
  blockCount: 8,
  blockBytes: 10,
  records: [],
  ...changes,
})

describe('shareBudget', () => {
  it('gives every model a block first, then fills the worst served one', () => {
    const whole = model({ records: [served('a', 0, 8), served('b', 0, 8)] })
    const empty = model()
    // 8 blocks of the unserved model and one of the other.
    expect(shareBudget([whole, empty], 90, SELF)).toEqual([1, 8])
    // When that one is whole too it has fewer servers a block than the other, and no more blocks: the rest goes there.
    expect(shareBudget([whole, empty], 120, SELF)).toEqual([4, 8])
  })

  it('two models that are served alike get equal shares', () => {
    expect(shareBudget([model(), model()], 80, SELF)).toEqual([4, 4])
    const two = [model({ blockCount: 4 }), model({ blockCount: 12 })]
    expect(shareBudget(two, 80, SELF)).toEqual([2, 6])
  })

  it('more sessions of a model count as more demand', () => {
    const busy = model({ records: [served('a', 0, 8, { sessions: 9 })] })
    const idle = model({ records: [served('b', 0, 8)] })
    const [idleBlocks, busyBlocks] = shareBudget([idle, busy], 110, SELF)!
    expect(busyBlocks).toBeGreaterThan(idleBlocks!)
  })

  it('blocks that are being loaded are not filled twice, own and expired records don’t count', () => {
    const loading = model({ records: [served('a', 0, 8, { state: 'joining', throughput: 0 })] })
    const gone = model({
      records: [served('me', 0, 8), served('b', 0, 8, { expiresAt: NOW - 1 })],
    })
    expect(shareBudget([loading, gone], 90, SELF)).toEqual([1, 8])
  })

  it('chosen spans come off first and keep their size', () => {
    const chosen = model({ fixed: { start: 2, end: 6 } })
    expect(shareBudget([chosen, model()], 70, SELF)).toEqual([4, 3])
    // Whoever chose all spans knows what memory there is.
    expect(shareBudget([chosen, chosen], 10, SELF)).toEqual([4, 4])
  })

  it('says so when there is not a block’s room for each', () => {
    expect(shareBudget([model(), model()], 19, SELF)).toBeUndefined()
    expect(shareBudget([model({ fixed: { start: 0, end: 8 } }), model()], 85, SELF)).toBeUndefined()
  })

  it('never passes the budget nor a model, and leaves no block’s room unused', () => {
    let seed = 7
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
      return (seed >>> 8) % below
    }
    for (let round = 0; round < 300; round++) {
      const models = Array.from({ length: 1 + random(4) }, (_, i) => {
        const blockCount = 1 + random(12)
        return model({
          blockCount,
          blockBytes: 1 + random(20),
          records: Array.from({ length: random(4) }, (_unused, peer) => {
            const start = random(blockCount)
            return served(`p${i}-${peer}`, start, start + 1 + random(blockCount - start))
          }),
        })
      })
      const bytes = random(400)
      const counts = shareBudget(models, bytes, SELF)
      const least = models.reduce((sum, { blockBytes }) => sum + blockBytes, 0)
      expect(counts === undefined).toBe(least > bytes)
      if (counts === undefined) continue
      const left = bytes - counts.reduce((sum, count, i) => sum + count * models[i]!.blockBytes, 0)
      expect(left).toBeGreaterThanOrEqual(0)
      for (const [i, { blockBytes, blockCount }] of models.entries()) {
        expect(counts[i]).toBeGreaterThan(0)
        expect(counts[i]).toBeLessThanOrEqual(blockCount)
        expect(counts[i] === blockCount || blockBytes > left).toBe(true)
      }
    }
  })
})
