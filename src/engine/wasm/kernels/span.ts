// Blocks over all rows of a step: h += o(attention(norm(h))); h += down(activation(gate(n)) * up(n)), n = norm(h).
// In parallel blocks the mlp's inner values are computed before attention is added, so that both read the block's input.
//
// Five meetings of the threads a block when rows are few, three more to prepare them together when they are many, and
// four more with experts.

import {
  BLOCK_ATTENTION_NORM,
  BLOCK_ATTENTION_NORM_BIAS,
  BLOCK_BYTES,
  BLOCK_DOWN,
  BLOCK_GATE,
  BLOCK_K,
  BLOCK_K_NORM,
  BLOCK_KEYS,
  BLOCK_MLP_NORM,
  BLOCK_MLP_NORM_BIAS,
  BLOCK_O,
  BLOCK_Q,
  BLOCK_Q_NORM,
  BLOCK_ROUTER,
  BLOCK_UP,
  BLOCK_V,
  BLOCK_VALUES,
  BLOCK_WINDOW,
  GROUP,
  GROUP_BYTES,
  MATRIX_OCTETS,
  OCTET,
  PRIVATE_ROWS,
  ROUNDED_BYTES_PER_VALUE,
  ROW_BYTES,
  SPAN_ACTIVATED_ROUNDED,
  SPAN_ACTIVATION,
  SPAN_ATTENDED,
  SPAN_BIAS_SCALE,
  SPAN_BLOCKS,
  SPAN_COS,
  SPAN_EPSILON,
  SPAN_FIRST_BLOCK,
  SPAN_GATE,
  SPAN_HEAD_DIM,
  SPAN_HEADS,
  SPAN_HIDDEN,
  SPAN_HIDDEN_SIZE,
  SPAN_HIDDEN_STRIDE,
  SPAN_INTERMEDIATE,
  SPAN_INTERMEDIATE_STRIDE,
  SPAN_K,
  SPAN_KV_HEADS,
  SPAN_KV_STRIDE,
  SPAN_LAST_BLOCK,
  SPAN_PARALLEL,
  SPAN_PREPARED,
  SPAN_PREPARED_ROUNDED,
  SPAN_PRIVATE_SCORES,
  SPAN_Q,
  SPAN_Q_STRIDE,
  SPAN_ROTARY_HALF,
  SPAN_ROUNDED_BIAS,
  SPAN_ROW_COUNT,
  SPAN_ROWS,
  SPAN_SCORE_SCALE,
  SPAN_SINGLE_ROWS,
  SPAN_SIN,
  SPAN_SLOPES,
  SPAN_UP,
  SPAN_V,
} from '../layout'
import { activate } from './activation'
import { attendHead, paddedDim, readyHead, writeHead } from './attention'
import { addExperts, runExperts } from './experts'
import { isQuantized, isWide, matmul } from './matmul'
import { prepare, useRows } from './prepare'
import { roundRow } from './round'
import { privateScratch, strideBytes } from './span-record'
import { barrier, from, take, takeOctets, threads, to } from './threads'

/** Octets of gate and up that make one group of rounded activations. */
const GROUP_OCTETS = GROUP / OCTET

/** This thread's part of the blocks that the span record asks for. */
export function runBlocks(span: usize): void {
  const blocks = load<usize>(span, SPAN_BLOCKS)
  const last = load<i32>(span, SPAN_LAST_BLOCK)
  for (let block = load<i32>(span, SPAN_FIRST_BLOCK); block < last; block++) {
    const record = blocks + <usize>block * BLOCK_BYTES
    const parallel = load<i32>(span, SPAN_PARALLEL) != 0
    projectQkv(span, record)
    if (parallel) mlpInner(span, record)
    attend(span, record)
    projectOut(span, record)
    if (!parallel) mlpInner(span, record)
    if (load<usize>(record, BLOCK_ROUTER) != 0) addExperts(span)
    else down(span, record)
  }
}

/** What the mlp adds, up to `down` or, with experts, up to their sum. */
function mlpInner(span: usize, block: usize): void {
  if (load<usize>(block, BLOCK_ROUTER) != 0) runExperts(span, block)
  else gateUp(span, block)
}

