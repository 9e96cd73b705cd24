// y = W x for 4-bit weights in groups of 32 and activations rounded to 8 bits in the same groups.
//
// One output is a float32 sum over the groups in order: y += float(integer dot product) * (weight scale * activation scale),
// with a minimum also y += minimum * (activation scale * sum of the activation's integers). Every tile below does just that
// for each output, so results do not depend on how rows and tokens are grouped.
//
// Octet of 8 rows, for each group: 8 scales, 8 minima where there are any, then for each 8 columns two vectors of
// four rows each; row i has bytes 4i..4i+3, low nibbles columns 0..3, high nibbles columns 4..7.

import {
  GROUP_BYTES,
  GROUP_SCALE,
  GROUP_SUM,
  GROUP_ZERO,
  MATRIX_BIAS,
  MATRIX_COLUMNS,
  MATRIX_DATA,
  MATRIX_OCTET_BYTES,
} from '../layout'
import { dot4 } from './dot'
import { halfMask, halfScale, load4, nibbleMask } from './half'
import { finish } from './store'

/** Octets [from, to) of `matrix` times `rows` rounded rows at `x`. S: type of scales; MIN, WIDE: i32 with minima, with 15-bit activations; void without. */
export function matmul4<S, MIN, WIDE>(
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
    for (; row + 4 <= rows; row += 4) {
      const xs = x + <usize>row * xStride
      const ys = y + <usize>row * outStride
      quadByFour<S, MIN, WIDE>(w, 0, columns, xs, xStride, ys, outStride, bias, add)
      quadByFour<S, MIN, WIDE>(w, 1, columns, xs, xStride, ys + 16, outStride, bias == 0 ? 0 : bias + 16, add)
    }
    for (; row < rows; row++) {
      octetByOne<S, MIN, WIDE>(w, columns, x + <usize>row * xStride, y + <usize>row * outStride, bias, add)
    }
  }
}

// @ts-ignore: decorator
@inline
function low(bytes: v128, nibble: v128): v128 {
  return v128.and(bytes, nibble)
}

// @ts-ignore: decorator
@inline
function high(bytes: v128, nibble: v128): v128 {
  return v128.and(i16x8.shr_u(bytes, 4), nibble)
}

// @ts-ignore: decorator
@inline
function scaled<S, MIN>(sum: v128, dots: v128, scales: usize, meta: usize, mask: v128, half: v128): v128 {
  const scale = f32x4.mul(load4<S>(scales, mask, half), v128.load32_splat(meta, GROUP_SCALE))
  sum = f32x4.add(sum, f32x4.mul(f32x4.convert_i32x4_s(dots), scale))
  if (!isVoid<MIN>()) {
    const minimum = load4<S>(scales + sizeof<S>() * 8, mask, half)
    sum = f32x4.add(sum, f32x4.mul(minimum, v128.load32_splat(meta, GROUP_SUM)))
  }
  return sum
}

// @ts-ignore: decorator
@inline
function start<MIN, WIDE>(meta: usize): v128 {
  if (isVoid<MIN>() && isVoid<WIDE>()) return v128.load32_splat(meta, GROUP_ZERO)
  return i32x4.splat(0)
}

/** Dot products of 15-bit activations from those of their limbs. */
// @ts-ignore: decorator
@inline
function wider<MIN>(high: v128, low: v128, meta: usize): v128 {
  const dots = i32x4.add(i32x4.shl(high, 7), low)
  return isVoid<MIN>() ? i32x4.add(dots, v128.load32_splat(meta, GROUP_ZERO)) : dots
}

