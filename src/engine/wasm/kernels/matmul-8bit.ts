// y = W x for 8-bit weights in groups of 32 (or 16) and activations rounded to 8 or 15 bits in groups of 32.
//
// The dot instruction wants one operand in 7 bits, so it gets |x|, and the sign of x goes into the weight by a bitwise
// NOT, which can't overflow: (~w) * |x| = w * x - |x| where x < 0. The missing sum of |x| over the negative x is known
// per group of activations. The order of the float32 sums is that of the 4-bit kernels.
//
// Octet of 8 rows, for each group: 8 scales (for each half of the group when HALF), 8 minima where there are any, then
// for each 8 columns four vectors of two rows each: 0 and 1, 4 and 5, 2 and 3, 6 and 7.

import {
  GROUP,
  GROUP_BYTES,
  GROUP_NEGATIVE,
  GROUP_NEGATIVE_LOW,
  GROUP_SCALE,
  GROUP_SUM,
  MATRIX_BIAS,
  MATRIX_COLUMNS,
  MATRIX_DATA,
  MATRIX_OCTET_BYTES,
  ROUNDED_ABSOLUTE,
  ROUNDED_LOW,
  ROUNDED_MASK,
  TILE_TOUCHED,
} from '../layout'
import { dot4, joined, scaled } from './dot'
import { following4, halfMask, halfScale, load4 } from './half'
import { finish } from './store'
import { tile, wideVectors } from './threads'

/** As `matmul4`; HALF: i32 when each 16 weights have a scale, void when each 32 have. */
export function matmul8<S, MIN, HALF, WIDE>(
  matrix: usize,
  from: i32,
  to: i32,
  x: usize,
  xStride: usize,
  rows: i32,
  out: usize,
  outStride: usize,
  add: bool,
): void {
  const columns = load<i32>(matrix, MATRIX_COLUMNS)
  const octetBytes = load<usize>(matrix, MATRIX_OCTET_BYTES)
  const data = load<usize>(matrix, MATRIX_DATA)
  const biases = load<usize>(matrix, MATRIX_BIAS)
  // Each group of each row fetches its part of the next octet.
  const groups = columns / GROUP
  const step = octetBytes / <usize>(rows * groups)
  for (let octet = from; octet < to; octet++) {
    const w = data + <usize>octet * octetBytes
    const bias = biases == 0 ? <usize>0 : biases + <usize>octet * 32
    const y = out + <usize>octet * 32
    const next = octet + 1 < to ? w + octetBytes : w
    const part = <usize>groups * step
    let row: usize = 0
    for (; wideVectors && row + 2 <= <usize>rows; row += 2) {
      octetByRows<S, MIN, HALF, WIDE, i32>(w, groups, x + row * xStride, xStride, y + row * outStride, outStride, bias, add, next + row * part, step * 2)
    }
    for (; row < <usize>rows; row++) {
      octetByRows<S, MIN, HALF, WIDE, void>(w, groups, x + row * xStride, 0, y + row * outStride, 0, bias, add, next + row * part, step)
    }
  }
}

/** Bytes before an octet's weights in each group. */
// @ts-ignore: decorator
@inline
function header<S, MIN, HALF>(): usize {
  return sizeof<S>() * 8 * (1 + (isVoid<MIN>() ? 0 : 1) + (isVoid<HALF>() ? 0 : 1))
}

/**
 * An octet's `groups` groups times those of the row at `x`, and with TWO those of the row `xStride` behind it. Meanwhile the
 * weights from `next` on are fetched, a byte every `step`.
 */
