import { ChoraleError } from '../errors.ts'
import { silentLogger, type Logger } from '../log.ts'
import type { ModelSpec } from '../model/spec.ts'
import { checkSpan } from './check-span.ts'
import type { Engine } from './engine.ts'
import { loadOnnxHead } from './onnx/onnx-head.ts'
import { loadOnnxSpan } from './onnx/onnx-span.ts'
import { createOrtMemory, createOrtRuntime } from './onnx/ort-runtime.ts'

export interface OnnxEngineOptions {
  /** CPU threads, 1 to 64; default by `defaultThreads`. */
  threads?: number
  /** Logical cores of this machine, for the default number of threads. */
  cores?: number
  log?: Logger
}

const MAX_THREADS = 64
const MAX_HEAD_DIM = 128

/**
 * An engine that computes with onnxruntime-web's WebAssembly provider in float32, whatever the file's dtypes.
 *
 * Each engine has its own WebAssembly memory (at most 4 GiB for weights and KV cache together) and its own
 * threads. Runs block the calling thread; long steps let it breathe between blocks.
 * @throws `bad_config` for a senseless number of threads, `engine` when the WebAssembly module does not load.
 */
export async function createOnnxEngine(options: OnnxEngineOptions = {}): Promise<Engine> {
  const threads = options.threads ?? defaultThreads(options.cores ?? 1)
  if (!Number.isSafeInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw new ChoraleError('bad_config', `threads: ${threads} is not between 1 and ${MAX_THREADS}`, {
      field: 'threads',
    })
  }
  const log = (options.log ?? silentLogger).child('onnx')
  const runtime = await createOrtRuntime(threads)
  const memory = createOrtMemory()
  log.debug('engine started', { threads })

  return {
    name: 'onnx',
    description: `onnxruntime-web 1.30.0 WASM, float32, ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    threads,
    async loadSpan(model, loadOptions) {
      checkSpan(model, loadOptions)
      checkShape(model.spec)
      const span = await loadOnnxSpan(runtime, memory, model, loadOptions)
      log.debug('span loaded', { start: span.start, end: span.end, weightBytes: span.weightBytes })
      return span
    },
    async loadHead(model, loadOptions = {}) {
      return await loadOnnxHead(runtime, memory, model, loadOptions)
    },
    async close() {
      runtime.close()
    },
  }
}

/**
 * Threads for one process that has `cores` to itself.
 */
export function defaultThreads(cores: number): number {
  return Math.max(1, Math.min(4, cores))
}

/** @throws `not_supported` for head shapes whose numbers would depend on how tokens are cut into steps. */
function checkShape(spec: ModelSpec): void {
  const { headDim, positions } = spec
  if (headDim > MAX_HEAD_DIM || headDim % 2 !== 0 || positions.rotaryDim % 2 !== 0) {
    throw new ChoraleError(
      'not_supported',
      `heads of ${headDim} values, ${positions.rotaryDim} rotated: engine onnx takes even numbers up to ${MAX_HEAD_DIM}; use --engine wgsl or reference`,
      { field: 'head_dim' },
    )
  }
}
