// y = W x for float32, float16 and bfloat16 weights; products and sums in float32.
//
// One output is the sum over its even columns plus the sum over its odd columns, each in order: two chains hide the
// latency of additions, and every tile below adds in that same order.
//
// Octet of 8 rows: for each column eight values.

import { MATRIX_BIAS, MATRIX_COLUMNS, MATRIX_DATA, MATRIX_OCTET_BYTES } from '../layout'
import { halfMask, halfScale, load4 } from './half'
import { finish } from './store'

/** Octets [from, to) of `matrix` times `rows` float32 rows at `x`. W: type of weights. */
export function matmulFloat<W>(
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
      quadByFour<W>(w, columns, xs, xStride, ys, outStride, bias, add)
      quadByFour<W>(w + sizeof<W>() * 4, columns, xs, xStride, ys + 16, outStride, bias == 0 ? 0 : bias + 16, add)
    }
    for (; row < rows; row++) {
      octetByOne<W>(w, columns, x + <usize>row * xStride, y + <usize>row * outStride, bias, add)
    }
  }
}

function octetByOne<W>(w: usize, columns: i32, x: usize, y: usize, bias: usize, add: bool): void {
  const bits = halfMask()
  const factor = halfScale()
  let evenA = f32x4.splat(0)
  let evenB = f32x4.splat(0)
  let oddA = f32x4.splat(0)
  let oddB = f32x4.splat(0)
  const end = x + <usize>(columns & ~1) * 4
  while (x < end) {
    const x0 = v128.load32_splat(x)
    const x1 = v128.load32_splat(x, 4)
    evenA = f32x4.add(evenA, f32x4.mul(load4<W>(w, bits, factor), x0))
    evenB = f32x4.add(evenB, f32x4.mul(load4<W>(w + sizeof<W>() * 4, bits, factor), x0))
    oddA = f32x4.add(oddA, f32x4.mul(load4<W>(w + sizeof<W>() * 8, bits, factor), x1))
    oddB = f32x4.add(oddB, f32x4.mul(load4<W>(w + sizeof<W>() * 12, bits, factor), x1))
    w += sizeof<W>() * 16
    x += 8
  }
  if (columns & 1) {
    const x0 = v128.load32_splat(x)
    evenA = f32x4.add(evenA, f32x4.mul(load4<W>(w, bits, factor), x0))
    evenB = f32x4.add(evenB, f32x4.mul(load4<W>(w + sizeof<W>() * 4, bits, factor), x0))
  }
  finish(y, f32x4.add(evenA, oddA), bias, add)
  finish(y + 16, f32x4.add(evenB, oddB), bias == 0 ? 0 : bias + 16, add)
}

/** Four rows of weights times four tokens. */
function quadByFour<W>(
  w: usize,
  columns: i32,
  x: usize,
  xStride: usize,
  y: usize,
  yStride: usize,
  bias: usize,
  add: bool,
): void {
  let xb = x + xStride
  let xc = xb + xStride
  let xd = xc + xStride
  const bits = halfMask()
  const factor = halfScale()
  let evenA = f32x4.splat(0)
  let evenB = f32x4.splat(0)
  let evenC = f32x4.splat(0)
  let evenD = f32x4.splat(0)
  let oddA = f32x4.splat(0)
  let oddB = f32x4.splat(0)
  let oddC = f32x4.splat(0)
  let oddD = f32x4.splat(0)
  const end = x + <usize>(columns & ~1) * 4
  while (x < end) {
    const w0 = load4<W>(w, bits, factor)
    evenA = f32x4.add(evenA, f32x4.mul(w0, v128.load32_splat(x)))
    evenB = f32x4.add(evenB, f32x4.mul(w0, v128.load32_splat(xb)))
    evenC = f32x4.add(evenC, f32x4.mul(w0, v128.load32_splat(xc)))
    evenD = f32x4.add(evenD, f32x4.mul(w0, v128.load32_splat(xd)))
    const w1 = load4<W>(w + sizeof<W>() * 8, bits, factor)
    oddA = f32x4.add(oddA, f32x4.mul(w1, v128.load32_splat(x, 4)))
    oddB = f32x4.add(oddB, f32x4.mul(w1, v128.load32_splat(xb, 4)))
    oddC = f32x4.add(oddC, f32x4.mul(w1, v128.load32_splat(xc, 4)))
    oddD = f32x4.add(oddD, f32x4.mul(w1, v128.load32_splat(xd, 4)))
    w += sizeof<W>() * 16
    x += 8
    xb += 8
    xc += 8
    xd += 8
  }
  if (columns & 1) {
    const w0 = load4<W>(w, bits, factor)
    evenA = f32x4.add(evenA, f32x4.mul(w0, v128.load32_splat(x)))
    evenB = f32x4.add(evenB, f32x4.mul(w0, v128.load32_splat(xb)))
    evenC = f32x4.add(evenC, f32x4.mul(w0, v128.load32_splat(xc)))
    evenD = f32x4.add(evenD, f32x4.mul(w0, v128.load32_splat(xd)))
  }
  finish(y, f32x4.add(evenA, oddA), bias, add)
  finish(y + yStride, f32x4.add(evenB, oddB), bias, add)
  finish(y + yStride * 2, f32x4.add(evenC, oddC), bias, add)
  finish(y + yStride * 3, f32x4.add(evenD, oddD), bias, add)
}
