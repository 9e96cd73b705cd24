import { ChoraleError } from '../../../errors.ts'
import type { Model, WeightTensor } from '../../../model/model.ts'
import { f32ToBytes, f32ToF16 } from '../../../tensor/dtype.ts'
import { dequantize } from '../../../tensor/quant.ts'
import { tensor, type Tensor } from '../../../tensor/tensor.ts'
import { byteLength } from '../../../tensor/weight.ts'
import type { EngineHead, LoadOptions } from '../../engine.ts'
import { layerBuilder } from '../layers.ts'
import type { Graph } from '../onnx-graph.ts'
import { cpuValues, floatValues } from './gpu-span.ts'
import { type GpuPrecision, packHead, transpose } from './gpu-weights.ts'
import type { CpuData, GpuSession, OrtGpu } from './ort-gpu.ts'

/** The head is held in slices of the vocabulary: none larger than the smallest binding that WebGPU promises. */
const SLICE_BYTES = 64 * 2 ** 20

interface Slice {
  readonly session: GpuSession
  readonly start: number
  readonly size: number
}

/** Reads the final norm and the head onto the GPU; weights that MatMulNBits holds stay quantised. */
export async function loadGpuHead(
  ort: OrtGpu,
  model: Model,
  precision: GpuPrecision,
  options: LoadOptions,
): Promise<EngineHead> {
  const { spec } = model
  const { hiddenSize, vocabSize } = spec
  const { signal, onProgress } = options
  const sessions: GpuSession[] = []
  const slices: Slice[] = []
  let weightBytes = 0
  let closed = false
  const free = async (): Promise<void> => {
    closed = true
    for (const session of sessions) await session.close()
  }
  const open = async (graph: Graph, weights: Map<string, Uint8Array>): Promise<GpuSession> => {
    const session = await ort.createSession(graph, weights)
    sessions.push(session)
    for (const { length } of weights.values()) weightBytes += length
    return session
  }
  const numbers = (values: Float32Array) => (precision === 'float' ? f32ToBytes(values) : f32ToF16(values))
  const graphOf = (name: string, columns: number, layers: ReturnType<typeof layerBuilder>): Graph => ({
    name,
    inputs: [{ name: 'hidden', type: precision, shape: [1, 'rows', hiddenSize] }],
    outputs: [{ name: 'out', type: precision, shape: [1, 'rows', columns] }],
    nodes: layers.nodes,
    weights: layers.weights,
    constants: layers.constants,
  })
  let norm: GpuSession
  try {
    const layers = layerBuilder(spec, { type: precision, accuracyLevel: 0, quantized: () => undefined })
    layers.norm('hidden', 'out')
    const weights = new Map([
      ['out.weight', numbers(dequantize(await model.weights.client('finalNorm', signal)))],
    ])
    if (spec.norm.kind === 'layer') {
      weights.set('out.bias', numbers(dequantize(await model.weights.client('finalNormBias', signal))))
    }
    norm = await open(graphOf('final norm', hiddenSize, layers), weights)
    const head = await model.weights.client('head', signal)
    const rows = Math.max(1, Math.floor(SLICE_BYTES / (hiddenSize * 4)))
    for (let start = 0; start < vocabSize; start += rows) {
      signal?.throwIfAborted()
      const size = Math.min(rows, vocabSize - start)
      const slice = rowsOf(head, start, size)
      const packed = packHead(slice, precision)
      const own = layerBuilder(spec, {
        type: precision,
        accuracyLevel: 0,
        quantized: () => packed?.quantized,
      })
      own.linear('hidden', 'out', size, hiddenSize, false)
      const values =
        packed?.weights ?? new Map([['out.weight', numbers(transpose(dequantize(slice), size, hiddenSize))]])
      slices.push({ session: await open(graphOf('head', size, own), values), start, size })
      onProgress?.(start + size, vocabSize)
    }
  } catch (error) {
    await free()
    throw error
  }

  async function run(session: GpuSession, rows: number, data: CpuData): Promise<CpuData> {
    const hidden = { data, type: precision, shape: [1, rows, hiddenSize] }
    return (await session.run({ hidden }, {}, 'out')) as CpuData
  }
  function check(hidden: Tensor): number {
    if (closed) throw new ChoraleError('engine', `the head of ${model.name} was closed`)
    const [rows, columns] = hidden.shape
    if (columns === hiddenSize) return rows
    throw new ChoraleError(
      'bad_request',
      `hidden states of ${columns} values; the model's hidden size is ${hiddenSize}`,
    )
  }
  return {
    weightBytes,
    async logits(hidden) {
      const count = check(hidden)
      const normed = await run(norm, count, cpuValues(hidden.data, precision))
      const out = new Float32Array(count * vocabSize)
      for (const { session, start, size } of slices) {
        const part = floatValues(await run(session, count, normed))
        for (let row = 0; row < count; row++) {
          out.set(part.subarray(row * size, (row + 1) * size), row * vocabSize + start)
        }
      }
      return tensor(count, vocabSize, out)
    },
    async finalNorm(hidden) {
      const count = check(hidden)
      return tensor(count, hiddenSize, floatValues(await run(norm, count, cpuValues(hidden.data, precision))))
    },
    close: free,
  }
}

function rowsOf(weight: WeightTensor, start: number, count: number): WeightTensor {
  const columns = weight.shape[1] as number
  const rowBytes = byteLength(weight.dtype, [columns])
  const bytes = weight.bytes.subarray(start * rowBytes, (start + count) * rowBytes)
  return { dtype: weight.dtype, shape: [count, columns], bytes }
}
