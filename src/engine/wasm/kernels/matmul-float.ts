// y = W x for float32, float16 and bfloat16 weights; sums in float32, products fused into them where `madd` says.
//
// One output is the sum over its columns in order, one chain. Two octets side by side hide the latency of additions and share
// the activations; every tile below adds in that same order.
//
// Octet of 8 rows: for each column eight values.

import {
  MATRIX_BIAS,
  MATRIX_COLUMNS,
  MATRIX_DATA,
  MATRIX_FACTOR,
  MATRIX_OCTET_BYTES,
  OCTET,
  TILE_FLOAT_COLUMNS,
  TILE_FLOAT_ROWS,
  TILE_WEIGHTS_BYTES,
} from '../layout'
import { following4, halfMask, load4 } from './half'
import { madd } from './madd'
import { finish } from './store'
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
  const factor = load<f32>(matrix, MATRIX_FACTOR)
  // No model has an odd number of columns: those go a row at a time.
  const together = columns & 1 ? 0 : rows & ~1
  for (let octet = from; octet < to; octet += 2) {
    const w = data + <usize>octet * octetBytes
    const bias = biases == 0 ? <usize>0 : biases + <usize>octet * (OCTET * 4)
    const y = out + <usize>octet * (OCTET * 4)
    if (octet + 1 == to) {
      for (let row: usize = 0; row < <usize>rows; row++) octetByOne<W>(w, factor, columns, x + row * xStride, y + row * outStride, bias, add)
      return
    }
    const other = w + octetBytes
    for (let row = 0; row < together; row += TILE_FLOAT_ROWS) {
      const count = min(together - row, TILE_FLOAT_ROWS)
      pairByMany<W>(w, other, factor, columns, x + <usize>row * xStride, xStride, count, y + <usize>row * outStride, outStride, bias, add)
    }
    for (let row = together; row < rows; row++) {
      pairByOne<W>(w, other, factor, columns, x + <usize>row * xStride, y + <usize>row * outStride, bias, add)
    }
  }
}

function octetByOne<W>(w: usize, factor: f32, columns: i32, x: usize, y: usize, bias: usize, add: bool): void {
  const bits = halfMask()
  const scale = f32x4.splat(factor)
  let a = f32x4.splat(0)
  let a2 = f32x4.splat(0)
  for (const end = x + <usize>columns * 4; x < end; x += 4) {
    const v = v128.load32_splat(x)
    a = madd(load4<W>(w, bits, scale), v, a)
    a2 = madd(following4<W>(w, bits, scale), v, a2)
    w += sizeof<W>() * 8
  }
  finish(y, a, a2, bias, add)
}

function pairByOne<W>(w: usize, other: usize, factor: f32, columns: i32, x: usize, y: usize, bias: usize, add: bool): void {
  const bits = halfMask()
  const scale = f32x4.splat(factor)
  let a = f32x4.splat(0)
  let a2 = f32x4.splat(0)
  let b = f32x4.splat(0)
  let b2 = f32x4.splat(0)
  for (const end = x + <usize>columns * 4; x < end; x += 4) {
    const v = v128.load32_splat(x)
    a = madd(load4<W>(w, bits, scale), v, a)
    a2 = madd(following4<W>(w, bits, scale), v, a2)
    b = madd(load4<W>(other, bits, scale), v, b)
    b2 = madd(following4<W>(other, bits, scale), v, b2)
    w += sizeof<W>() * 8
    other += sizeof<W>() * 8
  }
  finish(y, a, a2, bias, add)
  finish(y + OCTET * 4, b, b2, bias == 0 ? bias : bias + OCTET * 4, add)
}

/**
 * An even number of columns of two octets times an even number of rows: weights become float32 once for all of them, some columns
 * at a time.
 */
function pairByMany<W>(
  w: usize,
  other: usize,
  factor: f32,
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
  const widened = tile + TILE_FLOAT_COLUMNS * 32
  for (let column = 0; column < columns; column += TILE_FLOAT_COLUMNS) {
    const count = min(columns - column, TILE_FLOAT_COLUMNS)
    const first = column == 0
    const last = column + count == columns
    let wa = w + <usize>column * (sizeof<W>() * 8)
    let wb = other + <usize>column * (sizeof<W>() * 8)
    if (sizeof<W>() != 4) {
      widen<W>(wa, factor, count, tile)
      widen<W>(wb, factor, count, widened)
      wa = tile
      wb = widened
    }
    const from = x + <usize>column * 4
    let row = 0
    for (; wideVectors && row + 4 <= rows; row += 4) {
      pairByRows<i32>(wa, wb, count, from + <usize>row * xStride, xStride, first, last, sums + <usize>row * 64, y + <usize>row * yStride, yStride, bias, add)
    }
    for (; row < rows; row += 2) {
      pairByRows<void>(wa, wb, count, from + <usize>row * xStride, xStride, first, last, sums + <usize>row * 64, y + <usize>row * yStride, yStride, bias, add)
    }
  }
}

/** Writes `count` columns of an octet to `to` as float32. */
function widen<W>(w: usize, factor: f32, count: i32, to: usize): void {
  const bits = halfMask()
  const scale = f32x4.splat(factor)
  for (const end = to + <usize>count * 32; to < end; to += 32) {
    const low = load4<W>(w, bits, scale)
    const high = following4<W>(w, bits, scale)
    v128.store(to, high, 16)
    v128.store(to, low)
    w += sizeof<W>() * 8
  }
}

