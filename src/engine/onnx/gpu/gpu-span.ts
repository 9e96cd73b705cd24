import { ChoraleError } from '../../../errors.ts'
import { bytesOf } from '../../../gpu/buffers.ts'
import { createInTurn } from '../../../gpu/in-turn.ts'
import type { KvLease } from '../../../kv/lease.ts'
import type { Model } from '../../../model/model.ts'
import { f16ToF32, f32ToF16 } from '../../../tensor/dtype.ts'
import { tensor, type Tensor } from '../../../tensor/tensor.ts'
import { checkEntries } from '../../check-entries.ts'
import type { EngineSpan, LoadSpanOptions } from '../../engine.ts'
import { headLayout, ropeTable } from '../head-layout.ts'
import { KvRegions, type KvRegion } from '../kv-regions.ts'
import type { WeightStorage } from '../layers.ts'
import { gpuBlockGraph } from './gpu-graph.ts'
import { type GpuPrecision, quantizedLayers, readGpuBlock } from './gpu-weights.ts'
import type { CpuData, GpuSession, GpuValue, OrtGpu } from './ort-gpu.ts'
import { valueBytes } from './ort-gpu.ts'

/** Tokens of one run: bounds the activations. */
const RUN_ROWS = 256

export interface GpuSpanOptions extends LoadSpanOptions {
  readonly precision: GpuPrecision
  readonly accuracyLevel: WeightStorage['accuracyLevel']
}

interface Cache {
  readonly keys: GPUBuffer
  readonly values: GPUBuffer
}

/** A lease's caches, one a block. */
interface LeasedCaches {
  readonly region: KvRegion
  readonly blocks: readonly Cache[]
}

/**
 * Reads blocks [start, end) onto the GPU, one onnxruntime session each. Each lease gets buffers of its own for
 * its keys and values, which never leave the GPU: every run appends to them in place.
 */
