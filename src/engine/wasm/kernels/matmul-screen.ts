// About W x / 256, or / 2 where x has 8 bits, for 8-bit weights without minima: what `screen.ts` needs to know of most logits.
//
// The dot instruction wants one operand in 7 bits without sign: x / 256 is rounded to a whole number and 64 is added to it. What
// that adds to a product, 64 times the sum of a group's weights, is taken off where sums start.

import {
  GROUP,
  MATRIX_COLUMNS,
  MATRIX_DATA,
  MATRIX_KIND,
  MATRIX_OCTET_BYTES,
  KIND_Q8_F16,
  KIND_Q8_HALF_F32,
  KIND_WIDE,
  OCTET,
} from '../layout'
import { dot4, joined, scaled } from './dot'
import { following4, halfMask, halfScale, load4 } from './half'
import { tile, wideVectors } from './threads'

/** Groups of an octet that are made ready at a time: with their weights they fit the first level of cache. */
const GROUPS = 64
/** What is made ready for each scale of an octet: eight scales, and where its sums start. */
const READY_BYTES = 96
const READY_SUMS = 32

/** Whether `matrix` has a scale for each half of a group. Its screening rows have one then, too. */
export function hasHalves(matrix: usize): bool {
  return (load<i32>(matrix, MATRIX_KIND) & ~KIND_WIDE) == KIND_Q8_HALF_F32
}

/** Bytes of a screening row: 32 bytes a group and behind each 32 (or 16) of them a float32 scale and as much of nothing. */
export function screenStride(matrix: usize): usize {
  return <usize>(load<i32>(matrix, MATRIX_COLUMNS) / GROUP) * (GROUP + (hasHalves(matrix) ? 16 : 8))
}

/** Octets [from, to) of `matrix` times `rows` screening rows at `x`. */
export function multiplyScreened(matrix: usize, from: i32, to: i32, x: usize, rows: i32, out: usize, outStride: usize): void {
  const kind = load<i32>(matrix, MATRIX_KIND) & ~KIND_WIDE
  if (kind == KIND_Q8_F16) multiplyOctets<u16, void>(matrix, from, to, x, rows, out, outStride)
  else if (kind == KIND_Q8_HALF_F32) multiplyOctets<f32, i32>(matrix, from, to, x, rows, out, outStride)
  else multiplyOctets<f32, void>(matrix, from, to, x, rows, out, outStride)
}

/** S: type of scales; HALF: i32 when there are two a group. */
function multiplyOctets<S, HALF>(matrix: usize, from: i32, to: i32, x: usize, rows: i32, out: usize, outStride: usize): void {
  const groups = load<i32>(matrix, MATRIX_COLUMNS) / GROUP
  const xStride = screenStride(matrix)
  const header: usize = sizeof<S>() * (isVoid<HALF>() ? 8 : 16)
  const packed = header + GROUP * OCTET
  let w = load<usize>(matrix, MATRIX_DATA) + <usize>from * load<usize>(matrix, MATRIX_OCTET_BYTES)
  for (let octet = from; octet < to; octet++) {
    for (let group = 0; group < groups; group += GROUPS) {
      const count = min(groups - group, GROUPS)
      makeReady<S, HALF>(w, count)
      let at = x + <usize>group * (GROUP + (isVoid<HALF>() ? 8 : 16))
      let y = out + <usize>octet * (OCTET * 4)
      let row = 0
      for (; wideVectors && row + 4 <= rows; row += 4) {
        addGroups<HALF, i32>(w, header, count, at, xStride, group == 0, y, outStride)
        at += 4 * xStride
        y += 4 * outStride
      }
      for (; row < rows; row++) {
        addGroups<HALF, void>(w, header, count, at, 0, group == 0, y, 0)
        at += xStride
        y += outStride
      }
      w += <usize>count * packed
    }
  }
}

/** Writes scales of `groups` groups as float32 to `tile`, each with -64 times the sums of its weights. */
function makeReady<S, HALF>(w: usize, groups: i32): void {
  const bits = halfMask()
  const factor = halfScale()
  const ones = i8x16.splat(1)
  let to = tile
  for (let group = 0; group < groups; group++) {
    let q = w + sizeof<S>() * (isVoid<HALF>() ? 8 : 16)
    for (let part = 0; part < (isVoid<HALF>() ? 1 : 2); part++, to += READY_BYTES) {
      let a = i32x4.splat(0)
      let b = a
      let c = a
      let d = a
      for (let eight = 0; eight < (isVoid<HALF>() ? 4 : 2); eight++, q += 64) {
        a = dot4(v128.load(q), ones, a)
        b = dot4(v128.load(q, 16), ones, b)
        c = dot4(v128.load(q, 32), ones, c)
        d = dot4(v128.load(q, 48), ones, d)
      }
      const scale = load4<S>(w, bits, factor)
      const scale2 = following4<S>(w, bits, factor)
      v128.store(to, scale2, 16)
      v128.store(to, scale)
      v128.store(to, start(b), READY_SUMS + 16)
      v128.store(to, start(a), READY_SUMS)
      v128.store(to, start(d), READY_SUMS + 48)
      v128.store(to, start(c), READY_SUMS + 32)
      w += sizeof<S>() * 8
    }
    w = q
  }
}

