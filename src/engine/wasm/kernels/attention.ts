// Rotary positions, the paged KV cache and causal attention of one head.
//
// A page holds 16 tokens of one block: keys [kvHead][dimension][16 tokens], so that 16 scores are summed side by side,
// and values [kvHead][16 tokens][dimension]. Dimensions are padded to a multiple of 4.
// Every output depends on its session's tokens alone and is summed in one fixed order.

import { KV_PAGE, ROW_PAGES, ROW_POSITION } from '../layout'
import { addBias, addRoundedBias } from './alibi'
import { exp4 } from './exponential'
import { rmsNorm } from './norm'

/** `headDim` padded to whole vectors. */
// @ts-ignore: decorator
@inline
export function paddedDim(headDim: i32): i32 {
  return (headDim + 3) & ~3
}

/** y = x rotated, half-split: element i with element i + half, for i < half; the rest is copied. arXiv 2104.09864. */
export function rotateHead(x: usize, headDim: i32, half: i32, cos: usize, sin: usize, y: usize): void {
  let i = 0
  for (; i + 4 <= half; i += 4) {
    const low = x + <usize>i * 4
    const to = y + <usize>i * 4
    const c = v128.load(cos + <usize>i * 4)
    const s = v128.load(sin + <usize>i * 4)
    const a = v128.load(low)
    const b = v128.load(low + <usize>half * 4)
    v128.store(to, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)))
    v128.store(to + <usize>half * 4, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s)))
  }
  for (; i < half; i++) {
    const low = x + <usize>i * 4
    const high = low + <usize>half * 4
    const to = y + <usize>i * 4
    const c = load<f32>(cos + <usize>i * 4)
    const s = load<f32>(sin + <usize>i * 4)
    const a = load<f32>(low)
    const b = load<f32>(high)
    store<f32>(to, a * c - b * s)
    store<f32>(to + <usize>half * 4, b * c + a * s)
  }
  for (let i = 2 * half; i < headDim; i++) store<f32>(y + <usize>i * 4, load<f32>(x + <usize>i * 4))
}

/** `rotateHead` of x, normed before that where `norm` is not 0; `scratch` holds a head. */
export function readyHead(
  x: usize,
  headDim: i32,
  norm: usize,
  epsilon: f32,
  half: i32,
  cos: usize,
  sin: usize,
  y: usize,
  scratch: usize,
): void {
  if (norm != 0) {
    rmsNorm(x, headDim, norm, epsilon, scratch)
    x = scratch
  }
  rotateHead(x, headDim, half, cos, sin, y)
}

/** Writes one head of a token's normed and rotated keys and of its values into its page. `scratch` holds two heads. */
export function writeHead(
  row: usize,
  k: usize,
  v: usize,
  head: i32,
  kvHeads: i32,
  headDim: i32,
  norm: usize,
  epsilon: f32,
  half: i32,
  cos: usize,
  sin: usize,
  keys: usize,
  values: usize,
  scratch: usize,
): void {
  const position = load<i32>(row, ROW_POSITION)
  const page = load<i32>(load<usize>(row, ROW_PAGES) + <usize>(position / KV_PAGE) * 4)
  const slot = <usize>(position % KV_PAGE)
  const dim = <usize>paddedDim(headDim)
  const base = (<usize>page * kvHeads + head) * dim * (KV_PAGE * 4)
  readyHead(k + <usize>(head * headDim) * 4, headDim, norm, epsilon, half, cos, sin, scratch, scratch + dim * 4)
  const column = keys + base + slot * 4
  for (let d = 0; d < headDim; d++) {
    store<f32>(column + <usize>d * (KV_PAGE * 4), load<f32>(scratch + <usize>d * 4))
  }
  memory.copy(values + base + slot * dim * 4, v + <usize>(head * headDim) * 4, headDim * 4)
}

/**
 * out = softmax(scale * q · keys + bias) · values over the last `window` tokens up to the row's position, all for 0;
 * q (rotated) and out: headDim values. ALiBi: `slope` is not 0, and `rounded` and `biasScale` say how it is added.
 * `scratch` has room for one head, then for a score a token of whole pages.
 */
