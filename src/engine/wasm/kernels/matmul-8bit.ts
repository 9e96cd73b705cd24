// y = W x for 8-bit weights in groups of 32 (or 16) and activations rounded to 8 bits in groups of 32.
//
// The dot instruction wants one operand in 7 bits, so it gets |x|, and the sign of x goes into the weight by a bitwise
// NOT, which can't overflow: (~w) * |x| = w * x - |x| where x < 0. The missing sum of |x| over the negative x is known
// per group of activations and starts the sum. The order of the float32 sums is that of the 4-bit kernels.
//
// Octet of 8 rows, for each group: 8 scales (for each half of the group when HALF), 8 minima where there are any, then
// for each 4 columns two vectors of four rows each; row i has bytes 4i..4i+3.

import {
  GROUP_BYTES,
  GROUP_NEGATIVE,
  GROUP_NEGATIVE_HIGH,
  GROUP_NEGATIVE_LOW,
  GROUP_SCALE,
  GROUP_SUM,
  MATRIX_BIAS,
  MATRIX_COLUMNS,
  MATRIX_DATA,
  MATRIX_OCTET_BYTES,
} from '../layout'
import { dot4 } from './dot'
import { halfMask, halfScale, load4 } from './half'
import { finish } from './store'

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
  for (let octet = from; octet < to; octet++) {
    const w = data + <usize>octet * octetBytes
    const bias = biases == 0 ? <usize>0 : biases + <usize>octet * 32
    const y = out + <usize>octet * 32
    let row = 0
    for (; row + 2 <= rows; row += 2) {
      const xs = x + <usize>row * xStride
      const ys = y + <usize>row * outStride
      octetByTwo<S, MIN, HALF, WIDE>(w, columns, xs, xStride, ys, outStride, bias, add)
    }
    if (row < rows) {
      octetByOne<S, MIN, HALF, WIDE>(w, columns, x + <usize>row * xStride, y + <usize>row * outStride, bias, add)
    }
  }
}

/** Dot products of 15-bit activations from those of their limbs; the low limb has no sign and needs no trick. */
// @ts-ignore: decorator
@inline
function wider(high: v128, low: v128): v128 {
  return i32x4.add(i32x4.shl(high, 7), low)
}

/** Bytes before an octet's weights in each group. */
// @ts-ignore: decorator
@inline
function header<S, MIN, HALF>(): usize {
  return sizeof<S>() * 8 * (1 + (isVoid<MIN>() ? 0 : 1) + (isVoid<HALF>() ? 0 : 1))
}

/** sum + dots * scales. */
// @ts-ignore: decorator
@inline
function scaled<S>(sum: v128, dots: v128, scales: usize, meta: usize, bits: v128, factor: v128): v128 {
  const scale = f32x4.mul(load4<S>(scales, bits, factor), v128.load32_splat(meta, GROUP_SCALE))
  return f32x4.add(sum, f32x4.mul(f32x4.convert_i32x4_s(dots), scale))
}

// @ts-ignore: decorator
@inline
function minimum<S, MIN>(sum: v128, scales: usize, meta: usize, bits: v128, factor: v128): v128 {
  if (isVoid<MIN>()) return sum
  return f32x4.add(sum, f32x4.mul(load4<S>(scales + sizeof<S>() * 8, bits, factor), v128.load32_splat(meta, GROUP_SUM)))
}

