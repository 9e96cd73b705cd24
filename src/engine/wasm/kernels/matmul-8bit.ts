// y = W x for 8-bit weights in groups of 32 (or 16) and activations rounded to 8 bits in groups of 32.
//
// The dot instruction wants one operand in 7 bits, so it gets |x|, and the sign of x goes into the weight by a bitwise
// NOT, which can't overflow: (~w) * |x| = w * x - |x| where x < 0. The missing sum of |x| over the negative x is known
// per group of activations and starts the sum. The order of the float32 sums is that of the 4-bit kernels.
//
// Octet of 8 rows, for each group: 8 scales (for each half of the group when HALF), 8 minima where there are any, then
// for each 4 columns two vectors of four rows each; row i has bytes 4i..4i+3.

import {
  GROUP,
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
  QUAD,
  QUAD_BYTES,
  ROUNDED_ABSOLUTE,
  ROUNDED_LOW,
  ROUNDED_MASK,
  TILE_TOUCHED,
  TILE_WEIGHTS_BYTES,
} from '../layout'
import { dot4 } from './dot'
import { halfMask, halfScale, load4 } from './half'
import { finish } from './store'
import { tile } from './threads'

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
  // Each group of each quad of rows fetches its part of the next octet.
  const groups = columns / GROUP
  const step = octetBytes / <usize>max((rows / QUAD) * groups, 1)
  for (let octet = from; octet < to; octet++) {
    const w = data + <usize>octet * octetBytes
    const bias = biases == 0 ? <usize>0 : biases + <usize>octet * 32
    const y = out + <usize>octet * 32
    let row = 0
    for (; row + QUAD <= rows; row += QUAD) {
      const ys = y + <usize>row * outStride
      const next = octet + 1 < to ? w + octetBytes + <usize>((row / QUAD) * groups) * step : w
      octetByFour<S, MIN, HALF, WIDE>(w, columns, x + <usize>row * xStride, ys, outStride, bias, add, next, step)
    }
    for (; row < rows; row++) {
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

/** sum + dots * scale of weights * scale of activations. */
// @ts-ignore: decorator
@inline
function scaled(sum: v128, dots: v128, scale: v128, xScale: v128): v128 {
  return f32x4.add(sum, f32x4.mul(f32x4.convert_i32x4_s(dots), f32x4.mul(scale, xScale)))
}

// @ts-ignore: decorator
@inline
function addMinimum<S, MIN>(sum: v128, scales: usize, x: usize, bits: v128, factor: v128): v128 {
  if (isVoid<MIN>()) return sum
  return f32x4.add(sum, f32x4.mul(load4<S>(scales + sizeof<S>() * 8, bits, factor), v128.load32_splat(x, GROUP_SUM)))
}

function octetByOne<S, MIN, HALF, WIDE>(w: usize, columns: i32, x: usize, y: usize, bias: usize, add: bool): void {
  const bits = halfMask()
  const factor = halfScale()
  const end = x + <usize>(columns / GROUP) * GROUP_BYTES
  let sumA = f32x4.splat(0)
  let sumB = f32x4.splat(0)
  while (x < end) {
    let q = w + header<S, MIN, HALF>()
    let limb = x
    const xScale = v128.load32_splat(x, GROUP_SCALE)
    if (isVoid<HALF>()) {
      let a = v128.load32_splat(x, GROUP_NEGATIVE)
      let b = a
      let a2 = i32x4.splat(0)
      let b2 = a2
      for (let half = 0; half < 2; half++) {
        let m = v128.load32_splat(limb, ROUNDED_MASK)
        let v = v128.load32_splat(limb, ROUNDED_ABSOLUTE)
        let wa = v128.load(q)
        let wb = v128.load(q, 16)
        a = dot4(v128.xor(wa, m), v, a)
        b = dot4(v128.xor(wb, m), v, b)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(limb, ROUNDED_LOW)
          a2 = dot4(wa, v, a2)
          b2 = dot4(wb, v, b2)
        }
        m = v128.load32_splat(limb, ROUNDED_MASK + 4)
        v = v128.load32_splat(limb, ROUNDED_ABSOLUTE + 4)
        wa = v128.load(q, 32)
        wb = v128.load(q, 48)
        a = dot4(v128.xor(wa, m), v, a)
        b = dot4(v128.xor(wb, m), v, b)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(limb, ROUNDED_LOW + 4)
          a2 = dot4(wa, v, a2)
          b2 = dot4(wb, v, b2)
        }
        m = v128.load32_splat(limb, ROUNDED_MASK + 8)
        v = v128.load32_splat(limb, ROUNDED_ABSOLUTE + 8)
        wa = v128.load(q, 64)
        wb = v128.load(q, 80)
        a = dot4(v128.xor(wa, m), v, a)
        b = dot4(v128.xor(wb, m), v, b)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(limb, ROUNDED_LOW + 8)
          a2 = dot4(wa, v, a2)
          b2 = dot4(wb, v, b2)
        }
        m = v128.load32_splat(limb, ROUNDED_MASK + 12)
        v = v128.load32_splat(limb, ROUNDED_ABSOLUTE + 12)
        wa = v128.load(q, 96)
        wb = v128.load(q, 112)
        a = dot4(v128.xor(wa, m), v, a)
        b = dot4(v128.xor(wb, m), v, b)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(limb, ROUNDED_LOW + 12)
          a2 = dot4(wa, v, a2)
          b2 = dot4(wb, v, b2)
        }
        q += 128
        limb += 16
      }
      if (!isVoid<WIDE>()) {
        a = wider(a, a2)
        b = wider(b, b2)
      }
      sumA = scaled(sumA, a, load4<S>(w, bits, factor), xScale)
      sumB = scaled(sumB, b, load4<S>(w + sizeof<S>() * 4, bits, factor), xScale)
    } else {
      for (let half: usize = 0; half < 2; half++) {
        let a = v128.load32_splat(half == 0 ? x + GROUP_NEGATIVE_LOW : x + GROUP_NEGATIVE_HIGH)
        let b = a
        let a2 = i32x4.splat(0)
        let b2 = a2
        for (let four = 0; four < 4; four++) {
          const m = v128.load32_splat(limb, ROUNDED_MASK)
          let v = v128.load32_splat(limb, ROUNDED_ABSOLUTE)
          const wa = v128.load(q)
          const wb = v128.load(q, 16)
          a = dot4(v128.xor(wa, m), v, a)
          b = dot4(v128.xor(wb, m), v, b)
          if (!isVoid<WIDE>()) {
            v = v128.load32_splat(limb, ROUNDED_LOW)
            a2 = dot4(wa, v, a2)
            b2 = dot4(wb, v, b2)
          }
          q += 32
          limb += 4
        }
        if (!isVoid<WIDE>()) {
          a = wider(a, a2)
          b = wider(b, b2)
        }
        const scales = w + half * (sizeof<S>() * 8)
        sumA = scaled(sumA, a, load4<S>(scales, bits, factor), xScale)
        sumB = scaled(sumB, b, load4<S>(scales + sizeof<S>() * 4, bits, factor), xScale)
      }
    }
    sumA = addMinimum<S, MIN>(sumA, w, x, bits, factor)
    sumB = addMinimum<S, MIN>(sumB, w + sizeof<S>() * 4, x, bits, factor)
    x += GROUP_BYTES
    w = q
  }
  finish(y, sumA, bias, add)
  finish(y + 16, sumB, bias == 0 ? 0 : bias + 16, add)
}

