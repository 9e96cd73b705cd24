import type * as Ort from 'onnxruntime-web/webgpu'
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-web/webgpu'
import { ChoraleError, isChoraleError } from '../../../errors.ts'
import { USAGE } from '../../../gpu/buffers.ts'
import { createInTurn } from '../../../gpu/in-turn.ts'
import { encodeGraph, ONNX_BYTES, type Graph, type OnnxType } from '../onnx-graph.ts'

/** Values that go into a run: on the GPU, or a few numbers on the CPU. */
export type GpuValue =
  | { readonly buffer: GPUBuffer; readonly type: GpuType; readonly shape: readonly number[] }
  | { readonly data: CpuData; readonly type: GpuType; readonly shape: readonly number[] }

/** Element types of tensors that this engine passes to runs. */
export type GpuType = Exclude<OnnxType, 'uint8' | 'int64'>

/** Numbers on the CPU; halves as their bits. */
export type CpuData = Float32Array | Uint16Array | Int32Array

/** A graph with its weights on the GPU. */
export interface GpuSession {
  /**
   * Runs the graph. `outputs` says where an output goes; one that is left out is downloaded and returned.
   * Runs of all sessions take turns. @throws `engine`.
   */
  run(
    inputs: Readonly<Record<string, GpuValue>>,
    outputs: Readonly<Record<string, GpuValue>>,
    download?: string,
  ): Promise<CpuData | undefined>
  close(): Promise<void>
}

/** onnxruntime-web with its WebGPU provider on one device. */
export interface OrtGpu {
  readonly device: GPUDevice
  /** A buffer of zeros that runs may read and write. */
  createBuffer(bytes: number): GPUBuffer
  /** @throws `engine` when the graph is refused, or a node of it would run on the CPU. */
  createSession(graph: Graph, weights: ReadonlyMap<string, Uint8Array>): Promise<GpuSession>
  close(): void
}

type OrtModule = typeof Ort

/** One WebAssembly instance a process, whatever devices: its sessions are made and run one after the other. */
const inTurn = createInTurn()

/**
 * Loads onnxruntime-web with the WebGPU provider (the build with JSPI where WebAssembly can suspend, else the larger
 * one with Asyncify) for sessions on `device`, which this closes. WebGPU's classes must be globals, as in browsers.
 *
 * This is the package's own front end, unlike `ort-wasm.ts`: the module's calls for devices and buffers are the
 * front end's private matter, and keys and values stay on the GPU with it, too, since runs may name the buffer
 * that an output goes to.
 * @throws `engine` when the module does not load.
 */
export async function openOrtGpu(device: GPUDevice): Promise<OrtGpu> {
  copySharedUploads(device.queue)
  let ort: OrtModule
  try {
    ort =
      'Suspending' in WebAssembly
        ? await import('onnxruntime-web/jspi')
        : await import('onnxruntime-web/webgpu')
    ort.env.logLevel = 'error'
    // Threads are for nodes on the CPU, of which there are none.
    ort.env.wasm.numThreads = 1
  } catch (cause) {
    throw new ChoraleError('engine', `onnxruntime-web with WebGPU does not load: ${String(cause)}`, { cause })
  }
  return {
    device,
    createBuffer: (bytes) =>
      device.createBuffer({
        label: 'onnx',
        size: Math.max(16, Math.ceil(bytes / 16) * 16),
        usage: USAGE.storage | USAGE.copySource | USAGE.copyTarget,
      }),
    createSession: (graph, weights) => inTurn(async () => await createSession(ort, device, graph, weights)),
    close: () => device.destroy(),
  }
}

async function createSession(
  ort: OrtModule,
  device: GPUDevice,
  graph: Graph,
  weights: ReadonlyMap<string, Uint8Array>,
): Promise<GpuSession> {
  const options: InferenceSession.SessionOptions = {
    executionProviders: [{ name: 'webgpu', device }],
    externalData: [...weights].map(([path, data]) => ({ path, data })),
    logSeverityLevel: 4,
    // A node that falls back to the CPU would copy the KV cache back and forth at every step.
    extra: { session: { disable_cpu_ep_fallback: '1' } },
  }
  let session: InferenceSession
  try {
    session = await ort.InferenceSession.create(encodeGraph(graph), options)
  } catch (error) {
    throw engineError(error, `onnxruntime's WebGPU provider refuses the graph "${graph.name}"`)
  }
  const tensorOf = (value: GpuValue): OrtTensor => {
    const dataType = TENSOR_TYPES[value.type]
    if ('buffer' in value) return ort.Tensor.fromGpuBuffer(value.buffer, { dataType, dims: value.shape })
    return new ort.Tensor(dataType, value.data as never, value.shape)
  }
  const tensorsOf = (values: Readonly<Record<string, GpuValue>>) =>
    Object.fromEntries(Object.entries(values).map(([name, value]) => [name, tensorOf(value)]))
  let closed = false
  return {
    run: (inputs, outputs, download) =>
      inTurn(async () => {
        if (closed) throw new ChoraleError('engine', `the session of "${graph.name}" was closed`)
        try {
          const fetches: Record<string, OrtTensor | null> = tensorsOf(outputs)
          if (download !== undefined) fetches[download] = null
          const results = await session.run(tensorsOf(inputs), fetches)
          return download === undefined
            ? undefined
            : ((await results[download]?.getData()) as unknown as CpuData)
        } catch (error) {
          throw engineError(error, `onnxruntime's WebGPU provider fails in "${graph.name}"`)
        }
      }),
    close: () =>
      inTurn(async () => {
        if (!closed) await session.release()
        closed = true
      }),
  }
}

const TENSOR_TYPES = { float: 'float32', float16: 'float16', int32: 'int32' } as const

/** Bytes of values of this type and shape. */
export function valueBytes(type: GpuType, shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, ONNX_BYTES[type])
}

/**
 * onnxruntime-web uploads from its WebAssembly memory, which is always shared; Dawn in Node throws or crashes on
 * shared memory. What is uploaded is copied first, on this queue only.
 */
export function copySharedUploads(queue: GPUQueue): void {
  const writeBuffer = queue.writeBuffer.bind(queue)
  queue.writeBuffer = (buffer, bufferOffset, data, dataOffset = 0, size) => {
    const view = ArrayBuffer.isView(data)
    const memory = view ? data.buffer : data
    if (typeof SharedArrayBuffer === 'undefined' || !(memory instanceof SharedArrayBuffer)) {
      writeBuffer(buffer, bufferOffset, data, dataOffset, size)
      return undefined
    }
    // Offsets and sizes count elements of a typed array, bytes of anything else.
    const unit = view && 'BYTES_PER_ELEMENT' in data ? (data.BYTES_PER_ELEMENT as number) : 1
    const skipped = dataOffset * unit
    const bytes = size === undefined ? data.byteLength - skipped : size * unit
    const start = (view ? data.byteOffset : 0) + skipped
    writeBuffer(buffer, bufferOffset, new Uint8Array(memory, start, bytes).slice())
    return undefined
  }
}

function engineError(error: unknown, what: string): ChoraleError {
  return isChoraleError(error)
    ? error
    : new ChoraleError('engine', `${what}: ${String(error)}`, { cause: error })
}
