// The best logit of each of several rows without all of their logits: 8-bit weights times the high limbs of 15-bit activations
// cost half as much as times both, and say of most logits that they can't be the best.
//
// For x = 128 * high + low, W x = 128 * W high + W low, and |w · low| <= |w| |low| (Cauchy-Schwarz). What is not more than that
// below the best logit known is computed as it always is, so the best and its bits are those of all logits.

import {
  BEST_BYTES,
  BEST_SLACK,
  BEST_VALUE,
  GROUP,
  GROUP_BYTES,
  GROUP_SCALE,
  KIND_Q8_F16,
  KIND_Q8_HALF_F32,
  KIND_WIDE,
  MATRIX_COLUMNS,
  MATRIX_DATA,
  MATRIX_KIND,
  MATRIX_OCTET_BYTES,
  MATRIX_OCTETS,
  OCTET,
  ROUNDED_LOW,
  WIDE_LEVELS,
} from '../layout'
import { noteBest } from './best'
import { dot4, joined, scaled } from './dot'
import { following4, halfMask, halfScale, load4 } from './half'
import { matmul } from './matmul'
import { floatRows, floatStride, roundedRows, roundedStride, useRows } from './prepare'

/** Octets screened at a time: what their logits are known by stays in the first level of cache. */
const SCREENED_OCTETS = 32

/** Below this a logit is computed whatever the best: sums that overflow are found where they always are. */
const LOWEST: f32 = -1e30

/** Writes |w| of every output of an 8-bit matrix without minima to `norms`, rounded up. */
export function rowNorms(matrix: usize, norms: usize): void {
  const groups = load<i32>(matrix, MATRIX_COLUMNS) / GROUP
  const octets = load<i32>(matrix, MATRIX_OCTETS)
  const kind = load<i32>(matrix, MATRIX_KIND) & ~KIND_WIDE
  for (let octet = 0; octet < octets; octet++) {
    const w = load<usize>(matrix, MATRIX_DATA) + <usize>octet * load<usize>(matrix, MATRIX_OCTET_BYTES)
    const to = norms + <usize>(octet * OCTET) * 4
    if (kind == KIND_Q8_F16) octetNorms<u16, void>(w, groups, to)
    else if (kind == KIND_Q8_HALF_F32) octetNorms<f32, i32>(w, groups, to)
    else octetNorms<f32, void>(w, groups, to)
  }
}

function octetNorms<S, HALF>(w: usize, groups: i32, to: usize): void {
  const bits = halfMask()
  const factor = halfScale()
  let low = f32x4.splat(0)
  let high = low
  for (let group = 0; group < groups; group++) {
    let q = w + sizeof<S>() * (isVoid<HALF>() ? 8 : 16)
    for (let part: usize = 0; part < (isVoid<HALF>() ? 1 : 2); part++) {
      let rows01 = i32x4.splat(0)
      let rows45 = rows01
      let rows23 = rows01
      let rows67 = rows01
      for (let eight = 0; eight < (isVoid<HALF>() ? 4 : 2); eight++, q += 64) {
        rows01 = i32x4.add(rows01, squares(v128.load(q)))
        rows45 = i32x4.add(rows45, squares(v128.load(q, 16)))
        rows23 = i32x4.add(rows23, squares(v128.load(q, 32)))
        rows67 = i32x4.add(rows67, squares(v128.load(q, 48)))
      }
      const scales = w + part * (sizeof<S>() * 8)
      const scale = load4<S>(scales, bits, factor)
      const scale2 = following4<S>(scales, bits, factor)
      low = scaled(low, joined(rows01, rows23), scale, scale)
      high = scaled(high, joined(rows45, rows67), scale2, scale2)
    }
    w = q
  }
  const up = f32x4.splat(1.001)
  v128.store(to, f32x4.mul(f32x4.sqrt(low), up))
  v128.store(to, f32x4.mul(f32x4.sqrt(high), up), 16)
}

