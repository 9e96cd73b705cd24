import { ChoraleError } from '../../errors.ts'
import type { Model } from '../../model/model.ts'
import { tensor, type Tensor } from '../../tensor/tensor.ts'
import type { EngineSpan, KvLease, LoadSpanOptions, StepEntry } from '../engine.ts'
import { BLOCK_INPUTS, blockGraph } from './block-graph.ts'
import { blockWeightBytes, readBlock } from './block-weights.ts'
import { headLayout } from './head-layout.ts'
import { KvRegions, type KvRegion } from './kv-regions.ts'
import type { MemoryBudget } from './memory-budget.ts'
import type { OrtRuntime, OrtSession, OrtValue } from './ort-runtime.ts'
import { allocateBuffers, float, RUN_ROWS, type BlockInput, type SpanBuffers } from './span-buffers.ts'

/** A long step lets timers and sockets of this thread run at least this often. */
const YIELD_MS = 25

/**
 * Reads blocks [start, end) into WebAssembly memory, one ONNX session a block, and allocates their KV cache.
 *
 * At most one block is held twice while it is read. Keys and values never leave WebAssembly memory: every block
 * reads and appends to its part of the lease's region in place.
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
  memory.reserve(weightBytes + kvBytes, `blocks ${start}:${end} of ${model.name} with their KV cache`)

  const sessions: OrtSession[] = []
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
    memory.release(weightBytes + kvBytes)
  }

  let buffers: SpanBuffers
  try {
    cacheAddress = allocate(kvBytes)
    buffers = allocateBuffers(runtime, allocate, spec, layout, kvTokens + 1)
    for (let block = start; block < end; block++) {
      signal?.throwIfAborted()
      const weights = await readBlock(model, layout, block, signal)
      sessions.push(await runtime.createSession(blockGraph(spec, layout, `block ${block}`), weights))
      onProgress?.(blockBytes * sessions.length, weightBytes)
    }
  } catch (error) {
    free()
    throw error
  }

  /** Runs `rows` rows that lie in the first buffer through all blocks; gives the buffer they end in. */
  function* runBlocks(region: KvRegion, rows: number): Generator<void, number> {
    const fillerRows = rows === 1 ? 1 : 0
    const total = region.position + rows + fillerRows
    const hidden = (address: number): OrtValue => float(address, [1, rows, hiddenSize])
    const { shared, scalars } = buffers
    const filler = float(buffers.filler, [1, fillerRows, qkvWidth])
    let [from, to] = buffers.hidden
    for (const [index, session] of sessions.entries()) {
      // Other spans and leases may run between two blocks: nothing here is kept over a yield but the rows.
      const numbers = runtime.integers(scalars, 4)
      numbers.set([total - 1, total, rows, 0])
      const cacheShape = [1, kvHeadCount, region.capacity, layout.width]
      const cacheBytes = region.capacity * kvWidth * 4
      const keysAddress = cacheAddress + region.offset * rowBytes + index * 2 * cacheBytes
      const keys = float(keysAddress, cacheShape)
      const values = float(keysAddress + cacheBytes, cacheShape)
      const inputs: Record<BlockInput, OrtValue> = { ...shared, filler, hidden: hidden(from), keys, values }
      session.run(
        BLOCK_INPUTS.map((name) => inputs[name]),
        [hidden(to), keys, values],
      )
      ;[from, to] = [to, from]
      yield
    }
    return from
  }

  async function runEntry(region: KvRegion, input: Tensor, pause: () => Promise<void>): Promise<Tensor> {
    const count = input.shape[0]
    const out = new Float32Array(count * hiddenSize)
    for (let row = 0; row < count; row += RUN_ROWS) {
      const rows = Math.min(RUN_ROWS, count - row)
      const size = rows * hiddenSize
      runtime
        .floats(buffers.hidden[0], size)
        .set(input.data.subarray(row * hiddenSize, row * hiddenSize + size))
      const run = runBlocks(region, rows)
      let next = run.next()
      while (next.done !== true) {
        await pause()
        checkOpen(region)
        next = run.next()
      }
      out.set(runtime.floats(next.value, size), row * hiddenSize)
      region.advance(rows)
    }
    return tensor(count, hiddenSize, out)
  }

  function checkOpen(region: KvRegion): void {
    if (closed) throw new ChoraleError('engine', `blocks ${start}:${end} of ${model.name} were closed`)
    if (region.released) throw new ChoraleError('bad_request', 'the KV lease was already released')
  }

  const known = new WeakMap<KvLease, KvRegion>()
  function checkEntry({ lease, hidden }: StepEntry): KvRegion {
    const region = known.get(lease)
    if (region === undefined) throw new ChoraleError('bad_request', 'the KV lease belongs to another span')
    checkOpen(region)
    const [rows, columns] = hidden.shape
    if (rows < 1 || columns !== hiddenSize || hidden.data.length !== rows * columns) {
      throw new ChoraleError(
        'bad_request',
        `hidden states [${rows}, ${columns}]; this model takes [1 or more, ${hiddenSize}]`,
      )
    }
    if (region.position + rows > region.maxTokens) {
      throw new ChoraleError(
        'capacity',
        `the session's KV lease of ${region.maxTokens} tokens is full: it holds ${region.position} and the step brings ${rows}`,
      )
    }
    return region
  }

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
    async step(entries) {
      const checked = entries.map((entry) => ({ region: checkEntry(entry), hidden: entry.hidden }))
      if (new Set(checked.map(({ region }) => region)).size < checked.length) {
        throw new ChoraleError('bad_request', 'a step has two entries of one KV lease')
      }
      if (busy) throw new ChoraleError('internal', 'two steps of one span at once; callers queue them')
      busy = true
      try {
        const pause = pauseEvery(YIELD_MS)
        const outputs: Tensor[] = []
        for (const { region, hidden } of checked) outputs.push(await runEntry(region, hidden, pause))
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

/** A function that waits for one turn of the event loop when `ms` have passed since it last did. */
function pauseEvery(ms: number): () => Promise<void> {
  let last = performance.now()
  return async () => {
    if (performance.now() - last < ms) return
    await new Promise<void>((resolve) => {
      setTimeout(resolve, 0)
    })
    last = performance.now()
  }
}
