// y = W x for 4-bit weights in groups of 32 and activations rounded to 8 bits in the same groups.
//
// One output is a float32 sum over the groups in order: y += float(integer dot product) * (weight scale * activation scale),
// with a minimum also y += minimum * (activation scale * sum of the activation's integers). Every tile below does just that
// for each output, so results do not depend on how rows and tokens are grouped.
//
// Octet of 8 rows, for each group: 8 scales, 8 minima where there are any, then for each 8 columns two vectors of
// four rows each; row i has bytes 4i..4i+3, low nibbles columns 0..3, high nibbles columns 4..7.

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
  QUAD,
  QUAD_BYTES,
  ROUNDED_LOW,
  TILE_COLUMNS,
  TILE_GROUP_BYTES,
  TILE_ROWS,
  TILE_TOUCHED,
  TILE_WEIGHTS_BYTES,
} from '../layout'
import { dot4 } from './dot'
import { halfMask, halfScale, load4, nibbleMask } from './half'
import { finish } from './store'
import { tile } from './threads'

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
    for (; row + QUAD <= rows; row += TILE_ROWS) {
      const quads = min(rows - row, TILE_ROWS) / QUAD
      const ys = y + <usize>row * outStride
      octetByQuads<S, MIN, WIDE>(w, columns, x + <usize>row * xStride, xStride, quads, ys, outStride, bias, add, octet + 1 < to)
    }
    for (row = rows & -QUAD; row < rows; row++) {
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

/** sum + dots * scale of weights * scale of activations, then + minimum * sum of activations. */
// @ts-ignore: decorator
@inline
function scaled<MIN>(sum: v128, dots: v128, scale: v128, xScale: v128, minimum: v128, xSum: v128): v128 {
  sum = f32x4.add(sum, f32x4.mul(f32x4.convert_i32x4_s(dots), f32x4.mul(scale, xScale)))
  return isVoid<MIN>() ? sum : f32x4.add(sum, f32x4.mul(minimum, xSum))
}

/** Dot products from those of both limbs, with the zero point of weights that have no minima. */
// @ts-ignore: decorator
@inline
function integers<MIN, WIDE>(high: v128, low: v128, zero: v128): v128 {
  const dots = isVoid<WIDE>() ? high : i32x4.add(i32x4.shl(high, 7), low)
  return isVoid<MIN>() ? i32x4.add(dots, zero) : dots
}

function octetByOne<S, MIN, WIDE>(w: usize, columns: i32, x: usize, y: usize, bias: usize, add: bool): void {
  const nibble = nibbleMask()
  const mask = halfMask()
  const half = halfScale()
  const header: usize = sizeof<S>() * (isVoid<MIN>() ? 8 : 16)
  const end = x + <usize>(columns / GROUP) * GROUP_BYTES
  let sumA = f32x4.splat(0)
  let sumB = f32x4.splat(0)
  while (x < end) {
    const q = w + header
    let a = i32x4.splat(0)
    let b = a
    let a2 = a
    let b2 = a
    let x0 = v128.load32_splat(x)
    let x1 = v128.load32_splat(x, 4)
    let wa = v128.load(q)
    let wb = v128.load(q, 16)
    a = dot4(x1, high(wa, nibble), dot4(x0, low(wa, nibble), a))
    b = dot4(x1, high(wb, nibble), dot4(x0, low(wb, nibble), b))
    if (!isVoid<WIDE>()) {
      x0 = v128.load32_splat(x, 32)
      x1 = v128.load32_splat(x, 36)
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
      x0 = v128.load32_splat(x, 40)
      x1 = v128.load32_splat(x, 44)
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
      x0 = v128.load32_splat(x, 48)
      x1 = v128.load32_splat(x, 52)
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
      x0 = v128.load32_splat(x, 56)
      x1 = v128.load32_splat(x, 60)
      a2 = dot4(x1, high(wa, nibble), dot4(x0, low(wa, nibble), a2))
      b2 = dot4(x1, high(wb, nibble), dot4(x0, low(wb, nibble), b2))
    }
    const zero = v128.load32_splat(x, GROUP_ZERO)
    a = integers<MIN, WIDE>(a, a2, zero)
    b = integers<MIN, WIDE>(b, b2, zero)
    const minimum = w + sizeof<S>() * 8
    const minimumA = isVoid<MIN>() ? f32x4.splat(0) : load4<S>(minimum, mask, half)
    const minimumB = isVoid<MIN>() ? f32x4.splat(0) : load4<S>(minimum + sizeof<S>() * 4, mask, half)
    const xScale = v128.load32_splat(x, GROUP_SCALE)
    const xSum = v128.load32_splat(x, GROUP_SUM)
    sumA = scaled<MIN>(sumA, a, load4<S>(w, mask, half), xScale, minimumA, xSum)
    sumB = scaled<MIN>(sumB, b, load4<S>(w + sizeof<S>() * 4, mask, half), xScale, minimumB, xSum)
    x += GROUP_BYTES
    w = q + 128
  }
  finish(y, sumA, bias, add)
  finish(y + 16, sumB, bias == 0 ? 0 : bias + 16, add)
}

/**
 * An octet times `quads` times four tokens: its nibbles become bytes once for all of them, some columns at a time. `more`:
 * the octet behind it is next.
 */
function octetByQuads<S, MIN, WIDE>(
  w: usize,
  columns: i32,
  x: usize,
  xStride: usize,
  quads: i32,
  y: usize,
  yStride: usize,
  bias: usize,
  add: bool,
  more: bool,
): void {
  const sums = tile + TILE_WEIGHTS_BYTES
  memory.fill(sums, 0, <usize>quads * (QUAD * 32))
  const packed: usize = sizeof<S>() * (isVoid<MIN>() ? 8 : 16) + 128
  for (let column = 0; column < columns; column += TILE_COLUMNS) {
    const groups = min(columns - column, TILE_COLUMNS) / GROUP
    unpack<S, MIN>(w, groups)
    w += <usize>groups * packed
    const from = x + <usize>(column / GROUP) * QUAD_BYTES
    // The columns or the octet that come next, if any: as much of them as these columns take.
    const ahead = more || column + TILE_COLUMNS < columns
    const step = ahead ? packed / <usize>quads : 0
    for (let quad = 0; quad < quads; quad++) {
      const next = ahead ? w + <usize>quad * step * <usize>groups : tile
      octetByFour<MIN, WIDE>(groups, from + <usize>(quad * QUAD) * xStride, sums + <usize>quad * (QUAD * 32), next, step)
    }
  }
  for (let row: usize = 0; row < <usize>(quads * QUAD); row++) {
    const sum = sums + row * 32
    finish(y + row * yStride, v128.load(sum), bias, add)
    finish(y + row * yStride + 16, v128.load(sum, 16), bias == 0 ? 0 : bias + 16, add)
  }
}

/** Writes `groups` groups of an octet to `tile`: 8 float32 scales, 8 minima, for each 4 columns two vectors of four rows. */
function unpack<S, MIN>(w: usize, groups: i32): void {
  const nibble = nibbleMask()
  const mask = halfMask()
  const half = halfScale()
  let to = tile
  for (let group = 0; group < groups; group++) {
    v128.store(to, load4<S>(w, mask, half))
    v128.store(to, load4<S>(w + sizeof<S>() * 4, mask, half), 16)
    w += sizeof<S>() * 8
    if (!isVoid<MIN>()) {
      v128.store(to, load4<S>(w, mask, half), 32)
      v128.store(to, load4<S>(w + sizeof<S>() * 4, mask, half), 48)
      w += sizeof<S>() * 8
    }
    to += 64
    for (let eight = 0; eight < 4; eight++) {
      const a = v128.load(w)
      const b = v128.load(w, 16)
      v128.store(to, low(a, nibble))
      v128.store(to, low(b, nibble), 16)
      v128.store(to, high(a, nibble), 32)
      v128.store(to, high(b, nibble), 48)
      w += 32
      to += 64
    }
  }
}

/**
 * The octet at `tile` times four tokens whose groups at `x` take turns; adds to eight sums a token at `sums`. Two tokens
 * at a time: eight chains of dot products hide their latency, and more would not stay in registers. Meanwhile the weights
 * from `next` on are fetched, a byte every `step`.
 */
function octetByFour<MIN, WIDE>(groups: i32, x: usize, sums: usize, next: usize, step: usize): void {
  let w = tile
  const end = w + <usize>groups * TILE_GROUP_BYTES
  let touched = 0
  for (; w < end; w += TILE_GROUP_BYTES) {
    touched += load<u8>(next)
    next += step
    let y = sums
    for (let pair = 0; pair < 2; pair++) {
      let a = i32x4.splat(0)
      let b = a
      let c = a
      let d = a
      let a2 = a
      let b2 = a
      let c2 = a
      let d2 = a
      let q = w + 64
      let limb = x
      for (let half = 0; half < 2; half++) {
        let wa = v128.load(q)
        let wb = v128.load(q, 16)
        let v = v128.load32_splat(limb)
        a = dot4(v, wa, a)
        b = dot4(v, wb, b)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(limb, ROUNDED_LOW)
          a2 = dot4(v, wa, a2)
          b2 = dot4(v, wb, b2)
        }
        v = v128.load32_splat(limb, GROUP_BYTES)
        c = dot4(v, wa, c)
        d = dot4(v, wb, d)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(limb, GROUP_BYTES + ROUNDED_LOW)
          c2 = dot4(v, wa, c2)
          d2 = dot4(v, wb, d2)
        }
        wa = v128.load(q, 32)
        wb = v128.load(q, 48)
        v = v128.load32_splat(limb, 4)
        a = dot4(v, wa, a)
        b = dot4(v, wb, b)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(limb, ROUNDED_LOW + 4)
          a2 = dot4(v, wa, a2)
          b2 = dot4(v, wb, b2)
        }
        v = v128.load32_splat(limb, GROUP_BYTES + 4)
        c = dot4(v, wa, c)
        d = dot4(v, wb, d)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(limb, GROUP_BYTES + ROUNDED_LOW + 4)
          c2 = dot4(v, wa, c2)
          d2 = dot4(v, wb, d2)
        }
        wa = v128.load(q, 64)
        wb = v128.load(q, 80)
        v = v128.load32_splat(limb, 8)
        a = dot4(v, wa, a)
        b = dot4(v, wb, b)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(limb, ROUNDED_LOW + 8)
          a2 = dot4(v, wa, a2)
          b2 = dot4(v, wb, b2)
        }
        v = v128.load32_splat(limb, GROUP_BYTES + 8)
        c = dot4(v, wa, c)
        d = dot4(v, wb, d)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(limb, GROUP_BYTES + ROUNDED_LOW + 8)
          c2 = dot4(v, wa, c2)
          d2 = dot4(v, wb, d2)
        }
        wa = v128.load(q, 96)
        wb = v128.load(q, 112)
        v = v128.load32_splat(limb, 12)
        a = dot4(v, wa, a)
        b = dot4(v, wb, b)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(limb, ROUNDED_LOW + 12)
          a2 = dot4(v, wa, a2)
          b2 = dot4(v, wb, b2)
        }
        v = v128.load32_splat(limb, GROUP_BYTES + 12)
        c = dot4(v, wa, c)
        d = dot4(v, wb, d)
        if (!isVoid<WIDE>()) {
          v = v128.load32_splat(limb, GROUP_BYTES + ROUNDED_LOW + 12)
          c2 = dot4(v, wa, c2)
          d2 = dot4(v, wb, d2)
        }
        q += 128
        limb += 16
      }
      const scale = v128.load(w)
      const scale2 = v128.load(w, 16)
      const minimum = v128.load(w, 32)
      const minimum2 = v128.load(w, 48)
      let xScale = v128.load32_splat(x, GROUP_SCALE)
      let xSum = v128.load32_splat(x, GROUP_SUM)
      let zero = v128.load32_splat(x, GROUP_ZERO)
      a = integers<MIN, WIDE>(a, a2, zero)
      b = integers<MIN, WIDE>(b, b2, zero)
      v128.store(y, scaled<MIN>(v128.load(y), a, scale, xScale, minimum, xSum))
      v128.store(y, scaled<MIN>(v128.load(y, 16), b, scale2, xScale, minimum2, xSum), 16)
      xScale = v128.load32_splat(x, GROUP_SCALE + GROUP_BYTES)
      xSum = v128.load32_splat(x, GROUP_SUM + GROUP_BYTES)
      zero = v128.load32_splat(x, GROUP_ZERO + GROUP_BYTES)
      c = integers<MIN, WIDE>(c, c2, zero)
      d = integers<MIN, WIDE>(d, d2, zero)
      v128.store(y, scaled<MIN>(v128.load(y, 32), c, scale, xScale, minimum, xSum), 32)
      v128.store(y, scaled<MIN>(v128.load(y, 48), d, scale2, xScale, minimum2, xSum), 48)
      x += GROUP_BYTES * 2
      y += 64
    }
  }
  store<i32>(tile, touched, TILE_TOUCHED)
}
