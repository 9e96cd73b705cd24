import { ChoraleError } from '../errors.ts'
import type { ServerRecord } from '../routing/snapshot.ts'
import { cancelled } from './check-step.ts'
import type { Deadlines } from './deadlines.ts'

/** What is waited for, and how patiently. Times are milliseconds. */
export interface Watch {
  readonly server: ServerRecord
  /** Without any answer of the server. */
  readonly patience: number
  /** The caller's stop. */
  readonly signal: AbortSignal | undefined
  /** Aborts, with the reason, when the hop dies. */
  readonly dead: AbortSignal
  readonly clock: () => number
  readonly deadlines: Deadlines
  /** When the server last answered anything: steps wait for those before them, so patience begins anew. */
  readonly lastSignOfLife: () => number
  /** The server can't be late before its input is there; half its patience later the input is brought again. */
  readonly input?: { readonly given: Promise<unknown>; readonly again: () => void }
}

/** After this part of its patience the client brings a step itself that should have come from another server. */
const AGAIN_PART = 0.5

/** The outcome of `work`, or the hop's death, the caller's stop, or a stall: `patience` without any answer. */
export function watched<T>(work: Promise<T>, watch: Watch): Promise<T> {
  const { server, patience, signal, dead, clock, deadlines, input } = watch
  let sentAt = clock()
  return new Promise<T>((resolve, reject) => {
    let stopWaiting: (() => void) | undefined
    let stopHedge: (() => void) | undefined
    let over = false
    const onDead = () => finish(() => reject(dead.reason))
    const onCancel = () => finish(() => reject(cancelled()))
    const check = () => {
      const silent = clock() - Math.max(sentAt, watch.lastSignOfLife())
      if (silent < patience) stopWaiting = deadlines.after(patience - silent, check)
      else finish(() => reject(stalled(server, patience)))
    }
    const start = () => {
      if (over) return
      sentAt = clock()
      stopWaiting = deadlines.after(patience, check)
      if (input) stopHedge = deadlines.after(patience * AGAIN_PART, input.again)
    }
    function finish(settle: () => void): void {
      over = true
      stopWaiting?.()
      stopHedge?.()
      dead.removeEventListener('abort', onDead)
      signal?.removeEventListener('abort', onCancel)
      settle()
    }
    if (input) void input.given.then(start, start)
    else start()
    dead.addEventListener('abort', onDead)
    signal?.addEventListener('abort', onCancel)
    if (dead.aborted) onDead()
    else if (signal?.aborted) onCancel()
    work.then(
      (value) => finish(() => resolve(value)),
      (error: unknown) => finish(() => reject(error)),
    )
  })
}

function stalled(server: ServerRecord, patience: number): ChoraleError {
  return new ChoraleError('timeout', `${server.peerId} gave no answer for ${Math.round(patience)} ms`)
}
