import { vi } from 'vitest'

/** Loop turns without which nothing in these tests goes on: work that needs more between two timers would look idle. */
const QUIET_TURNS = 100

/**
 * Time that passes only while nothing else happens: a timer fires when the event loop had nothing to do. Patience of
 * milliseconds then costs none, and a busy machine makes nobody look stalled. For code that waits for nothing outside this
 * process. @returns ends it.
 */
export function startIdleTime(): () => void {
  const turn = setImmediate
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
  let over = false
  const idle = (turns: number): void => {
    if (over) return
    if (turns < QUIET_TURNS) turn(() => idle(turns + 1))
    else {
      vi.advanceTimersToNextTimer()
      turn(() => idle(0))
    }
  }
  idle(0)
  return () => {
    over = true
    vi.useRealTimers()
  }
}
