import type { OrtWasmModule } from 'onnxruntime-web/ort-wasm-simd-threaded.mjs'
import { ChoraleError } from '../../errors.ts'
import { encodeGraph, ONNX_TYPE, type Graph, type OnnxType } from './onnx-graph.ts'

/**
 * onnxruntime-web's WebAssembly module, driven through its C interface.
 *
 * The package's JavaScript front end copies every input into WebAssembly memory and every output out of it on
 * each run. Calling the module itself lets tensors be windows on memory that stays where it is: the KV cache is
 * one buffer that the attention operator reads and appends to, and hidden states pass from block to block
 * without leaving WebAssembly. It also gives every engine its own memory and threads; the front end has one
 * set a process. The interface is not a documented one, so the package's version is pinned exactly.
 */

/** Values in WebAssembly memory; `shape` says how an operator sees them. Numbers are byte addresses. */
export interface OrtValue {
  readonly type: OnnxType
  readonly address: number
  readonly shape: readonly number[]
}

export interface OrtSession {
  /** Runs the graph: reads `inputs`, writes `outputs`, all in place. Blocks until done. @throws `engine`. */
  run(inputs: readonly OrtValue[], outputs: readonly OrtValue[]): void
  close(): void
}

export interface OrtRuntime {
  readonly threads: number
  /** Address of `bytes` uninitialised bytes. @throws `capacity` when memory is full. */
  allocate(bytes: number): number
  free(address: number): void
  /** A view of memory; stale after the next allocation or run, so never kept. */
  floats(address: number, count: number): Float32Array
  integers(address: number, count: number): Int32Array
  /** Moves bytes inside memory; ranges may overlap. */
  move(target: number, source: number, bytes: number): void
  /** @throws `engine` when the graph is refused, `capacity` when memory is full. */
  createSession(graph: Graph, weights: ReadonlyMap<string, Float32Array>): Promise<OrtSession>
  /** Ends the worker threads. Memory goes when nothing refers to the runtime any more. */
  close(): void
}

/** Counts what is promised to spans and heads, so that a model that can't fit is refused before it is read. */
export interface OrtMemory {
  /** @throws `capacity` when `bytes` more would pass what WebAssembly can address; `what` goes into the message. */
  reserve(bytes: number, what: string): void
  release(bytes: number): void
}

/** onnxruntime's numbers for "log nothing but fatal errors" and "data is in CPU memory". */
const LOG_FATAL = 4
const LOCATION_CPU = 1
const OPTIMIZATION_DISABLED = 0
const POINTER = 4

/** What WebAssembly can address is 4 GiB; 256 MiB are left for code, activations and weights being read. */
const MEMORY_LIMIT_BYTES = 4 * 2 ** 30 - 256 * 2 ** 20

/** The budget of one runtime. */
export function createOrtMemory(): OrtMemory {
  let reserved = 0
  return {
    reserve(bytes, what) {
      if (reserved + bytes > MEMORY_LIMIT_BYTES) {
        throw new ChoraleError(
          'capacity',
          `${what} with its KV cache takes ${mebibytes(bytes)} MiB as float32 and ${mebibytes(MEMORY_LIMIT_BYTES - reserved)} MiB of WebAssembly memory are left: take fewer blocks or less KV cache`,
        )
      }
      reserved += bytes
    },
    release(bytes) {
      reserved -= bytes
    },
  }
}

/** Loads the module with its own memory and `threads` - 1 workers. @throws `engine`. */
export async function createOrtRuntime(threads: number): Promise<OrtRuntime> {
  const module = await instantiate(threads)
  check(module, module._OrtInit(threads, LOG_FATAL), 'onnxruntime does not start')

  function allocate(bytes: number): number {
    const address = module._malloc(bytes)
    if (address === 0) {
      throw new ChoraleError(
        'capacity',
        `no room for ${mebibytes(bytes)} MiB in WebAssembly memory (at most 4096 MiB a process): take fewer blocks or less KV cache`,
      )
    }
    return address >>> 0
  }

  return {
    threads,
    allocate,
    free: (address) => module._free(address),
    floats: (address, count) => new Float32Array(module.HEAPU8.buffer, address, count),
    integers: (address, count) => new Int32Array(module.HEAPU8.buffer, address, count),
    move: (target, source, bytes) => void module.HEAPU8.copyWithin(target, source, source + bytes),
    createSession: (graph, weights) => createSession(module, allocate, graph, weights),
    close: () => undefined,
  }
}