function octetByOne<S, MIN, WIDE>(w: usize, columns: i32, x: usize, y: usize, bias: usize, add: bool): void {
  const nibble = nibbleMask()
  const mask = halfMask()
  const half = halfScale()
  const header: usize = sizeof<S>() * (isVoid<MIN>() ? 8 : 16)
  let meta = x + <usize>columns * 3
  const low2 = <usize>columns * 4
  const end = x + <usize>columns
  let sumA = f32x4.splat(0)
  let sumB = f32x4.splat(0)
  while (x < end) {
    const q = w + header
    let a = start<MIN, WIDE>(meta)
    let b = a
    let a2 = i32x4.splat(0)
    let b2 = a2
    let x0 = v128.load32_splat(x)
    let x1 = v128.load32_splat(x, 4)
    let wa = v128.load(q)
    let wb = v128.load(q, 16)
    a = dot4(x1, high(wa, nibble), dot4(x0, low(wa, nibble), a))
    b = dot4(x1, high(wb, nibble), dot4(x0, low(wb, nibble), b))
    if (!isVoid<WIDE>()) {
      x0 = v128.load32_splat(x + low2, 0)
      x1 = v128.load32_splat(x + low2, 4)
      a2 = dot4(x1, high(wa, nibble), dot4(x0, low(wa, nibble), a2))
      b2 = dot4(x1, high(wb, nibble), dot4(x0, low(wb, nibble), b2))
    }
    x0 = v128.load32_splat(x, 8)
    x1 = v128.load32_splat(x, 12)
    wa = v128.load(q, 32)
    wb = v128.load(q, 48)
    a = dot4(x1, high(wa, nibble), dot4(x0, low(wa, nibble), a))
    b = dot4(x1, high(wb, nibble), dot4(x0, low(wb, nibble), b))
    if (!isVoid<WIDE>()) {
      x0 = v128.load32_splat(x + low2, 8)
      x1 = v128.load32_splat(x + low2, 12)
      a2 = dot4(x1, high(wa, nibble), dot4(x0, low(wa, nibble), a2))
      b2 = dot4(x1, high(wb, nibble), dot4(x0, low(wb, nibble), b2))
    }
    x0 = v128.load32_splat(x, 16)
    x1 = v128.load32_splat(x, 20)
    wa = v128.load(q, 64)
    wb = v128.load(q, 80)
    a = dot4(x1, high(wa, nibble), dot4(x0, low(wa, nibble), a))
    b = dot4(x1, high(wb, nibble), dot4(x0, low(wb, nibble), b))
    if (!isVoid<WIDE>()) {
      x0 = v128.load32_splat(x + low2, 16)
      x1 = v128.load32_splat(x + low2, 20)
      a2 = dot4(x1, high(wa, nibble), dot4(x0, low(wa, nibble), a2))
      b2 = dot4(x1, high(wb, nibble), dot4(x0, low(wb, nibble), b2))
    }
    x0 = v128.load32_splat(x, 24)
    x1 = v128.load32_splat(x, 28)
    wa = v128.load(q, 96)
    wb = v128.load(q, 112)
    a = dot4(x1, high(wa, nibble), dot4(x0, low(wa, nibble), a))
    b = dot4(x1, high(wb, nibble), dot4(x0, low(wb, nibble), b))
    if (!isVoid<WIDE>()) {
      x0 = v128.load32_splat(x + low2, 24)
      x1 = v128.load32_splat(x + low2, 28)
      a2 = dot4(x1, high(wa, nibble), dot4(x0, low(wa, nibble), a2))
      b2 = dot4(x1, high(wb, nibble), dot4(x0, low(wb, nibble), b2))
    }
    if (!isVoid<WIDE>()) {
      a = wider<MIN>(a, a2, meta)
      b = wider<MIN>(b, b2, meta)
    }
    sumA = scaled<S, MIN>(sumA, a, w, meta, mask, half)
    sumB = scaled<S, MIN>(sumB, b, w + sizeof<S>() * 4, meta, mask, half)
    x += 32
    meta += GROUP_BYTES
    w = q + 128
  }
  finish(y, sumA, bias, add)
  finish(y + 16, sumB, bias == 0 ? 0 : bias + 16, add)
}

