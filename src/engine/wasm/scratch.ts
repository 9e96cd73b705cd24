import type { Activation, ModelSpec } from '../../model/spec.ts'
import {
  ACTIVATION_GELU,
  ACTIVATION_GELU_TANH,
  ACTIVATION_SILU,
  GROUP,
  KV_PAGE,
  OCTET,
  PRIVATE_PLAIN_ROWS,
  PRIVATE_ROWS,
  ROUNDED_BYTES_PER_VALUE,
  ROUTE_BYTES,
  ROW_BYTES,
  SPAN_ACTIVATED_ROUNDED,
  SPAN_ACTIVATION,
  SPAN_ATTENDED,
  SPAN_BIAS_SCALE,
  SPAN_BYTES,
  SPAN_COS,
  SPAN_EPSILON,
  SPAN_EXPERT_COUNT,
  SPAN_EXPERT_SLOTS,
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
  SPAN_NORMALIZE_TOP_K,
  SPAN_PARALLEL,
  SPAN_PREPARED,
  SPAN_PREPARED_ROUNDED,
  SPAN_PRIVATE,
  SPAN_PRIVATE_BYTES,
  SPAN_PRIVATE_SCORES,
  SPAN_Q,
  SPAN_Q_STRIDE,
  SPAN_ROTARY_HALF,
  SPAN_ROUNDED_BIAS,
  SPAN_ROUTER_LOGITS,
  SPAN_ROUTES,
  SPAN_ROWS,
  SPAN_SCORE_SCALE,
  SPAN_SIN,
  SPAN_SLOPES,
  SPAN_SLOT_RESULTS,
  SPAN_SLOT_ROUNDED,
  SPAN_SLOT_ROWS,
  SPAN_TOP_K,
  SPAN_UP,
  SPAN_V,
} from './layout.ts'
import type { Arena, LinearMemory } from './linear-memory.ts'
import { createRecord, type RecordWriter } from './records.ts'

const ACTIVATIONS: Readonly<Record<Activation, number>> = {
  silu: ACTIVATION_SILU,
  gelu: ACTIVATION_GELU,
  'gelu-tanh': ACTIVATION_GELU_TANH,
}

/** Where the host puts a pass's rows. Strides in values. */
export interface SpanScratch {
  readonly record: RecordWriter
  readonly hidden: number
  readonly hiddenStride: number
  readonly cos: number
  readonly sin: number
  readonly rows: number
  /** Page numbers of all sessions of a pass. */
  readonly pages: number
}

/** Bytes a thread's own rows take: a few prepared, then rounded, or more that are not rounded. */
export function privateRowBytes(stride: number, columns: number): number {
  return Math.max(
    PRIVATE_ROWS * (stride * 4 + columns * ROUNDED_BYTES_PER_VALUE),
    PRIVATE_PLAIN_ROWS * stride * 4,
  )
}

export function padTo(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple
}