export function attendHead(
  row: usize,
  q: usize,
  kvHead: i32,
  kvHeads: i32,
  headDim: i32,
  scale: f32,
  window: i32,
  slope: f32,
  rounded: bool,
  biasScale: f32,
  keys: usize,
  values: usize,
  scratch: usize,
  out: usize,
): void {
  const position = load<i32>(row, ROW_POSITION)
  const first = window == 0 ? 0 : max(0, position - window + 1)
  // Tokens count from the start of the first page that is seen; the first `unseen` of them are not.
  const start = (first / KV_PAGE) * KV_PAGE
  const unseen = first - start
  const length = position + 1 - start
  const pages = load<usize>(row, ROW_PAGES) + <usize>(start / KV_PAGE) * 4
  const dim = <usize>paddedDim(headDim)
  const pageBytes = <usize>kvHeads * dim * (KV_PAGE * 4)
  const headBytes = <usize>kvHead * dim * (KV_PAGE * 4)
  const scores = scratch + dim * 4
  const pageCount = (length + KV_PAGE - 1) / KV_PAGE
  let largest = f32x4.splat(-Infinity)
  for (let p = 0; p < pageCount; p++) {
    const page = keys + <usize>load<i32>(pages + <usize>p * 4) * pageBytes + headBytes
    const to = scores + <usize>p * (KV_PAGE * 4)
    scorePage(q, headDim, page, scale, to)
    if (slope != 0) {
      if (rounded) addRoundedBias(to, start + p * KV_PAGE, position, slope, biasScale)
      else addBias(to, start + p * KV_PAGE, position, slope, biasScale)
    }
    if (p == 0) {
      for (let j = 0; j < unseen; j++) store<f32>(scores + <usize>j * 4, -Infinity)
    }
    if ((p + 1) * KV_PAGE > length) {
      for (let j = length; j < (p + 1) * KV_PAGE; j++) store<f32>(scores + <usize>j * 4, -Infinity)
    }
    largest = f32x4.max(
      largest,
      f32x4.max(f32x4.max(v128.load(to), v128.load(to, 16)), f32x4.max(v128.load(to, 32), v128.load(to, 48))),
    )
  }
  largest = f32x4.max(largest, v128.shuffle<i32>(largest, largest, 2, 3, 0, 1))
  largest = f32x4.max(largest, v128.shuffle<i32>(largest, largest, 1, 0, 3, 2))
  const end = scores + <usize>length * 4
  const paddedEnd = scores + ((<usize>length + 3) & ~3) * 4
  // Scores fill whole pages: what is computed beyond the end is not read.
  for (let s = scores; s < paddedEnd; s += 32) {
    const low = exp4(f32x4.sub(v128.load(s), largest))
    const high = exp4(f32x4.sub(v128.load(s, 16), largest))
    v128.store(s, high, 16)
    v128.store(s, low)
  }
  for (let s = scores; s < scores + <usize>unseen * 4; s += 4) store<f32>(s, 0)
  for (let s = end; s < paddedEnd; s += 4) store<f32>(s, 0)
  let sums = f32x4.splat(0)
  for (let s = scores; s < paddedEnd; s += 16) sums = f32x4.add(sums, v128.load(s))
  const sum =
    f32x4.extract_lane(sums, 0) +
    f32x4.extract_lane(sums, 1) +
    (f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3))
  const inverse = f32x4.splat(1 / sum)
  let d: usize = 0
  for (; d + 32 <= dim; d += 32) {
    mix32(scores, length, pages, values + headBytes + d * 4, pageBytes, dim * 4, inverse, scratch + d * 4)
  }
  for (; d < dim; d += 4) {
    mix4(scores, length, pages, values + headBytes + d * 4, pageBytes, dim * 4, inverse, scratch + d * 4)
  }
  memory.copy(out, scratch, headDim * 4)
}