function prepareHidden(span: usize, norm: usize, bias: usize, round: bool, wide: bool): void {
  prepare(
    load<usize>(span, SPAN_HIDDEN),
    strideBytes(span, SPAN_HIDDEN_STRIDE),
    load<i32>(span, SPAN_HIDDEN_SIZE),
    load<i32>(span, SPAN_ROW_COUNT),
    norm,
    bias,
    load<f32>(span, SPAN_EPSILON),
    round,
    wide,
    privateScratch(span),
    load<usize>(span, SPAN_PREPARED),
    load<usize>(span, SPAN_PREPARED_ROUNDED),
  )
}

/** The part of octets [from, to) of a row of matrices that falls on `matrix`, which starts at `offset`. */
// @ts-ignore: decorator
@inline
function part(matrix: usize, offset: i32, from: i32, to: i32, rows: i32, out: usize, stride: usize): void {
  const low = max(from - offset, 0)
  const high = min(to - offset, load<i32>(matrix, MATRIX_OCTETS))
  if (low < high) matmul(matrix, low, high, rows, out, stride, false)
}

function projectQkv(span: usize, block: usize): void {
  const q = load<usize>(block, BLOCK_Q)
  const k = load<usize>(block, BLOCK_K)
  const v = load<usize>(block, BLOCK_V)
  prepareHidden(span, load<usize>(block, BLOCK_ATTENTION_NORM), load<usize>(block, BLOCK_ATTENTION_NORM_BIAS), isQuantized(q) || isQuantized(k) || isQuantized(v), isWide(q) || isWide(k) || isWide(v))
  const rows = load<i32>(span, SPAN_ROW_COUNT)
  const kOffset = load<i32>(q, MATRIX_OCTETS)
  const vOffset = kOffset + load<i32>(k, MATRIX_OCTETS)
  const total = vOffset + load<i32>(v, MATRIX_OCTETS)
  const kvStride = strideBytes(span, SPAN_KV_STRIDE)
  while (takeOctets(total)) {
    part(q, 0, from, to, rows, load<usize>(span, SPAN_Q), strideBytes(span, SPAN_Q_STRIDE))
    part(k, kOffset, from, to, rows, load<usize>(span, SPAN_K), kvStride)
    part(v, vOffset, from, to, rows, load<usize>(span, SPAN_V), kvStride)
  }
  barrier()
}

/**
 * Query heads that one thread takes together: those that share keys and values where there is work enough, so that memory is
 * read once for them.
 */
function headsTogether(span: usize): i32 {
  const kvHeads = load<i32>(span, SPAN_KV_HEADS)
  const enough = load<i32>(span, SPAN_ROW_COUNT) * kvHeads >= threads * 4
  return enough ? load<i32>(span, SPAN_HEADS) / kvHeads : 1
}

/** Whether heads that are taken together make whole groups, which are rounded for `o` as soon as they are there. */
function roundsHeads(span: usize, o: usize): bool {
  return isQuantized(o) && (headsTogether(span) * load<i32>(span, SPAN_HEAD_DIM)) % GROUP == 0
}