/**
 * Eight rows of weights times four tokens whose groups at `x` take turns. Two tokens at a time: eight chains of dot
 * products hide their latency, and more would not stay in registers. Meanwhile the weights from
 * `next` on are fetched, a byte every `step`.
 */
function octetByFour<S, MIN, HALF, WIDE>(
  w: usize,
  columns: i32,
  x: usize,
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
  const loops = isVoid<HALF>() ? 2 : 1
  const sums = tile + TILE_WEIGHTS_BYTES
  memory.fill(sums, 0, QUAD * 32)
  const end = x + <usize>(columns / GROUP) * QUAD_BYTES
  let touched = 0
  while (x < end) {
    touched += load<u8>(next)
    next += step
    let sum = sums
    for (let pair = 0; pair < 2; pair++) {
      let q = w + header<S, MIN, HALF>()
      let limb = x
      for (let part: usize = 0; part < parts; part++) {
        const negative = x + (isVoid<HALF>() ? 0 : 4 + part * 4)
        let a = v128.load32_splat(negative, GROUP_NEGATIVE)
        let b = a
        let c = v128.load32_splat(negative, GROUP_NEGATIVE + GROUP_BYTES)
        let d = c
        let a2 = i32x4.splat(0)
        let b2 = a2
        let c2 = a2
        let d2 = a2
        for (let loop = 0; loop < loops; loop++) {
          let wa = v128.load(q)
          let wb = v128.load(q, 16)
          let m = v128.load32_splat(limb, ROUNDED_MASK)
          let v = v128.load32_splat(limb, ROUNDED_ABSOLUTE)
          a = dot4(v128.xor(wa, m), v, a)
          b = dot4(v128.xor(wb, m), v, b)
          if (!isVoid<WIDE>()) {
            v = v128.load32_splat(limb, ROUNDED_LOW)
            a2 = dot4(wa, v, a2)
            b2 = dot4(wb, v, b2)
          }
          m = v128.load32_splat(limb, ROUNDED_MASK + GROUP_BYTES)
          v = v128.load32_splat(limb, ROUNDED_ABSOLUTE + GROUP_BYTES)
          c = dot4(v128.xor(wa, m), v, c)
          d = dot4(v128.xor(wb, m), v, d)
          if (!isVoid<WIDE>()) {
            v = v128.load32_splat(limb, ROUNDED_LOW + GROUP_BYTES)
            c2 = dot4(wa, v, c2)
            d2 = dot4(wb, v, d2)
          }
          wa = v128.load(q, 32)
          wb = v128.load(q, 48)
          m = v128.load32_splat(limb, ROUNDED_MASK + 4)
          v = v128.load32_splat(limb, ROUNDED_ABSOLUTE + 4)
          a = dot4(v128.xor(wa, m), v, a)
          b = dot4(v128.xor(wb, m), v, b)
          if (!isVoid<WIDE>()) {
            v = v128.load32_splat(limb, ROUNDED_LOW + 4)
            a2 = dot4(wa, v, a2)
            b2 = dot4(wb, v, b2)
          }
          m = v128.load32_splat(limb, ROUNDED_MASK + GROUP_BYTES + 4)
          v = v128.load32_splat(limb, ROUNDED_ABSOLUTE + GROUP_BYTES + 4)
          c = dot4(v128.xor(wa, m), v, c)
          d = dot4(v128.xor(wb, m), v, d)
          if (!isVoid<WIDE>()) {
            v = v128.load32_splat(limb, ROUNDED_LOW + GROUP_BYTES + 4)
            c2 = dot4(wa, v, c2)
            d2 = dot4(wb, v, d2)
          }
          wa = v128.load(q, 64)
          wb = v128.load(q, 80)
          m = v128.load32_splat(limb, ROUNDED_MASK + 8)
          v = v128.load32_splat(limb, ROUNDED_ABSOLUTE + 8)
          a = dot4(v128.xor(wa, m), v, a)
          b = dot4(v128.xor(wb, m), v, b)
          if (!isVoid<WIDE>()) {
            v = v128.load32_splat(limb, ROUNDED_LOW + 8)
            a2 = dot4(wa, v, a2)
            b2 = dot4(wb, v, b2)
          }
          m = v128.load32_splat(limb, ROUNDED_MASK + GROUP_BYTES + 8)
          v = v128.load32_splat(limb, ROUNDED_ABSOLUTE + GROUP_BYTES + 8)
          c = dot4(v128.xor(wa, m), v, c)
          d = dot4(v128.xor(wb, m), v, d)
          if (!isVoid<WIDE>()) {
            v = v128.load32_splat(limb, ROUNDED_LOW + GROUP_BYTES + 8)
            c2 = dot4(wa, v, c2)
            d2 = dot4(wb, v, d2)
          }
          wa = v128.load(q, 96)
          wb = v128.load(q, 112)
          m = v128.load32_splat(limb, ROUNDED_MASK + 12)
          v = v128.load32_splat(limb, ROUNDED_ABSOLUTE + 12)
          a = dot4(v128.xor(wa, m), v, a)
          b = dot4(v128.xor(wb, m), v, b)
          if (!isVoid<WIDE>()) {
            v = v128.load32_splat(limb, ROUNDED_LOW + 12)
            a2 = dot4(wa, v, a2)
            b2 = dot4(wb, v, b2)
          }
          m = v128.load32_splat(limb, ROUNDED_MASK + GROUP_BYTES + 12)
          v = v128.load32_splat(limb, ROUNDED_ABSOLUTE + GROUP_BYTES + 12)
          c = dot4(v128.xor(wa, m), v, c)
          d = dot4(v128.xor(wb, m), v, d)
          if (!isVoid<WIDE>()) {
            v = v128.load32_splat(limb, ROUNDED_LOW + GROUP_BYTES + 12)
            c2 = dot4(wa, v, c2)
            d2 = dot4(wb, v, d2)
          }
          q += 128
          limb += 16
        }
        if (!isVoid<WIDE>()) {
          a = wider(a, a2)
          b = wider(b, b2)
          c = wider(c, c2)
          d = wider(d, d2)
        }
        const scales = w + part * (sizeof<S>() * 8)
        const scale = load4<S>(scales, bits, factor)
        const scale2 = load4<S>(scales + sizeof<S>() * 4, bits, factor)
        let xScale = v128.load32_splat(x, GROUP_SCALE)
        v128.store(sum, scaled(v128.load(sum), a, scale, xScale))
        v128.store(sum, scaled(v128.load(sum, 16), b, scale2, xScale), 16)
        xScale = v128.load32_splat(x, GROUP_SCALE + GROUP_BYTES)
        v128.store(sum, scaled(v128.load(sum, 32), c, scale, xScale), 32)
        v128.store(sum, scaled(v128.load(sum, 48), d, scale2, xScale), 48)
      }
      if (!isVoid<MIN>()) {
        const minimum = load4<S>(w + sizeof<S>() * 8, bits, factor)
        const minimum2 = load4<S>(w + sizeof<S>() * 12, bits, factor)
        let xSum = v128.load32_splat(x, GROUP_SUM)
        v128.store(sum, f32x4.add(v128.load(sum), f32x4.mul(minimum, xSum)))
        v128.store(sum, f32x4.add(v128.load(sum, 16), f32x4.mul(minimum2, xSum)), 16)
        xSum = v128.load32_splat(x, GROUP_SUM + GROUP_BYTES)
        v128.store(sum, f32x4.add(v128.load(sum, 32), f32x4.mul(minimum, xSum)), 32)
        v128.store(sum, f32x4.add(v128.load(sum, 48), f32x4.mul(minimum2, xSum)), 48)
      }
      x += GROUP_BYTES * 2
      sum += 64
    }
    w += header<S, MIN, HALF>() + 256
  }
  for (let token: usize = 0; token < <usize>QUAD; token++) {
    const sum = sums + token * 32
    finish(y + token * yStride, v128.load(sum), bias, add)
    finish(y + token * yStride + 16, v128.load(sum, 16), bias == 0 ? 0 : bias + 16, add)
  }
  store<i32>(tile, touched, TILE_TOUCHED)
}