async function instantiate(threads: number): Promise<OrtWasmModule> {
  try {
    const { default: create } = await import('onnxruntime-web/ort-wasm-simd-threaded.mjs')
    return await create({ numThreads: threads })
  } catch (cause) {
    throw new ChoraleError(
      'engine',
      `onnxruntime-web's WebAssembly module does not load (threads: ${threads}): ${String(cause)}`,
      { cause },
    )
  }
}

async function createSession(
  module: OrtWasmModule,
  allocate: (bytes: number) => number,
  graph: Graph,
  weights: ReadonlyMap<string, Float32Array>,
): Promise<OrtSession> {
  const model = encodeGraph(graph)
  const modelAddress = allocate(model.length)
  module.HEAPU8.set(model, modelAddress)
  // No arena: block sessions would each keep one as large as their longest step.
  // No optimiser: the graph is written as it should run, and fusions could break batch invariance.
  const options = module._OrtCreateSessionOptions(
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
      module.mountExternalData(name, new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    }
    session = await module._OrtCreateSession(modelAddress, model.length, options)
    if (session === 0) throw lastError(module, `onnxruntime refuses the graph ${graph.name}`)
  } finally {
    module.unmountExternalData()
    module._OrtReleaseSessionOptions(options)
    module._free(modelAddress)
  }

  const names = nameTable(
    module,
    allocate,
    [...graph.inputs, ...graph.outputs].map((value) => value.name),
  )
  const inputCount = graph.inputs.length
  const outputCount = graph.outputs.length
  let closed = false

  return {
    run(inputs, outputs) {
      const stack = module.stackSave()
      const handles = module.stackAlloc((inputCount + outputCount) * POINTER)
      const tensors: number[] = []
      try {
        for (const value of [...inputs, ...outputs]) {
          const tensor = createTensor(module, value)
          module.setValue(handles + tensors.length * POINTER, tensor, '*')
          tensors.push(tensor)
        }
        const status = module._OrtRun(
          session,
          names.address,
          handles,
          inputCount,
          names.address + inputCount * POINTER,
          outputCount,
          handles + inputCount * POINTER,
          0,
        )
        // The plain build's run is synchronous; only the WebGPU builds return a promise.
        check(module, status as number, `onnxruntime fails in ${graph.name}`)
      } finally {
        for (const tensor of tensors) module._OrtReleaseTensor(tensor)
        module.stackRestore(stack)
      }
    },
    close() {
      if (closed) return
      closed = true
      module._OrtReleaseSession(session)
      names.free()
    },
  }
}

function createTensor(module: OrtWasmModule, value: OrtValue): number {
  const stack = module.stackSave()
  const dims = module.stackAlloc(Math.max(1, value.shape.length) * POINTER)
  let elements = 1
  for (const [index, dimension] of value.shape.entries()) {
    module.setValue(dims + index * POINTER, dimension, 'i32')
    elements *= dimension
  }
  const bytes = elements * (value.type === 'int64' ? 8 : 4)
  const tensor = module._OrtCreateTensor(
    ONNX_TYPE[value.type],
    value.address,
    bytes,
    dims,
    value.shape.length,
    LOCATION_CPU,
  )
  module.stackRestore(stack)
  if (tensor === 0) throw lastError(module, `onnxruntime refuses a tensor [${value.shape.join(', ')}]`)
  return tensor
}

/** Names as zero-terminated strings and a table of pointers to them. */
function nameTable(module: OrtWasmModule, allocate: (bytes: number) => number, names: readonly string[]) {
  const lengths = names.map((name) => module.lengthBytesUTF8(name) + 1)
  const table = names.length * POINTER
  const address = allocate(table + lengths.reduce((sum, length) => sum + length, 0))
  let at = address + table
  for (const [index, name] of names.entries()) {
    const length = lengths[index] ?? 0
    module.stringToUTF8(name, at, length)
    module.setValue(address + index * POINTER, at, '*')
    at += length
  }
  return { address, free: () => module._free(address) }
}

function check(module: OrtWasmModule, status: number, what: string): void {
  if (status !== 0) throw lastError(module, what)
}

function lastError(module: OrtWasmModule, what: string): ChoraleError {
  const stack = module.stackSave()
  const addresses = module.stackAlloc(2 * POINTER)
  module._OrtGetLastError(addresses, addresses + POINTER)
  const message = module.getValue(addresses + POINTER, '*')
  const text = message === 0 ? 'no message' : module.UTF8ToString(message)
  module.stackRestore(stack)
  const full = /bad_alloc|out of memory|failed to allocate/i.test(text)
  return new ChoraleError(full ? 'capacity' : 'engine', `${what}: ${text}`)
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20)
}