// @ts-ignore: decorator
@inline
function start(sums: v128): v128 {
  return i32x4.neg(i32x4.shl(sums, 6))
}

/**
 * Adds `groups` groups of an octet at `w`, whose weights lie `header` bytes behind their scales, times those of the row at `x`
 * to eight sums at `y`, with FOUR also those of the three rows behind it. The `first` groups start them.
 */
function addGroups<HALF, FOUR>(
  w: usize,
  header: usize,
  groups: i32,
  x: usize,
  xStride: usize,
  first: bool,
  y: usize,
  yStride: usize,
): void {
  let xb = x + xStride
  let xc = xb + xStride
  let xd = xc + xStride
  const yb = y + yStride
  const yc = yb + yStride
  const yd = yc + yStride
  let sum = f32x4.splat(0)
  let sum2 = sum
  let sumB = sum
  let sumB2 = sum
  let sumC = sum
  let sumC2 = sum
  let sumD = sum
  let sumD2 = sum
  if (!first) {
    sum = v128.load(y)
    sum2 = v128.load(y, 16)
    if (!isVoid<FOUR>()) {
      sumB = v128.load(yb)
      sumB2 = v128.load(yb, 16)
      sumC = v128.load(yc)
      sumC2 = v128.load(yc, 16)
      sumD = v128.load(yd)
      sumD2 = v128.load(yd, 16)
    }
  }
  let ready = tile
  for (let group = 0; group < groups; group++) {
    w += header
    for (let part = 0; part < (isVoid<HALF>() ? 1 : 2); part++) {
      let a = v128.load(ready, READY_SUMS)
      let a2 = v128.load(ready, READY_SUMS + 16)
      let a3 = v128.load(ready, READY_SUMS + 32)
      let a4 = v128.load(ready, READY_SUMS + 48)
      let b = a
      let b2 = a2
      let b3 = a3
      let b4 = a4
      let c = a
      let c2 = a2
      let c3 = a3
      let c4 = a4
      let d = a
      let d2 = a2
      let d3 = a3
      let d4 = a4
      for (let eight = 0; eight < (isVoid<HALF>() ? 4 : 2); eight++) {
        const rows01 = v128.load(w)
        const rows45 = v128.load(w, 16)
        const rows23 = v128.load(w, 32)
        const rows67 = v128.load(w, 48)
        w += 64
        let v = v128.load64_splat(x)
        a = dot4(rows01, v, a)
        a2 = dot4(rows45, v, a2)
        a3 = dot4(rows23, v, a3)
        a4 = dot4(rows67, v, a4)
        x += 8
        if (isVoid<FOUR>()) continue
        v = v128.load64_splat(xb)
        b = dot4(rows01, v, b)
        b2 = dot4(rows45, v, b2)
        b3 = dot4(rows23, v, b3)
        b4 = dot4(rows67, v, b4)
        xb += 8
        v = v128.load64_splat(xc)
        c = dot4(rows01, v, c)
        c2 = dot4(rows45, v, c2)
        c3 = dot4(rows23, v, c3)
        c4 = dot4(rows67, v, c4)
        xc += 8
        v = v128.load64_splat(xd)
        d = dot4(rows01, v, d)
        d2 = dot4(rows45, v, d2)
        d3 = dot4(rows23, v, d3)
        d4 = dot4(rows67, v, d4)
        xd += 8
      }
      const scale = v128.load(ready)
      const scale2 = v128.load(ready, 16)
      ready += READY_BYTES
      let xScale = v128.load32_splat(x)
      sum = scaled(sum, joined(a, a3), scale, xScale)
      sum2 = scaled(sum2, joined(a2, a4), scale2, xScale)
      x += 8
      if (!isVoid<FOUR>()) {
        xScale = v128.load32_splat(xb)
        sumB = scaled(sumB, joined(b, b3), scale, xScale)
        sumB2 = scaled(sumB2, joined(b2, b4), scale2, xScale)
        xScale = v128.load32_splat(xc)
        sumC = scaled(sumC, joined(c, c3), scale, xScale)
        sumC2 = scaled(sumC2, joined(c2, c4), scale2, xScale)
        xScale = v128.load32_splat(xd)
        sumD = scaled(sumD, joined(d, d3), scale, xScale)
        sumD2 = scaled(sumD2, joined(d2, d4), scale2, xScale)
        xb += 8
        xc += 8
        xd += 8
      }
    }
  }
  v128.store(y, sum2, 16)
  v128.store(y, sum)
  if (!isVoid<FOUR>()) {
    v128.store(yb, sumB2, 16)
    v128.store(yb, sumB)
    v128.store(yc, sumC2, 16)
    v128.store(yc, sumC)
    v128.store(yd, sumD2, 16)
    v128.store(yd, sumD)
  }
}
