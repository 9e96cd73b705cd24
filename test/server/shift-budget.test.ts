import { describe, expect, it } from 'vitest'
import { silentLogger } from '../../src/log.ts'
import { rank } from '../../src/routing/placement.ts'
import { coverModel } from '../../src/routing/model-coverage.ts'
import type { ServerRecord } from '../../src/routing/snapshot.ts'
import { type ResizableSpan, startBudgetLoop } from '../../src/server/budget-loop.ts'
import { decideShift, type HeldShare } from '../../src/server/shift-budget.ts'
import type { Span } from '../../src/session/span-runner.ts'
import { serverRecord } from '../contract/directory.ts'
import { until } from '../swarm/loopback.ts'

const NOW = 1_800_000_000_000
const served = (peerId: string, start: number, end: number, more: Partial<ServerRecord> = {}) =>
  serverRecord(peerId, NOW, { start, end, ...more })

/** A period in which `me` ranks before the others. */
function turnOf(me: string, others: readonly string[]): number {
  for (let period = 0; ; period++) {
    if (others.every((other) => rank(me, period) < rank(other, period))) return period
  }
}

const others = ['a', 'b']
const self = { peerId: 'me', now: NOW, period: turnOf('me', others) }
const share = (span: Span, changes: Partial<HeldShare> = {}): HeldShare => ({
  blockCount: 8,
  blockBytes: 10,
  maxBlocks: span.end - span.start,
  span,
  fixed: false,
  records: [served('me', span.start, span.end)],
  ...changes,
})
/** Whole on two other servers, and on this one. */
const rich = share(
  { start: 0, end: 8 },
  { records: [served('me', 0, 8), served('a', 0, 8), served('b', 0, 8)] },
)
/** Blocks 3:8 have no server. */
const poor = share({ start: 0, end: 3 }, { records: [served('me', 0, 3), served('a', 0, 3)] })

describe('decideShift', () => {
  it('a model that others serve gives what one that nobody serves lacks', () => {
    const shift = decideShift([rich, poor], 110, self)
    expect(shift).toEqual({
      from: { model: 0, keep: { start: 5, end: 8 } },
      to: { model: 1, span: { start: 0, end: 8 }, maxBlocks: 8 },
    })
  })

  it('unused memory goes first', () => {
    expect(decideShift([rich, poor], 160, self)).toEqual({
      from: undefined,
      to: { model: 1, span: { start: 0, end: 8 }, maxBlocks: 8 },
    })
    expect(decideShift([rich, poor], 130, self)).toMatchObject({
      from: { model: 0, keep: { start: 3, end: 8 } },
    })
  })

  it('nothing moves while every block has a server, a loading one too', () => {
    expect(decideShift([rich, rich], 160, self)).toBeUndefined()
    const soon = [...poor.records, served('c', 3, 8, { state: 'joining', throughput: 0 })]
    expect(decideShift([rich, { ...poor, records: soon }], 110, self)).toBeUndefined()
  })

  it('keeps the blocks that it alone serves, whichever way it grows', () => {
    for (let name = 0; name < 50; name++) {
      const peerId = `peer-${name}`
      const alone = share({ start: 3, end: 5 }, { records: [served(peerId, 3, 5)] })
      const shift = decideShift([{ ...rich, fixed: true }, alone], 120, { ...self, peerId })
      // Two blocks of unused memory.
      expect(shift).toMatchObject({ from: undefined, to: { model: 1, maxBlocks: 4 } })
      expect(shift!.to.span.start).toBeLessThanOrEqual(3)
      expect(shift!.to.span.end).toBeGreaterThanOrEqual(5)
    }
  })

  it('nothing is given up that has fewer than two other servers, out of turn, or that somebody chose', () => {
    const thin = { ...rich, records: rich.records.slice(0, 2) }
    expect(decideShift([thin, poor], 110, self)).toBeUndefined()
    const late = { ...self, period: turnOf('a', ['me', 'b']) }
    expect(decideShift([rich, poor], 110, late)).toBeUndefined()
    expect(decideShift([{ ...rich, fixed: true }, poor], 110, self)).toBeUndefined()
    expect(decideShift([rich, { ...poor, fixed: true }], 110, self)).toBeUndefined()
  })

  it('a chain that needs this server’s boundary is not broken', () => {
    // Blocks 0:4 have two other servers, but a chain through block 5 needs this one from block 2 on.
    const joint = share(
      { start: 2, end: 8 },
      { records: [served('me', 2, 8), served('a', 0, 2), served('b', 1, 6), served('c', 1, 6)] },
    )
    const third = turnOf('me', ['a', 'b', 'c'])
    expect(decideShift([joint, poor], 90, { ...self, period: third })).toBeUndefined()
  })

  it('whatever a network looks like: no block is lost, the budget holds, and somebody gets a server', () => {
    let seed = 11
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
      return (seed >>> 8) % below
    }
    let shifts = 0
    for (let round = 0; round < 1_500; round++) {
      const blockCount = 4 + random(6)
      const bytes = 40 + random(160)
      const peers = ['a', 'b', 'c', 'd']
      const shares = Array.from({ length: 2 + random(2) }, () => {
        const span = (): Span => {
          const start = random(blockCount)
          return { start, end: start + 1 + random(blockCount - start) }
        }
        const own = span()
        const records = peers.slice(0, random(5)).map((peer) => {
          const { start, end } = span()
          return served(peer, start, end)
        })
        return share(own, {
          blockCount,
          blockBytes: 5 + random(10),
          records: [...records, served('me', own.start, own.end)],
        })
      })
      const used = shares.reduce((sum, { blockBytes, maxBlocks }) => sum + blockBytes * maxBlocks, 0)
      if (used > bytes) continue
      const shift = decideShift(shares, bytes, { ...self, period: round })
      if (shift === undefined) continue
      shifts++
      const coverage = (one: HeldShare, span: Span) =>
        coverModel(one.blockCount, [
          ...one.records.filter(({ peerId }) => peerId !== 'me'),
          { ...span, state: 'online' },
        ])
      const blocks = shares.map(({ maxBlocks }) => maxBlocks)
      const { from, to } = shift
      const receiver = shares[to.model]!
      blocks[to.model] = to.maxBlocks
      expect(to.span.end - to.span.start).toBeLessThanOrEqual(to.maxBlocks)
      const gaps = (span: Span) =>
        coverage(receiver, span).perBlock.flatMap((count, block) => (count === 0 ? [block] : []))
      expect(gaps(to.span).length).toBeLessThan(gaps(receiver.span).length)
      expect(gaps(receiver.span)).toEqual(expect.arrayContaining(gaps(to.span)))
      if (from) {
        const donor = shares[from.model]!
        blocks[from.model] = from.keep.end - from.keep.start
        const [before, after] = [coverage(donor, donor.span), coverage(donor, from.keep)]
        for (const [block, count] of after.perBlock.entries()) {
          if (count < before.perBlock[block]!) expect(count).toBeGreaterThanOrEqual(2)
        }
      }
      expect(shares.reduce((sum, { blockBytes }, i) => sum + blockBytes * blocks[i]!, 0)).toBeLessThanOrEqual(
        bytes,
      )
    }
    expect(shifts).toBeGreaterThan(25)
  })
})