/** Allocates what a pass of up to `maxRows` rows needs and describes it in a span record. */
export function createSpanScratch(
  memory: LinearMemory,
  arena: Arena,
  spec: ModelSpec,
  options: {
    readonly maxRows: number
    readonly kvTokens: number
    readonly threads: number
    readonly half: number
  },
): SpanScratch {
  const { headCount, headDim, hiddenSize, intermediateSize, kvHeadCount, mlp, norm, positions } = spec
  const { half, kvTokens, maxRows, threads } = options
  const record = createRecord(memory, arena, SPAN_BYTES)
  const floats = (offset: number, count: number): number => {
    const address = arena.allocate(count * 4, 'scratch')
    record.integer(offset, address)
    return address
  }
  const hiddenStride = padTo(hiddenSize, OCTET)
  const qStride = padTo(headCount * headDim, OCTET)
  const kvStride = padTo(kvHeadCount * headDim, OCTET)
  const intermediateStride = padTo(intermediateSize, GROUP)
  const widest = Math.max(hiddenStride, qStride)
  record.integer(SPAN_HIDDEN_SIZE, hiddenSize)
  record.integer(SPAN_HEADS, headCount)
  record.integer(SPAN_KV_HEADS, kvHeadCount)
  record.integer(SPAN_HEAD_DIM, headDim)
  record.integer(SPAN_ROTARY_HALF, half)
  record.integer(SPAN_INTERMEDIATE, intermediateSize)
  record.float(SPAN_EPSILON, norm.epsilon)
  record.float(SPAN_SCORE_SCALE, 1 / Math.sqrt(headDim))
  record.integer(SPAN_HIDDEN_STRIDE, hiddenStride)
  record.integer(SPAN_Q_STRIDE, qStride)
  record.integer(SPAN_KV_STRIDE, kvStride)
  record.integer(SPAN_INTERMEDIATE_STRIDE, intermediateStride)
  record.integer(SPAN_PARALLEL, spec.residual.kind === 'parallel' ? 1 : 0)
  record.integer(SPAN_ACTIVATION, ACTIVATIONS[spec.activation])
  if (positions.kind === 'alibi') {
    memory.floats(floats(SPAN_SLOPES, headCount), headCount).set(positions.slopes)
    record.integer(SPAN_ROUNDED_BIAS, positions.roundedBias ? 1 : 0)
    record.float(SPAN_BIAS_SCALE, positions.scaledByHeadDim ? 1 / Math.sqrt(headDim) : 1)
  }
  // Each expert of a row needs inner values of its own.
  const mlpRows = maxRows * (mlp.kind === 'moe' ? mlp.topK : 1)
  if (mlp.kind === 'moe') {
    record.integer(SPAN_EXPERT_COUNT, mlp.expertCount)
    record.integer(SPAN_TOP_K, mlp.topK)
    record.integer(SPAN_NORMALIZE_TOP_K, mlp.normalizeTopK ? 1 : 0)
    floats(SPAN_ROUTER_LOGITS, maxRows * padTo(mlp.expertCount, OCTET))
    floats(SPAN_ROUTES, (mlpRows * ROUTE_BYTES) / 4)
    floats(SPAN_EXPERT_SLOTS, mlp.expertCount + 1)
    floats(SPAN_SLOT_ROWS, mlpRows * hiddenStride)
    floats(SPAN_SLOT_ROUNDED, (mlpRows * hiddenStride * ROUNDED_BYTES_PER_VALUE) / 4)
    floats(SPAN_SLOT_RESULTS, mlpRows * hiddenStride)
  }
  const hidden = floats(SPAN_HIDDEN, maxRows * hiddenStride)
  floats(SPAN_Q, maxRows * qStride)
  floats(SPAN_K, maxRows * kvStride)
  floats(SPAN_V, maxRows * kvStride)
  floats(SPAN_ATTENDED, maxRows * qStride)
  floats(SPAN_GATE, mlpRows * intermediateStride)
  floats(SPAN_UP, mlp.kind === 'plain' ? 0 : mlpRows * intermediateStride)
  floats(SPAN_PREPARED, maxRows * widest)
  floats(SPAN_PREPARED_ROUNDED, (maxRows * widest * ROUNDED_BYTES_PER_VALUE) / 4)
  floats(SPAN_ACTIVATED_ROUNDED, (mlpRows * intermediateStride * ROUNDED_BYTES_PER_VALUE) / 4)
  // A thread's own scratch: prepared rows, two heads, a score for each token of whole pages.
  const privateScores = padTo(privateRowBytes(widest, widest), 64)
  const privateBytes = padTo(privateScores + (2 * padTo(headDim, 4) + padTo(kvTokens, KV_PAGE)) * 4, 64)
  record.integer(SPAN_PRIVATE_BYTES, privateBytes)
  record.integer(SPAN_PRIVATE_SCORES, privateScores)
  floats(SPAN_PRIVATE, (threads * privateBytes) / 4)
  const cos = floats(SPAN_COS, maxRows * Math.max(half, 1))
  const sin = floats(SPAN_SIN, maxRows * Math.max(half, 1))
  const rows = floats(SPAN_ROWS, (maxRows * ROW_BYTES) / 4)
  // Sessions may share pages, so that together they can name more than there are.
  const pages = arena.allocate(maxRows * (padTo(kvTokens, KV_PAGE) / KV_PAGE) * 4, 'scratch')
  return { record, hidden, hiddenStride, cos, sin, rows, pages }
}
