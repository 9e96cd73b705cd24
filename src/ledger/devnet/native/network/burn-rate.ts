import { atLeast, atMost, less, ONE, percentDiv, percentMul, plus } from './fixed-point.ts'

export interface BurnRateInput {
  /** Registrations of the epoch that ended. */
  readonly registrations: number
  readonly target: number
  /** Ratios, 1e18 = 100 %. */
  readonly previous: bigint
  readonly alpha: bigint
  readonly min: bigint
  readonly max: bigint
}

/**
 * The next burn rate: `alpha · wanted + (1 - alpha) · previous` within min..max; wanted is min without registrations, max
 * from the target on, linear between.
 */
export function nextBurnRate({ registrations, target, previous, alpha, min, max }: BurnRateInput): bigint {
  const rate = plus(
    percentMul(wantedRate(registrations, target, min, max), alpha),
    percentMul(previous, less(ONE, alpha)),
  )
  return atMost(atLeast(rate, min), max)
}

function wantedRate(registrations: number, target: number, min: bigint, max: bigint): bigint {
  if (registrations === 0) return min
  if (registrations >= target) return max
  return plus(min, percentMul(less(max, min), percentDiv(BigInt(registrations), BigInt(target))))
}
