import { ChoraleError } from '../../errors.ts'
import type { Model } from '../../model/model.ts'
import { tensor, type Tensor } from '../../tensor/tensor.ts'
import { checkEntries } from '../check-entries.ts'
import type { EngineSpan, KvLease, LoadSpanOptions } from '../engine.ts'
import { pauseEvery } from '../pause-every.ts'
import { biasCount, biasValues, rowsWithBias, writeBias } from './alibi-bias.ts'
import { openBlockCache } from './block-cache.ts'
import type { BlockInput, BlockOutput } from './block-graph.ts'
import { blockWeightBytes } from './block-weights.ts'
import { addExperts } from './experts.ts'
import { headLayout } from './head-layout.ts'
import { KvRegions, type KvRegion } from './kv-regions.ts'
import { createOnnxKvRows } from './onnx-kv-rows.ts'
import { loadBlock, type LoadedBlock } from './loaded-block.ts'
import type { MemoryBudget } from './memory-budget.ts'
import type { OrtRuntime, OrtSession, OrtValue } from './ort-runtime.ts'
import { RUN_ROWS, runShape, type RunShape } from './run-shape.ts'
import { allocateBuffers, float, type SpanBuffers } from './span-buffers.ts'

/** A long step lets timers and sockets of this thread run at least this often. */
const YIELD_MS = 25

/**
 * Reads blocks [start, end) into WebAssembly memory, one ONNX session a block and one an expert, and allocates their
 * KV cache.
 *
 * At most one block, or one expert, is held twice while it is read. Keys and values never leave WebAssembly memory:
 * every block reads and appends to its part of the lease's region in place.
 */
