import type { Outlook } from './drafter.ts'

/**
 * How many guessed tokens to send along in one lap of the chain: as many as pay for themselves.
 *
 * A lap of w guesses takes about `lap + w·row` and what making them takes, and gives (1 − p^(w+1)) / (1 − p) tokens
 * when each guess is right with probability p. Far chains have long laps and cheap rows, so they take many; on one
 * machine rows cost nearly as much as laps, and only good guesses are worth it. All of it is measured as the answer
 * goes on, and so is what laps with guesses gave in truth: a kind that makes answers slower is given up.
 */
export interface DraftWindow {
  /** Guesses of that kind to send now, at most `limit`, and the tokens a millisecond this promises. */
  plan(outlook: Outlook, limit: number): Plan
  /**
   * Whether the next lap should go without guesses, and without anybody making some, to see what laps take by now. Only where
   * guesses gain so little that this decides.
   */
  due(): boolean
  /** Most guesses worth making while a lap is under way: those behind are hardly ever right. */
  depth(kind: number): number
  /** Notes a lap. */
  note(lap: Lap): void
}

/** What to do about a drafter's guesses. */
export interface Plan {
  /** Send that many now. */
  readonly guesses: number
  /** Tokens a millisecond that they promise. */
  readonly speed: number
  /** None now, but they are worth preparing meanwhile: what has to be read first takes longer than it gives. */
  readonly prepare: boolean
}

/** A lap of `guesses` guesses of `kind`, of which the first `right` were right. */
export interface Lap {
  readonly ms: number
  /** What making the guesses took before it. */
  readonly makingMs?: number
  readonly kind: number
  readonly guesses: number
  readonly right: number
}

/** What is known of the guesses of one kind. */
export interface KindRecord {
  right: number
  guesses: number
  /** Laps since the last guess. */
  idle: number
  /** Milliseconds of laps with guesses, making included; and what laps without would have taken. Old ones fade. */
  ms: number
  plainMs: number
  /** What guesses may lose yet, in laps: what they saved comes in, what they cost goes out. */
  credit: number
}

export interface DraftWindowOptions {
  /** Milliseconds a row is thought to cost before a lap with guesses was timed: a prompt's time by its length. */
  readonly rowMs?: number
  /** Most guesses in a lap (default 15). */
  readonly max?: number
  /** Kinds whose record outlives the answer. */
  readonly memory?: ReadonlyMap<number, KindRecord>
}

const MAX_GUESSES = 15
/** Guesses must promise at least this much more, or the noise of measuring decides. */
const LEAST_GAIN = 1.05
/** Weight of the newest lap. */
const NEWEST = 0.2
/** What a kind is thought to be worth at first, as if that many guesses had been seen. */
const PRIOR_GUESSES = 4
const PRIOR_RIGHT: readonly number[] = [0.1, 0.2, 0.45, 0.6, 0.7, 0.6]
/** Old guesses count less: an answer may quote for a while and then go its own way. */
const FADE = 0.9
/** A kind that was given up is tried again after this many laps without it, with one guess. */
const RETRY_LAPS = 48
/** Laps that guesses of a kind may lose at first, in all … */
const FIRST_CREDIT = 2
/** … what each lap adds: it is what a poor drafter costs for long … */
const CREDIT_A_LAP = 0.02
/** … and what good ones can save up, to be lost again when the text changes its mind. */
const MOST_CREDIT = 8
/** What one lap can lose, in laps: when it takes still longer, something else was the matter. */
const MOST_LOSS = 1
/** What a millisecond of reading beside a lap takes from it: this machine has more to do than to wait. */
const READING = 0.5
/** Answers may end any time: no more tokens than that are hoped for when something has to be read first. */
const HOPED_TOKENS = 128
/** … and reading may take this share of what they would save: the answer may end sooner, the guesses be worse. */
const READ_SHARE = 0.25
/** A guess that is needed more rarely than this is not made ahead. */
const LEAST_CHANCE = 0.2
/** Laps with guesses before the first look at one without; twice as many before each next one … */
const FIRST_LOOK = 4
/** … and none while guesses give more than so many times what laps without give. */
const CLEAR_GAIN = 2
/** Weight of a lap that was looked at on purpose. */
const LOOK = 0.5
const NONE: Plan = { guesses: 0, speed: 0, prepare: false }

/** A record that has seen nothing. */
export function newKindRecord(kind: number): KindRecord {
  const share = PRIOR_RIGHT[Math.min(kind, PRIOR_RIGHT.length - 1)]!
  return {
    right: share * PRIOR_GUESSES,
    guesses: PRIOR_GUESSES,
    idle: 0,
    ms: 0,
    plainMs: 0,
    credit: FIRST_CREDIT,
  }
}

/** Forgets half of what a record has seen: the next answer may go better, or worse. */
export function fadeKindRecord(record: KindRecord, kind: number): void {
  const fresh = newKindRecord(kind)
  record.right = (record.right + fresh.right / PRIOR_GUESSES) / 2
  record.guesses = (record.guesses + 1) / 2
}

