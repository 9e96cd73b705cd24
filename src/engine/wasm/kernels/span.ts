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
  SPAN_SIN,
  SPAN_SLOPES,
  SPAN_UP,
  SPAN_V,
} from '../layout'
import { activate } from './activation'
import { attendHead, paddedDim, readyHead, writeKeysValues } from './attention'
import { addExperts, runExperts } from './experts'
import { isQuantized, isWide, matmul } from './matmul'
import { prepare, useRows } from './prepare'
import { groupStride, roundedRow, roundGroup } from './round'
import { privateScratch, strideBytes } from './span-record'
import { barrier, claim, nextPhase, pieceOf, threads } from './threads'

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
  const piece = pieceOf(total)
  const kvStride = strideBytes(span, SPAN_KV_STRIDE)
  for (let from = claim() * piece; from < total; from = claim() * piece) {
    const to = min(from + piece, total)
    part(q, 0, from, to, rows, load<usize>(span, SPAN_Q), strideBytes(span, SPAN_Q_STRIDE))
    part(k, kOffset, from, to, rows, load<usize>(span, SPAN_K), kvStride)
    part(v, vOffset, from, to, rows, load<usize>(span, SPAN_V), kvStride)
  }
  barrier()
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
  const kvStride = strideBytes(span, SPAN_KV_STRIDE)
  const qStride = strideBytes(span, SPAN_Q_STRIDE)
  const scratch = privateScratch(span) + load<usize>(span, SPAN_PRIVATE_SCORES)
  const dim = <usize>paddedDim(headDim) * 4
  const table = <usize>half * 4
  const epsilon = load<f32>(span, SPAN_EPSILON)
  const qNorm = load<usize>(block, BLOCK_Q_NORM)
  const kNorm = load<usize>(block, BLOCK_K_NORM)

  // Few rows: every thread writes them all, the same bits to the same place, and none has to wait.
  const alone = rows <= PRIVATE_ROWS
  for (let row = alone ? 0 : claim(); row < rows; row = alone ? row + 1 : claim()) {
    writeKeysValues(
      records + <usize>row * ROW_BYTES,
      load<usize>(span, SPAN_K) + <usize>row * kvStride,
      load<usize>(span, SPAN_V) + <usize>row * kvStride,
      kvHeads,
      headDim,
      kNorm,
      epsilon,
      half,
      cos + <usize>row * table,
      sin + <usize>row * table,
      keys,
      values,
      scratch,
    )
  }
  if (alone) nextPhase()
  else barrier()

  const scale = load<f32>(span, SPAN_SCORE_SCALE)
  const window = load<i32>(block, BLOCK_WINDOW)
  const slopes = load<usize>(span, SPAN_SLOPES)
  const roundedBias = load<i32>(span, SPAN_ROUNDED_BIAS) != 0
  const biasScale = load<f32>(span, SPAN_BIAS_SCALE)
  // Query heads that share keys and values go to one thread where there is work enough: memory is read once for them.
  const shared = rows * kvHeads >= threads * 4 ? heads / kvHeads : 1
  const total = (rows * heads) / shared
  for (let unit = claim(); unit < total; unit = claim()) {
    for (let index = unit * shared; index < (unit + 1) * shared; index++) {
      const row = index / heads
      const head = index % heads
      const q = load<usize>(span, SPAN_Q) + <usize>row * qStride + <usize>(head * headDim) * 4
      const angles = <usize>row * table
      readyHead(q, headDim, qNorm, epsilon, half, cos + angles, sin + angles, scratch, scratch + dim)
      attendHead(
        records + <usize>row * ROW_BYTES,
        scratch,
        (head * kvHeads) / heads,
        kvHeads,
        headDim,
        scale,
        window,
        slopes == 0 ? 0 : load<f32>(slopes + <usize>head * 4),
        roundedBias,
        biasScale,
        keys,
        values,
        scratch + dim,
        load<usize>(span, SPAN_ATTENDED) + <usize>row * qStride + <usize>(head * headDim) * 4,
      )
    }
  }
  barrier()
}

function projectOut(span: usize, block: usize): void {
  const rows = load<i32>(span, SPAN_ROW_COUNT)
  const o = load<usize>(block, BLOCK_O)
  prepare(
    load<usize>(span, SPAN_ATTENDED),
    strideBytes(span, SPAN_Q_STRIDE),
    load<i32>(span, SPAN_HEADS) * load<i32>(span, SPAN_HEAD_DIM),
    rows,
    0,
    0,
    0,
    isQuantized(o),
    isWide(o),
    privateScratch(span),
    0,
    load<usize>(span, SPAN_PREPARED_ROUNDED),
  )
  addToHidden(span, o, rows)
}

/** hidden += matrix · prepared rows. */
function addToHidden(span: usize, matrix: usize, rows: i32): void {
  const hidden = load<usize>(span, SPAN_HIDDEN)
  const stride = strideBytes(span, SPAN_HIDDEN_STRIDE)
  const total = load<i32>(matrix, MATRIX_OCTETS)
  const piece = pieceOf(total)
  for (let from = claim() * piece; from < total; from = claim() * piece) {
    matmul(matrix, from, min(from + piece, total), rows, hidden, stride, true)
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
  const octets = load<i32>(gate, MATRIX_OCTETS)
  const activation = load<i32>(span, SPAN_ACTIVATION)
  const groups = (octets + GROUP_OCTETS - 1) / GROUP_OCTETS
  const piece = pieceOf(groups)
  for (let from = claim() * piece; from < groups; from = claim() * piece) {
    const to = min(from + piece, groups)
    const first = from * GROUP_OCTETS
    const end = min(to * GROUP_OCTETS, octets)
    matmul(gate, first, end, rows, gated, stride, false)
    if (!plain) matmul(up, first, end, rows, upped, stride, false)
    for (let row = 0; row < rows; row++) {
      const at = <usize>row * stride + <usize>first * (OCTET * 4)
      activate(activation, gated + at, plain ? 0 : upped + at, (end - first) * OCTET)
      if (!round) continue
      const groupBytes = groupStride(row, rows)
      const record = roundedRow(rounded, columns, row, rows)
      for (let group = <usize>from; group < <usize>to; group++) {
        roundGroup(gated + <usize>row * stride + group * (GROUP * 4), record + group * groupBytes, wide)
      }
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