function octetByOne<S, MIN, HALF, WIDE>(w: usize, columns: i32, x: usize, y: usize, bias: usize, add: bool): void {
  const bits = halfMask()
  const factor = halfScale()
  const k = <usize>columns
  let meta = x + k * 3
  const end = x + k
  let sumA = f32x4.splat(0)
  let sumB = f32x4.splat(0)
  while (x < end) {
    let q = w + header<S, MIN, HALF>()
    let absolute = x + k
    let mask = absolute + k
    let second = x + k * 4
    if (isVoid<HALF>()) {
      let a = v128.load32_splat(meta, GROUP_NEGATIVE)
      let b = a
      let a2 = i32x4.splat(0)
      let b2 = a2
      for (let half = 0; half < 2; half++) {
        let m = v128.load32_splat(mask)
        let v = v128.load32_splat(absolute)
        let wa = v128.load(q)
        let wb = v128.load(q, 16)
        a = dot4(v128.xor(wa, m), v, a)
        b = dot4(v128.xor(wb, m), v, b)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(second)
          a2 = dot4(wa, v, a2)
          b2 = dot4(wb, v, b2)
        }
        m = v128.load32_splat(mask, 4)
        v = v128.load32_splat(absolute, 4)
        wa = v128.load(q, 32)
        wb = v128.load(q, 48)
        a = dot4(v128.xor(wa, m), v, a)
        b = dot4(v128.xor(wb, m), v, b)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(second, 4)
          a2 = dot4(wa, v, a2)
          b2 = dot4(wb, v, b2)
        }
        m = v128.load32_splat(mask, 8)
        v = v128.load32_splat(absolute, 8)
        wa = v128.load(q, 64)
        wb = v128.load(q, 80)
        a = dot4(v128.xor(wa, m), v, a)
        b = dot4(v128.xor(wb, m), v, b)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(second, 8)
          a2 = dot4(wa, v, a2)
          b2 = dot4(wb, v, b2)
        }
        m = v128.load32_splat(mask, 12)
        v = v128.load32_splat(absolute, 12)
        wa = v128.load(q, 96)
        wb = v128.load(q, 112)
        a = dot4(v128.xor(wa, m), v, a)
        b = dot4(v128.xor(wb, m), v, b)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(second, 12)
          a2 = dot4(wa, v, a2)
          b2 = dot4(wb, v, b2)
        }
        q += 128
        mask += 16
        absolute += 16
        second += 16
      }
      if (!isVoid<WIDE>()) {
        a = wider(a, a2)
        b = wider(b, b2)
      }
      sumA = scaled<S>(sumA, a, w, meta, bits, factor)
      sumB = scaled<S>(sumB, b, w + sizeof<S>() * 4, meta, bits, factor)
    } else {
      for (let half: usize = 0; half < 2; half++) {
        let a = v128.load32_splat(half == 0 ? meta + GROUP_NEGATIVE_LOW : meta + GROUP_NEGATIVE_HIGH)
        let b = a
        let a2 = i32x4.splat(0)
        let b2 = a2
        for (let four = 0; four < 4; four++) {
          const m = v128.load32_splat(mask)
          let v = v128.load32_splat(absolute)
          const wa = v128.load(q)
          const wb = v128.load(q, 16)
          a = dot4(v128.xor(wa, m), v, a)
          b = dot4(v128.xor(wb, m), v, b)
          if (!isVoid<WIDE>()) {
            v = v128.load32_splat(second)
            a2 = dot4(wa, v, a2)
            b2 = dot4(wb, v, b2)
          }
          q += 32
          mask += 4
          absolute += 4
          second += 4
        }
        if (!isVoid<WIDE>()) {
          a = wider(a, a2)
          b = wider(b, b2)
        }
        const scales = w + half * (sizeof<S>() * 8)
        sumA = scaled<S>(sumA, a, scales, meta, bits, factor)
        sumB = scaled<S>(sumB, b, scales + sizeof<S>() * 4, meta, bits, factor)
      }
    }
    sumA = minimum<S, MIN>(sumA, w, meta, bits, factor)
    sumB = minimum<S, MIN>(sumB, w + sizeof<S>() * 4, meta, bits, factor)
    x += 32
    meta += GROUP_BYTES
    w = q
  }
  finish(y, sumA, bias, add)
  finish(y + 16, sumB, bias == 0 ? 0 : bias + 16, add)
}

