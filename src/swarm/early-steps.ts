import { ChoraleError } from '../errors.ts'
import { MAX_EARLY_BYTES, MAX_EARLY_STEPS } from '../protocol/limits.ts'
import type { Step } from '../protocol/messages.ts'
import type { Feedable } from './push-desk.ts'
import type { ByteBudget } from './span-host.ts'

/** Steps that came right behind OPEN or ATTACH, before whoever sent them was admitted. */
export interface EarlySteps {
  /** Refuses one by its header alone. @throws `protocol` for more than may wait, `capacity` where the server is full. */
  check(payloadLength: number): void
  add(step: Step, payload: Uint8Array): void
  /** Gives all to the session they are for. @throws what it throws. */
  giveTo(session: Feedable): void
  /** Drops all. */
  clear(): void
}

/** None yet. They count in `budget` as all waiting steps of the server do. */
export function createEarlySteps(budget: ByteBudget): EarlySteps {
  let waiting: { readonly step: Step; readonly payload: Uint8Array }[] = []
  let bytes = 0
  const clear = (): void => {
    waiting = []
    budget.give(bytes)
    bytes = 0
  }
  return {
    check: (payloadLength) => {
      if (waiting.length >= MAX_EARLY_STEPS || bytes + payloadLength > MAX_EARLY_BYTES) {
        throw new ChoraleError(
          'protocol',
          `more than ${MAX_EARLY_STEPS} steps or ${MAX_EARLY_BYTES} bytes before the session was opened`,
        )
      }
      if (budget.full) throw new ChoraleError('capacity', 'too many steps wait on this server')
    },
    add: (step, payload) => {
      // A view of what the stream read would keep all of it.
      waiting.push({ step, payload: payload.slice() })
      bytes += payload.length
      budget.take(payload.length)
    },
    giveTo: (session) => {
      const steps = waiting
      clear()
      for (const { step, payload } of steps) {
        session.checkStep(step, payload.length)
        session.takeStep(step, payload)
      }
    },
    clear,
  }
}