/** A window that knows nothing yet: the first laps go without guesses. */
export function createDraftWindow(options: DraftWindowOptions = {}): DraftWindow {
  const { max = MAX_GUESSES } = options
  let lapMs: number | undefined
  let rowMs = options.rowMs
  /** Laps with guesses so far, and how many there may be before the next look. */
  let guessed = 0
  let lookAt = FIRST_LOOK
  let looking = false
  /** The last kind that was sent. */
  let latest: KindRecord | undefined
  const records = new Map<number, KindRecord>(options.memory)

  function recordOf(kind: number): KindRecord {
    let record = records.get(kind)
    if (!record) records.set(kind, (record = newKindRecord(kind)))
    return record
  }

  const chance = (kind: number) => {
    const { right, guesses } = recordOf(kind)
    return Math.min(right / guesses, 0.99)
  }

  const rowOf = (lap: number) => Math.min(rowMs ?? lap, lap)

  /** The number of guesses that gives most tokens a millisecond when nothing but `firstMs` has to be read before. */
  function best(lap: number, outlook: Outlook, most: number, firstMs: number) {
    const right = chance(outlook.kind)
    let found = { guesses: 0, speed: 1 / lap }
    for (let guesses = 1; guesses <= most; guesses++) {
      const tokens = (1 - right ** (guesses + 1)) / (1 - right)
      const making = Math.max(0, guesses - outlook.ready) * outlook.eachMs + firstMs
      const speed = tokens / (lap + guesses * rowOf(lap) + making)
      if (speed > found.speed) found = { guesses, speed }
    }
    return found
  }

  /** One guess of a kind that was given up, now and then: the text may have changed its mind. */
  function retry(record: KindRecord, { firstMs, eachMs, ready }: Outlook, lap: number): Plan {
    if (++record.idle < RETRY_LAPS) return NONE
    const making = firstMs + (ready > 0 ? 0 : eachMs)
    if (making + rowOf(lap) > record.credit * lap) return NONE
    if (firstMs > 0) return prepare(record, firstMs, lap)
    record.idle = 0
    return { guesses: 1, speed: 0, prepare: false }
  }

  function prepare(record: KindRecord, firstMs: number, lap: number): Plan {
    record.credit -= (Math.min(firstMs, lap) / lap) * READING
    return { ...NONE, prepare: true }
  }

  return {
    plan(outlook, limit) {
      const most = Math.min(limit, max, outlook.most)
      if (lapMs === undefined || most < 1) return NONE
      const record = recordOf(outlook.kind)
      const steady = best(lapMs, outlook, most, 0)
      record.credit = Math.min(record.credit + CREDIT_A_LAP, MOST_CREDIT)
      if (record.credit < 0) return NONE
      if (steady.speed * lapMs < LEAST_GAIN) return retry(record, outlook, lapMs)
      if (outlook.firstMs === 0) return { ...steady, prepare: false }
      const now = best(lapMs, outlook, most, outlook.firstMs)
      if (now.guesses > 0) return { ...now, prepare: false }
      const saved = Math.min(limit + 1, HOPED_TOKENS) * (lapMs - 1 / steady.speed)
      return outlook.firstMs <= saved * READ_SHARE ? prepare(record, outlook.firstMs, lapMs) : NONE
    },
    due() {
      looking = guessed >= lookAt && latest !== undefined && latest.plainMs < CLEAR_GAIN * latest.ms
      if (looking) lookAt = guessed * 2 + FIRST_LOOK
      return looking
    },
    depth: (kind) => Math.floor(Math.log(LEAST_CHANCE) / Math.log(Math.max(chance(kind), 0.01))),
    note({ ms, makingMs = 0, kind, guesses, right }) {
      if (guesses === 0 || lapMs === undefined) {
        if (guesses === 0) lapMs = lapMs === undefined ? ms : lapMs + (looking ? LOOK : NEWEST) * (ms - lapMs)
        return
      }
      const row = Math.max(0, (ms - lapMs) / guesses)
      rowMs = rowMs === undefined ? row : rowMs + NEWEST * (row - rowMs)
      // With fewer rows it would not have taken longer: the way has become shorter.
      if (ms < lapMs) lapMs += NEWEST * (ms - lapMs)
      guessed++
      const record = (latest = recordOf(kind))
      // Guesses behind the first wrong one say nothing.
      const judged = Math.min(guesses, right + 1)
      record.right = record.right * FADE ** judged + right
      record.guesses = record.guesses * FADE ** judged + judged
      record.idle = 0
      record.ms = record.ms * FADE + ms + makingMs
      record.plainMs = record.plainMs * FADE + (right + 1) * lapMs
      const gain = Math.max(right + 1 - (ms + makingMs) / lapMs, -MOST_LOSS)
      record.credit = Math.min(record.credit + gain, MOST_CREDIT)
    },
  }
}