function attend(span: usize, block: usize): void {
  const rows = load<i32>(span, SPAN_ROW_COUNT)
  const heads = load<i32>(span, SPAN_HEADS)
  const kvHeads = load<i32>(span, SPAN_KV_HEADS)
  const headDim = load<i32>(span, SPAN_HEAD_DIM)
  const half = load<i32>(span, SPAN_ROTARY_HALF)
  const cos = load<usize>(span, SPAN_COS)
  const sin = load<usize>(span, SPAN_SIN)
  const keys = load<usize>(block, BLOCK_KEYS)
  const values = load<usize>(block, BLOCK_VALUES)
  const records = load<usize>(span, SPAN_ROWS)
  const qStride = strideBytes(span, SPAN_Q_STRIDE)
  const scratch = privateScratch(span) + load<usize>(span, SPAN_PRIVATE_SCORES)
  const dim = <usize>paddedDim(headDim) * 4
  const table = <usize>half * 4
  const epsilon = load<f32>(span, SPAN_EPSILON)
  const qNorm = load<usize>(block, BLOCK_Q_NORM)
  const together = headsTogether(span)

  // Where no row sees another's keys, they are written by who takes the heads that read them. Few rows are written by
  // every thread, the same bits to the same place. So nobody has to wait, but for many rows of one session.
  const writesFirst = load<i32>(span, SPAN_SINGLE_ROWS) == 0 || together * kvHeads != heads
  if (writesFirst) {
    if (rows <= PRIVATE_ROWS) writeRows(span, block, 0, rows, scratch)
    else {
      while (take(rows)) writeRows(span, block, from, to, scratch)
      barrier()
    }
  }

  const scale = load<f32>(span, SPAN_SCORE_SCALE)
  const window = load<i32>(block, BLOCK_WINDOW)
  const slopes = load<usize>(span, SPAN_SLOPES)
  const roundedBias = load<i32>(span, SPAN_ROUNDED_BIAS) != 0
  const biasScale = load<f32>(span, SPAN_BIAS_SCALE)
  const o = load<usize>(block, BLOCK_O)
  const rounds = roundsHeads(span, o)
  const rounded = load<usize>(span, SPAN_PREPARED_ROUNDED)
  const roundedStride = <usize>(heads * headDim) * ROUNDED_BYTES_PER_VALUE
  const total = (rows * heads) / together
  while (take(total)) for (let unit = from; unit < to; unit++) {
    const row = (unit * together) / heads
    const first = (unit * together) % heads
    const record = records + <usize>row * ROW_BYTES
    const angles = <usize>row * table
    const at = <usize>row * qStride + <usize>(first * headDim) * 4
    const attended = load<usize>(span, SPAN_ATTENDED) + at
    const kvHead = (first * kvHeads) / heads
    if (!writesFirst) writeKeysValues(span, block, row, kvHead, scratch)
    for (let i = 0; i < together; i++) {
      const offset = <usize>(i * headDim) * 4
      const q = load<usize>(span, SPAN_Q) + at + offset
      readyHead(q, headDim, qNorm, epsilon, half, cos + angles, sin + angles, scratch, scratch + dim)
      attendHead(
        record,
        scratch,
        kvHead,
        kvHeads,
        headDim,
        scale,
        window,
        slopes == 0 ? 0 : load<f32>(slopes + <usize>(first + i) * 4),
        roundedBias,
        biasScale,
        keys,
        values,
        scratch + dim,
        attended + offset,
      )
    }
    if (!rounds) continue
    const group = <usize>((first * headDim) / GROUP)
    roundRow(attended, together * headDim, rounded + <usize>row * roundedStride + group * GROUP_BYTES, isWide(o))
  }
  barrier()
}

/** All heads of rows [first, end) to their pages. */
function writeRows(span: usize, block: usize, first: i32, end: i32, scratch: usize): void {
  const kvHeads = load<i32>(span, SPAN_KV_HEADS)
  for (let row = first; row < end; row++) {
    for (let head = 0; head < kvHeads; head++) writeKeysValues(span, block, row, head, scratch)
  }
}

/** One head of row `row`'s keys and values to its page. */
function writeKeysValues(span: usize, block: usize, row: i32, head: i32, scratch: usize): void {
  const kvStride = strideBytes(span, SPAN_KV_STRIDE)
  const half = load<i32>(span, SPAN_ROTARY_HALF)
  const angles = <usize>(row * half) * 4
  writeHead(
    load<usize>(span, SPAN_ROWS) + <usize>row * ROW_BYTES,
    load<usize>(span, SPAN_K) + <usize>row * kvStride,
    load<usize>(span, SPAN_V) + <usize>row * kvStride,
    head,
    load<i32>(span, SPAN_KV_HEADS),
    load<i32>(span, SPAN_HEAD_DIM),
    load<usize>(block, BLOCK_K_NORM),
    load<f32>(span, SPAN_EPSILON),
    half,
    load<usize>(span, SPAN_COS) + angles,
    load<usize>(span, SPAN_SIN) + angles,
    load<usize>(block, BLOCK_KEYS),
    load<usize>(block, BLOCK_VALUES),
    scratch,
  )
}

