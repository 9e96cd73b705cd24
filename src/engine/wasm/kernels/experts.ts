// Mixtures of experts: out = sum over a row's experts of weight * down(activation(gate(n)) * up(n)), n = norm(h).
//
// Rows of one expert are gathered in slots side by side, so that its weights are read once for all of them; only experts
// that some row takes are read. A row's sum goes in the order of its experts, whoever else is in the step.

import {
  BLOCK_EXPERTS,
  BLOCK_MLP_NORM,
  BLOCK_MLP_NORM_BIAS,
  BLOCK_ROUTER,
  EXPERT_BYTES,
  EXPERT_DOWN,
  EXPERT_GATE,
  EXPERT_UP,
  GROUP,
  GROUP_BYTES,
  MATRIX_OCTETS,
  OCTET,
  ROUNDED_BYTES_PER_VALUE,
  ROUTE_BYTES,
  ROUTE_EXPERT,
  ROUTE_SLOT,
  ROUTE_WEIGHT,
  SPAN_ACTIVATED_ROUNDED,
  SPAN_ACTIVATION,
  SPAN_EPSILON,
  SPAN_EXPERT_COUNT,
  SPAN_EXPERT_SLOTS,
  SPAN_GATE,
  SPAN_HIDDEN,
  SPAN_HIDDEN_SIZE,
  SPAN_HIDDEN_STRIDE,
  SPAN_INTERMEDIATE,
  SPAN_INTERMEDIATE_STRIDE,
  SPAN_NORMALIZE_TOP_K,
  SPAN_PREPARED,
  SPAN_ROUTER_LOGITS,
  SPAN_ROUTES,
  SPAN_ROW_COUNT,
  SPAN_SLOT_RESULTS,
  SPAN_SLOT_ROUNDED,
  SPAN_SLOT_ROWS,
  SPAN_TOP_K,
  SPAN_UP,
} from '../layout'
import { activate } from './activation'
import { exp4 } from './exponential'
import { isQuantized, isWide, matmul } from './matmul'
import { normalize } from './norm'
import { useRows } from './prepare'
import { roundRow } from './round'
import { strideBytes } from './span-record'
import { barrier, from, take, thread, to } from './threads'

/** Octets of gate and up that make one group of rounded activations. */
const GROUP_OCTETS = GROUP / OCTET

/** Routes all rows and runs their experts; `addExperts` adds the results. */
export function runExperts(span: usize, block: usize): void {
  routeRows(span, block)
  if (thread == 0) assignSlots(span)
  barrier()
  fillSlots(span, block)
  gateUp(span, block)
  down(span, block)
}

/** hidden += weighted results. */
export function addExperts(span: usize): void {
  const rows = load<i32>(span, SPAN_ROW_COUNT)
  const topK = load<i32>(span, SPAN_TOP_K)
  const stride = strideBytes(span, SPAN_HIDDEN_STRIDE)
  const results = load<usize>(span, SPAN_SLOT_RESULTS)
  while (take(rows)) for (let row = from; row < to; row++) {
    const hidden = load<usize>(span, SPAN_HIDDEN) + <usize>row * stride
    const routes = routesOf(span, row, topK)
    for (let at: usize = 0; at < stride; at += 16) {
      let sum = f32x4.splat(0)
      for (let k = 0; k < topK; k++) {
        const route = routes + <usize>k * ROUTE_BYTES
        const result = results + load<usize>(route, ROUTE_SLOT) * stride
        sum = f32x4.add(sum, f32x4.mul(v128.load32_splat(route, ROUTE_WEIGHT), v128.load(result + at)))
      }
      v128.store(hidden + at, f32x4.add(v128.load(hidden + at), sum))
    }
  }
  barrier()
}

// @ts-ignore: decorator
@inline
function routesOf(span: usize, row: i32, topK: i32): usize {
  return load<usize>(span, SPAN_ROUTES) + <usize>(row * topK) * ROUTE_BYTES
}

