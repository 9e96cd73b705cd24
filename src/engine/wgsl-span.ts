import { ChoraleError } from '../errors.ts'
import { bytesOf, ownBuffers, readFloats, upload, USAGE } from '../gpu/buffers.ts'
import { type GpuContext, type GpuOp, padded, rowsThatFit } from '../gpu/context.ts'
import { createInTurn } from '../gpu/in-turn.ts'
import type { MatmulKernelSource } from '../gpu/matmul-kernels.ts'
import { partialValues, splitCount } from '../gpu/ops/attention.ts'
import { type KvBuffers, kvValuesPerToken, qkvWidth, rotationTable } from '../gpu/ops/rope-kv-write.ts'
import { checkLeaseRoom, PagePool, type PagedLease } from '../kv/pages.ts'
import type { Model } from '../model/model.ts'
import type { ModelSpec } from '../model/spec.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { checkSpan } from './check-span.ts'
import type { EngineSpan, KvLease, LoadSpanOptions, StepEntry } from './engine.ts'
import { blockSources, loadWgslBlock, type SpanBuffers } from './wgsl-block.ts'
import {
  createStepBuffer,
  longestSplits,
  pageCount,
  rowsOfSubmit,
  type StepBuffer,
  type StepRow,
} from './wgsl-step.ts'
import { countProgress, vectorBuffer } from './wgsl-weights.ts'

/** Tokens one submit computes; longer prefills go in several. Bounds the activation buffers. */
const MAX_ROWS = 256

/** Bytes for attention's partial results, unless one row needs more: long contexts compute fewer rows a submit. */
const PARTIAL_BYTES = 64 * 2 ** 20

/** Loads blocks [start, end) onto the GPU. @throws `bad_request`, `capacity`, `engine`, and what reading throws. */
export async function loadWgslSpan(
  base: GpuContext,
  kernels: MatmulKernelSource,
  model: Model,
  options: LoadSpanOptions,
): Promise<EngineSpan> {
  checkSpan(model, options)
  const pool = new PagePool(options.kvTokens)
  const owned = ownBuffers(base.buffers)
  const context: GpuContext = { ...base, buffers: owned }
  try {
    // The cache first: a size that this GPU can't hold is refused before anything else is allocated for it.
    const caches: KvBuffers[] = []
    for (let block = options.start; block < options.end; block++) {
      caches.push(await createCache(context, model.spec, block, pool))
    }
    const kvBytes = owned.allocatedBytes
    const activations = await createActivations(context, model.spec, pool)
    const before = owned.allocatedBytes
    const blocks = Array.from({ length: options.end - options.start }, (_, index) => options.start + index)
    const onBytes = countProgress(
      blocks.flatMap((block) => blockSources(model, block)),
      options,
    )
    const ops: GpuOp[] = []
    for (const block of blocks) {
      options.signal?.throwIfAborted()
      const { signal } = options
      const cache = caches[block - options.start] as KvBuffers
      const shared = activations.shared
      ops.push(...(await loadWgslBlock({ model, block, context, shared, cache, kernels, onBytes, signal })))
    }
    const weightBytes = owned.allocatedBytes - before
    const runner: Runner = { context, hiddenSize: model.spec.hiddenSize, ops, ...activations }
    return createSpan(runner, pool, options, { weightBytes, kvBytes }, () => owned.destroyAll())
  } catch (error) {
    owned.destroyAll()
    throw error
  }
}

interface Activations {
  /** Tokens one submit computes. */
  readonly maxRows: number
  /** (row, split) pairs that the partial results have room for. */
  readonly slots: number
  readonly shared: SpanBuffers
  readonly step: StepBuffer
  readonly staging: GPUBuffer
}

interface Runner extends Activations {
  readonly context: GpuContext
  readonly hiddenSize: number
  readonly ops: readonly GpuOp[]
}

async function createActivations(context: GpuContext, spec: ModelSpec, pool: PagePool): Promise<Activations> {
  const { hiddenSize, intermediateSize, mlp, positions, residual } = spec
  const topK = mlp.kind === 'moe' ? mlp.topK : 1
  const experts = mlp.kind === 'moe' ? mlp.expertCount : 0
  const attentionWidth = spec.headCount * spec.headDim
  const widest = Math.max(
    topK * padded(intermediateSize),
    qkvWidth(spec),
    hiddenSize,
    attentionWidth,
    experts,
  )
  const maxRows = rowsThatFit(context.device, MAX_ROWS, widest)
  const create = async (label: string, bytes: number) =>
    await context.buffers.create(label, bytes, USAGE.storage | USAGE.copyTarget | USAGE.copySource)
  const rowsOf = (label: string, width: number, rows = maxRows) => create(label, rows * padded(width) * 4)
  const step = await createStepBuffer(context, maxRows, pageCount(pool.tokens))

  const slotBytes = partialValues(spec) * 4
  const { maxBufferSize, maxStorageBufferBindingSize } = context.device.limits
  const partialBytes = Math.min(PARTIAL_BYTES, maxBufferSize, maxStorageBufferBindingSize)
  const mostSplits = splitCount(pool.tokens)
  const slots = Math.max(mostSplits, Math.min(maxRows * mostSplits, Math.floor(partialBytes / slotBytes)))

  const rope = positions.kind === 'rope' ? positions : undefined
  const table = rope
    ? rotationTable(rope.inverseFrequencies, rope.attentionFactor, pool.tokens)
    : new Float32Array(4)
  const slopes = positions.kind === 'alibi' ? Float32Array.from(positions.slopes) : undefined
  const shared: SpanBuffers = {
    hidden: await rowsOf('hidden', hiddenSize),
    normed: await rowsOf('normed', hiddenSize),
    mlpNormed:
      residual.kind === 'parallel' && residual.norms === 2
        ? await rowsOf('normed for the mlp', hiddenSize)
        : undefined,
    qkv: await rowsOf('qkv', qkvWidth(spec)),
    partial: await create(`partial attention (kvTokens ${pool.tokens})`, slots * slotBytes),
    attended: await rowsOf('attended', attentionWidth),
    activated: await rowsOf('activated', intermediateSize, maxRows * topK),
    experts:
      experts === 0
        ? undefined
        : {
            logits: await rowsOf('router logits', experts),
            choices: await create('chosen experts', maxRows * topK * 8),
          },
    rotation: await vectorBuffer(context, 'rotation table', table),
    slopes: slopes && (await vectorBuffer(context, 'slopes', slopes)),
    step: step.bindings,
  }
  const staging = await context.buffers.create(
    'hidden readback',
    maxRows * padded(hiddenSize) * 4,
    USAGE.mapRead | USAGE.copyTarget,
  )
  return { maxRows, slots, shared, step, staging }
}