function projectOut(span: usize, block: usize): void {
  const rows = load<i32>(span, SPAN_ROW_COUNT)
  const o = load<usize>(block, BLOCK_O)
  const attended = load<usize>(span, SPAN_ATTENDED)
  const stride = strideBytes(span, SPAN_Q_STRIDE)
  const columns = load<i32>(span, SPAN_HEADS) * load<i32>(span, SPAN_HEAD_DIM)
  const rounded = load<usize>(span, SPAN_PREPARED_ROUNDED)
  if (roundsHeads(span, o)) useRows(attended, stride, rounded, <usize>columns * ROUNDED_BYTES_PER_VALUE)
  else prepare(attended, stride, columns, rows, 0, 0, 0, isQuantized(o), isWide(o), privateScratch(span), 0, rounded)
  addToHidden(span, o, rows)
}

/** hidden += matrix · prepared rows. */
function addToHidden(span: usize, matrix: usize, rows: i32): void {
  const hidden = load<usize>(span, SPAN_HIDDEN)
  const stride = strideBytes(span, SPAN_HIDDEN_STRIDE)
  const total = load<i32>(matrix, MATRIX_OCTETS)
  while (takeOctets(total)) {
    matmul(matrix, from, to, rows, hidden, stride, true)
  }
  barrier()
}

/**
 * Each thread makes whole groups of the activated values, and rounds them when `down` wants them rounded. Without a gate
 * `up` takes its place.
 */
function gateUp(span: usize, block: usize): void {
  const rows = load<i32>(span, SPAN_ROW_COUNT)
  const plain = load<usize>(block, BLOCK_GATE) == 0
  const up = load<usize>(block, BLOCK_UP)
  const gate = plain ? up : load<usize>(block, BLOCK_GATE)
  prepareHidden(span, load<usize>(block, BLOCK_MLP_NORM), load<usize>(block, BLOCK_MLP_NORM_BIAS), isQuantized(gate) || isQuantized(up), isWide(gate) || isWide(up))
  const round = isQuantized(load<usize>(block, BLOCK_DOWN))
  const wide = isWide(load<usize>(block, BLOCK_DOWN))
  const columns = load<i32>(span, SPAN_INTERMEDIATE)
  const stride = strideBytes(span, SPAN_INTERMEDIATE_STRIDE)
  const gated = load<usize>(span, SPAN_GATE)
  const upped = load<usize>(span, SPAN_UP)
  const rounded = load<usize>(span, SPAN_ACTIVATED_ROUNDED)
  const roundedStride = <usize>columns * ROUNDED_BYTES_PER_VALUE
  const octets = load<i32>(gate, MATRIX_OCTETS)
  const activation = load<i32>(span, SPAN_ACTIVATION)
  const groups = (octets + GROUP_OCTETS - 1) / GROUP_OCTETS
  while (take(groups)) {
    const first = from * GROUP_OCTETS
    const end = min(to * GROUP_OCTETS, octets)
    matmul(gate, first, end, rows, gated, stride, false)
    if (!plain) matmul(up, first, end, rows, upped, stride, false)
    for (let row = 0; row < rows; row++) {
      const at = <usize>row * stride + <usize>first * (OCTET * 4)
      activate(activation, gated + at, plain ? 0 : upped + at, (end - first) * OCTET)
      if (!round) continue
      const record = rounded + <usize>row * roundedStride + <usize>from * GROUP_BYTES
      roundRow(gated + at, (to - from) * GROUP, record, wide)
    }
  }
  barrier()
}

function down(span: usize, block: usize): void {
  useRows(
    load<usize>(span, SPAN_GATE),
    strideBytes(span, SPAN_INTERMEDIATE_STRIDE),
    load<usize>(span, SPAN_ACTIVATED_ROUNDED),
    load<usize>(span, SPAN_INTERMEDIATE) * ROUNDED_BYTES_PER_VALUE,
  )
  addToHidden(span, load<usize>(block, BLOCK_DOWN), load<i32>(span, SPAN_ROW_COUNT))
}
