import { ChoraleError, isChoraleError } from '../../errors.ts'
import { encodeGraph, ONNX_BYTES, ONNX_TYPE, type Graph, type OnnxType } from './onnx-graph.ts'
import { instantiateOrt, type OrtWasm } from './ort-wasm.ts'

/** Values in WebAssembly memory at a byte address; `shape` says how an operator sees them. */
export interface OrtValue {
  readonly type: OnnxType
  readonly address: number
  readonly shape: readonly number[]
}

/** A graph with its weights, ready to run. */
export interface OrtSession {
  /**
   * Runs the graph: reads `inputs`, writes `outputs`, all in place, in the graph's order. Blocks until done.
   * Not checked: that addresses and shapes lie in memory that was allocated. @throws `engine`.
   */
  run(inputs: readonly OrtValue[], outputs: readonly OrtValue[]): void
  close(): void
}

/** One WebAssembly memory with its threads. */
export interface OrtRuntime {
  /** Address of `bytes` uninitialised bytes. @throws `capacity` when memory is full. */
  allocate(bytes: number): number
  free(address: number): void
  /** A view of memory; stale after the next allocation or run, so never kept. */
  floats(address: number, count: number): Float32Array
  /** As `floats`, for int32. */
  integers(address: number, count: number): Int32Array
  /** Moves bytes inside memory; ranges may overlap. */
  move(target: number, source: number, bytes: number): void
  /**
   * Copies `weights` into memory, repacked for the CPU. They exist twice only until this returns.
   * @throws `engine` when the graph is refused, `capacity` when memory is full.
   */
  createSession(graph: Graph, weights: ReadonlyMap<string, Float32Array>): Promise<OrtSession>
}

/** onnxruntime's numbers for "log fatal errors only", "data is in CPU memory" and "no graph optimiser". */
const LOG_FATAL = 4
const LOCATION_CPU = 1
const OPTIMIZATION_DISABLED = 0
const POINTER = 4

/** A runtime with `threads` - 1 workers; they sleep while nothing runs and don't keep a process alive. @throws `engine`. */
export async function createOrtRuntime(threads: number): Promise<OrtRuntime> {
  const wasm = await instantiateOrt(threads)
  check(wasm, wasm.init(threads, LOG_FATAL), 'onnxruntime does not start')

  function allocate(bytes: number): number {
    const address = wasm.malloc(bytes) >>> 0
    if (address !== 0) return address
    throw new ChoraleError(
      'capacity',
      `no room for ${Math.ceil(bytes / 2 ** 20)} MiB more in WebAssembly memory: take fewer blocks or less KV cache`,
    )
  }
  return {
    allocate,
    free: (address) => wasm.free(address),
    floats: (address, count) => new Float32Array(wasm.memory().buffer, address, count),
    integers: (address, count) => new Int32Array(wasm.memory().buffer, address, count),
    move: (target, source, bytes) => void wasm.memory().copyWithin(target, source, source + bytes),
    createSession: async (graph, weights) => await createSession(wasm, allocate, graph, weights),
  }
}

