import { ChoraleError } from '../errors.ts'
import { bytesOf, ownBuffers, readFloats, upload, USAGE } from '../gpu/buffers.ts'
import { type GpuContext, type GpuOp, padded, rowsThatFit } from '../gpu/context.ts'
import { createInTurn } from '../gpu/in-turn.ts'
import type { WeightFormat } from '../gpu/matrix.ts'
import { kvValuesPerToken } from '../gpu/ops/attention.ts'
import type { MatmulKernels } from '../gpu/ops/matmul.ts'
import { type KvBuffers, qkvWidth, rotationTable } from '../gpu/ops/rope-kv-write.ts'
import { checkLeaseRoom, PagePool, type PagedLease } from '../kv/pages.ts'
import type { Model } from '../model/model.ts'
import type { ModelSpec } from '../model/spec.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { checkSpan } from './check-span.ts'
import { rotaryPositions } from './check-support.ts'
import type { EngineSpan, KvLease, LoadSpanOptions, StepEntry } from './engine.ts'
import { blockSources, loadWgslBlock, type SpanBuffers } from './wgsl-block.ts'
import { createStepBuffer, pageCount, type StepBuffer, type StepRow } from './wgsl-step.ts'
import { countProgress } from './wgsl-weights.ts'

/** Tokens one submit computes; longer prefills go in several. Bounds the activation buffers. */
const MAX_ROWS = 256

/** Loads blocks [start, end) onto the GPU. @throws `bad_request`, `capacity`, `engine`, and what reading throws. */
export async function loadWgslSpan(
  base: GpuContext,
  kernels: (format: WeightFormat) => Promise<MatmulKernels>,
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
  const widest = Math.max(2 * spec.intermediateSize, qkvWidth(spec), spec.hiddenSize)
  const maxRows = rowsThatFit(context.device, MAX_ROWS, widest)
  const rowsOf = async (label: string, width: number) =>
    await context.buffers.create(
      label,
      maxRows * padded(width) * 4,
      USAGE.storage | USAGE.copyTarget | USAGE.copySource,
    )
  const step = await createStepBuffer(context, maxRows, pageCount(pool.tokens))
  const { inverseFrequencies, attentionFactor } = rotaryPositions('wgsl', spec)
  const table = rotationTable(inverseFrequencies, attentionFactor, pool.tokens)
  const rotation = await context.buffers.create(
    'rotation table',
    table.byteLength,
    USAGE.storage | USAGE.copyTarget,
  )
  upload(context.device, rotation, 0, bytesOf(table))
  const shared: SpanBuffers = {
    hidden: await rowsOf('hidden', spec.hiddenSize),
    normed: await rowsOf('normed', spec.hiddenSize),
    qkv: await rowsOf('qkv', qkvWidth(spec)),
    attended: await rowsOf('attended', spec.headCount * spec.headDim),
    gateUp: await rowsOf('gate and up', 2 * spec.intermediateSize),
    activated: await rowsOf('activated', spec.intermediateSize),
    rotation,
    step: step.bindings,
  }
  const staging = await context.buffers.create(
    'hidden readback',
    maxRows * padded(spec.hiddenSize) * 4,
    USAGE.mapRead | USAGE.copyTarget,
  )
  return { maxRows, shared, step, staging }
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
  const { hiddenSize, maxRows } = runner
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
  for (let first = 0; first < stepRows.length; first += maxRows) {
    const some = stepRows.slice(first, first + maxRows)
    const from = first * hiddenSize
    const to = from + some.length * hiddenSize
    output.set(await submitRows(runner, some, input.subarray(from, to)), from)
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
  for (const op of ops) op.encode(pass, count)
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
