// y = W x for float32, float16 and bfloat16 weights; products and sums in float32.
//
// One output is the sum over its even columns plus the sum over its odd columns, each in order: two chains hide the
// latency of additions, and every tile below adds in that same order.
//
// Octet of 8 rows: for each column eight values.

import {
  MATRIX_BIAS,
  MATRIX_COLUMNS,
  MATRIX_DATA,
  MATRIX_OCTET_BYTES,
  QUAD,
  TILE_FLOAT_COLUMNS,
  TILE_FLOAT_ROWS,
  TILE_WEIGHTS_BYTES,
} from '../layout'
import { halfMask, halfScale, load4 } from './half'
import { finish } from './store'
import { tile } from './threads'

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
    for (; row + QUAD <= rows; row += TILE_FLOAT_ROWS) {
      const quads = min(rows - row, TILE_FLOAT_ROWS) / QUAD
      const ys = y + <usize>row * outStride
      octetByQuads<W>(w, columns, x + <usize>row * xStride, xStride, quads, ys, outStride, bias, add)
    }
    row = rows & -QUAD
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

/** An octet times `quads` times four tokens: its weights become float32 once for all of them, some columns at a time. */
function octetByQuads<W>(
  w: usize,
  columns: i32,
  x: usize,
  xStride: usize,
  quads: i32,
  y: usize,
  yStride: usize,
  bias: usize,
  add: bool,
): void {
  const sums = tile + TILE_WEIGHTS_BYTES
  memory.fill(sums, 0, <usize>quads * (QUAD * 64))
  for (let column = 0; column < columns; column += TILE_FLOAT_COLUMNS) {
    const count = min(columns - column, TILE_FLOAT_COLUMNS)
    const weights = sizeof<W>() == 4 ? w : tile
    if (sizeof<W>() != 4) widen<W>(w, count)
    w += <usize>count * (sizeof<W>() * 8)
    for (let quad = 0; quad < quads; quad++) {
      const from = x + <usize>(quad * QUAD) * xStride + <usize>column * 4
      const to = sums + <usize>quad * (QUAD * 64)
      quadByFour(weights, count, from, xStride, to)
      quadByFour(weights + 16, count, from, xStride, to + 16)
    }
  }
  for (let row: usize = 0; row < <usize>(quads * QUAD); row++) {
    const sum = sums + row * 64
    const to = y + row * yStride
    finish(to, f32x4.add(v128.load(sum), v128.load(sum, 32)), bias, add)
    finish(to + 16, f32x4.add(v128.load(sum, 16), v128.load(sum, 48)), bias == 0 ? 0 : bias + 16, add)
  }
}

/** Writes `count` columns of an octet to `tile` as float32. */
function widen<W>(w: usize, count: i32): void {
  const bits = halfMask()
  const factor = halfScale()
  const end = tile + <usize>count * 32
  for (let to = tile; to < end; to += 32) {
    v128.store(to, load4<W>(w, bits, factor))
    v128.store(to, load4<W>(w + sizeof<W>() * 4, bits, factor), 16)
    w += sizeof<W>() * 8
  }
}

/**
 * Four rows of float32 weights, 32 bytes a column, times four tokens; adds to four sums of even columns at `sums` and four
 * of odd ones 32 bytes behind, 64 bytes a token.
 */
function quadByFour(w: usize, columns: i32, x: usize, xStride: usize, sums: usize): void {
  let xb = x + xStride
  let xc = xb + xStride
  let xd = xc + xStride
  let evenA = v128.load(sums)
  let evenB = v128.load(sums, 64)
  let evenC = v128.load(sums, 128)
  let evenD = v128.load(sums, 192)
  let oddA = v128.load(sums, 32)
  let oddB = v128.load(sums, 96)
  let oddC = v128.load(sums, 160)
  let oddD = v128.load(sums, 224)
  const end = x + <usize>(columns & ~1) * 4
  while (x < end) {
    const w0 = v128.load(w)
    evenA = f32x4.add(evenA, f32x4.mul(w0, v128.load32_splat(x)))
    evenB = f32x4.add(evenB, f32x4.mul(w0, v128.load32_splat(xb)))
    evenC = f32x4.add(evenC, f32x4.mul(w0, v128.load32_splat(xc)))
    evenD = f32x4.add(evenD, f32x4.mul(w0, v128.load32_splat(xd)))
    const w1 = v128.load(w, 32)
    oddA = f32x4.add(oddA, f32x4.mul(w1, v128.load32_splat(x, 4)))
    oddB = f32x4.add(oddB, f32x4.mul(w1, v128.load32_splat(xb, 4)))
    oddC = f32x4.add(oddC, f32x4.mul(w1, v128.load32_splat(xc, 4)))
    oddD = f32x4.add(oddD, f32x4.mul(w1, v128.load32_splat(xd, 4)))
    w += 64
    x += 8
    xb += 8
    xc += 8
    xd += 8
  }
  if (columns & 1) {
    const w0 = v128.load(w)
    evenA = f32x4.add(evenA, f32x4.mul(w0, v128.load32_splat(x)))
    evenB = f32x4.add(evenB, f32x4.mul(w0, v128.load32_splat(xb)))
    evenC = f32x4.add(evenC, f32x4.mul(w0, v128.load32_splat(xc)))
    evenD = f32x4.add(evenD, f32x4.mul(w0, v128.load32_splat(xd)))
  }
  v128.store(sums, evenA)
  v128.store(sums, evenB, 64)
  v128.store(sums, evenC, 128)
  v128.store(sums, evenD, 192)
  v128.store(sums, oddA, 32)
  v128.store(sums, oddB, 96)
  v128.store(sums, oddC, 160)
  v128.store(sums, oddD, 224)
}
