// Integer dot products of bytes, four to a lane: exact on every machine, whichever way they are computed.

/**
 * sum + the products of `signed` (int8) and `small` (0..127), four neighbours to each 32-bit lane.
 * With `small` in 7 bits the relaxed instruction has one result only.
 */
// @ts-ignore: decorator
@inline
export function dot4(signed: v128, small: v128, sum: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_dot_i8x16_i7x16_add_s(signed, small, sum)
  const low = i32x4.extadd_pairwise_i16x8_s(i16x8.extmul_low_i8x16_s(signed, small))
  const high = i32x4.extadd_pairwise_i16x8_s(i16x8.extmul_high_i8x16_s(signed, small))
  const even = v128.shuffle<i32>(low, high, 0, 2, 4, 6)
  const odd = v128.shuffle<i32>(low, high, 1, 3, 5, 7)
  return i32x4.add(sum, i32x4.add(even, odd))
}

/** Sums of rows 0 to 3 from half sums: two a row, those of rows 0 and 1 in `a`, of rows 2 and 3 in `b`. */
// @ts-ignore: decorator
@inline
export function joined(a: v128, b: v128): v128 {
  return i32x4.add(v128.shuffle<i32>(a, b, 0, 2, 4, 6), v128.shuffle<i32>(a, b, 1, 3, 5, 7))
}

/** sum + dots * scale of weights * scale of activations. */
// @ts-ignore: decorator
@inline
export function scaled(sum: v128, dots: v128, scale: v128, xScale: v128): v128 {
  return f32x4.add(sum, f32x4.mul(f32x4.convert_i32x4_s(dots), f32x4.mul(scale, xScale)))
}
