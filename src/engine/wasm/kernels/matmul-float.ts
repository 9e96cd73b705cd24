// y = W x for float32, float16 and bfloat16 weights; sums in float32, products fused into them where `madd` says.
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
  TILE_FLOAT_COLUMNS,
  TILE_FLOAT_ROWS,
  TILE_WEIGHTS_BYTES,
} from '../layout'
import { following4, halfMask, halfScale, load4 } from './half'
import { madd } from './madd'
import { clear, finish } from './store'
import { tile, wideVectors } from './threads'

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
    const paired = rows & ~1
    for (let row = 0; row < paired; row += TILE_FLOAT_ROWS) {
      const count = min(paired - row, TILE_FLOAT_ROWS)
      octetByPairs<W>(w, columns, x + <usize>row * xStride, xStride, count, y + <usize>row * outStride, outStride, bias, add)
    }
    if (paired < rows) octetByOne<W>(w, columns, x + <usize>paired * xStride, y + <usize>paired * outStride, bias, add)
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
    const next = w + sizeof<W>() * 8
    evenA = madd(load4<W>(w, bits, factor), x0, evenA)
    evenB = madd(following4<W>(w, bits, factor), x0, evenB)
    oddA = madd(load4<W>(next, bits, factor), x1, oddA)
    oddB = madd(following4<W>(next, bits, factor), x1, oddB)
    w += sizeof<W>() * 16
    x += 8
  }
  if (columns & 1) {
    const x0 = v128.load32_splat(x)
    evenA = madd(load4<W>(w, bits, factor), x0, evenA)
    evenB = madd(following4<W>(w, bits, factor), x0, evenB)
  }
  finish(y, f32x4.add(evenA, oddA), f32x4.add(evenB, oddB), bias, add)
}

/** An octet times `rows` rows, two at a time: its weights become float32 once for all of them, some columns at a time. */
function octetByPairs<W>(
  w: usize,
  columns: i32,
  x: usize,
  xStride: usize,
  rows: i32,
  y: usize,
  yStride: usize,
  bias: usize,
  add: bool,
): void {
  const sums = tile + TILE_WEIGHTS_BYTES
  for (let i = 0; i < 2 * rows; i++) clear(sums + <usize>i * 32)
  for (let column = 0; column < columns; column += TILE_FLOAT_COLUMNS) {
    const count = min(columns - column, TILE_FLOAT_COLUMNS)
    const weights = sizeof<W>() == 4 ? w : tile
    if (sizeof<W>() != 4) widen<W>(w, count)
    w += <usize>count * (sizeof<W>() * 8)
    const from = x + <usize>column * 4
    let row = 0
    for (; wideVectors && row + 4 <= rows; row += 4) {
      octetByRows<i32>(weights, count, from + <usize>row * xStride, xStride, sums + <usize>row * 64)
    }
    for (; row < rows; row += 2) {
      octetByRows<void>(weights, count, from + <usize>row * xStride, xStride, sums + <usize>row * 64)
    }
  }
  for (let row: usize = 0; row < <usize>rows; row++) {
    const sum = sums + row * 64
    const to = y + row * yStride
    const low = f32x4.add(v128.load(sum), v128.load(sum, 32))
    finish(to, low, f32x4.add(v128.load(sum, 16), v128.load(sum, 48)), bias, add)
  }
}

/** Writes `count` columns of an octet to `tile` as float32. */
function widen<W>(w: usize, count: i32): void {
  const bits = halfMask()
  const factor = halfScale()
  const end = tile + <usize>count * 32
  for (let to = tile; to < end; to += 32) {
    const low = load4<W>(w, bits, factor)
    const high = following4<W>(w, bits, factor)
    v128.store(to, high, 16)
    v128.store(to, low)
    w += sizeof<W>() * 8
  }
}

/**
 * Eight rows of float32 weights, 32 bytes a column, times two rows, with FOUR times four; adds to eight sums of even columns
 * at `sums` and eight of odd ones 32 bytes behind, 64 bytes a row. Four columns at a time, written out: in pairs a twentieth
 * slower.
 */
