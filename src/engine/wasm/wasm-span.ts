import { ChoraleError } from '../../errors.ts'
import { PAGE_TOKENS, PagePool, type PagedLease } from '../../kv/pages.ts'
import type { Model } from '../../model/model.ts'
import type { ModelSpec, RopeSpec } from '../../model/spec.ts'
import { tensor, type Tensor } from '../../tensor/tensor.ts'
import { type CheckedEntry, checkEntries } from '../check-entries.ts'
import type { EngineSpan, KvLease, LoadSpanOptions } from '../engine.ts'
import { pauseEvery } from '../pause-every.ts'
import { loadBlockWeights, plannedWeightBytes } from './block-weights.ts'
import {
  BLOCK_BYTES,
  BLOCK_KEYS,
  BLOCK_VALUES,
  OPERATION_SPAN,
  ROW_BYTES,
  SPAN_BLOCKS,
  SPAN_FIRST_BLOCK,
  SPAN_LAST_BLOCK,
  SPAN_ROW_COUNT,
  SPAN_SINGLE_ROWS,
} from './layout.ts'
import { createArena } from './linear-memory.ts'
import { recordAt } from './records.ts'
import { createSpanScratch, padTo } from './scratch.ts'
import type { WasmRuntime } from './runtime.ts'
import { createWasmKvRows } from './wasm-kv-rows.ts'

/** Rows computed together at most: bounds scratch memory. Larger passes gain nothing measurable. */
const MAX_PASS_ROWS = 128

/** Rows times blocks in one call: a call blocks the calling thread, some 20 ms for a small model's. */
const MAX_CALL_WORK = 256

/** Blocks in one call at most, whatever the rows: bounds the work counters (`MAX_PHASES`). */
const MAX_CALL_BLOCKS = 64

/** The event loop gets a turn after this long. */
const YIELD_MS = 30

/** Of models whose positions are biases of scores. */
const NO_ROTATION: RopeSpec = { kind: 'rope', rotaryDim: 0, inverseFrequencies: [], attentionFactor: 1 }

/** One session's tokens in one pass. */
interface Part {
  readonly lease: PagedLease
  readonly position: number
  readonly input: Tensor
  readonly output: Float32Array
  readonly firstRow: number
  readonly rows: number
}

/**
 * Packs blocks into linear memory, one tensor at a time, and reserves their KV cache (float32, pages of 16 tokens).
 * The caller has checked range and support.
 * @throws `capacity` when 4 GiB do not hold them.
 */