async function createCache(
  context: GpuContext,
  spec: ModelSpec,
  block: number,
  pool: PagePool,
): Promise<KvBuffers> {
  const bytes = pool.tokens * kvValuesPerToken(spec) * 4
  const usage = USAGE.storage | USAGE.copyTarget
  return {
    keys: await context.buffers.create(`KV cache of block ${block} (kvTokens ${pool.tokens})`, bytes, usage),
    values: await context.buffers.create(`KV cache of block ${block}`, bytes, usage),
  }
}

function createSpan(
  runner: Runner,
  pool: PagePool,
  range: { start: number; end: number },
  bytes: { weightBytes: number; kvBytes: number },
  free: () => void,
): EngineSpan {
  const leases = new WeakMap<KvLease, PagedLease>()
  const inTurn = createInTurn()
  let closed = false
  return {
    start: range.start,
    end: range.end,
    ...bytes,
    kvTokens: pool.tokens,
    get kvTokensFree() {
      return pool.freeTokens
    },
    lease(maxTokens) {
      const lease = pool.lease(maxTokens)
      leases.set(lease, lease)
      return lease
    },
    step: (entries) =>
      inTurn(async () => {
        if (closed) throw new ChoraleError('engine', 'the span was closed')
        return await runStep(runner, entries, leases)
      }),
    close: () =>
      inTurn(async () => {
        if (!closed) free()
        closed = true
      }),
  }
}

async function runStep(
  runner: Runner,
  entries: readonly StepEntry[],
  leases: WeakMap<KvLease, PagedLease>,
): Promise<Tensor[]> {
  const { hiddenSize } = runner
  const seen = new Set<PagedLease>()
  const stepRows: StepRow[] = []
  for (const { lease: key, hidden } of entries) {
    const lease = leases.get(key)
    if (lease === undefined) throw new ChoraleError('bad_request', 'the KV lease belongs to another span')
    if (seen.has(lease)) throw new ChoraleError('bad_request', 'two entries of a step share one KV lease')
    seen.add(lease)
    const [tokens, columns] = hidden.shape
    if (columns !== hiddenSize) {
      throw new ChoraleError(
        'bad_request',
        `hidden states of ${columns} values; the model's hidden size is ${hiddenSize}`,
      )
    }
    checkLeaseRoom(lease, tokens)
    for (let token = 0; token < tokens; token++) stepRows.push({ lease, position: lease.position + token })
  }
  const input = new Float32Array(stepRows.length * hiddenSize)
  let at = 0
  for (const { hidden } of entries) {
    input.set(hidden.data, at)
    at += hidden.data.length
  }
  const output = new Float32Array(input.length)
  for (let first = 0; first < stepRows.length;) {
    const count = rowsOfSubmit(stepRows, first, runner.maxRows, runner.slots)
    const some = stepRows.slice(first, first + count)
    const from = first * hiddenSize
    output.set(await submitRows(runner, some, input.subarray(from, from + count * hiddenSize)), from)
    first += count
  }
  at = 0
  return entries.map(({ lease, hidden }) => {
    const data = output.slice(at, at + hidden.data.length)
    at += hidden.data.length
    leases.get(lease)?.advance(hidden.shape[0])
    return { shape: hidden.shape, data }
  })
}

/** One encoder, one pass, one submit, one readback: hidden [rows.length, hiddenSize] through all blocks. */
async function submitRows(
  runner: Runner,
  stepRows: readonly StepRow[],
  hidden: Float32Array,
): Promise<Float32Array> {
  const { context, shared, staging, hiddenSize, ops } = runner
  const { device } = context
  const stride = padded(hiddenSize)
  const count = stepRows.length
  device.check()
  runner.step.write(stepRows)
  upload(device, shared.hidden, 0, bytesOf(strided(hidden, hiddenSize, stride)))
  const encoder = device.raw.createCommandEncoder()
  const pass = encoder.beginComputePass()
  const splits = longestSplits(stepRows)
  for (const op of ops) op.encode(pass, count, splits)
  pass.end()
  encoder.copyBufferToBuffer(shared.hidden, 0, staging, 0, count * stride * 4)
  device.raw.queue.submit([encoder.finish()])
  const result = await readFloats(device, staging, count * stride)
  device.check()
  return strided(result, stride, hiddenSize)
}

/** Rows of `from` values as rows of `to` values: the padding cut off, or added as zeros. */
export function strided(values: Float32Array, from: number, to: number): Float32Array {
  if (from === to) return values
  const count = values.length / from
  const out = new Float32Array(count * to)
  for (let row = 0; row < count; row++) {
    out.set(values.subarray(row * from, row * from + Math.min(from, to)), row * to)
  }
  return out
}