function octetByRows<FOUR>(w: usize, columns: i32, x: usize, xStride: usize, sums: usize): void {
  let xb = x + xStride
  let xc = xb + xStride
  let xd = xc + xStride
  const zero = f32x4.splat(0)
  let a = v128.load(sums)
  let a2 = v128.load(sums, 16)
  let aOdd = v128.load(sums, 32)
  let aOdd2 = v128.load(sums, 48)
  let b = v128.load(sums, 64)
  let b2 = v128.load(sums, 80)
  let bOdd = v128.load(sums, 96)
  let bOdd2 = v128.load(sums, 112)
  let c = isVoid<FOUR>() ? zero : v128.load(sums, 128)
  let c2 = isVoid<FOUR>() ? zero : v128.load(sums, 144)
  let cOdd = isVoid<FOUR>() ? zero : v128.load(sums, 160)
  let cOdd2 = isVoid<FOUR>() ? zero : v128.load(sums, 176)
  let d = isVoid<FOUR>() ? zero : v128.load(sums, 192)
  let d2 = isVoid<FOUR>() ? zero : v128.load(sums, 208)
  let dOdd = isVoid<FOUR>() ? zero : v128.load(sums, 224)
  let dOdd2 = isVoid<FOUR>() ? zero : v128.load(sums, 240)
  const whole = columns & ~3
  for (const end = x + <usize>whole * 4; x < end; ) {
    let low = v128.load(w)
    let high = v128.load(w, 16)
    let v = v128.load32_splat(x)
    a = madd(low, v, a)
    a2 = madd(high, v, a2)
    v = v128.load32_splat(xb)
    b = madd(low, v, b)
    b2 = madd(high, v, b2)
    if (!isVoid<FOUR>()) {
      v = v128.load32_splat(xc)
      c = madd(low, v, c)
      c2 = madd(high, v, c2)
      v = v128.load32_splat(xd)
      d = madd(low, v, d)
      d2 = madd(high, v, d2)
    }
    low = v128.load(w, 32)
    high = v128.load(w, 48)
    v = v128.load32_splat(x, 4)
    aOdd = madd(low, v, aOdd)
    aOdd2 = madd(high, v, aOdd2)
    v = v128.load32_splat(xb, 4)
    bOdd = madd(low, v, bOdd)
    bOdd2 = madd(high, v, bOdd2)
    if (!isVoid<FOUR>()) {
      v = v128.load32_splat(xc, 4)
      cOdd = madd(low, v, cOdd)
      cOdd2 = madd(high, v, cOdd2)
      v = v128.load32_splat(xd, 4)
      dOdd = madd(low, v, dOdd)
      dOdd2 = madd(high, v, dOdd2)
    }
    low = v128.load(w, 64)
    high = v128.load(w, 80)
    v = v128.load32_splat(x, 8)
    a = madd(low, v, a)
    a2 = madd(high, v, a2)
    v = v128.load32_splat(xb, 8)
    b = madd(low, v, b)
    b2 = madd(high, v, b2)
    if (!isVoid<FOUR>()) {
      v = v128.load32_splat(xc, 8)
      c = madd(low, v, c)
      c2 = madd(high, v, c2)
      v = v128.load32_splat(xd, 8)
      d = madd(low, v, d)
      d2 = madd(high, v, d2)
    }
    low = v128.load(w, 96)
    high = v128.load(w, 112)
    v = v128.load32_splat(x, 12)
    aOdd = madd(low, v, aOdd)
    aOdd2 = madd(high, v, aOdd2)
    v = v128.load32_splat(xb, 12)
    bOdd = madd(low, v, bOdd)
    bOdd2 = madd(high, v, bOdd2)
    if (!isVoid<FOUR>()) {
      v = v128.load32_splat(xc, 12)
      cOdd = madd(low, v, cOdd)
      cOdd2 = madd(high, v, cOdd2)
      v = v128.load32_splat(xd, 12)
      dOdd = madd(low, v, dOdd)
      dOdd2 = madd(high, v, dOdd2)
    }
    w += 128
    x += 16
    xb += 16
    xc += 16
    xd += 16
  }
  v128.store(sums, a2, 16)
  v128.store(sums, a)
  v128.store(sums, aOdd2, 48)
  v128.store(sums, aOdd, 32)
  v128.store(sums, b2, 80)
  v128.store(sums, b, 64)
  v128.store(sums, bOdd2, 112)
  v128.store(sums, bOdd, 96)
  if (!isVoid<FOUR>()) {
    v128.store(sums, c2, 144)
    v128.store(sums, c, 128)
    v128.store(sums, cOdd2, 176)
    v128.store(sums, cOdd, 160)
    v128.store(sums, d2, 208)
    v128.store(sums, d, 192)
    v128.store(sums, dOdd2, 240)
    v128.store(sums, dOdd, 224)
  }
  if (whole < columns) restByRows(w, columns - whole, x, xStride, isVoid<FOUR>() ? 2 : 4, sums)
}

/** As `octetByRows` for the `columns` left of four, at `x`: one at a time. */
function restByRows(w: usize, columns: i32, x: usize, xStride: usize, rows: i32, sums: usize): void {
  for (let column = 0; column < columns; column++, w += 32, x += 4) {
    const low = v128.load(w)
    const high = v128.load(w, 16)
    for (let row: usize = 0; row < <usize>rows; row++) {
      const sum = sums + row * 64 + <usize>(column & 1) * 32
      const v = v128.load32_splat(x + row * xStride)
      const lower = madd(low, v, v128.load(sum))
      const higher = madd(high, v, v128.load(sum, 16))
      v128.store(sum, higher, 16)
      v128.store(sum, lower)
    }
  }
}
