import { ChoraleError } from '../errors.ts'
import { bytesOf, ownBuffers, readFloats, upload, USAGE } from '../gpu/buffers.ts'
import { type GpuContext, type GpuOp, padded, strided } from '../gpu/context.ts'
import { createInTurn } from '../gpu/in-turn.ts'
import type { MatmulKernelSource } from '../gpu/matmul-kernels.ts'
import { KV_BYTES, type KvBuffers, type KvFormat, kvValuesPerToken } from '../gpu/ops/rope-kv-write.ts'
import type { KvRows } from '../kv/kv-rows.ts'
import { PAGE_TOKENS, PagePool, type PagedLease } from '../kv/pages.ts'
import type { SharedPages } from '../kv/shared-pages.ts'
import type { Model } from '../model/model.ts'
import type { ModelSpec } from '../model/spec.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { checkEntries } from './check-entries.ts'
import { checkSpan } from './check-span.ts'
import type { EngineSpan, KvLease, LoadSpanOptions, StepEntry } from './engine.ts'
import { type Activations, createActivations } from './wgsl-activations.ts'
import { blockSources, compileAhead, loadWgslBlock } from './wgsl-block.ts'
import { createWgslKvRows } from './wgsl-kv-rows.ts'
import { longestSplits, rowsOfSubmit, type StepRow } from './wgsl-step.ts'
import { countProgress } from './wgsl-weights.ts'

/** Loads blocks [start, end) onto the GPU. @throws `bad_request`, `capacity`, `engine`, and what reading throws. */
export async function loadWgslSpan(
  base: GpuContext,
  kernels: MatmulKernelSource,
  model: Model,
  options: LoadSpanOptions,
  kv: KvFormat = 'f32',
): Promise<EngineSpan> {
  checkSpan(model, options)
  const pool = new PagePool(options.kvTokens)
  const owned = ownBuffers(base.buffers)
  const context: GpuContext = { ...base, buffers: owned }
  try {
    // The cache first: a size that this GPU can't hold is refused before anything else is allocated for it.
    const caches: KvBuffers[] = []
    for (let block = options.start; block < options.end; block++) {
      caches.push(await createCache(context, model.spec, block, pool, kv))
    }
    const kvBytes = owned.allocatedBytes
    const activations = await createActivations(context, model.spec, pool)
    const before = owned.allocatedBytes
    const blocks = Array.from({ length: options.end - options.start }, (_, index) => options.start + index)
    compileAhead(model, blocks, kernels)
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
    const pageBytes = PAGE_TOKENS * kvValuesPerToken(model.spec) * KV_BYTES[kv]
    const scratch = await context.buffers.create(
      'copied page',
      pageBytes,
      USAGE.copyTarget | USAGE.copySource,
    )
    const sharedPages = pool.share((from, to) => copyPage(context, caches, scratch, from, to))
    const runner: Runner = { context, hiddenSize: model.spec.hiddenSize, ops, ...activations }
    const heads = model.spec
    const { start, end } = options
    const kvRowsOf = (leases: WeakMap<KvLease, PagedLease>): KvRows =>
      createWgslKvRows({ context, heads, start, end, caches, leases })
    const free = (): void => owned.destroyAll()
    return createSpan(runner, pool, { sharedPages, kvRowsOf }, options, { weightBytes, kvBytes }, free)
  } catch (error) {
    owned.destroyAll()
    throw error
  }
}

interface Runner extends Activations {
  readonly context: GpuContext
  readonly hiddenSize: number
  readonly ops: readonly GpuOp[]
}

async function createCache(
  context: GpuContext,
  spec: ModelSpec,
  block: number,
  pool: PagePool,
  format: KvFormat,
): Promise<KvBuffers> {
  const bytes = pool.tokens * kvValuesPerToken(spec) * KV_BYTES[format]
  const usage = USAGE.storage | USAGE.copyTarget | USAGE.copySource
  return {
    format,
    keys: await context.buffers.create(`KV cache of block ${block} (kvTokens ${pool.tokens})`, bytes, usage),
    values: await context.buffers.create(`KV cache of block ${block}`, bytes, usage),
  }
}

/**
 * Submits the copy of one page of every block; steps submitted later see it. By way of `scratch`, since WebGPU does
 * not copy inside a buffer.
 */
function copyPage(
  context: GpuContext,
  caches: readonly KvBuffers[],
  scratch: GPUBuffer,
  from: number,
  to: number,
): void {
  const { raw } = context.device
  const encoder = raw.createCommandEncoder()
  for (const buffer of caches.flatMap(({ keys, values }) => [keys, values])) {
    encoder.copyBufferToBuffer(buffer, from * scratch.size, scratch, 0, scratch.size)
    encoder.copyBufferToBuffer(scratch, 0, buffer, to * scratch.size, scratch.size)
  }
  raw.queue.submit([encoder.finish()])
}

function createSpan(
  runner: Runner,
  pool: PagePool,
  cache: {
    readonly sharedPages: SharedPages
    readonly kvRowsOf: (leases: WeakMap<KvLease, PagedLease>) => KvRows
  },
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
    sharedPages: cache.sharedPages,
    kvRows: cache.kvRowsOf(leases),
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
  const checked = checkEntries(hiddenSize, leases, entries)
  const stepRows: StepRow[] = []
  for (const { lease, hidden } of checked) {
    const rows = hidden.shape[0]
    lease.reserve(rows)
    for (let row = 0; row < rows; row++) stepRows.push({ lease, position: lease.position + row })
  }
  const input = new Float32Array(stepRows.length * hiddenSize)
  let at = 0
  for (const { hidden } of checked) {
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
  return checked.map(({ lease, hidden }) => {
    const data = output.slice(at, at + hidden.data.length)
    at += hidden.data.length
    lease.advance(hidden.shape[0])
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
