/** Looks in turn, one at a time, at intervals that differ by a quarter so that servers started together do not act together. */
export interface NowAndThen {
  /** Ends the looks, after the one under way. */
  stop(): Promise<void>
}

export interface NowAndThenOptions {
  /** What is done; the next interval begins when it is over. The signal: looks have ended. */
  readonly look: (signal: AbortSignal) => Promise<void>
  /** Mean of the next interval in ms, asked anew each time. */
  readonly pauseMs: () => number
  /** A look that failed; the looks go on. */
  readonly onError: (error: unknown) => void
  /** In [0, 1). */
  readonly random: () => number
}

/** Starts with an interval. */
export function lookNowAndThen({ look, onError, pauseMs, random }: NowAndThenOptions): NowAndThen {
  const ended = new AbortController()
  let looking: Promise<void> = Promise.resolve()
  let timer: ReturnType<typeof setTimeout> | undefined
  const schedule = (): void => {
    timer = setTimeout(
      () => {
        looking = look(ended.signal)
          .catch(onError)
          .finally(() => {
            if (!ended.signal.aborted) schedule()
          })
      },
      pauseMs() * (0.75 + random() / 2),
    )
  }
  schedule()
  return {
    stop: async () => {
      ended.abort()
      clearTimeout(timer)
      await looking
    },
  }
}