function routeRows(span: usize, block: usize): void {
  const rows = load<i32>(span, SPAN_ROW_COUNT)
  const experts = load<i32>(span, SPAN_EXPERT_COUNT)
  const topK = load<i32>(span, SPAN_TOP_K)
  const router = load<usize>(block, BLOCK_ROUTER)
  const stride = strideBytes(span, SPAN_HIDDEN_STRIDE)
  const columns = load<i32>(span, SPAN_HIDDEN_SIZE)
  const octets = load<i32>(router, MATRIX_OCTETS)
  while (take(rows)) for (let row = from; row < to; row++) {
    const normed = load<usize>(span, SPAN_PREPARED) + <usize>row * stride
    normalize(
      load<usize>(span, SPAN_HIDDEN) + <usize>row * stride,
      columns,
      load<usize>(block, BLOCK_MLP_NORM),
      load<usize>(block, BLOCK_MLP_NORM_BIAS),
      load<f32>(span, SPAN_EPSILON),
      normed,
    )
    const logits = load<usize>(span, SPAN_ROUTER_LOGITS) + <usize>(row * octets) * (OCTET * 4)
    useRows(normed, stride, 0, 0)
    matmul(router, 0, octets, 1, logits, 0, false)
    choose(logits, experts, topK, load<i32>(span, SPAN_NORMALIZE_TOP_K) != 0, routesOf(span, row, topK))
  }
  barrier()
}

/** The `topK` largest logits, of equal ones the first, with their softmax over all experts or over the chosen ones. */
function choose(logits: usize, experts: i32, topK: i32, normalizeTopK: bool, routes: usize): void {
  let largest: f32 = -Infinity
  for (let e = 0; e < experts; e++) largest = max(largest, load<f32>(logits + <usize>e * 4))
  let sum: f64 = 0
  let found = 0
  for (let e = 0; e < experts; e++) {
    const logit = load<f32>(logits + <usize>e * 4)
    let before = 0
    for (let other = 0; other < experts; other++) {
      const rival = load<f32>(logits + <usize>other * 4)
      if (rival > logit || (rival == logit && other < e)) before++
    }
    const chosen = before < topK && found < topK
    const weight = f32x4.extract_lane(exp4(f32x4.splat(logit - largest)), 0)
    if (chosen || !normalizeTopK) sum += <f64>weight
    if (!chosen) continue
    const route = routes + <usize>found * ROUTE_BYTES
    store<i32>(route, e, ROUTE_EXPERT)
    store<f32>(route, weight, ROUTE_WEIGHT)
    found++
  }
  for (let k = 0; k < topK; k++) {
    const route = routes + <usize>k * ROUTE_BYTES
    store<f32>(route, <f32>(<f64>load<f32>(route, ROUTE_WEIGHT) / sum), ROUTE_WEIGHT)
  }
}

/** Gives every route a slot: those of expert e are [start of e, start of e + 1). */
function assignSlots(span: usize): void {
  const routes = load<usize>(span, SPAN_ROUTES)
  const count = load<i32>(span, SPAN_ROW_COUNT) * load<i32>(span, SPAN_TOP_K)
  const experts = load<i32>(span, SPAN_EXPERT_COUNT)
  const starts = load<usize>(span, SPAN_EXPERT_SLOTS)
  let slot = 0
  for (let expert = 0; expert < experts; expert++) {
    store<i32>(starts + <usize>expert * 4, slot)
    for (let i = 0; i < count; i++) {
      const route = routes + <usize>i * ROUTE_BYTES
      if (load<i32>(route, ROUTE_EXPERT) == expert) store<i32>(route, slot++, ROUTE_SLOT)
    }
  }
  store<i32>(starts + <usize>experts * 4, slot)
}

/** Copies rows to their slots, rounded where a matrix wants them so. */
function fillSlots(span: usize, block: usize): void {
  const topK = load<i32>(span, SPAN_TOP_K)
  const count = load<i32>(span, SPAN_ROW_COUNT) * topK
  const stride = strideBytes(span, SPAN_HIDDEN_STRIDE)
  const columns = load<i32>(span, SPAN_HIDDEN_SIZE)
  const roundedStride = <usize>columns * ROUNDED_BYTES_PER_VALUE
  const experts = load<usize>(block, BLOCK_EXPERTS)
  while (take(count)) for (let i = from; i < to; i++) {
    const route = load<usize>(span, SPAN_ROUTES) + <usize>i * ROUTE_BYTES
    const slot = load<usize>(route, ROUTE_SLOT)
    const row = load<usize>(span, SPAN_PREPARED) + <usize>(i / topK) * stride
    memory.copy(load<usize>(span, SPAN_SLOT_ROWS) + slot * stride, row, stride)
    const index = load<i32>(route, ROUTE_EXPERT)
    const expert = experts + <usize>index * EXPERT_BYTES
    const gate = load<usize>(expert, EXPERT_GATE)
    const up = load<usize>(expert, EXPERT_UP)
    if (isQuantized(gate) || isQuantized(up)) {
      const rounded = load<usize>(span, SPAN_SLOT_ROUNDED) + slot * roundedStride
      roundRow(row, columns, rounded, isWide(gate) || isWide(up))
    }
  }
  barrier()
}

