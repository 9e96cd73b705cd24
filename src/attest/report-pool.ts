import { ChoraleError } from '../errors.ts'
import type { VerifySignature } from '../protocol/receipt-check.ts'
import { type OpenReport, openReport, parseReport } from './epoch-report.ts'
import { contentHash } from './evidence.ts'
import { type LedgerView, reportCounts } from './snapshot.ts'

/**
 * The epoch reports and manifests that arrived here, by content address.
 *
 * A node that signed two different reports of one epoch shows different evidence to different validators: none of its
 * reports is counted here.
 */
export interface ReportPool {
  /**
   * Checks a report's signatures and keeps it.
   * @returns false when it was here already. @throws `protocol` when it is wrong, `limit` when the pool is full.
   */
  add(bytes: Uint8Array): Promise<boolean>
  /** Keeps bytes of another kind (a manifest) for others to fetch. @returns its content address. */
  keep(epoch: number, bytes: Uint8Array): string
  /** What is here under a content address: answers others' fetches. */
  get(hash: string): Uint8Array | undefined
  opened(hash: string): OpenReport | undefined
  /** Reports that may count for `view`, by node id. */
  counted(view: LedgerView): readonly OpenReport[]
  /** Forgets all epochs before `epoch`, and takes only those soon after it from now on. */
  forgetBefore(epoch: number): void
}

export interface ReportPoolOptions {
  readonly subnetId: number
  readonly verify: VerifySignature
  /** Whether the peer is this node on the ledger now: reports of strangers are never kept. */
  readonly isNode: (nodeId: number, peerId: string) => boolean
  /** Default 96 MiB: two epochs of 256 nodes. */
  readonly maxBytes?: number
}

const MAX_BYTES = 96 * 2 ** 20
/** Epochs after the oldest kept one: reports of a far future would stay for ever. */
const MAX_EPOCHS = 4
/** A node may be seen equivocating; more of its reports prove nothing more. */
const MAX_REPORTS_PER_NODE = 2

/** An empty pool. */
export function createReportPool(options: ReportPoolOptions): ReportPool {
  const { subnetId, verify, isNode, maxBytes = MAX_BYTES } = options
  const reports = new Map<string, OpenReport>()
  /** `epoch node` → content addresses. */
  const byNode = new Map<string, string[]>()
  const others = new Map<string, { epoch: number; bytes: Uint8Array }>()
  /** Oldest epoch that is still taken. */
  let oldest: number | undefined
  let size = 0

  function take(bytes: Uint8Array): void {
    if (size + bytes.length > maxBytes) {
      throw new ChoraleError('limit', `the pool of epoch reports is full (${maxBytes} bytes)`)
    }
    size += bytes.length
  }

  return {
    async add(bytes) {
      const hash = contentHash(bytes)
      if (reports.has(hash)) return false
      // The cheap checks first: signatures cost a thousand times more.
      const { report } = parseReport(bytes)
      const refuse = (why: string) =>
        new ChoraleError('protocol', `epoch report of node ${report.nodeId}: ${why}`, { field: 'nodeId' })
      if (report.subnetId !== subnetId) throw refuse(`subnet ${report.subnetId} instead of ${subnetId}`)
      if (oldest !== undefined && (report.epoch < oldest || report.epoch > oldest + MAX_EPOCHS)) {
        throw refuse(`epoch ${report.epoch} is not among ${oldest} to ${oldest + MAX_EPOCHS}`)
      }
      if (!isNode(report.nodeId, report.peerId)) throw refuse(`peer ${report.peerId} is not that node`)
      const key = `${report.epoch} ${report.nodeId}`
      if ((byNode.get(key)?.length ?? 0) >= MAX_REPORTS_PER_NODE) throw refuse('reported twice already')
      const opened = await openReport(bytes, verify)
      const known = byNode.get(key) ?? []
      if (reports.has(hash) || known.length >= MAX_REPORTS_PER_NODE) return false
      take(bytes)
      reports.set(hash, opened)
      byNode.set(key, [...known, hash])
      return true
    },
    keep(epoch, bytes) {
      const hash = contentHash(bytes)
      if (!others.has(hash)) {
        take(bytes)
        others.set(hash, { epoch, bytes })
      }
      return hash
    },
    get: (hash) => reports.get(hash)?.bytes ?? others.get(hash)?.bytes,
    opened: (hash) => reports.get(hash),
    counted(view) {
      return view.nodes
        .flatMap(({ nodeId }) => {
          const [hash, second] = byNode.get(`${view.epoch} ${nodeId}`) ?? []
          const report = hash === undefined || second !== undefined ? undefined : reports.get(hash)
          return report !== undefined && reportCounts(report, view) ? [report] : []
        })
        .toSorted((a, b) => a.report.nodeId - b.report.nodeId)
    },
    forgetBefore(epoch) {
      oldest = Math.max(oldest ?? 0, epoch)
      for (const [hash, { report, bytes }] of reports) {
        if (report.epoch >= oldest) continue
        reports.delete(hash)
        byNode.delete(`${report.epoch} ${report.nodeId}`)
        size -= bytes.length
      }
      for (const [hash, { epoch: of, bytes }] of others) {
        if (of >= oldest) continue
        others.delete(hash)
        size -= bytes.length
      }
    },
  }
}