export async function loadGpuSpan(ort: OrtGpu, model: Model, options: GpuSpanOptions): Promise<EngineSpan> {
  const { spec } = model
  const { start, end, kvTokens, precision: type, signal, onProgress } = options
  const { hiddenSize, kvHeadCount } = spec
  const layout = headLayout(spec)
  const sessions: GpuSession[] = []
  const buffers = new Set<GPUBuffer>()
  const create = (bytes: number): GPUBuffer => {
    const buffer = ort.createBuffer(bytes)
    buffers.add(buffer)
    return buffer
  }
  const destroy = (buffer: GPUBuffer): void => {
    buffers.delete(buffer)
    buffer.destroy()
  }
  const numbers = (values: Float32Array): Uint8Array =>
    type === 'float' ? bytesOf(values) : f32ToF16(values)
  const free = async (): Promise<void> => {
    for (const session of sessions) await session.close()
    for (const buffer of buffers) destroy(buffer)
  }

  const caches = new Map<KvLease, LeasedCaches>()
  // Regions only count tokens here: leases have buffers of their own, so there is nothing to move.
  const regions = new KvRegions(kvTokens, () => undefined)
  const cacheShape = (tokens: number) => [1, kvHeadCount, tokens, layout.width]
  const tables: Record<string, GpuValue> = {}
  let hidden: readonly [GPUBuffer, GPUBuffer]
  let weightBytes = 0
  try {
    if (spec.positions.kind === 'rope') {
      for (const [name, values] of Object.entries(ropeTable(spec, layout, kvTokens))) {
        const bytes = numbers(values)
        const buffer = create(bytes.length)
        ort.device.queue.writeBuffer(buffer, 0, bytes as Uint8Array<ArrayBuffer>)
        tables[name] = { buffer, type, shape: [kvTokens, layout.width / 2] }
      }
    }
    const rowsBytes = valueBytes(type, [RUN_ROWS, hiddenSize])
    hidden = [create(rowsBytes), create(rowsBytes)]
    for (let block = start; block < end; block++) {
      signal?.throwIfAborted()
      const quantized = quantizedLayers(model, layout, block)
      const { accuracyLevel } = options
      const find = (layer: string) => quantized.get(layer)
      const graph = gpuBlockGraph(spec, layout, block, { type, accuracyLevel, quantized: find })
      const weights = await readGpuBlock(model, layout, block, graph, quantized, signal)
      sessions.push(await ort.createSession(graph, weights))
      for (const { length } of weights.values()) weightBytes += length
      onProgress?.(block - start + 1, end - start)
    }
  } catch (error) {
    await free()
    throw error
  }

  async function runRows(
    region: KvRegion,
    blocks: readonly Cache[],
    input: Float32Array,
  ): Promise<Float32Array> {
    const rows = input.length / hiddenSize
    const total = region.position + rows
    const shape = [1, rows, hiddenSize]
    const steps: Record<string, GpuValue> = {
      last: { data: Int32Array.of(total - 1), type: 'int32', shape: [1] },
      total: { data: Int32Array.of(total), type: 'int32', shape: [] },
      ...tables,
    }
    let from: GpuValue = { data: cpuValues(input, type), type, shape }
    let result: CpuData | undefined
    for (const [index, session] of sessions.entries()) {
      const { keys, values } = blocks[index] as Cache
      const cache = { type, shape: cacheShape(region.maxTokens) }
      const [past, present] = [
        { ...cache, buffer: keys },
        { ...cache, buffer: values },
      ]
      const inputs = { ...steps, hidden: from, keys: past, values: present }
      const outputs = { newKeys: past, newValues: present }
      if (index === sessions.length - 1) result = await session.run(inputs, outputs, 'out')
      else {
        from = { buffer: hidden[index % 2] as GPUBuffer, type, shape }
        await session.run(inputs, { ...outputs, out: from })
      }
    }
    return floatValues(result as CpuData)
  }

  async function runEntry(region: KvRegion, blocks: readonly Cache[], input: Tensor): Promise<Tensor> {
    const [count] = input.shape
    const out = new Float32Array(count * hiddenSize)
    for (let row = 0; row < count; row += RUN_ROWS) {
      const rows = Math.min(RUN_ROWS, count - row)
      const some = input.data.subarray(row * hiddenSize, (row + rows) * hiddenSize)
      out.set(await runRows(region, blocks, some), row * hiddenSize)
      region.advance(rows)
    }
    return tensor(count, hiddenSize, out)
  }

  let closed = false
  const inTurn = createInTurn()
  const regionOf = { get: (lease: KvLease) => caches.get(lease)?.region }

  return {
    start,
    end,
    weightBytes,
    kvBytes: 2 * (end - start) * valueBytes(type, cacheShape(kvTokens)),
    kvTokens,
    get kvTokensFree() {
      return regions.freeTokens
    },
    lease(maxTokens) {
      const region = regions.lease(maxTokens)
      const bytes = valueBytes(type, cacheShape(maxTokens))
      const blocks = sessions.map((): Cache => ({ keys: create(bytes), values: create(bytes) }))
      const lease: KvLease = {
        maxTokens,
        get position() {
          return region.position
        },
        rollback: (position) => region.rollback(position),
        release() {
          region.release()
          if (!caches.delete(lease)) return
          // A step under way may still use them.
          void inTurn(async () => {
            for (const { keys, values } of blocks) {
              destroy(keys)
              destroy(values)
            }
          })
        },
      }
      caches.set(lease, { region, blocks })
      return lease
    },
    step: (entries) =>
      inTurn(async () => {
        if (closed) throw new ChoraleError('engine', 'the span was closed')
        checkEntries(hiddenSize, regionOf, entries)
        // All at once: a lease released while the step runs is freed after it.
        const all = entries.map(({ lease, hidden }) => ({ ...(caches.get(lease) as LeasedCaches), hidden }))
        const outputs: Tensor[] = []
        for (const { region, blocks, hidden } of all) outputs.push(await runEntry(region, blocks, hidden))
        return outputs
      }),
    close: () =>
      inTurn(async () => {
        if (!closed) await free()
        closed = true
      }),
  }
}

/** Float32 values as a run takes them. */
export function cpuValues(values: Float32Array, type: GpuPrecision): CpuData {
  if (type === 'float') return values.slice()
  const bytes = f32ToF16(values)
  return new Uint16Array(bytes.buffer, bytes.byteOffset, values.length)
}

/** What a run gave, in float32. Newer runtimes give halves as a Float16Array. */
export function floatValues(values: CpuData): Float32Array {
  if (values instanceof Float32Array) return values
  return values instanceof Uint16Array ? f16ToF32(bytesOf(values)) : Float32Array.from(values)
}