/** Eight rows of weights times two tokens. */
function octetByTwo<S, MIN, HALF, WIDE>(
  w: usize,
  columns: i32,
  x: usize,
  xStride: usize,
  y: usize,
  yStride: usize,
  bias: usize,
  add: bool,
): void {
  const bits = halfMask()
  const factor = halfScale()
  const k = <usize>columns
  let meta = x + k * 3
  const end = x + k
  let sumA = f32x4.splat(0)
  let sumB = f32x4.splat(0)
  let sumC = f32x4.splat(0)
  let sumD = f32x4.splat(0)
  while (x < end) {
    let q = w + header<S, MIN, HALF>()
    const meta2 = meta + xStride
    let absolute = x + k
    let mask = absolute + k
    let absolute2 = absolute + xStride
    let mask2 = mask + xStride
    let second = x + k * 4
    let second2 = second + xStride
    if (isVoid<HALF>()) {
      let a = v128.load32_splat(meta, GROUP_NEGATIVE)
      let b = a
      let c = v128.load32_splat(meta2, GROUP_NEGATIVE)
      let d = c
      for (let four = 0; four < 8; four++) {
        const wa = v128.load(q)
        const wb = v128.load(q, 16)
        let m = v128.load32_splat(mask)
        let v = v128.load32_splat(absolute)
        a = dot4(v128.xor(wa, m), v, a)
        b = dot4(v128.xor(wb, m), v, b)
        m = v128.load32_splat(mask2)
        v = v128.load32_splat(absolute2)
        c = dot4(v128.xor(wa, m), v, c)
        d = dot4(v128.xor(wb, m), v, d)
        q += 32
        mask += 4
        absolute += 4
        mask2 += 4
        absolute2 += 4
      }
      if (!isVoid<WIDE>()) {
        // Once more with the low limbs, which have no sign; the high ones count 128 times.
        a = i32x4.shl(a, 7)
        b = i32x4.shl(b, 7)
        c = i32x4.shl(c, 7)
        d = i32x4.shl(d, 7)
        q -= 256
        for (let four = 0; four < 8; four++) {
          const wa = v128.load(q)
          const wb = v128.load(q, 16)
          let v = v128.load32_splat(second)
          a = dot4(wa, v, a)
          b = dot4(wb, v, b)
          v = v128.load32_splat(second2)
          c = dot4(wa, v, c)
          d = dot4(wb, v, d)
          q += 32
          second += 4
          second2 += 4
        }
      }
      sumA = scaled<S>(sumA, a, w, meta, bits, factor)
      sumB = scaled<S>(sumB, b, w + sizeof<S>() * 4, meta, bits, factor)
      sumC = scaled<S>(sumC, c, w, meta2, bits, factor)
      sumD = scaled<S>(sumD, d, w + sizeof<S>() * 4, meta2, bits, factor)
    } else {
      for (let half: usize = 0; half < 2; half++) {
        const negative: usize = half == 0 ? GROUP_NEGATIVE_LOW : GROUP_NEGATIVE_HIGH
        let a = v128.load32_splat(meta + negative)
        let b = a
        let c = v128.load32_splat(meta2 + negative)
        let d = c
        for (let four = 0; four < 4; four++) {
          const wa = v128.load(q)
          const wb = v128.load(q, 16)
          let m = v128.load32_splat(mask)
          let v = v128.load32_splat(absolute)
          a = dot4(v128.xor(wa, m), v, a)
          b = dot4(v128.xor(wb, m), v, b)
          m = v128.load32_splat(mask2)
          v = v128.load32_splat(absolute2)
          c = dot4(v128.xor(wa, m), v, c)
          d = dot4(v128.xor(wb, m), v, d)
          q += 32
          mask += 4
          absolute += 4
          mask2 += 4
          absolute2 += 4
        }
        if (!isVoid<WIDE>()) {
          // Once more with the low limbs, which have no sign; the high ones count 128 times.
          a = i32x4.shl(a, 7)
          b = i32x4.shl(b, 7)
          c = i32x4.shl(c, 7)
          d = i32x4.shl(d, 7)
          q -= 128
          for (let four = 0; four < 4; four++) {
            const wa = v128.load(q)
            const wb = v128.load(q, 16)
            let v = v128.load32_splat(second)
            a = dot4(wa, v, a)
            b = dot4(wb, v, b)
            v = v128.load32_splat(second2)
            c = dot4(wa, v, c)
            d = dot4(wb, v, d)
            q += 32
            second += 4
            second2 += 4
          }
        }
        const scales = w + half * (sizeof<S>() * 8)
        sumA = scaled<S>(sumA, a, scales, meta, bits, factor)
        sumB = scaled<S>(sumB, b, scales + sizeof<S>() * 4, meta, bits, factor)
        sumC = scaled<S>(sumC, c, scales, meta2, bits, factor)
        sumD = scaled<S>(sumD, d, scales + sizeof<S>() * 4, meta2, bits, factor)
      }
    }
    sumA = minimum<S, MIN>(sumA, w, meta, bits, factor)
    sumB = minimum<S, MIN>(sumB, w + sizeof<S>() * 4, meta, bits, factor)
    sumC = minimum<S, MIN>(sumC, w, meta2, bits, factor)
    sumD = minimum<S, MIN>(sumD, w + sizeof<S>() * 4, meta2, bits, factor)
    x += 32
    meta += GROUP_BYTES
    w = q
  }
  finish(y, sumA, bias, add)
  finish(y + 16, sumB, bias == 0 ? 0 : bias + 16, add)
  finish(y + yStride, sumC, bias, add)
  finish(y + yStride + 16, sumD, bias == 0 ? 0 : bias + 16, add)
}
