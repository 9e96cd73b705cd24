import { ChoraleError } from '../errors.ts'
import { MAX_STEP_TOKENS } from '../protocol/limits.ts'

/**
 * What one sponsor's client used on this server and the sponsor has not counted yet. A pass's quota holds on all servers
 * together because each lets only a slice of it be used before the sponsor said how much is left.
 */
export interface ClientAccount {
  /** @throws `refused` when the sponsor has nothing left for the client, `capacity` while it does not answer. */
  charge(quota: number, tokens: number): void
  /** How long the client's next message should wait for the sponsor, in milliseconds. */
  heldMs(quota: number): number
  /** Whether the sponsor should hear of it now. */
  isDue(quota: number): boolean
  /** The sponsor is being told. @returns what is told of, for `told`. */
  tell(): number
  /** The sponsor counted `tokens`, and has `left` for the client. */
  told(tokens: number, left: number): void
  /** The sponsor did not answer. */
  untold(): void
}

/** Part of a quota that a server may let be used unseen: n servers may exceed it by n / 16. */
const SLICES = 16
/** At least one step, so that small quotas work. */
const MIN_SLICE_TOKENS = MAX_STEP_TOKENS
/** A sponsor hears of little use after this long. */
const REPORT_MS = 5_000
/** A sponsor that did not answer, or had nothing left, is asked again after this long. */
const AGAIN_MS = 2_000
const REFILL_MS = 10_000
/** Messages of a client whose sponsor is behind wait this long each: the sponsor's answer takes a round trip. */
const HOLD_MS = 50

/** Tokens of a quota that one server lets be used before the sponsor has counted them. */
export function sliceOf(quota: number): number {
  return Math.max(MIN_SLICE_TOKENS, Math.ceil(quota / SLICES))
}

/** Nothing was used yet. `now` in milliseconds of a clock that never runs back. */
export function createClientAccount(now: () => number): ClientAccount {
  let unconfirmed = 0
  let left = Infinity
  /** When the oldest token that is not confirmed was used. */
  let since = 0
  let telling = false
  let notBefore = -Infinity
  /** The client was refused: the sponsor may have more for it by now. */
  let wanted = false

  return {
    charge: (quota, tokens) => {
      if (unconfirmed + tokens > left) {
        wanted = true
        throw new ChoraleError(
          'refused',
          `the pass was good for ${quota} tokens on all servers together, and they are used up: come again later`,
          { field: 'tokens', retryAfterMs: REFILL_MS },
        )
      }
      if (unconfirmed + tokens > sliceOf(quota)) {
        throw new ChoraleError(
          'capacity',
          `the pass's sponsor has not confirmed the last ${unconfirmed} tokens`,
          {
            field: 'sponsor',
            retryAfterMs: AGAIN_MS,
          },
        )
      }
      if (unconfirmed === 0) since = now()
      unconfirmed += tokens
    },
    heldMs: (quota) => (unconfirmed > sliceOf(quota) / 2 ? HOLD_MS : 0),
    isDue: (quota) => {
      if (telling || now() < notBefore) return false
      return wanted || unconfirmed >= sliceOf(quota) / 4 || (unconfirmed > 0 && now() - since >= REPORT_MS)
    },
    tell: () => {
      telling = true
      return unconfirmed
    },
    told: (tokens, rest) => {
      telling = false
      unconfirmed -= tokens
      since = now()
      left = rest
      if (wanted) notBefore = now() + REFILL_MS
      wanted = false
    },
    untold: () => {
      telling = false
      notBefore = now() + AGAIN_MS
    },
  }
}