function octetByRows<S, MIN, HALF, WIDE, TWO>(
  w: usize,
  groups: i32,
  x: usize,
  xStride: usize,
  y: usize,
  yStride: usize,
  bias: usize,
  add: bool,
  next: usize,
  step: usize,
): void {
  const bits = halfMask()
  const factor = halfScale()
  // A group is one part, or two with scales of their own.
  const parts: usize = isVoid<HALF>() ? 1 : 2
  const end = x + <usize>groups * GROUP_BYTES
  let other = x + xStride
  let touched = 0
  let sum = f32x4.splat(0)
  let sum2 = sum
  let sum3 = sum
  let sum4 = sum
  for (; x < end; x += GROUP_BYTES) {
    touched += load<u8>(next)
    next += step
    let q = w + header<S, MIN, HALF>()
    let limb = x
    let limb2 = other
    for (let part: usize = 0; part < parts; part++) {
      let a = i32x4.splat(0)
      let b = a
      let c = a
      let d = a
      let e = a
      let f = a
      let g = a
      let h = a
      let a2 = a
      let b2 = a
      let c2 = a
      let d2 = a
      let e2 = a
      let f2 = a
      let g2 = a
      let h2 = a
      // Eight columns at a time, written out as in the 4-bit kernels.
      let wa = v128.load(q)
      let wb = v128.load(q, 16)
      let wc = v128.load(q, 32)
      let wd = v128.load(q, 48)
      let mask = v128.load64_splat(limb, ROUNDED_MASK)
      let v = v128.load64_splat(limb, ROUNDED_ABSOLUTE)
      a = dot4(v128.xor(wa, mask), v, a)
      b = dot4(v128.xor(wb, mask), v, b)
      c = dot4(v128.xor(wc, mask), v, c)
      d = dot4(v128.xor(wd, mask), v, d)
      if (!isVoid<WIDE>()) {
        v = v128.load64_splat(limb, ROUNDED_LOW)
        a2 = dot4(wa, v, a2)
        b2 = dot4(wb, v, b2)
        c2 = dot4(wc, v, c2)
        d2 = dot4(wd, v, d2)
      }
      if (!isVoid<TWO>()) {
        mask = v128.load64_splat(limb2, ROUNDED_MASK)
        v = v128.load64_splat(limb2, ROUNDED_ABSOLUTE)
        e = dot4(v128.xor(wa, mask), v, e)
        f = dot4(v128.xor(wb, mask), v, f)
        g = dot4(v128.xor(wc, mask), v, g)
        h = dot4(v128.xor(wd, mask), v, h)
        if (!isVoid<WIDE>()) {
          v = v128.load64_splat(limb2, ROUNDED_LOW)
          e2 = dot4(wa, v, e2)
          f2 = dot4(wb, v, f2)
          g2 = dot4(wc, v, g2)
          h2 = dot4(wd, v, h2)
        }
      }
      wa = v128.load(q, 64)
      wb = v128.load(q, 80)
      wc = v128.load(q, 96)
      wd = v128.load(q, 112)
      mask = v128.load64_splat(limb, ROUNDED_MASK + 8)
      v = v128.load64_splat(limb, ROUNDED_ABSOLUTE + 8)
      a = dot4(v128.xor(wa, mask), v, a)
      b = dot4(v128.xor(wb, mask), v, b)
      c = dot4(v128.xor(wc, mask), v, c)
      d = dot4(v128.xor(wd, mask), v, d)
      if (!isVoid<WIDE>()) {
        v = v128.load64_splat(limb, ROUNDED_LOW + 8)
        a2 = dot4(wa, v, a2)
        b2 = dot4(wb, v, b2)
        c2 = dot4(wc, v, c2)
        d2 = dot4(wd, v, d2)
      }
      if (!isVoid<TWO>()) {
        mask = v128.load64_splat(limb2, ROUNDED_MASK + 8)
        v = v128.load64_splat(limb2, ROUNDED_ABSOLUTE + 8)
        e = dot4(v128.xor(wa, mask), v, e)
        f = dot4(v128.xor(wb, mask), v, f)
        g = dot4(v128.xor(wc, mask), v, g)
        h = dot4(v128.xor(wd, mask), v, h)
        if (!isVoid<WIDE>()) {
          v = v128.load64_splat(limb2, ROUNDED_LOW + 8)
          e2 = dot4(wa, v, e2)
          f2 = dot4(wb, v, f2)
          g2 = dot4(wc, v, g2)
          h2 = dot4(wd, v, h2)
        }
      }
      if (isVoid<HALF>()) {
        wa = v128.load(q, 128)
        wb = v128.load(q, 144)
        wc = v128.load(q, 160)
        wd = v128.load(q, 176)
        mask = v128.load64_splat(limb, ROUNDED_MASK + 16)
        v = v128.load64_splat(limb, ROUNDED_ABSOLUTE + 16)
        a = dot4(v128.xor(wa, mask), v, a)
        b = dot4(v128.xor(wb, mask), v, b)
        c = dot4(v128.xor(wc, mask), v, c)
        d = dot4(v128.xor(wd, mask), v, d)
        if (!isVoid<WIDE>()) {
          v = v128.load64_splat(limb, ROUNDED_LOW + 16)
          a2 = dot4(wa, v, a2)
          b2 = dot4(wb, v, b2)
          c2 = dot4(wc, v, c2)
          d2 = dot4(wd, v, d2)
        }
        if (!isVoid<TWO>()) {
          mask = v128.load64_splat(limb2, ROUNDED_MASK + 16)
          v = v128.load64_splat(limb2, ROUNDED_ABSOLUTE + 16)
          e = dot4(v128.xor(wa, mask), v, e)
          f = dot4(v128.xor(wb, mask), v, f)
          g = dot4(v128.xor(wc, mask), v, g)
          h = dot4(v128.xor(wd, mask), v, h)
          if (!isVoid<WIDE>()) {
            v = v128.load64_splat(limb2, ROUNDED_LOW + 16)
            e2 = dot4(wa, v, e2)
            f2 = dot4(wb, v, f2)
            g2 = dot4(wc, v, g2)
            h2 = dot4(wd, v, h2)
          }
        }
        wa = v128.load(q, 192)
        wb = v128.load(q, 208)
        wc = v128.load(q, 224)
        wd = v128.load(q, 240)
        mask = v128.load64_splat(limb, ROUNDED_MASK + 24)
        v = v128.load64_splat(limb, ROUNDED_ABSOLUTE + 24)
        a = dot4(v128.xor(wa, mask), v, a)
        b = dot4(v128.xor(wb, mask), v, b)
        c = dot4(v128.xor(wc, mask), v, c)
        d = dot4(v128.xor(wd, mask), v, d)
        if (!isVoid<WIDE>()) {
          v = v128.load64_splat(limb, ROUNDED_LOW + 24)
          a2 = dot4(wa, v, a2)
          b2 = dot4(wb, v, b2)
          c2 = dot4(wc, v, c2)
          d2 = dot4(wd, v, d2)
        }
        if (!isVoid<TWO>()) {
          mask = v128.load64_splat(limb2, ROUNDED_MASK + 24)
          v = v128.load64_splat(limb2, ROUNDED_ABSOLUTE + 24)
          e = dot4(v128.xor(wa, mask), v, e)
          f = dot4(v128.xor(wb, mask), v, f)
          g = dot4(v128.xor(wc, mask), v, g)
          h = dot4(v128.xor(wd, mask), v, h)
          if (!isVoid<WIDE>()) {
            v = v128.load64_splat(limb2, ROUNDED_LOW + 24)
            e2 = dot4(wa, v, e2)
            f2 = dot4(wb, v, f2)
            g2 = dot4(wc, v, g2)
            h2 = dot4(wd, v, h2)
          }
        }
      }
      q += isVoid<HALF>() ? 256 : 128
      limb += 16
      limb2 += 16
      const scales = w + part * (sizeof<S>() * 8)
      const scale = load4<S>(scales, bits, factor)
      const scale2 = following4<S>(scales, bits, factor)
      const negative: usize = isVoid<HALF>() ? GROUP_NEGATIVE : GROUP_NEGATIVE_LOW + part * 4
      let xScale = v128.load32_splat(x, GROUP_SCALE)
      let missing = v128.load32_splat(x + negative)
      sum = scaled(sum, whole<WIDE>(a, c, a2, c2, missing), scale, xScale)
      sum2 = scaled(sum2, whole<WIDE>(b, d, b2, d2, missing), scale2, xScale)
      if (!isVoid<TWO>()) {
        xScale = v128.load32_splat(other, GROUP_SCALE)
        missing = v128.load32_splat(other + negative)
        sum3 = scaled(sum3, whole<WIDE>(e, g, e2, g2, missing), scale, xScale)
        sum4 = scaled(sum4, whole<WIDE>(f, h, f2, h2, missing), scale2, xScale)
      }
    }
    if (!isVoid<MIN>()) {
      const minima = w + sizeof<S>() * 8
      const minimum = load4<S>(minima, bits, factor)
      const minimum2 = following4<S>(minima, bits, factor)
      let xSum = v128.load32_splat(x, GROUP_SUM)
      sum = f32x4.add(sum, f32x4.mul(minimum, xSum))
      sum2 = f32x4.add(sum2, f32x4.mul(minimum2, xSum))
      if (!isVoid<TWO>()) {
        xSum = v128.load32_splat(other, GROUP_SUM)
        sum3 = f32x4.add(sum3, f32x4.mul(minimum, xSum))
        sum4 = f32x4.add(sum4, f32x4.mul(minimum2, xSum))
      }
    }
    if (!isVoid<TWO>()) other += GROUP_BYTES
    w = q
  }
  store<i32>(tile, touched, TILE_TOUCHED)
  finish(y, sum, sum2, bias, add)
  if (!isVoid<TWO>()) finish(y + yStride, sum3, sum4, bias, add)
}

/** Dot products of four rows from half sums of their high and low limbs; `missing` is what |x| leaves out of the high ones. */
// @ts-ignore: decorator
@inline
function whole<WIDE>(a: v128, b: v128, a2: v128, b2: v128, missing: v128): v128 {
  const dots = i32x4.add(joined(a, b), missing)
  // The low limb has no sign and needs no trick.
  return isVoid<WIDE>() ? dots : i32x4.add(i32x4.shl(dots, 7), joined(a2, b2))
}
