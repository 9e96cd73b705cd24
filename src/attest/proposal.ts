import type { Consensus } from '../ledger/ledger.ts'
import { errorMessage } from '../errors.ts'
import {
  type AgreementRule,
  disagree,
  type EvidenceSet,
  mayDiffer,
  sameScores,
  type Verdict,
} from './agreement.ts'
import type { OpenReport } from './epoch-report.ts'
import { contentHash } from './evidence.ts'
import type { EpochView } from './ledger-view.ts'
import type { ReportPool } from './report-pool.ts'
import type { EpochFacts, Score } from './scores.ts'
import {
  deriveFacts,
  encodeManifest,
  encodeProposalArgs,
  evidenceOf,
  parseManifest,
  parseProposalArgs,
  type ProposalArgs,
  reportCounts,
  snapshotDigest,
} from './snapshot.ts'

/** Making a proposal from the evidence that is here, and judging another's from the evidence that it names. */

/**
 * Bytes by content address from other peers; undefined when nobody has them. NOT trusted: the hash is checked here.
 * @param holders node ids that should have them: ask these first.
 */
export type FetchContent = (
  hash: string,
  holders: readonly number[],
  signal?: AbortSignal,
) => Promise<Uint8Array | undefined>

/** The subnet's formula, or its policy program. */
export type ScoreFacts = (facts: EpochFacts) => Promise<readonly Score[]>

export interface Proposal {
  readonly scores: readonly Score[]
  readonly args: Uint8Array
  /** Content address of the manifest, which is in the pool for others to fetch. */
  readonly manifest: string
}

/** Scores of all reports that are here, and the manifest that names them, put into the pool. */
export async function makeProposal(view: EpochView, pool: ReportPool, score: ScoreFacts): Promise<Proposal> {
  const reports = pool.counted(view)
  const scores = await score(deriveFacts(view, reports))
  const manifest = pool.keep(view.epoch, encodeManifest(view, evidenceOf(reports)))
  return { scores, manifest, args: encodeProposalArgs({ block: view.block, manifest }) }
}

export interface ExamineOptions {
  readonly pool: ReportPool
  readonly fetch: FetchContent
  readonly score: ScoreFacts
  readonly rule: AgreementRule
  /** Nodes that the ledger has dropped from the proposal's scores since the snapshot. */
  readonly gone: () => Promise<ReadonlySet<number>>
  readonly signal?: AbortSignal
}

/** Whether a proposal may be attested: evidence near enough to one's own, and scores equal to the last unit. */
export async function examineProposal(
  view: EpochView,
  consensus: Consensus,
  options: ExamineOptions,
): Promise<Verdict> {
  const { pool, score, rule } = options
  let args: ProposalArgs
  try {
    args = parseProposalArgs(consensus.args ?? new Uint8Array())
  } catch (error) {
    return disagree(`it names no snapshot: ${errorMessage(error)}`)
  }
  if (args.block !== view.block) {
    return disagree(`its snapshot is of block ${args.block} instead of ${view.block}`)
  }
  const here = pool.counted(view)
  const own = evidenceOf(here)
  let reports: readonly OpenReport[] = here
  if (snapshotDigest(view, own) !== args.manifest) {
    const theirs = await fetchEvidence(view, consensus.proposer, args.manifest, options)
    if ('agree' in theirs) return theirs
    const near = mayDiffer(own, theirs.evidence, view.members, rule)
    if (!near.agree) return near
    reports = theirs.reports
  }
  const scores = await score(deriveFacts(view, reports))
  const same = sameScores(scores, consensus.scores)
  if (same.agree) return same
  // Nodes that left since the snapshot are dropped by the ledger itself.
  const gone = await options.gone()
  return sameScores(
    scores.filter(({ nodeId }) => !gone.has(nodeId)),
    consensus.scores,
  )
}

async function fetchEvidence(
  view: EpochView,
  proposer: number,
  manifest: string,
  options: ExamineOptions,
): Promise<{ evidence: EvidenceSet; reports: readonly OpenReport[] } | (Verdict & { agree: false })> {
  const { pool } = options
  const refuse = (reason: string) => ({ agree: false, reason }) as const
  const bytes = pool.get(manifest) ?? (await fetchChecked(manifest, [proposer], options))
  if (bytes === undefined) return refuse(`nobody has its manifest ${manifest}`)
  let evidence: EvidenceSet
  try {
    evidence = parseManifest(bytes, view)
  } catch (error) {
    return refuse(errorMessage(error))
  }
  const reports: OpenReport[] = []
  for (const [nodeId, hash] of evidence) {
    if (pool.opened(hash) === undefined) {
      const report = await fetchChecked(hash, [nodeId, proposer], options)
      if (report === undefined) return refuse(`nobody has the report ${hash} of node ${nodeId}`)
      try {
        await pool.add(report)
      } catch (error) {
        return refuse(`the report of node ${nodeId} is wrong: ${errorMessage(error)}`)
      }
    }
    const opened = pool.opened(hash)
    if (opened === undefined || opened.report.nodeId !== nodeId || !reportCounts(opened, view)) {
      return refuse(`the report ${hash} is none of node ${nodeId} for epoch ${view.epoch}`)
    }
    reports.push(opened)
  }
  pool.keep(view.epoch, bytes)
  return { evidence, reports }
}

async function fetchChecked(
  hash: string,
  holders: readonly number[],
  { fetch, signal }: ExamineOptions,
): Promise<Uint8Array | undefined> {
  const bytes = await fetch(hash, holders, signal)
  return bytes !== undefined && contentHash(bytes) === hash ? bytes : undefined
}
