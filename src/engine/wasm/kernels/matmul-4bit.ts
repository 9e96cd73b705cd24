// y = W x for 4-bit weights in groups of 32 and activations rounded to 8 or 15 bits in the same groups.
//
// One output is a float32 sum over the groups in order: y += float(integer dot product) * (weight scale * activation scale),
// with a minimum also y += minimum * (activation scale * sum of the activation's integers). That does not depend on the
// rows beside it.
//
// Octet of 8 rows, for each group: 8 scales, 8 minima where there are any, then for each 8 columns two vectors. In the
// first, bytes 0..7 have row 0 in their low nibbles and row 2 in their high ones, bytes 8..15 rows 1 and 3; in the second
// rows 4, 6 and 5, 7.

import {
  GROUP,
  GROUP_BYTES,
  GROUP_SCALE,
  GROUP_SUM,
  GROUP_ZERO,
  MATRIX_BIAS,
  MATRIX_COLUMNS,
  MATRIX_DATA,
  MATRIX_OCTET_BYTES,
  ROUNDED_LOW,
  TILE_COLUMNS,
  TILE_GROUP_BYTES,
  TILE_ROWS,
  TILE_TOUCHED,
  TILE_WEIGHTS_BYTES,
} from '../layout'
import { dot4, joined, scaled } from './dot'
import { following4, halfMask, halfScale, load4, nibbleMask } from './half'
import { finish } from './store'
import { tile, wideVectors } from './threads'

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
    if (rows == 1) {
      addGroups<S, MIN, WIDE, void, void>(w, columns / GROUP, x, 0, true, true, 0, y, 0, bias, add, w, 0)
      continue
    }
    for (let row = 0; row < rows; row += TILE_ROWS) {
      const count = min(rows - row, TILE_ROWS)
      octetByRows<S, MIN, WIDE>(w, columns, x + <usize>row * xStride, xStride, count, y + <usize>row * outStride, outStride, bias, add, octet + 1 < to)
    }
  }
}

/**
 * An octet times `rows` rows. Its nibbles become bytes once for all rows, some columns at a time. `more`: the octet behind it is
 * next.
 */
function octetByRows<S, MIN, WIDE>(
  w: usize,
  columns: i32,
  x: usize,
  xStride: usize,
  rows: i32,
  y: usize,
  yStride: usize,
  bias: usize,
  add: bool,
  more: bool,
): void {
  const packed: usize = sizeof<S>() * (isVoid<MIN>() ? 8 : 16) + 128
  const sums = tile + TILE_WEIGHTS_BYTES
  for (let column = 0; column < columns; column += TILE_COLUMNS) {
    const groups = min(columns - column, TILE_COLUMNS) / GROUP
    unpack<S, MIN>(w, groups)
    w += <usize>groups * packed
    const from = x + <usize>(column / GROUP) * GROUP_BYTES
    const first = column == 0
    const last = column + TILE_COLUMNS >= columns
    // The columns or the octet that come next, if any: as much of them as these columns take.
    const ahead = more || !last
    const step = ahead ? packed / <usize>rows : 0
    const next = ahead ? w : tile
    const part = <usize>groups * step
    let row: usize = 0
    for (; wideVectors && row + 2 <= <usize>rows; row += 2) {
      addGroups<f32, MIN, WIDE, i32, i32>(tile, groups, from + row * xStride, xStride, first, last, sums + row * 32, y + row * yStride, yStride, bias, add, next + row * part, step * 2)
    }
    for (; row < <usize>rows; row++) {
      addGroups<f32, MIN, WIDE, i32, void>(tile, groups, from + row * xStride, 0, first, last, sums + row * 32, y + row * yStride, 0, bias, add, next + row * part, step)
    }
  }
}

