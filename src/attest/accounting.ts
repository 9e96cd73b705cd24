import { errorCode, errorMessage } from '../errors.ts'
import { encodeCbor } from '../protocol/cbor.ts'
import { chooseAudits } from './accountants.ts'
import { isHonest, isSession } from './audit.ts'
import type { AuditRequest } from './audit-messages.ts'
import type { AuditEntry, OpenReport } from './epoch-report.ts'
import { encodeFaultProof, type FaultJudge, judgeAudit } from './fault-proof.ts'
import type { WorkReceipt } from './work-receipt.ts'

/** What an accountant does in its epoch: picks sessions that it can't choose, re-runs them, says what it found. */

/** A session to re-run. */
export interface AuditTask {
  readonly nodeId: number
  readonly work: WorkReceipt
  readonly request: AuditRequest
}

/**
 * Which sessions of last epoch's reports this accountant re-runs. Pure: seed, accountant and reports decide.
 * At most one session of each node, so that no single busy server takes all audits; each is re-run whole, which servers
 * bound by what they keep of one (`audit-store.ts`).
 */
export function planAudits(
  seed: Uint8Array,
  accountant: number,
  reports: readonly OpenReport[],
  count: number,
): readonly AuditTask[] {
  const one = reports.flatMap(({ report, receipts }) => {
    if (report.nodeId === accountant) return []
    const [work] = chooseAudits(seed, accountant, receipts, keyOf, 1)
    return work === undefined ? [] : [{ nodeId: report.nodeId, work }]
  })
  return chooseAudits(seed, accountant, one, ({ work }) => keyOf(work), count).map(({ nodeId, work }) => ({
    nodeId,
    work,
    request: { session: work.session, through: work.sequence },
  }))
}

const keyOf = ({ server, session }: WorkReceipt): string => `${server} ${session}`

export interface AuditPorts {
  readonly subnetId: number
  /** Sends AUDIT to a peer. @throws when it can't be reached or does not answer. */
  readonly ask: (peerId: string, request: AuditRequest, signal?: AbortSignal) => Promise<Uint8Array>
  readonly judge: FaultJudge
  readonly signal?: AbortSignal
}

export interface AuditFinding extends AuditEntry {
  readonly reason: string
  /** Bytes of a fault proof, when the numbers are wrong. */
  readonly proof?: Uint8Array
}

/**
 * Re-runs one session. A server that shows nothing, or something else than it reported, is `unavailable`: that costs its
 * score, and is no proof against it.
 * @returns undefined when this machine could not re-run it: no finding.
 */
export async function runAudit(task: AuditTask, ports: AuditPorts): Promise<AuditFinding | undefined> {
  const { nodeId, work } = task
  const finding = (outcome: AuditEntry['outcome'], reason: string, proof?: Uint8Array): AuditFinding => ({
    nodeId,
    session: work.session,
    outcome,
    reason,
    ...(proof && { proof }),
  })
  let audit: Uint8Array
  try {
    audit = await ports.ask(work.server, task.request, ports.signal)
  } catch (error) {
    if (errorCode(error) === 'cancelled') return undefined
    return finding('unavailable', errorMessage(error))
  }
  let judged
  try {
    judged = await judgeAudit(audit, ports.judge)
  } catch {
    return undefined
  }
  if ('reason' in judged) return finding('unavailable', judged.reason)
  const { checked, comparison } = judged
  if (!isSession(checked, work)) return finding('unavailable', 'it shows another session than it reported')
  const { worst } = comparison
  if (worst === undefined) {
    const why = comparison.handedWrong
      ? 'what another server handed over to it was wrong'
      : 'it shows no outputs'
    return finding('unavailable', why)
  }
  const said = `${comparison.rows} rows, farthest step ${worst.seq}: ${worst.error.toExponential(2)} of ${worst.margin.toExponential(2)}`
  if (isHonest(comparison)) return finding('passed', said)
  const proof = encodeFaultProof({
    subnetId: ports.subnetId,
    defendant: nodeId,
    peerId: work.server,
    modelId: work.modelId,
    seq: worst.seq,
    audit,
  })
  return finding('failed', said, proof)
}

/** Findings as filed on the ledger: at most 1,024 bytes, the failed ones first. */
export function encodeFindings(epoch: number, findings: readonly AuditFinding[]): Uint8Array {
  const order = { failed: 0, unavailable: 1, passed: 2 } as const
  const entries = findings
    .toSorted((a, b) => order[a.outcome] - order[b.outcome] || a.nodeId - b.nodeId)
    .map(({ nodeId, session, outcome }) => ({ nodeId, session, outcome }))
  for (let count = entries.length; ; count--) {
    const bytes = encodeCbor({ epoch, findings: entries.slice(0, count) })
    if (bytes.length <= MAX_FINDINGS_BYTES || count === 0) return bytes
  }
}

/** By the pallet. */
const MAX_FINDINGS_BYTES = 1_024
