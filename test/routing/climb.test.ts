import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRandom } from '../../node/seeded-random.ts'
import { nextMoves } from '../../src/routing/climb.ts'
import { kickedPlan, type PlacedMachine } from '../../src/routing/kicked-plan.ts'
import { maxFlow } from '../../src/routing/max-flow.ts'
import { bestSpan, decideMove, type PlacedServer, viewPlacement } from '../../src/routing/placement.ts'
import { flowBound } from '../../src/routing/plan.ts'
import { createSwarmCost } from '../../src/routing/swarm-cost.ts'

const BLOCKS = 24
const NOW = 1e9

/** Servers of a small model, in states that records can be in. */
const swarms = fc
  .array(
    fc.record({
      start: fc.constantFrom(0, 4, 6, 8, 12, 16, 18, 20),
      length: fc.constantFrom(4, 6, 8, 12),
      throughput: fc.integer({ min: 1, max: 400 }),
      extra: fc.integer({ min: 0, max: 3 }),
      stays: fc.boolean(),
      intent: fc.nat(BLOCKS * 25),
      joining: fc.nat(9),
    }),
    { minLength: 17, maxLength: 40 },
  )
  .map((list) =>
    list.map(({ start, length, throughput, extra, stays, intent, joining }, i): PlacedServer => {
      const end = Math.min(start + length, BLOCKS)
      return {
        peerId: `p${i}`,
        start,
        end,
        throughput,
        maxBlocks: end - start + extra,
        ...(stays && { staysUntil: NOW + 1 }),
        ...(intent <= BLOCKS - 2 && { intent: { start: intent, end: intent + 2 } }),
        ...(joining === 0 && { joining: true }),
      }
    }),
  )

/** Machines that hold 4 to 20 of 80 blocks, placed one after the other by the rules for those that join. */
function joinedSwarm(seed: number, count: number): PlacedMachine[] {
  const random = seededRandom(seed)
  const placed: PlacedServer[] = []
  const machines: PlacedMachine[] = []
  for (let i = 0; i < count; i++) {
    const power = 400 * 2 ** (3 * random())
    const maxBlocks = Math.round(20 * (0.2 + 0.8 * random()))
    const self = { peerId: `p${i}`, maxBlocks, speed: (blocks: number) => power / blocks }
    const { start, end } = bestSpan(viewPlacement(80, placed), self)
    placed.push({ peerId: self.peerId, start, end, throughput: power / (end - start) })
    machines.push({ peerId: self.peerId, maxBlocks, power, span: { start, end }, fixed: i % 5 === 4 })
  }
  return machines
}

describe('createSwarmCost', () => {
  it('best and with give the total that adding the span gives', () => {
    fc.assert(
      fc.property(swarms, ([me, ...servers]) => {
        const cost = createSwarmCost(BLOCKS, 100)
        for (const server of servers) cost.add(server)
        const spans = cost.best({ maxBlocks: me!.maxBlocks!, power: 500 }, 5)
        expect(spans.length).toBeGreaterThan(0)
        for (const [i, span] of spans.entries()) {
          expect(span.end - span.start).toBeLessThanOrEqual(me!.maxBlocks!)
          expect(span.end).toBeLessThanOrEqual(BLOCKS)
          if (i > 0) expect(span.cost).toBeGreaterThanOrEqual(spans[i - 1]!.cost)
          const scale = Math.max(1, cost.total())
          expect(Math.abs(cost.with(span) - span.cost) / scale).toBeLessThan(1e-6)
          cost.add(span)
          expect(Math.abs(cost.total() - span.cost) / scale).toBeLessThan(1e-6)
          cost.add(span, -1)
        }
      }),
      { numRuns: 200 },
    )
  })
})

describe('nextMoves', () => {
  it('all at once leave every block that is left a server, and the swarm a chain', () => {
    let moved = 0
    fc.assert(
      fc.property(swarms, (servers) => {
        const view = viewPlacement(BLOCKS, servers)
        const moves = nextMoves(view, NOW)
        moved += moves.size
        const staying = servers.filter(
          ({ peerId, intent, joining }) => !moves.has(peerId) && !intent && joining !== true,
        )
        const after = viewPlacement(BLOCKS, staying)
        for (const server of servers) {
          const to = moves.get(server.peerId)
          if (!to) continue
          expect(server.staysUntil ?? 0).toBeLessThanOrEqual(NOW)
          expect(server.intent ?? server.joining).toBeUndefined()
          expect(to.end - to.start).toBeLessThanOrEqual(server.maxBlocks!)
          for (let block = server.start; block < server.end; block++) {
            expect(after.replicas[block]).toBeGreaterThanOrEqual(1)
          }
        }
        if (moves.size > 0 && view.fromStart.has(BLOCKS)) expect(after.fromStart.has(BLOCKS)).toBe(true)
        // No more than three of 40 are under way, those that announced it before counted.
        const going = servers.filter(({ intent }) => intent).length
        expect(moves.size).toBeLessThanOrEqual(Math.max(0, 3 - going))
        const shuffled = viewPlacement(BLOCKS, servers.toReversed())
        expect([...nextMoves(shuffled, NOW)]).toEqual([...moves])
      }),
      { numRuns: 300 },
    )
    expect(moved).toBeGreaterThan(50)
  })
})

describe('decideMove', () => {
  it('of a server that announced a move stays when it would leave a block without any', () => {
    const span = { start: 0, end: 12 }
    const servers = Array.from({ length: 17 }, (_, i) => ({
      peerId: `p${i}`,
      ...(i === 0 ? { start: 12, end: 24, intent: span } : span),
      throughput: 10,
      maxBlocks: 12,
    }))
    const self = { peerId: 'p0', maxBlocks: 12, speed: (blocks: number) => 120 / blocks }
    const state = { since: 0, moves: 0, intent: { span, at: 0 } }
    const times = { now: NOW, loadMs: 1_000, publishMs: 1_000 }
    expect(decideMove(viewPlacement(BLOCKS, servers), self, state, times)).toEqual({
      kind: 'stay',
      reason: 'needed',
    })
  })
})

describe('kickedPlan', () => {
  it('of 9 to 16 machines carries 0.8 of the bound, goes round those that are fixed, and is the same for all', () => {
    const shares: number[] = []
    for (const count of [9, 12, 16]) {
      for (const seed of [1, 2]) {
        const machines = joinedSwarm(seed, count)
        const plan = kickedPlan(
          80,
          machines.map((machine) => ({ ...machine, fixed: false })),
        )
        shares.push(plan.flow / plan.bound)
        const round = kickedPlan(80, machines, 8)
        for (const [i, { fixed, span, maxBlocks }] of machines.entries()) {
          if (fixed) expect(round.spans[i]).toEqual(span)
          expect(plan.spans[i]!.end - plan.spans[i]!.start).toBeLessThanOrEqual(maxBlocks)
        }
        expect(kickedPlan(80, machines, 8)).toEqual(round)
        const edges = plan.spans.map((span, i) => ({
          ...span,
          throughput: machines[i]!.power / (span.end - span.start),
        }))
        expect(maxFlow(80, edges)).toBe(plan.flow)
        expect(plan.bound).toBe(flowBound(80, machines))
      }
    }
    const mean = shares.reduce((sum, value) => sum + value, 0) / shares.length
    expect(mean, shares.map((value) => value.toFixed(2)).join(' ')).toBeGreaterThan(0.8)
  })
})