/** Four rows of weights (the first or second quad of an octet) times four tokens. */
function quadByFour<S, MIN, WIDE>(
  w: usize,
  quad: usize,
  columns: i32,
  x: usize,
  xStride: usize,
  y: usize,
  yStride: usize,
  bias: usize,
  add: bool,
): void {
  const nibble = nibbleMask()
  const mask = halfMask()
  const half = halfScale()
  const header: usize = sizeof<S>() * (isVoid<MIN>() ? 8 : 16)
  const toMeta = <usize>columns * 3
  const low2 = <usize>columns * 4
  let xa = x
  let xb = x + xStride
  let xc = xb + xStride
  let xd = xc + xStride
  let sumA = f32x4.splat(0)
  let sumB = f32x4.splat(0)
  let sumC = f32x4.splat(0)
  let sumD = f32x4.splat(0)
  let meta = xa + toMeta
  const end = xa + <usize>columns
  while (xa < end) {
    const q = w + header + quad * 16
    const metaB = meta + xStride
    const metaC = metaB + xStride
    const metaD = metaC + xStride
    let a = start<MIN, WIDE>(meta)
    let b = start<MIN, WIDE>(metaB)
    let c = start<MIN, WIDE>(metaC)
    let d = start<MIN, WIDE>(metaD)
    let a2 = i32x4.splat(0)
    let b2 = a2
    let c2 = a2
    let d2 = a2
    let bytes = v128.load(q)
    let l = low(bytes, nibble)
    let h = high(bytes, nibble)
    a = dot4(v128.load32_splat(xa, 4), h, dot4(v128.load32_splat(xa), l, a))
    b = dot4(v128.load32_splat(xb, 4), h, dot4(v128.load32_splat(xb), l, b))
    c = dot4(v128.load32_splat(xc, 4), h, dot4(v128.load32_splat(xc), l, c))
    d = dot4(v128.load32_splat(xd, 4), h, dot4(v128.load32_splat(xd), l, d))
    if (!isVoid<WIDE>()) {
      a2 = dot4(v128.load32_splat(xa + low2, 4), h, dot4(v128.load32_splat(xa + low2, 0), l, a2))
      b2 = dot4(v128.load32_splat(xb + low2, 4), h, dot4(v128.load32_splat(xb + low2, 0), l, b2))
      c2 = dot4(v128.load32_splat(xc + low2, 4), h, dot4(v128.load32_splat(xc + low2, 0), l, c2))
      d2 = dot4(v128.load32_splat(xd + low2, 4), h, dot4(v128.load32_splat(xd + low2, 0), l, d2))
    }
    bytes = v128.load(q, 32)
    l = low(bytes, nibble)
    h = high(bytes, nibble)
    a = dot4(v128.load32_splat(xa, 12), h, dot4(v128.load32_splat(xa, 8), l, a))
    b = dot4(v128.load32_splat(xb, 12), h, dot4(v128.load32_splat(xb, 8), l, b))
    c = dot4(v128.load32_splat(xc, 12), h, dot4(v128.load32_splat(xc, 8), l, c))
    d = dot4(v128.load32_splat(xd, 12), h, dot4(v128.load32_splat(xd, 8), l, d))
    if (!isVoid<WIDE>()) {
      a2 = dot4(v128.load32_splat(xa + low2, 12), h, dot4(v128.load32_splat(xa + low2, 8), l, a2))
      b2 = dot4(v128.load32_splat(xb + low2, 12), h, dot4(v128.load32_splat(xb + low2, 8), l, b2))
      c2 = dot4(v128.load32_splat(xc + low2, 12), h, dot4(v128.load32_splat(xc + low2, 8), l, c2))
      d2 = dot4(v128.load32_splat(xd + low2, 12), h, dot4(v128.load32_splat(xd + low2, 8), l, d2))
    }
    bytes = v128.load(q, 64)
    l = low(bytes, nibble)
    h = high(bytes, nibble)
    a = dot4(v128.load32_splat(xa, 20), h, dot4(v128.load32_splat(xa, 16), l, a))
    b = dot4(v128.load32_splat(xb, 20), h, dot4(v128.load32_splat(xb, 16), l, b))
    c = dot4(v128.load32_splat(xc, 20), h, dot4(v128.load32_splat(xc, 16), l, c))
    d = dot4(v128.load32_splat(xd, 20), h, dot4(v128.load32_splat(xd, 16), l, d))
    if (!isVoid<WIDE>()) {
      a2 = dot4(v128.load32_splat(xa + low2, 20), h, dot4(v128.load32_splat(xa + low2, 16), l, a2))
      b2 = dot4(v128.load32_splat(xb + low2, 20), h, dot4(v128.load32_splat(xb + low2, 16), l, b2))
      c2 = dot4(v128.load32_splat(xc + low2, 20), h, dot4(v128.load32_splat(xc + low2, 16), l, c2))
      d2 = dot4(v128.load32_splat(xd + low2, 20), h, dot4(v128.load32_splat(xd + low2, 16), l, d2))
    }
    bytes = v128.load(q, 96)
    l = low(bytes, nibble)
    h = high(bytes, nibble)
    a = dot4(v128.load32_splat(xa, 28), h, dot4(v128.load32_splat(xa, 24), l, a))
    b = dot4(v128.load32_splat(xb, 28), h, dot4(v128.load32_splat(xb, 24), l, b))
    c = dot4(v128.load32_splat(xc, 28), h, dot4(v128.load32_splat(xc, 24), l, c))
    d = dot4(v128.load32_splat(xd, 28), h, dot4(v128.load32_splat(xd, 24), l, d))
    if (!isVoid<WIDE>()) {
      a2 = dot4(v128.load32_splat(xa + low2, 28), h, dot4(v128.load32_splat(xa + low2, 24), l, a2))
      b2 = dot4(v128.load32_splat(xb + low2, 28), h, dot4(v128.load32_splat(xb + low2, 24), l, b2))
      c2 = dot4(v128.load32_splat(xc + low2, 28), h, dot4(v128.load32_splat(xc + low2, 24), l, c2))
      d2 = dot4(v128.load32_splat(xd + low2, 28), h, dot4(v128.load32_splat(xd + low2, 24), l, d2))
    }
    if (!isVoid<WIDE>()) {
      a = wider<MIN>(a, a2, meta)
      b = wider<MIN>(b, b2, metaB)
      c = wider<MIN>(c, c2, metaC)
      d = wider<MIN>(d, d2, metaD)
    }
    const scales = w + quad * (sizeof<S>() * 4)
    sumA = scaled<S, MIN>(sumA, a, scales, meta, mask, half)
    sumB = scaled<S, MIN>(sumB, b, scales, metaB, mask, half)
    sumC = scaled<S, MIN>(sumC, c, scales, metaC, mask, half)
    sumD = scaled<S, MIN>(sumD, d, scales, metaD, mask, half)
    xa += 32
    xb += 32
    xc += 32
    xd += 32
    meta += GROUP_BYTES
    w += header + 128
  }
  finish(y, sumA, bias, add)
  finish(y + yStride, sumB, bias, add)
  finish(y + yStride * 2, sumC, bias, add)
  finish(y + yStride * 3, sumD, bias, add)
}