describe('startBudgetLoop', () => {
  function setup(gapAfter: number) {
    const resized: string[] = []
    let looks = 0
    const spanOf = (name: string, of: HeldShare, records: () => readonly ServerRecord[]): ResizableSpan => {
      let { maxBlocks, span } = of
      return {
        share: () => ({ ...of, maxBlocks, span }),
        records: async () => records().map((record) => ({ ...record, expiresAt: Date.now() + 45_000 })),
        resize: async (to, blocks) => {
          span = to
          maxBlocks = blocks
          resized.push(`${name} ${to.start}:${to.end} of ${blocks}`)
        },
      }
    }
    const gap = (): readonly ServerRecord[] => {
      looks++
      const full = [...poor.records, served('c', 3, 8)]
      return looks === gapAfter || looks > gapAfter + 1 ? poor.records : full
    }
    // The period is this server's turn throughout.
    const decideMs = 20
    const base = 4 * decideMs * (self.period + 0.5)
    const loop = startBudgetLoop({
      spans: [spanOf('rich', rich, () => rich.records), spanOf('poor', poor, gap)],
      bytes: 110,
      peerId: 'me',
      decideMs,
      random: () => 0,
      log: silentLogger,
      now: () => base,
    })
    return { loop, resized, looks: () => looks }
  }

  it('shifts when it decided so twice in a row, giving before taking; a gap seen once moves nothing', async () => {
    const { loop, resized, looks } = setup(2)
    await until(() => resized.length === 2, 'memory goes to the other model')
    expect(resized).toEqual(['rich 5:8 of 3', 'poor 0:8 of 8'])
    // Looks 2 and then 4 and 5 showed the gap.
    expect(looks()).toBeGreaterThanOrEqual(5)
    await loop.stop()
  })

  it('does nothing after it was stopped', async () => {
    const { loop, looks } = setup(1)
    await loop.stop()
    const before = looks()
    await new Promise((resolve) => setTimeout(resolve, 60))
    expect(looks()).toBe(before)
  })
})