/** Squares of 16 bytes, summed by fours: two sums of each of two rows. */
// @ts-ignore: decorator
@inline
function squares(bytes: v128): v128 {
  return joined(
    i32x4.extadd_pairwise_i16x8_s(i16x8.extmul_low_i8x16_s(bytes, bytes)),
    i32x4.extadd_pairwise_i16x8_s(i16x8.extmul_high_i8x16_s(bytes, bytes)),
  )
}

/** Notes in the best records what the low limbs of `rows` rows can add, for each |w|. */
export function noteSlack(best: usize, rows: i32, columns: i32): void {
  const groups = columns / GROUP
  for (let row: usize = 0; row < <usize>rows; row++) {
    let low: f32 = 0
    let all: f32 = 0
    let x = roundedRows + row * roundedStride
    for (const end = x + <usize>groups * GROUP_BYTES; x < end; x += GROUP_BYTES) {
      const a = v128.load(x, ROUNDED_LOW)
      const b = v128.load(x, ROUNDED_LOW + 16)
      const sums = dot4(b, b, dot4(a, a, i32x4.splat(0)))
      const total =
        i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1) + i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3)
      const scale = load<f32>(x, GROUP_SCALE)
      low += scale * scale * <f32>total
      all += scale * scale * (<f32>GROUP * <f32>WIDE_LEVELS * <f32>WIDE_LEVELS)
    }
    // Both sums are rounded once a group and a few times more, of numbers whose sizes add up to |w| |x| at most.
    const rounding = <f32>(groups + 8) * <f32>2.5e-7
    store<f32>(best + row * BEST_BYTES, <f32>1.001 * (Mathf.sqrt(low) + rounding * Mathf.sqrt(all)), BEST_SLACK)
  }
}

/**
 * As `matmul` and `noteBest` for octets [from, to), where `screen` is the matrix as one of 8-bit activations and `norms` are its
 * |w|. Most of the logits it leaves are 128th parts of what the high limbs give.
 */
export function noteScreened(
  matrix: usize,
  screen: usize,
  norms: usize,
  best: usize,
  logits: usize,
  stride: usize,
  rows: i32,
  from: i32,
  to: i32,
  vocabulary: i32,
): void {
  const rounded = roundedRows
  for (let first = from; first < to; first += SCREENED_OCTETS) {
    const end = min(first + SCREENED_OCTETS, to)
    matmul(screen, first, end, rows, logits, stride, false)
    for (let row: usize = 0; row < <usize>rows; row++) {
      const mine = best + row * BEST_BYTES
      const at = logits + row * stride
      const slack = f32x4.splat(load<f32>(mine, BEST_SLACK))
      let top = f32x4.splat(load<f32>(mine, BEST_VALUE))
      for (let octet = first; octet < end; octet++) {
        const offset = <usize>octet * (OCTET * 4)
        const most = most4(v128.load(at + offset), slack, v128.load(norms + offset))
        const most2 = most4(v128.load(at + offset, 16), slack, v128.load(norms + offset, 16))
        if (i32x4.all_true(v128.and(isBelow(most, top), isBelow(most2, top)))) continue
        useRows(floatRows, floatStride, rounded + row * roundedStride, roundedStride)
        matmul(matrix, octet, octet + 1, 1, at, stride, false)
        useRows(floatRows, floatStride, rounded, roundedStride)
        noteBest(mine, at, stride, 1, octet * OCTET, min((octet + 1) * OCTET, vocabulary))
        top = f32x4.splat(load<f32>(mine, BEST_VALUE))
      }
    }
  }
}

/** The most that four logits can be. */
// @ts-ignore: decorator
@inline
function most4(parts: v128, slack: v128, norms: v128): v128 {
  return f32x4.add(f32x4.mul(parts, f32x4.splat(128)), f32x4.mul(slack, norms))
}

// @ts-ignore: decorator
@inline
function isBelow(most: v128, top: v128): v128 {
  return v128.and(f32x4.lt(most, top), f32x4.gt(most, f32x4.splat(LOWEST)))
}
