/**
 * How many guessed tokens to send along in one lap of the chain: as many as pay for themselves.
 *
 * A lap of w guesses takes about `lap + w·row` and gives (1 − p^(w+1)) / (1 − p) tokens when each guess is right with
 * probability p. Far chains have long laps and cheap rows, so they take many; on one machine rows cost nearly as
 * much as laps, and only good guesses are worth it. All three are measured as the answer goes on.
 */
export interface DraftWindow {
  /** Most guesses of `kind` to send now, at most `limit`. */
  size(kind: number, limit: number): number
  /** Notes a lap of `guesses` guesses of `kind`, of which the first `right` were right. */
  note(lap: {
    readonly ms: number
    readonly kind: number
    readonly guesses: number
    readonly right: number
  }): void
}

export interface DraftWindowOptions {
  /** Milliseconds a row is thought to cost before a lap with guesses was timed: a prompt's time by its length. */
  readonly rowMs?: number
  /** Most guesses in a lap (default 15). */
  readonly max?: number
}

const MAX_GUESSES = 15
/** Guesses must promise at least this much more, or the noise of measuring decides. */
const LEAST_GAIN = 1.05
/** Weight of the newest lap. */
const NEWEST = 0.2
/** What a kind is thought to be worth at first, as if that many guesses had been seen. */
const PRIOR_GUESSES = 4
const PRIOR_RIGHT: readonly number[] = [0.1, 0.2, 0.45, 0.6, 0.7]
/** Old guesses count less: an answer may quote for a while and then go its own way. */
const FADE = 0.9
/** A kind that was given up is tried again after this many laps without it, with a few guesses. */
const RETRY_LAPS = 48

/** A window that knows nothing yet: the first laps go without guesses. */
export function createDraftWindow(options: DraftWindowOptions = {}): DraftWindow {
  const { max = MAX_GUESSES } = options
  let lapMs: number | undefined
  let rowMs = options.rowMs
  const seen = new Map<number, { right: number; guesses: number; idle: number }>()

  function record(kind: number) {
    let entry = seen.get(kind)
    if (!entry) {
      const share = PRIOR_RIGHT[Math.min(kind, PRIOR_RIGHT.length - 1)]!
      entry = { right: share * PRIOR_GUESSES, guesses: PRIOR_GUESSES, idle: 0 }
      seen.set(kind, entry)
    }
    return entry
  }

  return {
    size(kind, limit) {
      const most = Math.min(limit, max)
      if (lapMs === undefined || most < 1) return 0
      const entry = record(kind)
      const right = Math.min(entry.right / entry.guesses, 0.99)
      const row = Math.min(rowMs ?? lapMs, lapMs)
      const speed = (guesses: number) => (1 - right ** (guesses + 1)) / (1 - right) / (lapMs! + guesses * row)
      let best = 0
      for (let guesses = 1; guesses <= most; guesses++) if (speed(guesses) > speed(best)) best = guesses
      if (best > 0 && speed(best) >= LEAST_GAIN * speed(0)) return best
      if (++entry.idle < RETRY_LAPS) return 0
      entry.idle = 0
      return 1
    },
    note({ ms, kind, guesses, right }) {
      if (guesses === 0) {
        lapMs = lapMs === undefined ? ms : lapMs + NEWEST * (ms - lapMs)
        return
      }
      if (lapMs !== undefined) {
        const row = Math.max(0, (ms - lapMs) / guesses)
        rowMs = rowMs === undefined ? row : rowMs + NEWEST * (row - rowMs)
      }
      const entry = record(kind)
      // Guesses behind the first wrong one say nothing.
      const judged = Math.min(guesses, right + 1)
      entry.right = entry.right * FADE ** judged + right
      entry.guesses = entry.guesses * FADE ** judged + judged
      entry.idle = 0
    },
  }
}
