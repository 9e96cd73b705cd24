// The best logit of each of several rows without all of their logits: 8-bit weights times x in 7 bits cost a third of what they
// cost times x in 15 bits, two thirds of 8 bits, and say of most logits that they can't be the best.
//
// For x = 256 * u + r (or 2 * u + r), W x = 256 * W u + W r, and |w · r| <= |w| |r| (Cauchy-Schwarz). What is not more than that
// below the best logit known is computed as it always is, so the best and its bits are those of all logits.

import {
  BEST_BYTES,
  BEST_SLACK,
  GROUP,
  GROUP_BYTES,
  GROUP_SCALE,
  KIND_Q8_F16,
  KIND_Q8_HALF_F32,
  KIND_WIDE,
  LEVELS,
  MATRIX_COLUMNS,
  MATRIX_DATA,
  MATRIX_KIND,
  MATRIX_OCTET_BYTES,
  MATRIX_OCTETS,
  OCTET,
  ROUNDED_LOW,
  WIDE_LEVELS,
} from '../layout'
import { knownBest, noteBest } from './best'
import { joined, scaled } from './dot'
import { following4, halfMask, halfScale, load4 } from './half'
import { isWide, matmul } from './matmul'
import { hasHalves, multiplyScreened } from './matmul-screen'
import { floatRows, floatStride, roundedRows, roundedStride, useRows } from './prepare'
import { thread } from './threads'

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

/**
 * Writes `rows` screening rows (`matmul-screen.ts`) of the rounded ones to `to`, and notes in the best records what they leave
 * out can add, for each |w|.
 */
export function prepareScreened(matrix: usize, best: usize, rows: i32, to: usize): void {
  const groups = load<i32>(matrix, MATRIX_COLUMNS) / GROUP
  const halves = hasHalves(matrix)
  const wide = isWide(matrix)
  const limb = wide ? 7 : 0
  const bits = partBits(matrix)
  const levels = <f32>(wide ? WIDE_LEVELS : LEVELS)
  for (let row: usize = 0; row < <usize>rows; row++) {
    let rest: f32 = 0
    let all: f32 = 0
    let x = roundedRows + row * roundedStride
    for (const end = x + <usize>groups * GROUP_BYTES; x < end; x += GROUP_BYTES) {
      const scale = load<f32>(x, GROUP_SCALE)
      let squares = i32x4.splat(0)
      for (let half: usize = 0; half < 2; half++) {
        const high = v128.load(x + half * 16)
        const low = v128.load(x + half * 16, ROUNDED_LOW)
        const a = i16x8.add(i16x8.shl(i16x8.extend_low_i8x16_s(high), limb), i16x8.extend_low_i8x16_u(low))
        const b = i16x8.add(i16x8.shl(i16x8.extend_high_i8x16_s(high), limb), i16x8.extend_high_i8x16_u(low))
        const wholeA = parts(a, bits)
        const wholeB = parts(b, bits)
        const restA = i16x8.sub(a, i16x8.shl(wholeA, bits))
        const restB = i16x8.sub(b, i16x8.shl(wholeB, bits))
        squares = i32x4.add(squares, i32x4.dot_i16x8_s(restA, restA))
        squares = i32x4.add(squares, i32x4.dot_i16x8_s(restB, restB))
        v128.store(to, i8x16.add(i8x16.narrow_i16x8_s(wholeA, wholeB), i8x16.splat(64)))
        to += 16
        if (!halves && half == 0) continue
        store<f32>(to, scale)
        to += 8
      }
      rest += scale * scale * <f32>(sumOf(squares))
      all += scale * scale * (<f32>GROUP * levels * levels)
    }
    // Both sums are rounded once a group and a few times more, of numbers whose sizes add up to |w| |x| at most.
    const rounding = <f32>(groups + 8) * <f32>2.5e-7
    store<f32>(best + row * BEST_BYTES, <f32>1.001 * (Mathf.sqrt(rest) + rounding * Mathf.sqrt(all)), BEST_SLACK)
  }
}

/** Bits of a rounded activation that screening leaves out. */
function partBits(matrix: usize): i32 {
  return isWide(matrix) ? 8 : 1
}

/** x / 2^bits to nearest, but at most 63. */
// @ts-ignore: decorator
@inline
function parts(x: v128, bits: i32): v128 {
  const half: i32 = (1 << bits) >> 1
  return i16x8.min_s(i16x8.shr_s(i16x8.add(x, i16x8.splat(<i16>half)), bits), i16x8.splat(63))
}

// @ts-ignore: decorator
@inline
function sumOf(values: v128): i32 {
  return (
    i32x4.extract_lane(values, 0) +
    i32x4.extract_lane(values, 1) +
    i32x4.extract_lane(values, 2) +
    i32x4.extract_lane(values, 3)
  )
}

/**
 * As `matmul` and `noteBest` for octets [from, to), where `screened` are the screening rows and `norms` are the outputs' |w|. Most
 * of the logits it leaves are 256th parts (or halves), and not exactly.
 */
export function noteScreened(
  matrix: usize,
  screened: usize,
  norms: usize,
  bests: usize,
  logits: usize,
  stride: usize,
  rows: i32,
  from: i32,
  to: i32,
  vocabulary: i32,
): void {
  const rounded = roundedRows
  const whole = f32x4.splat(<f32>(1 << partBits(matrix)))
  for (let first = from; first < to; first += SCREENED_OCTETS) {
    const end = min(first + SCREENED_OCTETS, to)
    multiplyScreened(matrix, first, end, screened, rows, logits, stride)
    for (let row = 0; row < rows; row++) {
      const best = bests + <usize>(thread * rows + row) * BEST_BYTES
      const at = logits + <usize>row * stride
      const slack = f32x4.splat(load<f32>(best, BEST_SLACK))
      let top = f32x4.splat(knownBest(bests, rows, row))
      for (let octet = first; octet < end; octet++) {
        const offset = <usize>octet * (OCTET * 4)
        const most = most4(v128.load(at + offset), whole, slack, v128.load(norms + offset))
        const most2 = most4(v128.load(at + offset, 16), whole, slack, v128.load(norms + offset, 16))
        if (i32x4.all_true(v128.and(isBelow(most, top), isBelow(most2, top)))) continue
        useRows(floatRows, floatStride, rounded + <usize>row * roundedStride, roundedStride)
        matmul(matrix, octet, octet + 1, 1, at, stride, false)
        useRows(floatRows, floatStride, rounded, roundedStride)
        noteBest(best, at, stride, 1, octet * OCTET, min((octet + 1) * OCTET, vocabulary))
        top = f32x4.splat(knownBest(bests, rows, row))
      }
    }
  }
}

/** The most that four logits can be. */
// @ts-ignore: decorator
@inline
function most4(parts: v128, whole: v128, slack: v128, norms: v128): v128 {
  return f32x4.add(f32x4.mul(parts, whole), f32x4.mul(slack, norms))
}

// @ts-ignore: decorator
@inline
function isBelow(most: v128, top: v128): v128 {
  return v128.and(f32x4.lt(most, top), f32x4.gt(most, f32x4.splat(LOWEST)))
}
