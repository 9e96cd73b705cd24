import { ChoraleError } from '../../errors.ts'
import type { Model } from '../../model/model.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { dequantize, dequantizeRows } from '../../tensor/quant.ts'
import { tensor, type Tensor } from '../../tensor/tensor.ts'
import type { EngineHead, LoadOptions } from '../engine.ts'
import { layerBuilder } from './layers.ts'
import type { Graph } from './onnx-graph.ts'
import type { MemoryBudget } from './memory-budget.ts'
import type { OrtRuntime, OrtSession, OrtValue } from './ort-runtime.ts'

/** The head is held in slices of the vocabulary, so that no more than this exists twice while it is read. */
const SLICE_BYTES = 32 * 2 ** 20

/** Rows one run takes. Callers sample from few rows; traces ask for many. */
const RUN_ROWS = 16

interface Slice {
  readonly session: OrtSession
  readonly start: number
  readonly size: number
}

/** Reads the final norm and the head into WebAssembly memory. */
export async function loadOnnxHead(
  runtime: OrtRuntime,
  memory: MemoryBudget,
  model: Model,
  options: LoadOptions,
): Promise<EngineHead> {
  const { spec } = model
  const { hiddenSize, vocabSize } = spec
  const { signal, onProgress } = options
  const weightBytes = (vocabSize + (spec.norm.kind === 'layer' ? 2 : 1)) * hiddenSize * 4
  memory.reserve(weightBytes, `the head of ${model.name}`)

  const sessions: OrtSession[] = []
  const slices: Slice[] = []
  const addresses: number[] = []
  let closed = false
  function free(): void {
    if (closed) return
    closed = true
    for (const session of sessions) session.close()
    for (const address of addresses) runtime.free(address)
    memory.release(weightBytes)
  }
  function allocate(bytes: number): number {
    const address = runtime.allocate(bytes)
    addresses.push(address)
    return address
  }

  try {
    const norm = new Map([['out.weight', dequantize(await model.weights.client('finalNorm', signal))]])
    if (spec.norm.kind === 'layer') {
      norm.set('out.bias', dequantize(await model.weights.client('finalNormBias', signal)))
    }
    sessions.push(await runtime.createSession(normGraph(spec), norm))
    const head = await model.weights.client('head', signal)
    const rows = Math.max(1, Math.floor(SLICE_BYTES / (hiddenSize * 4)))
    for (let start = 0; start < vocabSize; start += rows) {
      signal?.throwIfAborted()
      const size = Math.min(rows, vocabSize - start)
      const indices = Uint32Array.from({ length: size }, (_, index) => start + index)
      const weight = dequantizeRows(head, indices)
      const session = await runtime.createSession(headGraph(hiddenSize, size), new Map([['weight', weight]]))
      sessions.push(session)
      slices.push({ session, start, size })
      onProgress?.((start + size) * hiddenSize * 4, weightBytes)
    }
  } catch (error) {
    free()
    throw error
  }
  const [normSession] = sessions
  if (normSession === undefined) throw new ChoraleError('internal', 'the final norm has no session')
  const widest = slices[0]?.size ?? 0
  const input = allocate(RUN_ROWS * hiddenSize * 4)
  const normed = allocate(RUN_ROWS * hiddenSize * 4)
  const scores = allocate(RUN_ROWS * widest * 4)

  /** Final norm of up to RUN_ROWS rows, into `normed`. */
  function runNorm(session: OrtSession, hidden: Tensor, row: number, rows: number): OrtValue {
    const size = rows * hiddenSize
    runtime.floats(input, size).set(hidden.data.subarray(row * hiddenSize, row * hiddenSize + size))
    const out: OrtValue = { type: 'float', address: normed, shape: [rows, hiddenSize] }
    session.run([{ ...out, address: input }], [out])
    return out
  }

  function check(hidden: Tensor): number {
    if (closed) throw new ChoraleError('engine', `the head of ${model.name} was closed`)
    const [rows, columns] = hidden.shape
    if (columns !== hiddenSize || hidden.data.length !== rows * columns) {
      throw new ChoraleError(
        'bad_request',
        `hidden states [${rows}, ${columns}]; the model's hidden size is ${hiddenSize}`,
      )
    }
    return rows
  }

  return {
    weightBytes,
    async logits(hidden) {
      const count = check(hidden)
      const out = new Float32Array(count * vocabSize)
      for (let row = 0; row < count; row += RUN_ROWS) {
        const rows = Math.min(RUN_ROWS, count - row)
        const value = runNorm(normSession, hidden, row, rows)
        for (const { session, start, size } of slices) {
          session.run([value], [{ type: 'float', address: scores, shape: [rows, size] }])
          const part = runtime.floats(scores, rows * size)
          for (let r = 0; r < rows; r++) {
            out.set(part.subarray(r * size, (r + 1) * size), (row + r) * vocabSize + start)
          }
        }
      }
      return tensor(count, vocabSize, out)
    },
    async finalNorm(hidden) {
      const count = check(hidden)
      const out = new Float32Array(count * hiddenSize)
      for (let row = 0; row < count; row += RUN_ROWS) {
        const rows = Math.min(RUN_ROWS, count - row)
        const value = runNorm(normSession, hidden, row, rows)
        out.set(runtime.floats(value.address, rows * hiddenSize), row * hiddenSize)
      }
      return tensor(count, hiddenSize, out)
    },
    async close() {
      free()
    },
  }
}

function normGraph(spec: ModelSpec): Graph {
  const layers = layerBuilder(spec)
  layers.norm('hidden', 'out')
  return {
    name: 'final norm',
    inputs: [{ name: 'hidden', type: 'float', shape: ['rows', spec.hiddenSize] }],
    outputs: [{ name: 'out', type: 'float', shape: ['rows', spec.hiddenSize] }],
    nodes: layers.nodes,
    weights: layers.weights,
  }
}

function headGraph(hiddenSize: number, rows: number): Graph {
  return {
    name: 'head',
    inputs: [{ name: 'hidden', type: 'float', shape: ['rows', hiddenSize] }],
    outputs: [{ name: 'out', type: 'float', shape: ['rows', rows] }],
    nodes: [
      {
        op: 'FusedMatMul',
        domain: 'com.microsoft',
        inputs: ['hidden', 'weight'],
        outputs: ['out'],
        attributes: { transB: { int: 1 } },
      },
    ],
    weights: [{ name: 'weight', shape: [rows, hiddenSize] }],
  }
}
