import type { LedgerBlock } from '../ledger/ledger.ts'
import type { FaultJudge } from './fault-proof.ts'
import type { AuditEntry, EpochReport, Sighting } from './epoch-report.ts'
import { followBlocks } from './follow-blocks.ts'
import type { EpochView } from './ledger-view.ts'
import { type Accounting, type AccountingOptions, createAccounting } from './run-accounting.ts'
import { createDisputes, type DisputesOptions } from './run-disputes.ts'
import { createEpochDuties, type EpochDutiesOptions, type EpochDutyState } from './run-epoch-duties.ts'

/** All duties of a subnet node, on one watch of the ledger: report, propose or attest, audit, judge disputes. */

export interface AttestOptions extends Omit<EpochDutiesOptions, 'makeReport' | 'onView'> {
  /**
   * What this node did and saw in the epoch that ended; undefined when it knows nothing of it, as after a start. The
   * audits are added here.
   */
  readonly observe: (view: EpochView) => Promise<Observations | undefined>
  readonly judge: FaultJudge
  readonly ask: AccountingOptions['ask']
  readonly audits?: number
  readonly keepProof?: NonNullable<AccountingOptions['keepProof']>
  readonly onUpheld?: NonNullable<DisputesOptions['onUpheld']>
}

/** A node's own part of its report. */
export interface Observations {
  readonly peerId: string
  readonly modelId: string
  readonly blockCount: number
  /** Blocks [start, end) that it served; 0, 0 for none. */
  readonly start: number
  readonly end: number
  readonly sightings: readonly Sighting[]
  /** `encodeWorkProof` of sessions whose inputs the audit store still has. */
  readonly receipts: readonly Uint8Array[]
}

export interface Attest {
  readonly state: EpochDutyState | undefined
  findings(epoch: number): readonly AuditEntry[]
  /** Whether a peer's AUDIT is to be answered: it is an accountant of this epoch or the last. */
  mayAudit(peerId: string): boolean
  /** Does what a block asks for; for tests and simulations that make blocks themselves. */
  onBlock(block: LedgerBlock): Promise<void>
  /** Resolves when no audit is under way. */
  idle(): Promise<void>
}

/** All duties, driven by whoever calls `onBlock`: in block order, one at a time. */
export function createAttest(options: AttestOptions): Attest {
  const { ledger, nodeId, pool, signer, subnetId } = options
  const accounting: Accounting = createAccounting(options)
  const duties = createEpochDuties({
    ...options,
    makeReport: async (view): Promise<EpochReport | undefined> => {
      const seen = await options.observe(view)
      if (seen === undefined) return undefined
      const sightings = seen.sightings
        .filter((sighting) => sighting.nodeId !== nodeId)
        .toSorted((a, b) => a.nodeId - b.nodeId)
      const audits = accounting.findings(view.epoch)
      return { ...seen, subnetId, epoch: view.epoch, nodeId, sightings, audits }
    },
    onView: (view, time) => accounting.onView(view, time),
  })
  const disputes = createDisputes({
    ledger,
    signer,
    subnetId,
    nodeId,
    judge: options.judge,
    fetch: async (hash, holders, signal) => pool.get(hash) ?? (await options.fetch(hash, holders, signal)),
    ...(options.onUpheld && { onUpheld: options.onUpheld }),
    ...(options.log && { log: options.log }),
  })
  return {
    get state() {
      return duties.state
    },
    findings: (epoch) => accounting.findings(epoch),
    mayAudit: (peerId) => accounting.mayAudit(peerId),
    async onBlock(block) {
      await duties.onBlock(block)
      await disputes.onBlock(block)
    },
    idle: () => accounting.idle(),
  }
}

/** Follows the ledger; when blocks come faster than duties are done, the newest one counts. */
export function runAttest(options: AttestOptions): Attest & { stop(): Promise<void> } {
  const attest = createAttest(options)
  const follower = followBlocks(options.ledger, (block) => attest.onBlock(block))
  return {
    get state() {
      return attest.state
    },
    findings: (epoch) => attest.findings(epoch),
    mayAudit: (peerId) => attest.mayAudit(peerId),
    onBlock: (block) => attest.onBlock(block),
    idle: () => attest.idle(),
    async stop() {
      await follower.stop()
      await attest.idle()
    },
  }
}