export async function loadOnnxSpan(
  runtime: OrtRuntime,
  memory: MemoryBudget,
  model: Model,
  options: LoadSpanOptions,
): Promise<EngineSpan> {
  const { spec } = model
  const { start, end, kvTokens, signal, onProgress } = options
  const { hiddenSize, headCount, kvHeadCount } = spec
  const layout = headLayout(spec)
  const blockCount = end - start
  const blockBytes = blockWeightBytes(spec, layout)
  const weightBytes = blockBytes * blockCount
  /** Values of keys, or of values, one token takes in one block. */
  const kvWidth = kvHeadCount * layout.width
  const qkvWidth = (headCount + 2 * kvHeadCount) * layout.width
  /** Bytes of one cache row: a token's keys and values in all blocks. */
  const rowBytes = 2 * blockCount * kvWidth * 4

  let cacheAddress = 0
  const regions = new KvRegions(kvTokens, (target, source, rows) =>
    runtime.move(cacheAddress + target * rowBytes, cacheAddress + source * rowBytes, rows * rowBytes),
  )
  const kvBytes = regions.rows * rowBytes
  /** Positions a run can reach, filler included. */
  const positions = Math.max(kvTokens + 1, runShape(layout, 0, 1).total)
  const reserved = weightBytes + kvBytes + 4 * biasValues(spec, layout, positions)
  memory.reserve(reserved, `blocks ${start}:${end} of ${model.name} with their KV cache`)

  const sessions: OrtSession[] = []
  const blocks: LoadedBlock[] = []
  const addresses: number[] = []
  let closed = false
  let busy = false

  function allocate(bytes: number): number {
    const address = runtime.allocate(bytes)
    addresses.push(address)
    return address
  }
  function free(): void {
    if (closed) return
    closed = true
    for (const session of sessions) session.close()
    for (const address of addresses) runtime.free(address)
    memory.release(reserved)
  }

  let buffers: SpanBuffers
  try {
    cacheAddress = allocate(kvBytes)
    buffers = allocateBuffers(runtime, allocate, spec, layout, positions)
    for (let block = start; block < end; block++) {
      blocks.push(await loadBlock(runtime, sessions, model, layout, block, signal))
      onProgress?.(blockBytes * blocks.length, weightBytes)
    }
  } catch (error) {
    free()
    throw error
  }

  /** Where the session's keys of block `start + index` begin; its values follow. */
  function blockAddress({ offset, capacity }: KvRegion, index: number): number {
    return cacheAddress + offset * rowBytes + index * 2 * capacity * kvWidth * 4
  }

  /** Runs rows that lie in the first buffer through all blocks; gives the buffer they end in. */
  function* runBlocks(region: KvRegion, shape: RunShape): Generator<void, number> {
    const { rows, fillerRows, total } = shape
    const { shared, scalars } = buffers
    writeBias(spec, shape, runtime.floats(buffers.bias, biasCount(spec, shape)))
    const rowsAt = (address: number, columns: number): OrtValue => float(address, [1, rows, columns])
    const filler = float(buffers.filler, [1, fillerRows, qkvWidth])
    const bias = float(buffers.bias, [1, headCount, rows + fillerRows, total])
    let [from, to] = buffers.hidden
    for (const [index, { graph, session, experts }] of blocks.entries()) {
      // Other spans and leases may run between two blocks: nothing here is kept over a yield but the rows.
      runtime.integers(scalars, 4).set([total - 1, total, rows, 0])
      const { capacity } = region
      const place = {
        address: blockAddress(region, index),
        heads: kvHeadCount,
        capacity,
        width: layout.width,
      }
      const cache = openBlockCache(runtime, place, shape, buffers.shortCache)
      const { keys, values } = cache
      const inputs: Record<BlockInput, OrtValue> = {
        ...shared,
        filler,
        bias,
        keys,
        values,
        hidden: rowsAt(from, hiddenSize),
      }
      const outputs: Record<BlockOutput, OrtValue> = {
        out: rowsAt(to, hiddenSize),
        mlpInput: rowsAt(buffers.experts.normed, hiddenSize),
        router: rowsAt(buffers.experts.router, experts.length),
        newKeys: keys,
        newValues: values,
      }
      session.run(
        graph.inputs.map(({ name }) => inputs[name]),
        graph.outputs.map(({ name }) => outputs[name]),
      )
      cache.keep()
      addExperts(runtime, spec, experts, buffers.experts, rows, to)
      ;[from, to] = [to, from]
      yield
    }
    return from
  }

  async function runEntry(region: KvRegion, input: Tensor, pause: () => Promise<void>): Promise<Tensor> {
    const count = input.shape[0]
    const out = new Float32Array(count * hiddenSize)
    let row = 0
    while (row < count) {
      const rows = rowsWithBias(spec, region.position, Math.min(RUN_ROWS, count - row))
      const size = rows * hiddenSize
      runtime
        .floats(buffers.hidden[0], size)
        .set(input.data.subarray(row * hiddenSize, row * hiddenSize + size))
      const run = runBlocks(region, runShape(layout, region.position, rows))
      let next = run.next()
      while (next.done !== true) {
        await pause()
        checkOpen(region)
        next = run.next()
      }
      out.set(runtime.floats(next.value, size), row * hiddenSize)
      region.advance(rows)
      row += rows
    }
    return tensor(count, hiddenSize, out)
  }

  function closedError(): ChoraleError {
    return new ChoraleError('engine', `blocks ${start}:${end} of ${model.name} were closed`)
  }

  function checkOpen(region: KvRegion): void {
    if (closed) throw closedError()
    if (region.released) throw new ChoraleError('bad_request', 'the KV lease was already released')
  }

  const known = new WeakMap<KvLease, KvRegion>()
  return {
    start,
    end,
    weightBytes,
    kvBytes,
    kvTokens,
    get kvTokensFree() {
      return regions.freeTokens
    },
    lease(maxTokens) {
      const region = regions.lease(maxTokens)
      known.set(region, region)
      return region
    },
    kvRows: createOnnxKvRows({
      runtime,
      start,
      end,
      heads: kvHeadCount,
      headDim: spec.headDim,
      layout,
      addressOf: (region, block) => blockAddress(region, block - start),
      leases: known,
    }),
    async step(entries) {
      if (closed) throw closedError()
      const checked = checkEntries(hiddenSize, known, entries)
      if (busy) throw new ChoraleError('internal', 'two steps of one span at once; callers queue them')
      busy = true
      try {
        const pause = pauseEvery(YIELD_MS)
        const outputs: Tensor[] = []
        for (const { lease, hidden } of checked) outputs.push(await runEntry(lease, hidden, pause))
        return outputs
      } finally {
        busy = false
      }
    },
    async close() {
      free()
    },
  }
}
