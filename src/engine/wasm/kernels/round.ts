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
  WIDE_LEVELS,
} from '../layout'

/** Rounds all `columns` (whole groups) of the row at `x` to the rounded row at `to`. */
export function roundRow(x: usize, columns: i32, to: usize, wide: bool): void {
  for (let group = 0; group < columns / GROUP; group++) roundGroup(x + <usize>group * 128, columns, to, group, wide)
}

/** Rounds 32 values at `x` to group `group` of the rounded row at `to`. */
export function roundGroup(x: usize, columns: i32, to: usize, group: i32, wide: bool): void {
  let largest = f32x4.abs(v128.load(x))
  for (let i: usize = 16; i < 128; i += 16) largest = f32x4.max(largest, f32x4.abs(v128.load(x + i)))
  largest = f32x4.max(largest, v128.shuffle<i32>(largest, largest, 2, 3, 0, 1))
  const max = f32x4.extract_lane(f32x4.max(largest, v128.shuffle<i32>(largest, largest, 1, 0, 3, 2)), 0)
  const scale = max / <f32>(wide ? WIDE_LEVELS : LEVELS)
  const inverse: f32 = scale == 0 ? 0 : 1 / scale
  const factor = f32x4.splat(inverse)
  const k = <usize>columns
  const at = to + <usize>group * GROUP
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
    v128.store(at + half * 16, q)
    v128.store(at + k + half * 16, absolute)
    v128.store(at + k * 2 + half * 16, mask)
    const low = bytes(v128.and(a, lowBits), v128.and(b, lowBits), v128.and(c, lowBits), v128.and(d, lowBits))
    v128.store(at + k * 4 + half * 16, low)
    negativeLow = negative
    negative = i32x4.add(negative, sum16(v128.and(absolute, mask)))
  }
  const sum = lanes(total)
  const meta = to + k * 3 + <usize>group * GROUP_BYTES
  store<f32>(meta, scale, GROUP_SCALE)
  store<f32>(meta, scale * <f32>sum, GROUP_SUM)
  store<i32>(meta, -8 * sum, GROUP_ZERO)
  store<i32>(meta, lanes(negative), GROUP_NEGATIVE)
  store<i32>(meta, lanes(negativeLow), GROUP_NEGATIVE_LOW)
  store<i32>(meta, lanes(negative) - lanes(negativeLow), GROUP_NEGATIVE_HIGH)
}

// @ts-ignore: decorator
@inline
function integers(x: usize, factor: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(x), factor)))
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

// @ts-ignore: decorator
@inline
function lanes(sums: v128): i32 {
  return (
    i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1) + i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3)
  )
}
