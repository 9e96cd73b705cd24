import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { blockScore, type EpochFacts, type NodeFacts, scoreNodes, UNIT } from '../../src/attest/scores.ts'

const WEIGHTS = { blocks: 500, work: 300, uptime: 100, audits: 100 }

function node(nodeId: number, change: Partial<NodeFacts> = {}): NodeFacts {
  return { nodeId, start: 0, end: 8, uptime: 1000, work: 0n, auditsPassed: 0, auditsFailed: 0, ...change }
}

const facts = (...nodes: NodeFacts[]): EpochFacts => ({ epoch: 7, blockCount: 32, nodes })

describe('blockScore', () => {
  it.each([
    [32, 1_812_500_000_000_000_000n],
    [16, 515_625_000_000_000_000n],
    [8, 160_156_250_000_000_000n],
  ])('is the reference value: %i of 32 blocks, 4 servers', (span, wanted) => {
    expect(blockScore(span, 32, 4)).toBe(wanted)
  })

  it('pays one machine more than the same machine in two', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 4096 }), fc.integer({ min: 1, max: 256 }), (blocks, servers) => {
        const half = Math.floor(blocks / 2)
        const split = blockScore(half, blocks, servers) + blockScore(blocks - half, blocks, servers)
        expect(blockScore(blocks, blocks, servers)).toBeGreaterThan(split)
      }),
    )
  })

  it('is 0 for nothing', () => {
    expect([blockScore(0, 32, 4), blockScore(4, 0, 4), blockScore(4, 32, 0)]).toEqual([0n, 0n, 0n])
  })
})

describe('scoreNodes', () => {
  it('divides each part by its weight: worked example', () => {
    const scores = scoreNodes(
      facts(node(1, { end: 32, work: 300n, auditsFailed: 1 }), node(4, { end: 16, work: 100n, uptime: 500 })),
      WEIGHTS,
    )
    // n = 2, k = 50, T = 64: B1 = 50/4 + 1/2 = 13, B4 = 50/16 + 1/4 = 3.375.
    const b1 = 13_000_000_000_000_000_000n
    const b4 = 3_375_000_000_000_000_000n
    const share = (weight: bigint, mine: bigint, all: bigint) => (mine * weight * UNIT) / (all * 1000n)
    expect(scores).toEqual([
      {
        nodeId: 1,
        score: share(500n, b1, b1 + b4) + share(300n, 300n, 400n) + share(100n, b1, b1 + b4 / 2n),
      },
      {
        nodeId: 4,
        score:
          share(500n, b4, b1 + b4) +
          share(300n, 100n, 400n) +
          share(100n, b4 / 2n, b1 + b4 / 2n) +
          share(100n, b4, b4),
      },
    ])
  })

  it('gives nothing to who hosts nothing, whatever else it shows', () => {
    const empty = node(2, { start: 0, end: 0, work: 10n ** 30n })
    expect(scoreNodes(facts(node(1), empty), WEIGHTS).map(({ nodeId }) => nodeId)).toEqual([1])
    expect(scoreNodes(facts(empty), WEIGHTS)).toEqual([])
  })

  it('never divides more than the weights, and does not depend on the order of nodes', () => {
    const anyNode = (nodeId: number) =>
      fc.record({
        nodeId: fc.constant(nodeId),
        start: fc.constant(0),
        end: fc.integer({ min: 0, max: 32 }),
        uptime: fc.integer({ min: 0, max: 1000 }),
        work: fc.bigInt({ min: 0n, max: 1n << 60n }),
        auditsPassed: fc.nat(5),
        auditsFailed: fc.nat(5),
      })
    const nodes = fc.tuple(...Array.from({ length: 6 }, (_, i) => anyNode(i + 1)))
    fc.assert(
      fc.property(nodes, (list) => {
        const scores = scoreNodes(facts(...list), WEIGHTS)
        expect(scores.reduce((sum, { score }) => sum + score, 0n)).toBeLessThanOrEqual(UNIT)
        expect(scoreNodes(facts(...list.toReversed()), WEIGHTS)).toEqual(scores)
      }),
      { numRuns: 500 },
    )
  })
})
