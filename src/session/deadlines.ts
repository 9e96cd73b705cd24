/** Timers of which nearly all are taken back: watches on answers that come. */
export interface Deadlines {
  /** Runs `work` in `ms`, unless the function that it returns is called before. */
  after(ms: number, work: () => void): () => void
  /** Says that no more will be set: with the last one that is taken back the timer goes too, and keeps no process alive. */
  end(): void
}

interface Deadline {
  readonly at: number
  readonly work: () => void
}

/**
 * Many deadlines on one timer of the platform. Setting one and taking it back again costs a browser's page some 10 µs, and
 * a token sets nine; here both are free as long as an earlier deadline is set, or was: the timer then goes off for
 * nothing and is set anew.
 */
export function createDeadlines(): Deadlines {
  const waiting = new Set<Deadline>()
  let timer: ReturnType<typeof setTimeout> | undefined
  let goesOffAt = Infinity
  let ended = false

  const setTimer = (at: number, now: number): void => {
    clearTimeout(timer)
    goesOffAt = at
    timer = setTimeout(goOff, at - now)
  }
  const goOff = (): void => {
    const due = goesOffAt
    timer = undefined
    goesOffAt = Infinity
    let next = Infinity
    for (const deadline of waiting) {
      // Not by the clock: the timer may go off a little before it, and it may have been set.
      if (deadline.at > due) next = Math.min(next, deadline.at)
      else {
        waiting.delete(deadline)
        deadline.work()
      }
    }
    // What just ran may have set an earlier one.
    if (next < goesOffAt) setTimer(next, Date.now())
  }

  const rest = (): void => {
    if (!ended || waiting.size > 0) return
    clearTimeout(timer)
    timer = undefined
    goesOffAt = Infinity
  }

  return {
    after(ms, work) {
      const now = Date.now()
      const deadline = { at: now + ms, work }
      waiting.add(deadline)
      if (deadline.at < goesOffAt) setTimer(deadline.at, now)
      return () => {
        waiting.delete(deadline)
        rest()
      }
    },
    end() {
      ended = true
      rest()
    },
  }
}
