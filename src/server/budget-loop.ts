import { errorMessage } from '../errors.ts'
import type { Logger } from '../log.ts'
import type { ServerRecord } from '../routing/snapshot.ts'
import type { Span } from '../session/span-runner.ts'
import { lookNowAndThen } from './look-now-and-then.ts'
import { decideShift, type HeldShare } from './shift-budget.ts'

/** A span whose part of the budget can change. */
export interface ResizableSpan {
  /** What it holds now. */
  share(): Omit<HeldShare, 'records'>
  records(): Promise<readonly ServerRecord[]>
  /** Serves another span, with another part of the budget. */
  resize(span: Span, maxBlocks: number): Promise<void>
}

export interface BudgetLoopOptions {
  readonly spans: readonly ResizableSpan[]
  /** Memory of all of them together. */
  readonly bytes: number
  readonly peerId: string
  /** About how often to look (default five minutes; a quarter more or less). */
  readonly decideMs?: number
  readonly random: () => number
  readonly log: Logger
  readonly now?: () => number
}

const DECIDE_MS = 300_000
/** Whose turn it is stays so for this many looks: two of them must agree. */
const LOOKS_A_TURN = 4

/**
 * Looks now and then whether memory should go from one model to another, and does what `decideShift` decides when it
 * decides so twice in a row: a server that is only late with its record leaves no gap.
 * @returns how to stop; a shift under way is finished by then.
 */
export function startBudgetLoop(options: BudgetLoopOptions): { stop(): Promise<void> } {
  const { spans, bytes, peerId, log, random } = options
  const now = options.now ?? Date.now
  const decideMs = options.decideMs ?? DECIDE_MS
  let last: string | undefined

  const look = async (signal: AbortSignal): Promise<void> => {
    const records = await Promise.all(spans.map((span) => span.records()))
    if (signal.aborted) return
    const shares = spans.map((span, i) => ({ ...span.share(), records: records[i]! }))
    const period = Math.floor(now() / (LOOKS_A_TURN * decideMs))
    const shift = decideShift(shares, bytes, { peerId, now: now(), period })
    const again = shift && `${shift.from?.model} ${shift.to.model}`
    const sure = again !== undefined && again === last
    last = again
    if (shift === undefined || !sure) return
    last = undefined
    const { from, to } = shift
    log.info('memory goes to another model', {
      from: from?.model ?? 'none',
      to: to.model,
      blocks: to.maxBlocks,
    })
    if (from) await spans[from.model]!.resize(from.keep, from.keep.end - from.keep.start)
    await spans[to.model]!.resize(to.span, to.maxBlocks)
  }

  return lookNowAndThen({
    look,
    pauseMs: () => decideMs,
    onError: (error) => log.warn('the budget stays as it is', { reason: errorMessage(error) }),
    random,
  })
}