// @ts-ignore: decorator
@inline
function firstSlot(span: usize, expert: i32): i32 {
  return load<i32>(load<usize>(span, SPAN_EXPERT_SLOTS) + <usize>expert * 4)
}

/** Parts of the work are groups of the experts' inner values. */
function gateUp(span: usize, block: usize): void {
  const columns = load<i32>(span, SPAN_INTERMEDIATE)
  const octets = (columns + OCTET - 1) / OCTET
  const groups = (octets + GROUP_OCTETS - 1) / GROUP_OCTETS
  const total = load<i32>(span, SPAN_EXPERT_COUNT) * groups
  const hiddenStride = strideBytes(span, SPAN_HIDDEN_STRIDE)
  const hiddenRounded = load<usize>(span, SPAN_HIDDEN_SIZE) * ROUNDED_BYTES_PER_VALUE
  const stride = strideBytes(span, SPAN_INTERMEDIATE_STRIDE)
  const roundedStride = <usize>columns * ROUNDED_BYTES_PER_VALUE
  const activation = load<i32>(span, SPAN_ACTIVATION)
  while (take(total)) for (let group = from, next = 0; group < to; group = next) {
    const index = group / groups
    next = min(to, (index + 1) * groups)
    const slot = <usize>firstSlot(span, index)
    const rows = firstSlot(span, index + 1) - <i32>slot
    if (rows == 0) continue
    const expert = load<usize>(block, BLOCK_EXPERTS) + <usize>index * EXPERT_BYTES
    const firstGroup = group % groups
    const first = firstGroup * GROUP_OCTETS
    const end = min(first + (next - group) * GROUP_OCTETS, octets)
    const gated = load<usize>(span, SPAN_GATE) + slot * stride
    const upped = load<usize>(span, SPAN_UP) + slot * stride
    const down = load<usize>(expert, EXPERT_DOWN)
    useRows(
      load<usize>(span, SPAN_SLOT_ROWS) + slot * hiddenStride,
      hiddenStride,
      load<usize>(span, SPAN_SLOT_ROUNDED) + slot * hiddenRounded,
      hiddenRounded,
    )
    matmul(load<usize>(expert, EXPERT_GATE), first, end, rows, gated, stride, false)
    matmul(load<usize>(expert, EXPERT_UP), first, end, rows, upped, stride, false)
    for (let row = 0; row < rows; row++) {
      const at = <usize>row * stride
      const offset = at + <usize>first * (OCTET * 4)
      activate(activation, gated + offset, upped + offset, (end - first) * OCTET)
      if (!isQuantized(down)) continue
      const rounded = load<usize>(span, SPAN_ACTIVATED_ROUNDED) + (slot + <usize>row) * roundedStride
      roundRow(gated + offset, (next - group) * GROUP, rounded + <usize>firstGroup * GROUP_BYTES, isWide(down))
    }
  }
  barrier()
}

/** Parts of the work are pairs of octets of the experts' results. */
function down(span: usize, block: usize): void {
  const octets = (load<i32>(span, SPAN_HIDDEN_SIZE) + OCTET - 1) / OCTET
  const pairs = (octets + 1) / 2
  const total = load<i32>(span, SPAN_EXPERT_COUNT) * pairs
  const stride = strideBytes(span, SPAN_INTERMEDIATE_STRIDE)
  const roundedStride = load<usize>(span, SPAN_INTERMEDIATE) * ROUNDED_BYTES_PER_VALUE
  const resultStride = strideBytes(span, SPAN_HIDDEN_STRIDE)
  while (take(total)) for (let pair = from, next = 0; pair < to; pair = next) {
    const index = pair / pairs
    next = min(to, (index + 1) * pairs)
    const slot = <usize>firstSlot(span, index)
    const rows = firstSlot(span, index + 1) - <i32>slot
    if (rows == 0) continue
    const expert = load<usize>(block, BLOCK_EXPERTS) + <usize>index * EXPERT_BYTES
    const first = (pair % pairs) * 2
    useRows(
      load<usize>(span, SPAN_GATE) + slot * stride,
      stride,
      load<usize>(span, SPAN_ACTIVATED_ROUNDED) + slot * roundedStride,
      roundedStride,
    )
    matmul(
      load<usize>(expert, EXPERT_DOWN),
      first,
      min(first + (next - pair) * 2, octets),
      rows,
      load<usize>(span, SPAN_SLOT_RESULTS) + slot * resultStride,
      resultStride,
      false,
    )
  }
  barrier()
}
