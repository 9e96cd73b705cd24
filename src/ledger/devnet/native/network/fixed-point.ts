/** 100 % in the chain's fixed point. */
export const ONE = 1_000_000_000_000_000_000n
export const U32_MAX = 0xffff_ffff
export const U128_MAX = (1n << 128n) - 1n

/** Beyond this product the chain's 256-bit multiplication reads as zero. */
const U256_MAX = (1n << 256n) - 1n
const HALF_PERCENT = ONE / 2n

/** `x · y` with `y` in 1e18 = 100 %, truncated; 0 when 256 bits do not hold it, saturated at 128 bits. */
export function percentMul(x: bigint, y: bigint): bigint {
  if (x === 0n || y === 0n || x > (U256_MAX - HALF_PERCENT) / y) return 0n
  return atMost((x * y) / ONE, U128_MAX)
}

/** `x / y` in 1e18 = 100 %, truncated; 0 when either is 0. */
export function percentDiv(x: bigint, y: bigint): bigint {
  if (x === 0n || y === 0n) return 0n
  return atMost((x * ONE) / y, U128_MAX)
}

/** `x · y / z`, truncated, saturated at 128 bits; `z` is not 0. */
export function mulDiv(x: bigint, y: bigint, z: bigint): bigint {
  return atMost((x * y) / z, U128_MAX)
}

export function atMost(x: bigint, limit: bigint): bigint {
  return x > limit ? limit : x
}

export function atLeast(x: bigint, limit: bigint): bigint {
  return x < limit ? limit : x
}

/** `x - y`, not below 0. */
export function less(x: bigint, y: bigint): bigint {
  return x > y ? x - y : 0n
}

/** `x + y`, not above 128 bits. */
export function plus(x: bigint, y: bigint): bigint {
  return atMost(x + y, U128_MAX)
}

/** A ratio as f64, 1 = 100 %. */
export function toFloat(ratio: bigint): number {
  return Number(ratio) / 1e18
}

/** Rust's `f64 as u128`: truncates, negative and NaN are 0, too large saturates. */
export function truncate(value: number): bigint {
  if (!(value > 0)) return 0n
  return value >= 2 ** 128 ? U128_MAX : BigInt(Math.trunc(value))
}

/** An f64 with 1 = 100 % as a ratio, truncated. */
export function fromFloat(value: number): bigint {
  return truncate(value * 1e18)
}

/** Rust's `f64::clamp`: NaN stays NaN. */
export function clamp(value: number, low: number, high: number): number {
  return value < low ? low : value > high ? high : value
}
