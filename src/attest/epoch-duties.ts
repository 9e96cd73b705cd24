import { type ChoraleError, isChoraleError } from '../errors.ts'
import type { Consensus } from '../ledger/ledger.ts'
import type { SubnetParameters } from '../ledger/subnet-parameters.ts'
import { type EpochTime, epochWindow } from './epoch-clock.ts'

/**
 * What a validator owes its subnet now: `(view, memory) → duty`. Pure.
 *
 * What was proposed and attested is read from the ledger on every block and nowhere else, so a restart, a reorg or a
 * call whose fate is unknown needs no recovery of its own. Memory only spaces repeated looks.
 */

/** What the ledger's best block and the pool of reports say. */
export interface DutyView {
  readonly time: EpochTime
  readonly nodeId: number
  /** Node elected for this epoch; undefined when nobody is. */
  readonly elected: number | undefined
  /** This epoch's proposal. */
  readonly consensus: Consensus | undefined
  /** Whether this node's class is Validator and counts by now. */
  readonly isValidator: boolean
  /** Reports of the scored epoch that are here, and nodes that may send one. */
  readonly reports: { readonly here: number; readonly expected: number }
}

/** What was tried in this epoch by this process. */
export interface DutyMemory {
  readonly epoch: number
  /** Progress (parts per thousand) at which this process first saw the epoch. */
  readonly since: number
  /** Looks at the proposal that ended in disagreement. */
  readonly looks: number
  /** Progress (parts per thousand) at the first of them. */
  readonly firstLook: number
  /** Proposals and attestations sent that the ledger refused, or whose fate is unknown. */
  readonly failures: number
}

export type Duty =
  | { readonly do: 'propose' }
  /** Recompute the scores of the proposal, and attest when they agree. */
  | { readonly do: 'examine'; readonly consensus: Consensus }
  | { readonly do: 'nothing'; readonly reason: string }

/**
 * What a node did; a label of the metrics. `disagreed`: it looked at a proposal and did not attest. `unscored`: the
 * subnet's policy program is not here, or fails. `refused`: the ledger did not take a call.
 */
export type DutyDone =
  | 'reported'
  | 'proposed'
  | 'attested'
  | 'disagreed'
  | 'audited'
  | 'accused'
  | 'unscored'
  | 'refused'

/** Whether scores are missing because of the subnet's policy program: it is not here, or fails. */
export function isPolicyError(error: unknown): error is ChoraleError {
  return isChoraleError(error) && (error.field === 'policy' || error.field === 'policy.sha256')
}

/** A call that keeps failing is given up for the epoch: each refused one may cost a fee. */
const MAX_FAILURES = 5

/** Memory of an epoch that this process sees for the first time. */
export function newEpochMemory({ epoch, progress }: EpochTime): DutyMemory {
  return { epoch, since: progress, looks: 0, firstLook: 0, failures: 0 }
}

function memoryOf(memory: DutyMemory | undefined, time: EpochTime): DutyMemory {
  return memory?.epoch === time.epoch ? memory : newEpochMemory(time)
}

/** The duty at `view`. */
export function decideDuty(
  view: DutyView,
  memory: DutyMemory | undefined,
  windows: SubnetParameters['epoch'],
): Duty {
  const { consensus, elected, nodeId, time } = view
  const known = memoryOf(memory, time)
  if (known.failures >= MAX_FAILURES) return nothing(`gave up after ${MAX_FAILURES} refused calls`)
  const window = epochWindow(time.progress, windows)
  if (consensus === undefined) {
    if (elected !== nodeId)
      return nothing(elected === undefined ? 'nobody is elected' : 'waits for the proposal')
    if (window === 'early') return nothing('too early to propose')
    if (window !== 'propose') return nothing('too late to propose')
    return waitsForReports(view, known, windows) ? nothing('waits for reports') : { do: 'propose' }
  }
  if (consensus.attestors.includes(nodeId)) {
    return nothing(consensus.proposer === nodeId ? 'proposed' : 'attested')
  }
  if (!view.isValidator || !consensus.validators.includes(nodeId))
    return nothing('no validator of this epoch')
  if (window === 'closed') return nothing('too late to attest')
  if (known.looks >= windows.attestTries) return nothing(`disagrees after ${known.looks} looks`)
  if (time.progress < nextLook(known, windows)) return nothing('disagrees, and will look again')
  return { do: 'examine', consensus }
}

/** Memory after a look that ended in disagreement. */
export function afterDisagreement(memory: DutyMemory | undefined, time: EpochTime): DutyMemory {
  const known = memoryOf(memory, time)
  return { ...known, looks: known.looks + 1, firstLook: known.looks === 0 ? time.progress : known.firstLook }
}

/** Memory after a call that the ledger refused, or that nobody knows the fate of. */
export function afterFailure(memory: DutyMemory | undefined, time: EpochTime): DutyMemory {
  const known = memoryOf(memory, time)
  return { ...known, failures: known.failures + 1 }
}

/** Looks are spread evenly over what was left of the epoch at the first one: evidence arrives late, not never. */
function nextLook(
  { looks, firstLook }: DutyMemory,
  { attestTries, attestUntil }: SubnetParameters['epoch'],
): number {
  return looks === 0 ? 0 : firstLook + Math.ceil((looks * (attestUntil - firstLook)) / attestTries)
}

/**
 * Proposing early pays; a fifth of the window is time enough for what travels, counted from when this process came,
 * as long as the window lasts.
 */
function waitsForReports(
  { reports, time }: DutyView,
  { since }: DutyMemory,
  { proposeFrom, proposeUntil }: SubnetParameters['epoch'],
): boolean {
  const patience = (proposeUntil - proposeFrom) / 5
  const until = Math.min(Math.max(proposeFrom, since) + patience, proposeUntil - patience)
  return reports.here < reports.expected && time.progress < until
}

function nothing(reason: string): Duty {
  return { do: 'nothing', reason }
}