async function createSession(
  wasm: OrtWasm,
  allocate: (bytes: number) => number,
  graph: Graph,
  weights: ReadonlyMap<string, Float32Array>,
): Promise<OrtSession> {
  const model = encodeGraph(graph)
  const modelAddress = allocate(model.length)
  wasm.memory().set(model, modelAddress)
  // No arena and no memory pattern: each session would keep one as large as its longest step.
  // No optimiser: the graph is written as it should run, and a fusion could bring in a kernel that depends on row counts.
  const options = wasm.createSessionOptions(
    OPTIMIZATION_DISABLED,
    false,
    false,
    0,
    false,
    0,
    0,
    LOG_FATAL,
    0,
    0,
  )
  let session = 0
  try {
    for (const [name, values] of weights) {
      wasm.mountExternalData(name, new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    }
    session = await wasm.createSession(modelAddress, model.length, options)
    if (session === 0) throw lastError(wasm, `onnxruntime refuses the graph "${graph.name}"`)
  } catch (error) {
    throw engineError(error, `onnxruntime fails on the graph "${graph.name}"`)
  } finally {
    wasm.unmountExternalData()
    wasm.releaseSessionOptions(options)
    wasm.free(modelAddress)
  }

  const names = nameTable(
    wasm,
    allocate,
    [...graph.inputs, ...graph.outputs].map((value) => value.name),
  )
  const inputCount = graph.inputs.length
  const outputCount = graph.outputs.length
  let closed = false

  return {
    run(inputs, outputs) {
      if (closed || inputs.length !== inputCount || outputs.length !== outputCount) {
        throw new ChoraleError('internal', `run of "${graph.name}": closed, or the wrong number of values`)
      }
      const stack = wasm.stackSave()
      const handles = wasm.stackAlloc((inputCount + outputCount) * POINTER)
      const tensors: number[] = []
      try {
        for (const value of [...inputs, ...outputs]) {
          const tensor = createTensor(wasm, value)
          wasm.setPointer(handles + tensors.length * POINTER, tensor)
          tensors.push(tensor)
        }
        const status = wasm.run(
          session,
          names.address,
          handles,
          inputCount,
          names.address + inputCount * POINTER,
          outputCount,
          handles + inputCount * POINTER,
          0,
        )
        check(wasm, status, `onnxruntime fails in "${graph.name}"`)
      } catch (error) {
        throw engineError(error, `onnxruntime fails in "${graph.name}"`)
      } finally {
        for (const tensor of tensors) wasm.releaseTensor(tensor)
        wasm.stackRestore(stack)
      }
    },
    close() {
      if (closed) return
      closed = true
      wasm.releaseSession(session)
      wasm.free(names.address)
    },
  }
}

function createTensor(wasm: OrtWasm, value: OrtValue): number {
  const stack = wasm.stackSave()
  const rank = value.shape.length
  const dims = wasm.stackAlloc(Math.max(1, rank) * POINTER)
  let elements = 1
  for (const [index, dimension] of value.shape.entries()) {
    wasm.setPointer(dims + index * POINTER, dimension)
    elements *= dimension
  }
  const bytes = elements * ONNX_BYTES[value.type]
  const tensor = wasm.createTensor(ONNX_TYPE[value.type], value.address, bytes, dims, rank, LOCATION_CPU)
  wasm.stackRestore(stack)
  if (tensor === 0) throw lastError(wasm, `onnxruntime refuses a tensor [${value.shape.join(', ')}]`)
  return tensor
}

/** Names as zero-terminated strings behind a table of pointers to them, in one allocation. */
function nameTable(
  wasm: OrtWasm,
  allocate: (bytes: number) => number,
  names: readonly string[],
): { address: number } {
  const tableBytes = names.length * POINTER
  const address = allocate(names.reduce((sum, name) => sum + wasm.stringBytes(name), tableBytes))
  let at = address + tableBytes
  for (const [index, name] of names.entries()) {
    const bytes = wasm.stringBytes(name)
    wasm.writeString(name, at, bytes)
    wasm.setPointer(address + index * POINTER, at)
    at += bytes
  }
  return { address }
}

function check(wasm: OrtWasm, status: number, what: string): void {
  if (status !== 0) throw lastError(wasm, what)
}

function lastError(wasm: OrtWasm, what: string): ChoraleError {
  const stack = wasm.stackSave()
  const addresses = wasm.stackAlloc(2 * POINTER)
  wasm.getLastError(addresses, addresses + POINTER)
  const message = wasm.getPointer(addresses + POINTER)
  const text = message === 0 ? 'no message' : wasm.readString(message)
  wasm.stackRestore(stack)
  return new ChoraleError(/bad_alloc|out of memory/i.test(text) ? 'capacity' : 'engine', `${what}: ${text}`)
}

/** Traps, and C++ exceptions that reach JavaScript as numbers, as our own error. */
function engineError(error: unknown, what: string): ChoraleError {
  return isChoraleError(error)
    ? error
    : new ChoraleError('engine', `${what}: ${String(error)}`, { cause: error })
}
