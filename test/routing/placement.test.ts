import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { simulatePlacement } from '../../node/cli/sim/simulate.ts'
import { maxFlow } from '../../src/routing/max-flow.ts'
import { bestSpan, decideMove, type PlacedServer, viewPlacement } from '../../src/routing/placement.ts'

const swarms = fc.integer({ min: 2, max: 16 }).chain((blockCount) =>
  fc.record({
    blockCount: fc.constant(blockCount),
    servers: fc
      .array(
        fc.record({
          start: fc.nat(blockCount - 1),
          length: fc.integer({ min: 1, max: 6 }),
          throughput: fc.integer({ min: 1, max: 500 }),
        }),
        { maxLength: 24 },
      )
      .map((list) =>
        list.map(({ start, length, throughput }, i) => ({
          peerId: `p${i}`,
          start,
          end: Math.min(start + length, blockCount),
          throughput,
        })),
      ),
    maxBlocks: fc.integer({ min: 1, max: 16 }),
  }),
)

const later = { now: 1e9, loadMs: 1_000, publishMs: 1_000 }

describe('bestSpan', () => {
  it('is inside the model and the memory, and covers a gap that a server can close', () => {
    fc.assert(
      fc.property(swarms, ({ blockCount, servers, maxBlocks }) => {
        const view = viewPlacement(blockCount, servers)
        const { start, end } = bestSpan(view, { peerId: 'me', maxBlocks, speed: (n) => 100 / n })
        expect(start).toBeGreaterThanOrEqual(0)
        expect(end).toBeLessThanOrEqual(blockCount)
        expect(end - start).toBeGreaterThanOrEqual(1)
        expect(end - start).toBeLessThanOrEqual(maxBlocks)
      }),
      { numRuns: 2_000 },
    )
    const half = viewPlacement(8, [{ peerId: 'a', start: 0, end: 4, throughput: 10 }])
    expect(bestSpan(half, { peerId: 'me', maxBlocks: 4, speed: () => 10 })).toMatchObject({
      start: 4,
      end: 8,
    })
  })

  it('servers that come one after the other form a chain, whatever their memory', () => {
    const servers = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 20, maxLength: 30 })
    fc.assert(
      fc.property(servers, (memories) => {
        const placed: PlacedServer[] = []
        for (const [i, maxBlocks] of memories.entries()) {
          const self = { peerId: `p${i}`, maxBlocks, speed: (n: number) => 100 / n }
          const { start, end } = bestSpan(viewPlacement(12, placed), self)
          placed.push({ peerId: self.peerId, start, end, throughput: 100 / (end - start) })
        }
        expect(viewPlacement(12, placed).fromStart.has(12)).toBe(true)
        expect(maxFlow(12, placed)).toBeGreaterThan(0)
      }),
      { numRuns: 300 },
    )
  })
})

describe('decideMove', () => {
  it('a move never takes the last two replicas of a block, nor a chain', () => {
    fc.assert(
      fc.property(swarms, ({ blockCount, servers, maxBlocks }) => {
        const before = viewPlacement(blockCount, servers)
        for (const me of servers) {
          const self = { peerId: me.peerId, maxBlocks, speed: (n: number) => me.throughput / n }
          const decision = decideMove(before, self, { since: 0, moves: 0 }, later)
          if (decision.kind === 'stay') continue
          const others = servers.filter(({ peerId }) => peerId !== me.peerId)
          const after = viewPlacement(blockCount, others)
          for (let block = me.start; block < me.end; block++) {
            expect(after.replicas[block]).toBeGreaterThanOrEqual(2)
          }
          expect(after.fromStart.has(blockCount)).toBe(before.fromStart.has(blockCount))
        }
      }),
      { numRuns: 2_000 },
    )
  })

  /** Ten servers of the first half, one of the second. */
  const crowd: PlacedServer[] = [
    ...Array.from({ length: 10 }, (_, i) => ({ peerId: `a${i}`, start: 0, end: 4, throughput: 10 })),
    { peerId: 'b', start: 4, end: 8, throughput: 10 },
  ]
  const asks = (servers: readonly PlacedServer[], id: string, more = {}) =>
    decideMove(
      viewPlacement(8, servers),
      { peerId: id, maxBlocks: 4, speed: () => 10 },
      { since: 0, moves: 0, ...more },
      later,
    )

  it('of a crowd that sees the same gap only some go, and all agree on who', () => {
    const going = crowd.filter(({ peerId }) => asks(crowd, peerId).kind === 'intend')
    expect(going.length).toBeGreaterThanOrEqual(1)
    expect(going.length).toBeLessThanOrEqual(4)
    expect(asks(crowd, 'b')).toMatchObject({ kind: 'stay', reason: 'needed' })
  })

  it('moves only after its intent was out for two periods, and stays when the gap was filled meanwhile', () => {
    const [first] = crowd.filter(({ peerId }) => asks(crowd, peerId).kind === 'intend')
    const span = { start: 4, end: 8 }
    const announced = crowd.map((one) => (one === first ? { ...one, intent: span } : one))
    const id = first!.peerId
    expect(asks(announced, id, { intent: { span, at: later.now - 1_000 } }).kind).toBe('intend')
    expect(asks(announced, id, { intent: { span, at: later.now - 2_000 } })).toEqual({ kind: 'move', span })
    const filled = [
      ...announced,
      ...Array.from({ length: 9 }, (_, i) => ({ ...span, peerId: `c${i}`, throughput: 10 })),
    ]
    expect(asks(filled, id, { intent: { span, at: 0 } }).kind).toBe('stay')
  })

  it('stays for its dwelling time, which grows with every move', () => {
    const [first] = crowd.filter(({ peerId }) => asks(crowd, peerId).kind === 'intend')
    const id = first!.peerId
    expect(asks(crowd, id, { since: later.now - 599_000 })).toMatchObject({ reason: 'dwelling' })
    expect(asks(crowd, id, { since: later.now - 600_000 }).kind).toBe('intend')
    expect(asks(crowd, id, { since: later.now - 1_000_000, moves: 1 })).toMatchObject({ reason: 'dwelling' })
  })
})

describe('simulatePlacement', () => {
  it('200 servers with records of 45 s, churn and a loss of 30 %: covered, few moves, near the bound', () => {
    const result = simulatePlacement({
      peers: 200,
      blockCount: 80,
      staleSeconds: 45,
      churnPerHour: 0.1,
      seconds: 3 * 3_600,
      lossShare: 0.3,
      seed: 1,
    })
    expect(viewPlacement(80, result.servers).fromStart.has(80)).toBe(true)
    expect(result.movesPerServerMax).toBeLessThanOrEqual(2)
    expect(result.movesPerMinuteMax).toBeLessThanOrEqual(10)
    expect(result.recoverySeconds).toBeLessThan(600)
    expect(result.throughputShare).toBeGreaterThan(0.9)
    expect(result.throughputShareMean).toBeGreaterThan(0.9)
  })
})
