// Activations rounded to 8 bits in groups of 32, as llama.cpp's Q8_0 and Q8_1, but with the scale kept in float32.
//
// scale = max |x| / 127; integer = x * (1 / scale) to nearest, ties to even. Source: ggml quantize_row_q8_0.
// Wide rows do the same with 128 * 127 levels and keep the integer as two limbs.

import {
  GROUP,
  GROUP_BYTES,
  GROUP_NEGATIVE,
  GROUP_NEGATIVE_HIGH,
  GROUP_NEGATIVE_LOW,
  GROUP_SCALE,
  GROUP_SUM,
  GROUP_ZERO,
  LEVELS,
  ROUNDED_ABSOLUTE,
  ROUNDED_LOW,
  ROUNDED_MASK,
  WIDE_LEVELS,
} from '../layout'
import { ROUNDER } from './exponential'

/** Rounds all `columns` (whole groups) of the row at `x` to group records at `to`. */
export function roundRow(x: usize, columns: i32, to: usize, wide: bool): void {
  for (const end = x + <usize>columns * 4; x < end; x += GROUP * 4, to += GROUP_BYTES) roundGroup(x, to, wide)
}

/** Rounds 32 values at `x` to the group record at `to`. */
export function roundGroup(x: usize, to: usize, wide: bool): void {
  // Of non-negative floats the bits are in order as integers; a NaN is above all of them and stays.
  let largest = f32x4.abs(v128.load(x))
  for (let i: usize = 16; i < 128; i += 16) largest = i32x4.max_s(largest, f32x4.abs(v128.load(x + i)))
  largest = i32x4.max_s(largest, v128.shuffle<i32>(largest, largest, 2, 3, 0, 1))
  const max = f32x4.extract_lane(i32x4.max_s(largest, v128.shuffle<i32>(largest, largest, 1, 0, 3, 2)), 0)
  const scale = max / <f32>(wide ? WIDE_LEVELS : LEVELS)
  const inverse: f32 = scale == 0 ? 0 : 1 / scale
  const factor = f32x4.splat(inverse)
  const shift = wide ? 7 : 0
  const lowBits = i32x4.splat(wide ? 127 : 0)
  let total = i32x4.splat(0)
  let negative = i32x4.splat(0)
  let negativeLow = i32x4.splat(0)
  for (let half: usize = 0; half < 2; half++) {
    const from = x + half * 64
    const a = integers(from, factor)
    const b = integers(from + 16, factor)
    const c = integers(from + 32, factor)
    const d = integers(from + 48, factor)
    total = i32x4.add(total, i32x4.add(i32x4.add(a, b), i32x4.add(c, d)))
    const q = bytes(i32x4.shr_s(a, shift), i32x4.shr_s(b, shift), i32x4.shr_s(c, shift), i32x4.shr_s(d, shift))
    const mask = i8x16.shr_s(q, 7)
    const absolute = i8x16.abs(q)
    v128.store(to + half * 16, q)
    v128.store(to + half * 16, absolute, ROUNDED_ABSOLUTE)
    v128.store(to + half * 16, mask, ROUNDED_MASK)
    const low = bytes(v128.and(a, lowBits), v128.and(b, lowBits), v128.and(c, lowBits), v128.and(d, lowBits))
    v128.store(to + half * 16, low, ROUNDED_LOW)
    negativeLow = negative
    negative = i32x4.add(negative, sum16(v128.and(absolute, mask)))
  }
  const negativeHigh = i32x4.sub(negative, negativeLow)
  const halves = i32x4.add(
    v128.shuffle<i32>(total, negativeLow, 0, 1, 4, 5),
    v128.shuffle<i32>(total, negativeLow, 2, 3, 6, 7),
  )
  const rest = i32x4.add(negativeHigh, v128.shuffle<i32>(negativeHigh, negativeHigh, 2, 3, 0, 1))
  const sums = i32x4.add(v128.shuffle<i32>(halves, rest, 0, 2, 4, 4), v128.shuffle<i32>(halves, rest, 1, 3, 5, 5))
  const sum = i32x4.extract_lane(sums, 0)
  const low = i32x4.extract_lane(sums, 1)
  const high = i32x4.extract_lane(sums, 2)
  store<f32>(to, scale, GROUP_SCALE)
  store<f32>(to, scale * <f32>sum, GROUP_SUM)
  store<i32>(to, -8 * sum, GROUP_ZERO)
  store<i32>(to, low + high, GROUP_NEGATIVE)
  store<i32>(to, low, GROUP_NEGATIVE_LOW)
  store<i32>(to, high, GROUP_NEGATIVE_HIGH)
}

/** Four values times `factor`, below 2^22, as integers in the low bits of floats from `ROUNDER` on. */
// @ts-ignore: decorator
@inline
function integers(x: usize, factor: v128): v128 {
  const rounder = f32x4.splat(ROUNDER)
  return i32x4.sub(f32x4.add(f32x4.mul(v128.load(x), factor), rounder), rounder)
}

// @ts-ignore: decorator
@inline
function bytes(a: v128, b: v128, c: v128, d: v128): v128 {
  return i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d))
}

/** Sums of four neighbours of 16 bytes each. */
// @ts-ignore: decorator
@inline
function sum16(bytes: v128): v128 {
  return i32x4.extadd_pairwise_i16x8_s(i16x8.extadd_pairwise_i8x16_s(bytes))
}
