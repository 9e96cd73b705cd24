import type { AuditEntry } from '../attest/epoch-report.ts'
import type { PolicyState } from '../attest/policy/policy-shelf.ts'
import type { NodeClass } from '../ledger/ledger.ts'
import type { Counter, Metrics } from '../metrics.ts'

/** For people and dashboards. */
export interface DutiesState {
  /** Last block that was looked at. */
  readonly block: number
  /** This server on the ledger; undefined when it is no node of the subnet, or the hotkey is not its own. */
  readonly nodeId: number | undefined
  readonly nodeClass: NodeClass | undefined
  /** Subnet epoch, and parts per thousand of it that have passed. */
  readonly epoch: number | undefined
  readonly progress: number | undefined
  /** Node elected for it. */
  readonly elected: number | undefined
  /** What this node does or waits for. */
  readonly duty: string
  /** Attestors of the epoch before, in parts per thousand of its validators; undefined when nothing was proposed. */
  readonly lastAttestation: number | undefined
  /** The program that the ledger puts in the formula's place, if any, and whether it is here. */
  readonly policy: PolicyState
  /** What this node found as an accountant in this epoch. */
  readonly findings: readonly AuditEntry[]
}

/** The same as numbers, `chorale_duties_*`. */
export interface DutiesMetrics {
  readonly proofs: Counter
  /** By `DutyDone`. */
  readonly done: Counter
  readonly upheld: Counter
  show(state: DutiesState): void
}

/** Registers them. */
export function dutiesMetrics(metrics: Metrics): DutiesMetrics {
  const gauge = (name: string, help: string) => metrics.gauge(`chorale_duties_${name}`, help)
  const block = gauge('block', 'Last ledger block looked at.')
  const epoch = gauge('epoch', 'Subnet epoch.')
  const elected = gauge('elected', '1 when this node is elected for the epoch.')
  const attestation = gauge('last_attestation_ratio', 'Attestors of the epoch before, of its validators.')
  const findings = metrics.gauge('chorale_duties_findings', 'What audits of this epoch found.', ['outcome'])
  const policy = metrics.gauge(
    'chorale_duties_policy',
    '1 in the state that the subnet’s policy program is in; missing or refused: nothing is proposed or attested.',
    ['state'],
  )
  return {
    done: metrics.counter('chorale_duties_done_total', 'What this node did for its epochs.', ['duty']),
    proofs: metrics.counter('chorale_duties_fault_proofs_total', 'Fault proofs this node made.'),
    upheld: metrics.counter('chorale_duties_upheld_total', 'Disputes seen upheld.'),
    show: (state: DutiesState): void => {
      block.set(state.block)
      if (state.epoch !== undefined) epoch.set(state.epoch)
      for (const name of ['none', 'looking', 'here', 'missing', 'refused'] as const) {
        policy.set(state.policy.state === name ? 1 : 0, { state: name })
      }
      elected.set(state.nodeId !== undefined && state.elected === state.nodeId ? 1 : 0)
      if (state.lastAttestation !== undefined) attestation.set(state.lastAttestation / 1_000)
      for (const outcome of ['passed', 'failed', 'unavailable'] as const) {
        findings.set(state.findings.filter((entry) => entry.outcome === outcome).length, { outcome })
      }
    },
  }
}
