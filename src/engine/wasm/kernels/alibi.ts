// Linear biases of attention scores. arXiv 2108.12409.

import { KV_PAGE } from '../layout'

/**
 * Adds ALiBi to the scores of a page whose first token is at `first`, for a query at `position`: slope * (j - position),
 * which differs from slope * j by the same for all keys and loses no digits to far positions.
 */
export function addBias(scores: usize, first: i32, position: i32, slope: f32, scale: f32): void {
  const factor = f32x4.splat(slope * scale)
  let distance = i32x4.add(i32x4.splat(first - position), i32x4(0, 1, 2, 3))
  for (let i: usize = 0; i < <usize>KV_PAGE * 4; i += 16) {
    const bias = f32x4.mul(f32x4.convert_i32x4_s(distance), factor)
    v128.store(scores + i, f32x4.add(v128.load(scores + i), bias))
    distance = i32x4.add(distance, i32x4.splat(4))
  }
}

/** The same with biases bf16(slope * bf16(j)), less that of the query's own position. */
export function addRoundedBias(scores: usize, first: i32, position: i32, slope: f32, scale: f32): void {
  const slopes = f32x4.splat(slope)
  const own = roundedBias(i32x4.splat(position), slopes)
  const factor = f32x4.splat(scale)
  let key = i32x4.add(i32x4.splat(first), i32x4(0, 1, 2, 3))
  for (let i: usize = 0; i < <usize>KV_PAGE * 4; i += 16) {
    const bias = f32x4.mul(f32x4.sub(roundedBias(key, slopes), own), factor)
    v128.store(scores + i, f32x4.add(v128.load(scores + i), bias))
    key = i32x4.add(key, i32x4.splat(4))
  }
}

// @ts-ignore: decorator
@inline
function roundedBias(position: v128, slope: v128): v128 {
  return toBfloat16(f32x4.mul(toBfloat16(f32x4.convert_i32x4_s(position)), slope))
}

/** Nearest bfloat16 of finite values, ties to even, as float32. */
// @ts-ignore: decorator
@inline
function toBfloat16(x: v128): v128 {
  const odd = v128.and(i32x4.shr_u(x, 16), i32x4.splat(1))
  return v128.and(i32x4.add(i32x4.add(x, i32x4.splat(0x7fff)), odd), i32x4.splat(0xffff0000))
}