/** Scores of the 16 tokens of a page. Sums of the even and of the odd dimensions run side by side. */
function scorePage(q: usize, headDim: i32, page: usize, scale: f32, to: usize): void {
  let a = f32x4.splat(0)
  let b = a
  let c = a
  let d = a
  let a1 = a
  let b1 = a
  let c1 = a
  let d1 = a
  let i = 0
  for (; i + 2 <= headDim; i += 2) {
    const q0 = v128.load32_splat(q)
    const q1 = v128.load32_splat(q, 4)
    a = f32x4.add(a, f32x4.mul(q0, v128.load(page)))
    b = f32x4.add(b, f32x4.mul(q0, v128.load(page, 16)))
    c = f32x4.add(c, f32x4.mul(q0, v128.load(page, 32)))
    d = f32x4.add(d, f32x4.mul(q0, v128.load(page, 48)))
    a1 = f32x4.add(a1, f32x4.mul(q1, v128.load(page, 64)))
    b1 = f32x4.add(b1, f32x4.mul(q1, v128.load(page, 80)))
    c1 = f32x4.add(c1, f32x4.mul(q1, v128.load(page, 96)))
    d1 = f32x4.add(d1, f32x4.mul(q1, v128.load(page, 112)))
    q += 8
    page += 128
  }
  if (i < headDim) {
    const q0 = v128.load32_splat(q)
    a = f32x4.add(a, f32x4.mul(q0, v128.load(page)))
    b = f32x4.add(b, f32x4.mul(q0, v128.load(page, 16)))
    c = f32x4.add(c, f32x4.mul(q0, v128.load(page, 32)))
    d = f32x4.add(d, f32x4.mul(q0, v128.load(page, 48)))
  }
  const factor = f32x4.splat(scale)
  v128.store(to, f32x4.mul(f32x4.add(a, a1), factor))
  v128.store(to, f32x4.mul(f32x4.add(b, b1), factor), 16)
  v128.store(to, f32x4.mul(f32x4.add(c, c1), factor), 32)
  v128.store(to, f32x4.mul(f32x4.add(d, d1), factor), 48)
}

/** 32 dimensions of the weighted sum of values, token by token. */
function mix32(
  scores: usize,
  length: i32,
  pages: usize,
  values: usize,
  pageBytes: usize,
  rowBytes: usize,
  inverse: v128,
  to: usize,
): void {
  let a = f32x4.splat(0)
  let b = a
  let c = a
  let d = a
  let e = a
  let f = a
  let g = a
  let h = a
  for (let from = 0; from < length; from += KV_PAGE, pages += 4) {
    let v = values + <usize>load<i32>(pages) * pageBytes
    const tokens = min(length - from, KV_PAGE)
    for (let j = 0; j < tokens; j++) {
      const s = v128.load32_splat(scores)
      a = f32x4.add(a, f32x4.mul(s, v128.load(v)))
      b = f32x4.add(b, f32x4.mul(s, v128.load(v, 16)))
      c = f32x4.add(c, f32x4.mul(s, v128.load(v, 32)))
      d = f32x4.add(d, f32x4.mul(s, v128.load(v, 48)))
      e = f32x4.add(e, f32x4.mul(s, v128.load(v, 64)))
      f = f32x4.add(f, f32x4.mul(s, v128.load(v, 80)))
      g = f32x4.add(g, f32x4.mul(s, v128.load(v, 96)))
      h = f32x4.add(h, f32x4.mul(s, v128.load(v, 112)))
      scores += 4
      v += rowBytes
    }
  }
  v128.store(to, f32x4.mul(a, inverse))
  v128.store(to, f32x4.mul(b, inverse), 16)
  v128.store(to, f32x4.mul(c, inverse), 32)
  v128.store(to, f32x4.mul(d, inverse), 48)
  v128.store(to, f32x4.mul(e, inverse), 64)
  v128.store(to, f32x4.mul(f, inverse), 80)
  v128.store(to, f32x4.mul(g, inverse), 96)
  v128.store(to, f32x4.mul(h, inverse), 112)
}

/** As `mix32` for four dimensions. */
function mix4(
  scores: usize,
  length: i32,
  pages: usize,
  values: usize,
  pageBytes: usize,
  rowBytes: usize,
  inverse: v128,
  to: usize,
): void {
  let a = f32x4.splat(0)
  for (let from = 0; from < length; from += KV_PAGE, pages += 4) {
    let v = values + <usize>load<i32>(pages) * pageBytes
    const tokens = min(length - from, KV_PAGE)
    for (let j = 0; j < tokens; j++) {
      a = f32x4.add(a, f32x4.mul(v128.load32_splat(scores), v128.load(v)))
      scores += 4
      v += rowBytes
    }
  }
  v128.store(to, f32x4.mul(a, inverse))
}
