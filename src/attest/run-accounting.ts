import { hexToBytes } from '@noble/hashes/utils.js'
import { errorMessage } from '../errors.ts'
import type { Ledger, LedgerSigner } from '../ledger/ledger.ts'
import { type Logger, silentLogger } from '../log.ts'
import { type AuditFinding, type AuditPorts, encodeFindings, planAudits, runAudit } from './accounting.ts'
import { proposeDispute, submitAccountantData } from './dispute-calls.ts'
import type { EpochTime } from './epoch-clock.ts'
import type { AuditEntry } from './epoch-report.ts'
import { faultProofHash } from './fault-proof.ts'
import { accountantsOf, type EpochView } from './ledger-view.ts'
import type { ReportPool } from './report-pool.ts'

/** The accountant's part of an epoch: audits once, files what it found, accuses who is wrong. */

export interface AccountingOptions extends AuditPorts {
  readonly ledger: Ledger
  /** The node's hotkey. */
  readonly signer: LedgerSigner
  readonly nodeId: number
  readonly pool: ReportPool
  /** Keeps a proof beyond the pool's few epochs: a dispute may take weeks, and voters ask for it. */
  readonly keepProof?: (hash: string, bytes: Uint8Array) => Promise<void>
  /** Sessions re-run in one epoch. Default 2. */
  readonly audits?: number
  readonly onDone?: (duty: 'audited' | 'accused') => void
  readonly log?: Logger
}

export interface Accounting {
  /** `EpochDutiesOptions.onView`: starts the epoch's audits once reports had time to arrive. */
  onView(view: EpochView, time: EpochTime): void
  /** Whether the peer is an accountant of this epoch or the last: nobody else is shown sessions. */
  mayAudit(peerId: string): boolean
  /** What was found in an epoch, for this node's report of it; empty for who is no accountant. */
  findings(epoch: number): readonly AuditEntry[]
  /** Resolves when no audit is under way. */
  idle(): Promise<void>
}

const AUDITS = 2
/** Reports arrive in the first tenth of an epoch. */
const BEGIN = 100
/** Findings are reported one epoch later. */
const KEPT_EPOCHS = 4

/** Nothing here throws for what servers or the ledger do: it is logged, and costs this epoch's audits at most. */
export function createAccounting(options: AccountingOptions): Accounting {
  const { ledger, signer, subnetId, nodeId, pool } = options
  const log = (options.log ?? silentLogger).child('accounting')
  const found = new Map<number, AuditFinding[]>()
  const accused = new Set<number>()
  /** Accountants' peers by epoch. */
  const accountants = new Map<
    number,
    { readonly chosen: readonly number[]; readonly peers: ReadonlySet<string> }
  >()
  let busy: Promise<void> | undefined

  /** Who may audit is known from the epoch's first block on; audits begin later. */
  async function choose(view: EpochView, time: EpochTime): Promise<readonly number[]> {
    const slot = view.block - time.epoch * ledger.info.epochBlocks
    const request = { subnetId, epoch: time.epoch, slot, blockHash: view.blockHash }
    const chosen = await accountantsOf(ledger, request, view.validators, view.parameters.accountants)
    const peers = view.nodes.filter((node) => chosen.includes(node.nodeId)).map(({ peerId }) => peerId)
    accountants.set(time.epoch, { chosen, peers: new Set(peers) })
    for (const epoch of accountants.keys()) if (epoch < time.epoch - 1) accountants.delete(epoch)
    return chosen
  }

  async function audit(view: EpochView, time: EpochTime): Promise<void> {
    const chosen = accountants.get(time.epoch)?.chosen ?? (await choose(view, time))
    if (time.progress < BEGIN || found.has(time.epoch)) return
    found.set(time.epoch, [])
    for (const epoch of found.keys()) if (epoch < time.epoch - KEPT_EPOCHS) found.delete(epoch)
    if (!chosen.includes(nodeId)) return
    const seed = hexToBytes(view.blockHash.replace(/^0x/, ''))
    const tasks = planAudits(seed, nodeId, pool.counted(view), options.audits ?? AUDITS)
    const findings = found.get(time.epoch)!
    for (const task of tasks) {
      const finding = await runAudit(task, options)
      log.info('audited', {
        epoch: time.epoch,
        node: task.nodeId,
        outcome: finding?.outcome ?? 'not run',
        reason: finding?.reason,
      })
      if (finding === undefined) continue
      findings.push(finding)
      options.onDone?.('audited')
      if (finding.proof !== undefined) await accuse(view, finding, finding.proof)
    }
    if (tasks.length > 0 && ledger.info.disputes) {
      await send(() =>
        ledger.submit(
          submitAccountantData(subnetId, nodeId, time.epoch, encodeFindings(time.epoch, findings)),
          signer,
        ),
      )
    }
  }

  async function accuse(
    view: EpochView,
    { nodeId: defendant, reason }: AuditFinding,
    proof: Uint8Array,
  ): Promise<void> {
    const hash = pool.keep(view.epoch + KEPT_EPOCHS, proof)
    await options.keepProof?.(hash, proof)
    if (!ledger.info.disputes || accused.has(defendant)) return
    const open = await ledger.disputes(subnetId)
    if (open.some((dispute) => dispute.defendant === defendant && dispute.outcome === 'open')) return
    accused.add(defendant)
    const evidence = faultProofHash(proof)
    log.warn('accuses', { node: defendant, evidence: hash })
    if (
      !(await send(() =>
        ledger.submit(proposeDispute(subnetId, nodeId, { defendant, evidence, reason }), signer),
      ))
    ) {
      accused.delete(defendant)
    } else options.onDone?.('accused')
  }

  async function send(submit: () => Promise<unknown>): Promise<boolean> {
    try {
      await submit()
      return true
    } catch (error) {
      log.warn('not accepted', { reason: errorMessage(error) })
      return false
    }
  }

  return {
    onView(view, time) {
      if (busy !== undefined || found.has(time.epoch)) return
      busy = audit(view, time)
        .catch((error: unknown) =>
          log.warn('audits failed', { epoch: time.epoch, reason: errorMessage(error) }),
        )
        .finally(() => (busy = undefined))
    },
    mayAudit: (peerId) => [...accountants.values()].some(({ peers }) => peers.has(peerId)),
    findings: (epoch) =>
      (found.get(epoch) ?? []).map(({ nodeId: id, session, outcome }) => ({ nodeId: id, session, outcome })),
    idle: async () => await busy,
  }
}
