import { ChoraleError } from '../errors.ts'
import { MAX_ADOPTS_PER_SESSION } from '../protocol/limits.ts'
import type { Adopt, Rollback, Step } from '../protocol/messages.ts'

/** What the next step of a session must say, counting those that wait. */
export interface StepTurns {
  /** Set when the session was linked: steps may come two ways then, so repeats are dropped and numbers may be skipped. */
  linked: boolean
  /** Refuses a step by its header alone. @throws `protocol`. */
  check(step: Step, payloadLength: number): void
  /** Notes a step that was checked. @returns false when it came before, by the other way. */
  take(step: Step): boolean
  /** Notes a rollback. @throws `protocol`. */
  rollback(message: Rollback): void
  /** Notes that tokens come from other servers. @throws `protocol`. */
  adopt(message: Adopt): void
}

/** What bounds the steps of one session. */
export interface StepBounds {
  /** Tokens of the lease. */
  readonly maxTokens: number
  /** Tokens of one step. */
  readonly maxStepTokens: number
  /** Bytes of one token's hidden state on the wire. */
  readonly rowBytes: number
}

/** The turns of a session that holds nothing yet. */
export function createStepTurns({ maxTokens, maxStepTokens, rowBytes }: StepBounds): StepTurns {
  let linked = false
  let nextSeq = 0
  let nextPosition = 0
  let adopts = 0
  const wrong = (message: string): ChoraleError => new ChoraleError('protocol', message)
  return {
    get linked() {
      return linked
    },
    set linked(value) {
      linked = value
    },
    check: (step, payloadLength) => {
      const again = linked && step.seq < nextSeq
      const inTurn = step.seq === nextSeq || (linked && step.seq > nextSeq)
      if (!again && (!inTurn || step.position > nextPosition)) {
        throw wrong(`step ${step.seq} at ${step.position}, expected was ${nextSeq} at ${nextPosition}`)
      }
      if (step.tokens > maxStepTokens) {
        throw wrong(`step of ${step.tokens} tokens (at most ${maxStepTokens})`)
      }
      const bytes = step.tokens * rowBytes
      if (payloadLength !== bytes) {
        throw wrong(`step of ${step.tokens} tokens carries ${payloadLength} bytes instead of ${bytes}`)
      }
      if (step.position + step.tokens > maxTokens) {
        throw wrong(`step to ${step.position + step.tokens} tokens passes the lease of ${maxTokens}`)
      }
    },
    take: (step) => {
      if (step.seq < nextSeq) return false
      nextSeq = step.seq + 1
      nextPosition = step.position + step.tokens
      return true
    },
    rollback: ({ seq, position }) => {
      if ((linked ? seq < nextSeq : seq !== nextSeq) || position > nextPosition) {
        throw wrong(`rollback ${seq} to ${position}, the session is at ${nextSeq} and ${nextPosition}`)
      }
      nextSeq = seq + 1
      nextPosition = position
    },
    adopt: ({ seq, from, position }) => {
      if (++adopts > MAX_ADOPTS_PER_SESSION) {
        throw wrong(`more than ${MAX_ADOPTS_PER_SESSION} hand-overs of one session`)
      }
      if ((linked ? seq < nextSeq : seq !== nextSeq) || from > nextPosition) {
        throw wrong(`adopt ${seq} from ${from}, the session is at ${nextSeq} and ${nextPosition}`)
      }
      if (position > maxTokens) throw wrong(`adopt to ${position} tokens passes the lease of ${maxTokens}`)
      nextSeq = seq + 1
      // At most: the queue knows how far it went.
      nextPosition = position
    },
  }
}
