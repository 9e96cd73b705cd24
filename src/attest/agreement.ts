import type { Score } from './scores.ts'

/**
 * When a validator attests to another's proposal. Pure.
 *
 * Two things are judged apart. **The sums**: the validator computes scores from the very evidence that the proposal
 * names, and every score must be equal to the last unit. **The evidence**: it may differ from the validator's own only by
 * what honest views differ in, reports that reached one of them and not the other (`mayDiffer`).
 */

/** Which epoch reports a snapshot counts: node id → SHA-256 of the report in lower-case hex. */
export type EvidenceSet = ReadonlyMap<number, string>

export interface AgreementRule {
  /** Least share of evidence that both have, of all that either has (Jaccard), in parts per thousand. */
  readonly minSharedPerMille: number
  /**
   * `known`: a node whose report differs must have been in the previous epoch's accepted scores, or have joined since
   * (the DSN's rule for joiners and leavers). `any`: whoever it is. `nobody`: evidence must be equal.
   */
  readonly differing: 'nobody' | 'known' | 'any'
}

/** Differences among joiners and leavers, a quarter of the evidence at most. */
export const DEFAULT_AGREEMENT: AgreementRule = { minSharedPerMille: 750, differing: 'known' }

export type Verdict = { readonly agree: true } | { readonly agree: false; readonly reason: string }

/** Who was there before: judged from the ledger at the snapshot's block. */
export interface Membership {
  /** Nodes in the previous epoch's scores; they may be leaving. */
  readonly previous: ReadonlySet<number>
  /** Nodes that reached class Included in this epoch or the one before. */
  readonly joined: ReadonlySet<number>
}

/** Whether evidence `theirs` is near enough to `own`. */
export function mayDiffer(
  own: EvidenceSet,
  theirs: EvidenceSet,
  members: Membership,
  rule: AgreementRule = DEFAULT_AGREEMENT,
): Verdict {
  const ids = new Set([...own.keys(), ...theirs.keys()])
  let shared = 0
  let all = 0
  for (const id of ids) {
    const mine = own.get(id)
    const other = theirs.get(id)
    if (mine === other) {
      shared++
      all++
      continue
    }
    all += mine !== undefined && other !== undefined ? 2 : 1
    if (rule.differing === 'nobody') return disagree(`the report of node ${id} differs`)
    if (rule.differing === 'known' && !members.previous.has(id) && !members.joined.has(id)) {
      return disagree(`the report of node ${id} differs, and it neither was scored before nor joined since`)
    }
  }
  if (shared * 1000 < rule.minSharedPerMille * all) {
    const needed = `${rule.minSharedPerMille} of 1000 needed`
    return disagree(`${shared} of ${all} reports are in both snapshots (${needed})`)
  }
  return { agree: true }
}

/** Whether two lists of scores say the same, to the last unit; the order does not matter. */
export function sameScores(own: readonly Score[], theirs: readonly Score[]): Verdict {
  const mine = new Map(own.map(({ nodeId, score }) => [nodeId, score]))
  if (new Set(theirs.map(({ nodeId }) => nodeId)).size !== theirs.length) {
    return disagree('a node is scored twice')
  }
  for (const { nodeId, score } of theirs) {
    const wanted = mine.get(nodeId)
    if (wanted === undefined) return disagree(`node ${nodeId} is scored and is owed nothing`)
    if (wanted !== score) return disagree(`node ${nodeId} is scored ${score} instead of ${wanted}`)
    mine.delete(nodeId)
  }
  const [missing] = mine.keys()
  return missing === undefined ? { agree: true } : disagree(`node ${missing} is not scored`)
}

export function disagree(reason: string): Verdict {
  return { agree: false, reason }
}