export async function loadWasmSpan(
  runtime: WasmRuntime,
  model: Model,
  options: LoadSpanOptions,
): Promise<EngineSpan> {
  const { memory } = runtime
  const { spec } = model
  const { end, start } = options
  const rope = spec.positions.kind === 'rope' ? spec.positions : NO_ROTATION
  checkRotation(spec, rope)
  const pool = new PagePool(options.kvTokens)
  const arena = createArena(memory)
  try {
    const blockCount = end - start
    const plannedBytes = plannedWeightBytes(model, start, end)
    const kvBlockBytes = pool.tokens * spec.kvHeadCount * padTo(spec.headDim, 4) * 4
    checkRoom(model, plannedBytes + 2 * kvBlockBytes * blockCount, memory.available)
    const half = rope.inverseFrequencies.length
    const maxRows = Math.min(MAX_PASS_ROWS, pool.tokens)
    const scratch = createSpanScratch(memory, arena, spec, {
      maxRows,
      kvTokens: pool.tokens,
      threads: runtime.threads,
      half,
    })
    const blocks = arena.allocate(blockCount * BLOCK_BYTES, 'records')
    memory.bytes(blocks, blockCount * BLOCK_BYTES).fill(0)
    scratch.record.integer(SPAN_BLOCKS, blocks)
    const caches: number[] = []
    let weightBytes = 0
    for (let block = start; block < end; block++) {
      const record = recordAt(memory, blocks + (block - start) * BLOCK_BYTES)
      weightBytes += await loadBlockWeights(runtime, arena, model, block, record, options.signal)
      for (const offset of [BLOCK_KEYS, BLOCK_VALUES]) {
        const cache = arena.allocate(kvBlockBytes, 'KV cache')
        record.integer(offset, cache)
        caches.push(cache)
      }
      options.onProgress?.(Math.min(weightBytes, plannedBytes), plannedBytes)
    }
    return createSpan()

    function createSpan(): EngineSpan {
      let closed = false
      let busy = false
      const leases = new WeakMap<KvLease, PagedLease>()

      function writePass(parts: readonly Part[]): number {
        let row = 0
        let page = 0
        for (const { firstRow, input, lease, position, rows } of parts) {
          const pageCount = Math.ceil((position + rows) / PAGE_TOKENS)
          const pageAddress = scratch.pages + page * 4
          memory.integers(pageAddress, pageCount).set(lease.pages.subarray(0, pageCount))
          page += pageCount
          for (let t = 0; t < rows; t++, row++) {
            const from = (firstRow + t) * spec.hiddenSize
            memory
              .floats(scratch.hidden + row * scratch.hiddenStride * 4, spec.hiddenSize)
              .set(input.data.subarray(from, from + spec.hiddenSize))
            memory.integers(scratch.rows + row * ROW_BYTES, 2).set([position + t, pageAddress])
            writeRotation(
              rope,
              position + t,
              memory.floats(scratch.cos + row * half * 4, half),
              memory.floats(scratch.sin + row * half * 4, half),
            )
          }
        }
        return row
      }

      function readPass(parts: readonly Part[]): void {
        let row = 0
        for (const { firstRow, output, rows } of parts) {
          for (let t = 0; t < rows; t++, row++) {
            const address = scratch.hidden + row * scratch.hiddenStride * 4
            output.set(memory.floats(address, spec.hiddenSize), (firstRow + t) * spec.hiddenSize)
          }
        }
      }

      async function runPass(parts: readonly Part[], pause: () => Promise<void>): Promise<void> {
        const rows = writePass(parts)
        scratch.record.integer(SPAN_ROW_COUNT, rows)
        scratch.record.integer(SPAN_SINGLE_ROWS, parts.length === rows ? 1 : 0)
        const step = Math.max(1, Math.min(MAX_CALL_BLOCKS, Math.floor(MAX_CALL_WORK / rows)))
        for (let block = 0; block < blockCount; block += step) {
          scratch.record.integer(SPAN_FIRST_BLOCK, block)
          scratch.record.integer(SPAN_LAST_BLOCK, Math.min(block + step, blockCount))
          runtime.run(OPERATION_SPAN, scratch.record.address)
          if (block + step < blockCount) await pause()
          if (closed) throw closedError(model, start, end)
        }
        readPass(parts)
      }

      return {
        start,
        end,
        weightBytes,
        kvBytes: 2 * kvBlockBytes * blockCount,
        kvTokens: pool.tokens,
        get kvTokensFree() {
          return pool.freeTokens
        },
        lease(maxTokens) {
          const lease = pool.lease(maxTokens)
          leases.set(lease, lease)
          return lease
        },
        sharedPages: pool.share((from, to) => {
          const pageBytes = (kvBlockBytes / pool.tokens) * PAGE_TOKENS
          for (const cache of caches) {
            memory
              .bytes(cache, kvBlockBytes)
              .copyWithin(to * pageBytes, from * pageBytes, (from + 1) * pageBytes)
          }
        }),
        kvRows: createWasmKvRows({ memory, spec, start, end, caches, cacheBytes: kvBlockBytes, leases }),
        async step(entries) {
          if (closed) throw closedError(model, start, end)
          const checked = checkEntries(spec.hiddenSize, leases, entries)
          if (busy) throw new ChoraleError('internal', 'two steps of one span at once; callers queue them')
          busy = true
          try {
            for (const { hidden, lease } of checked) lease.reserve(hidden.shape[0])
            // One buffer for all: sixteen would cost more than what is written to them.
            const all = new Float32Array(checked.reduce((sum, { hidden }) => sum + hidden.data.length, 0))
            let from = 0
            const outputs = checked.map(({ hidden }) => all.subarray(from, (from += hidden.data.length)))
            const pause = pauseEvery(YIELD_MS)
            for (const pass of cutIntoPasses(checked, outputs, maxRows)) await runPass(pass, pause)
            for (const { hidden, lease } of checked) lease.advance(hidden.shape[0])
            return outputs.map((data, index) =>
              tensor((checked[index] as { hidden: Tensor }).hidden.shape[0], spec.hiddenSize, data),
            )
          } finally {
            busy = false
          }
        },
        async close() {
          if (closed) return
          closed = true
          arena.close()
        },
      }
    }
  } catch (error) {
    arena.close()
    throw error
  }
}

/** @throws `not_supported` when the rotated elements are no pairs inside a head. */
function checkRotation(spec: ModelSpec, rope: RopeSpec): void {
  const pairs = rope.inverseFrequencies.length
  if (rope.rotaryDim === 2 * pairs && rope.rotaryDim <= spec.headDim) return
  throw new ChoraleError(
    'not_supported',
    `engine wasm rotates pairs inside a head: ${rope.rotaryDim} elements with ${pairs} frequencies in heads of ${spec.headDim} are not`,
    { field: 'positions' },
  )
}

/** Fails before the first byte is read. */
function checkRoom(model: Model, needed: number, available: number): void {
  if (needed <= available) return
  const mib = (bytes: number) => Math.ceil(bytes / 2 ** 20)
  throw new ChoraleError(
    'capacity',
    `${model.name}: weights and KV cache take ${mib(needed)} MiB and ${mib(available)} MiB of WebAssembly's memory are left; load fewer blocks or ask for fewer KV tokens`,
  )
}

/** cos and sin of one position's angles, computed in float64. */
function writeRotation(rope: RopeSpec, position: number, cos: Float32Array, sin: Float32Array): void {
  for (let i = 0; i < cos.length; i++) {
    const angle = position * (rope.inverseFrequencies[i] as number)
    cos[i] = Math.cos(angle) * rope.attentionFactor
    sin[i] = Math.sin(angle) * rope.attentionFactor
  }
}

/** Rows of all entries in order, `maxRows` a pass; a long entry goes over several passes. */
function cutIntoPasses(
  entries: readonly CheckedEntry<PagedLease>[],
  outputs: readonly Float32Array[],
  maxRows: number,
): Part[][] {
  const passes: Part[][] = []
  let room = 0
  for (const [index, { hidden, lease }] of entries.entries()) {
    const count = hidden.shape[0]
    for (let firstRow = 0; firstRow < count;) {
      if (room === 0) {
        passes.push([])
        room = maxRows
      }
      const rows = Math.min(room, count - firstRow)
      const output = outputs[index] as Float32Array
      passes
        .at(-1)
        ?.push({ lease, position: lease.position + firstRow, input: hidden, output, firstRow, rows })
      firstRow += rows
      room -= rows
    }
  }
  return passes
}

function closedError(model: Model, start: number, end: number): ChoraleError {
  return new ChoraleError('engine', `blocks ${start}:${end} of ${model.name} were closed`)
}