/** Writes `groups` groups of an octet to `tile`: 8 float32 scales, 8 minima, for each 8 columns four vectors of two rows. */
function unpack<S, MIN>(w: usize, groups: i32): void {
  const nibble = nibbleMask()
  const mask = halfMask()
  const half = halfScale()
  let to = tile
  for (let group = 0; group < groups; group++) {
    const scale = load4<S>(w, mask, half)
    const scale2 = following4<S>(w, mask, half)
    v128.store(to, scale2, 16)
    v128.store(to, scale)
    w += sizeof<S>() * 8
    if (!isVoid<MIN>()) {
      const minimum = load4<S>(w, mask, half)
      const minimum2 = following4<S>(w, mask, half)
      v128.store(to, minimum2, 48)
      v128.store(to, minimum, 32)
      w += sizeof<S>() * 8
    }
    to += 64
    for (let eight = 0; eight < 4; eight++) {
      const a = v128.load(w)
      const b = v128.load(w, 16)
      v128.store(to, high(b, nibble), 48)
      v128.store(to, high(a, nibble), 32)
      v128.store(to, low(b, nibble), 16)
      v128.store(to, low(a, nibble))
      w += 32
      to += 64
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

/**
 * Adds up `groups` groups of an octet times those of the row at `x`, and with TWO those of the row `xStride` behind it. Sums start
 * at zero in the `first` groups of an octet and are outputs in its `last`; between they lie at `sums`, eight a row. TILE: i32 when
 * `unpack` wrote the octet, void as it is stored.
 * Meanwhile the weights from `next` on are fetched, a byte every `step`. In line, as its calls cost 3 %.
 */
// @ts-ignore: decorator
@inline
function addGroups<S, MIN, WIDE, TILE, TWO>(
  w: usize,
  groups: i32,
  x: usize,
  xStride: usize,
  first: bool,
  last: bool,
  sums: usize,
  y: usize,
  yStride: usize,
  bias: usize,
  add: bool,
  next: usize,
  step: usize,
): void {
  const nibble = nibbleMask()
  const mask = halfMask()
  const half = halfScale()
  const end = x + <usize>groups * GROUP_BYTES
  let other = x + xStride
  let sum = f32x4.splat(0)
  let sum2 = sum
  let sum3 = sum
  let sum4 = sum
  if (!first) {
    sum = v128.load(sums)
    sum2 = v128.load(sums, 16)
    if (!isVoid<TWO>()) {
      sum3 = v128.load(sums, 32)
      sum4 = v128.load(sums, 48)
    }
  }
  let touched = 0
  for (; x < end; x += GROUP_BYTES) {
    if (!isVoid<TILE>()) {
      touched += load<u8>(next)
      next += step
    }
    const q = w + (isVoid<TILE>() ? sizeof<S>() * (isVoid<MIN>() ? 8 : 16) : 64)
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
    // Four times eight columns, written out: in a loop the kernel is a tenth slower.
    let wa = v128.load(q)
    let wb = v128.load(q, 16)
    let wc = isVoid<TILE>() ? high(wa, nibble) : v128.load(q, 32)
    let wd = isVoid<TILE>() ? high(wb, nibble) : v128.load(q, 48)
    if (isVoid<TILE>()) {
      wa = low(wa, nibble)
      wb = low(wb, nibble)
    }
    let v = v128.load64_splat(x)
    a = dot4(v, wa, a)
    b = dot4(v, wb, b)
    c = dot4(v, wc, c)
    d = dot4(v, wd, d)
    if (!isVoid<WIDE>()) {
      v = v128.load64_splat(x, ROUNDED_LOW)
      a2 = dot4(v, wa, a2)
      b2 = dot4(v, wb, b2)
      c2 = dot4(v, wc, c2)
      d2 = dot4(v, wd, d2)
    }
    if (!isVoid<TWO>()) {
      v = v128.load64_splat(other)
      e = dot4(v, wa, e)
      f = dot4(v, wb, f)
      g = dot4(v, wc, g)
      h = dot4(v, wd, h)
      if (!isVoid<WIDE>()) {
        v = v128.load64_splat(other, ROUNDED_LOW)
        e2 = dot4(v, wa, e2)
        f2 = dot4(v, wb, f2)
        g2 = dot4(v, wc, g2)
        h2 = dot4(v, wd, h2)
      }
    }
    wa = v128.load(q, isVoid<TILE>() ? 32 : 64)
    wb = v128.load(q, isVoid<TILE>() ? 48 : 80)
    wc = isVoid<TILE>() ? high(wa, nibble) : v128.load(q, 96)
    wd = isVoid<TILE>() ? high(wb, nibble) : v128.load(q, 112)
    if (isVoid<TILE>()) {
      wa = low(wa, nibble)
      wb = low(wb, nibble)
    }
    v = v128.load64_splat(x, 8)
    a = dot4(v, wa, a)
    b = dot4(v, wb, b)
    c = dot4(v, wc, c)
    d = dot4(v, wd, d)
    if (!isVoid<WIDE>()) {
      v = v128.load64_splat(x, ROUNDED_LOW + 8)
      a2 = dot4(v, wa, a2)
      b2 = dot4(v, wb, b2)
      c2 = dot4(v, wc, c2)
      d2 = dot4(v, wd, d2)
    }
    if (!isVoid<TWO>()) {
      v = v128.load64_splat(other, 8)
      e = dot4(v, wa, e)
      f = dot4(v, wb, f)
      g = dot4(v, wc, g)
      h = dot4(v, wd, h)
      if (!isVoid<WIDE>()) {
        v = v128.load64_splat(other, ROUNDED_LOW + 8)
        e2 = dot4(v, wa, e2)
        f2 = dot4(v, wb, f2)
        g2 = dot4(v, wc, g2)
        h2 = dot4(v, wd, h2)
      }
    }
    wa = v128.load(q, isVoid<TILE>() ? 64 : 128)
    wb = v128.load(q, isVoid<TILE>() ? 80 : 144)
    wc = isVoid<TILE>() ? high(wa, nibble) : v128.load(q, 160)
    wd = isVoid<TILE>() ? high(wb, nibble) : v128.load(q, 176)
    if (isVoid<TILE>()) {
      wa = low(wa, nibble)
      wb = low(wb, nibble)
    }
    v = v128.load64_splat(x, 16)
    a = dot4(v, wa, a)
    b = dot4(v, wb, b)
    c = dot4(v, wc, c)
    d = dot4(v, wd, d)
    if (!isVoid<WIDE>()) {
      v = v128.load64_splat(x, ROUNDED_LOW + 16)
      a2 = dot4(v, wa, a2)
      b2 = dot4(v, wb, b2)
      c2 = dot4(v, wc, c2)
      d2 = dot4(v, wd, d2)
    }
    if (!isVoid<TWO>()) {
      v = v128.load64_splat(other, 16)
      e = dot4(v, wa, e)
      f = dot4(v, wb, f)
      g = dot4(v, wc, g)
      h = dot4(v, wd, h)
      if (!isVoid<WIDE>()) {
        v = v128.load64_splat(other, ROUNDED_LOW + 16)
        e2 = dot4(v, wa, e2)
        f2 = dot4(v, wb, f2)
        g2 = dot4(v, wc, g2)
        h2 = dot4(v, wd, h2)
      }
    }
    wa = v128.load(q, isVoid<TILE>() ? 96 : 192)
    wb = v128.load(q, isVoid<TILE>() ? 112 : 208)
    wc = isVoid<TILE>() ? high(wa, nibble) : v128.load(q, 224)
    wd = isVoid<TILE>() ? high(wb, nibble) : v128.load(q, 240)
    if (isVoid<TILE>()) {
      wa = low(wa, nibble)
      wb = low(wb, nibble)
    }
    v = v128.load64_splat(x, 24)
    a = dot4(v, wa, a)
    b = dot4(v, wb, b)
    c = dot4(v, wc, c)
    d = dot4(v, wd, d)
    if (!isVoid<WIDE>()) {
      v = v128.load64_splat(x, ROUNDED_LOW + 24)
      a2 = dot4(v, wa, a2)
      b2 = dot4(v, wb, b2)
      c2 = dot4(v, wc, c2)
      d2 = dot4(v, wd, d2)
    }
    if (!isVoid<TWO>()) {
      v = v128.load64_splat(other, 24)
      e = dot4(v, wa, e)
      f = dot4(v, wb, f)
      g = dot4(v, wc, g)
      h = dot4(v, wd, h)
      if (!isVoid<WIDE>()) {
        v = v128.load64_splat(other, ROUNDED_LOW + 24)
        e2 = dot4(v, wa, e2)
        f2 = dot4(v, wb, f2)
        g2 = dot4(v, wc, g2)
        h2 = dot4(v, wd, h2)
      }
    }
    const scale = load4<S>(w, mask, half)
    const scale2 = following4<S>(w, mask, half)
    const minima = w + sizeof<S>() * 8
    const minimum = isVoid<MIN>() ? a : load4<S>(minima, mask, half)
    const minimum2 = isVoid<MIN>() ? a : following4<S>(minima, mask, half)
    let xScale = v128.load32_splat(x, GROUP_SCALE)
    let xSum = isVoid<MIN>() ? xScale : v128.load32_splat(x, GROUP_SUM)
    let zero = isVoid<MIN>() ? v128.load32_splat(x, GROUP_ZERO) : xScale
    sum = scaledFromMinimum<MIN>(sum, whole<MIN, WIDE>(a, c, a2, c2, zero), scale, xScale, minimum, xSum)
    sum2 = scaledFromMinimum<MIN>(sum2, whole<MIN, WIDE>(b, d, b2, d2, zero), scale2, xScale, minimum2, xSum)
    if (!isVoid<TWO>()) {
      xScale = v128.load32_splat(other, GROUP_SCALE)
      if (!isVoid<MIN>()) xSum = v128.load32_splat(other, GROUP_SUM)
      if (isVoid<MIN>()) zero = v128.load32_splat(other, GROUP_ZERO)
      sum3 = scaledFromMinimum<MIN>(sum3, whole<MIN, WIDE>(e, g, e2, g2, zero), scale, xScale, minimum, xSum)
      sum4 = scaledFromMinimum<MIN>(sum4, whole<MIN, WIDE>(f, h, f2, h2, zero), scale2, xScale, minimum2, xSum)
      other += GROUP_BYTES
    }
    w = q + (isVoid<TILE>() ? 128 : 256)
  }
  if (!isVoid<TILE>()) store<i32>(tile, touched, TILE_TOUCHED)
  if (last) {
    finish(y, sum, sum2, bias, add)
    if (!isVoid<TWO>()) finish(y + yStride, sum3, sum4, bias, add)
    return
  }
  v128.store(sums, sum2, 16)
  v128.store(sums, sum)
  if (!isVoid<TWO>()) {
    v128.store(sums, sum4, 48)
    v128.store(sums, sum3, 32)
  }
}

/** Dot products of four rows from half sums of their high and low limbs, with the zero point of weights that have no minima. */
// @ts-ignore: decorator
@inline
function whole<MIN, WIDE>(a: v128, b: v128, a2: v128, b2: v128, zero: v128): v128 {
  if (!isVoid<WIDE>()) {
    a = i32x4.add(i32x4.shl(a, 7), a2)
    b = i32x4.add(i32x4.shl(b, 7), b2)
  }
  const dots = joined(a, b)
  return isVoid<MIN>() ? i32x4.add(dots, zero) : dots
}

/** `scaled`, then + minimum * sum of activations. */
// @ts-ignore: decorator
@inline
function scaledFromMinimum<MIN>(sum: v128, dots: v128, scale: v128, xScale: v128, minimum: v128, xSum: v128): v128 {
  sum = scaled(sum, dots, scale, xScale)
  return isVoid<MIN>() ? sum : f32x4.add(sum, f32x4.mul(minimum, xSum))
}
