import { clamp } from './fixed-point.ts'

/**
 * 1 → 0 as `x` passes `mid` with steepness `k`, in f64 in the chain's order of operations: `c = |x - mid|`,
 * `s = e^(k·c)`; `1 / (1 + s)` above the middle, `s / (1 + s)` below.
 */
export function sigmoidDecreasing(x: number, mid: number, k: number): number {
  const s = Math.exp(k * Math.abs(x - mid))
  return clamp(x > mid ? 1 / (1 + s) : s / (1 + s), 0, 1)
}

/** `max` → `min` as `x` goes 0 → 1, flat first: `min + (max - min) · (1 - x^power)`. */
export function concaveDownDecreasing(x: number, min: number, max: number, power: number): number {
  const curve = 1 - x ** (power <= 0 ? 1 : power)
  return clamp(min + (max - min) * curve, min, max)
}

/** Most and least that a year of emission mints, in the smallest unit. */
const YEARLY_MAX = 1e23
const YEARLY_MIN = 7.5e22

/** What a year mints at node utilisation `u` (0..1), in the smallest unit: 100,000 TENSOR falling to 75,000. */
export function yearlyEmission(u: number, mid: number, k: number): number {
  return YEARLY_MIN + (YEARLY_MAX - YEARLY_MIN) * sigmoidDecreasing(u, mid, k)
}

/** Share of the emission that goes to the treasury. */
export const FOUNDATION_SHARE = 0.2
