import type { SubnetParameters } from '../ledger/subnet-parameters.ts'

/**
 * What a node is paid for, from facts that every honest validator derives alike (`snapshot.ts`): exact integers, so
 * that equal facts give equal scores on every machine.
 */

/** 100 %. */
export const UNIT = 10n ** 18n

/** The facts of one node in one epoch. */
export interface NodeFacts {
  readonly nodeId: number
  /** Blocks [start, end) that it declared and others confirmed; 0, 0 when nobody did. */
  readonly start: number
  readonly end: number
  /** Parts per thousand of the epoch in which others reached it: the median of what they saw. */
  readonly uptime: number
  /** Blocks × weighted tokens of receipts that both sides signed. */
  readonly work: bigint
  readonly auditsPassed: number
  readonly auditsFailed: number
}

/** Everything the formula (or a policy program in its place) sees. */
export interface EpochFacts {
  /** The subnet epoch that is scored. */
  readonly epoch: number
  /** Blocks of the model that the subnet serves. */
  readonly blockCount: number
  /** By node id, ascending; ids are unique. */
  readonly nodes: readonly NodeFacts[]
}

export interface Score {
  readonly nodeId: number
  /** 1e18 = 100 % of what is paid for one part. */
  readonly score: bigint
}

/**
 * The DSN's score for hosting `span` of `blockCount` blocks among `servers` servers: T = blockCount × servers,
 * s = span / T, k = 100 / servers, (k·s² + s) × 1e18 rounded down.
 *
 * It grows faster than the span: a machine split into many nodes is paid less than the same machine as one.
 */
export function blockScore(span: number, blockCount: number, servers: number): bigint {
  if (span <= 0 || blockCount <= 0 || servers <= 0) return 0n
  const s = BigInt(span)
  const n = BigInt(servers)
  const total = BigInt(blockCount) * n
  // (100/n)·(s/T)² + s/T = (100·s² + s·T·n) / (n·T²): one division, so one rounding.
  return ((100n * s * s + s * total * n) * UNIT) / (n * total * total)
}

/**
 * Scores of all nodes that are owed something, by node id ascending.
 *
 * Each part (blocks, work, uptime, audits) is divided among the nodes by their share of it and counts by its weight, so
 * the weights are how pay divides between parts. Uptime and passed audits count in proportion to the blocks hosted,
 * or many empty nodes would collect them. A node nobody audited passes. A node with no confirmed blocks gets nothing.
 */
export function scoreNodes(facts: EpochFacts, weights: SubnetParameters['score']): readonly Score[] {
  const hosting = facts.nodes.filter(({ start, end }) => end > start)
  const blocks = hosting.map(({ start, end }) => blockScore(end - start, facts.blockCount, hosting.length))
  const parts: readonly (readonly [weight: number, amounts: readonly bigint[]])[] = [
    [weights.blocks, blocks],
    [weights.work, hosting.map(({ work }) => work)],
    [weights.uptime, hosting.map(({ uptime }, i) => (blocks[i]! * BigInt(uptime)) / 1000n)],
    [
      weights.audits,
      hosting.map(({ auditsPassed, auditsFailed }, i) => {
        const audits = BigInt(auditsPassed + auditsFailed)
        return audits === 0n ? blocks[i]! : (blocks[i]! * BigInt(auditsPassed)) / audits
      }),
    ],
  ]
  const scores = hosting.map(() => 0n)
  for (const [weight, amounts] of parts) {
    const total = amounts.reduce((sum, amount) => sum + amount, 0n)
    if (total === 0n) continue
    for (const [i, amount] of amounts.entries()) {
      scores[i] = scores[i]! + (amount * BigInt(weight) * UNIT) / (total * 1000n)
    }
  }
  return hosting
    .map(({ nodeId }, i) => ({ nodeId, score: scores[i]! }))
    .filter(({ score }) => score > 0n)
    .sort((a, b) => a.nodeId - b.nodeId)
}