/**
 * An even number of columns of two octets of float32 weights, 32 bytes a column, times two rows, with FOUR times four. Sums start
 * at zero in the `first` columns of an octet and are outputs in its `last`; between they lie at `sums`, 64 bytes a row. Two
 * columns at a time, written out: one at a time is a fiftieth slower, and more where the processor starts fewer instructions.
 */
function pairByRows<FOUR>(
  w: usize,
  other: usize,
  columns: i32,
  x: usize,
  xStride: usize,
  first: bool,
  last: bool,
  sums: usize,
  y: usize,
  yStride: usize,
  bias: usize,
  add: bool,
): void {
  let xb = x + xStride
  let xc = xb + xStride
  let xd = xc + xStride
  const zero = f32x4.splat(0)
  let a = zero
  let a2 = zero
  let a3 = zero
  let a4 = zero
  let b = zero
  let b2 = zero
  let b3 = zero
  let b4 = zero
  let c = zero
  let c2 = zero
  let c3 = zero
  let c4 = zero
  let d = zero
  let d2 = zero
  let d3 = zero
  let d4 = zero
  if (!first) {
    a = v128.load(sums)
    a2 = v128.load(sums, 16)
    a3 = v128.load(sums, 32)
    a4 = v128.load(sums, 48)
    b = v128.load(sums, 64)
    b2 = v128.load(sums, 80)
    b3 = v128.load(sums, 96)
    b4 = v128.load(sums, 112)
    if (!isVoid<FOUR>()) {
      c = v128.load(sums, 128)
      c2 = v128.load(sums, 144)
      c3 = v128.load(sums, 160)
      c4 = v128.load(sums, 176)
      d = v128.load(sums, 192)
      d2 = v128.load(sums, 208)
      d3 = v128.load(sums, 224)
      d4 = v128.load(sums, 240)
    }
  }
  for (const end = x + <usize>columns * 4; x < end; ) {
    let wa = v128.load(w)
    let wa2 = v128.load(w, 16)
    let wb = v128.load(other)
    let wb2 = v128.load(other, 16)
    let v = v128.load32_splat(x)
    a = madd(wa, v, a)
    a2 = madd(wa2, v, a2)
    a3 = madd(wb, v, a3)
    a4 = madd(wb2, v, a4)
    v = v128.load32_splat(xb)
    b = madd(wa, v, b)
    b2 = madd(wa2, v, b2)
    b3 = madd(wb, v, b3)
    b4 = madd(wb2, v, b4)
    if (!isVoid<FOUR>()) {
      v = v128.load32_splat(xc)
      c = madd(wa, v, c)
      c2 = madd(wa2, v, c2)
      c3 = madd(wb, v, c3)
      c4 = madd(wb2, v, c4)
      v = v128.load32_splat(xd)
      d = madd(wa, v, d)
      d2 = madd(wa2, v, d2)
      d3 = madd(wb, v, d3)
      d4 = madd(wb2, v, d4)
    }
    wa = v128.load(w, 32)
    wa2 = v128.load(w, 48)
    wb = v128.load(other, 32)
    wb2 = v128.load(other, 48)
    v = v128.load32_splat(x, 4)
    a = madd(wa, v, a)
    a2 = madd(wa2, v, a2)
    a3 = madd(wb, v, a3)
    a4 = madd(wb2, v, a4)
    v = v128.load32_splat(xb, 4)
    b = madd(wa, v, b)
    b2 = madd(wa2, v, b2)
    b3 = madd(wb, v, b3)
    b4 = madd(wb2, v, b4)
    if (!isVoid<FOUR>()) {
      v = v128.load32_splat(xc, 4)
      c = madd(wa, v, c)
      c2 = madd(wa2, v, c2)
      c3 = madd(wb, v, c3)
      c4 = madd(wb2, v, c4)
      v = v128.load32_splat(xd, 4)
      d = madd(wa, v, d)
      d2 = madd(wa2, v, d2)
      d3 = madd(wb, v, d3)
      d4 = madd(wb2, v, d4)
    }
    w += 64
    other += 64
    x += 8
    xb += 8
    xc += 8
    xd += 8
  }
  if (!last) {
    v128.store(sums, a2, 16)
    v128.store(sums, a)
    v128.store(sums, a4, 48)
    v128.store(sums, a3, 32)
    v128.store(sums, b2, 80)
    v128.store(sums, b, 64)
    v128.store(sums, b4, 112)
    v128.store(sums, b3, 96)
    if (!isVoid<FOUR>()) {
      v128.store(sums, c2, 144)
      v128.store(sums, c, 128)
      v128.store(sums, c4, 176)
      v128.store(sums, c3, 160)
      v128.store(sums, d2, 208)
      v128.store(sums, d, 192)
      v128.store(sums, d4, 240)
      v128.store(sums, d3, 224)
    }
    return
  }
  const higher = bias == 0 ? bias : bias + OCTET * 4
  finish(y, a, a2, bias, add)
  finish(y + OCTET * 4, a3, a4, higher, add)
  y += yStride
  finish(y, b, b2, bias, add)
  finish(y + OCTET * 4, b3, b4, higher, add)
  if (!isVoid<FOUR>()) {
    y += yStride
    finish(y, c, c2, bias, add)
    finish(y + OCTET * 4, c3, c4, higher, add)
    y += yStride
    finish(y, d, d2, bias, add)
    finish(y + OCTET * 4, d3, d4, higher, add)
  }
}
