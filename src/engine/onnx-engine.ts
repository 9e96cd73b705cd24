import { ChoraleError } from '../errors.ts'
import { silentLogger, type Logger } from '../log.ts'
import { checkSpan } from './check-span.ts'
import { checkHeadSupport, checkSupport, type SupportedSpec } from './check-support.ts'
import type { Engine } from './engine.ts'
import { checkRotation } from './onnx/head-layout.ts'
import { loadOnnxHead } from './onnx/onnx-head.ts'
import { loadOnnxSpan } from './onnx/onnx-span.ts'
import { createMemoryBudget } from './onnx/memory-budget.ts'
import { createOrtRuntime, type OrtRuntime } from './onnx/ort-runtime.ts'
import { ORT_VERSION } from './onnx/ort-wasm.ts'

export interface OnnxEngineOptions {
  /** CPU threads, 1 to 64; default by `defaultThreads`. */
  threads?: number
  /** Logical cores of this machine, for the default number of threads. */
  cores?: number
  log?: Logger
}

/** Against a typo that would start thousands of workers. */
const MAX_THREADS = 64

const SUPPORTED: SupportedSpec = {
  norms: ['rms', 'layer'],
  residuals: ['sequential', 'parallel'],
  mlps: ['gated', 'plain', 'moe'],
  activations: ['silu', 'gelu', 'gelu-tanh'],
  positions: ['rope', 'alibi'],
  windows: true,
  qkNorm: true,
}

/**
 * An engine that computes with onnxruntime-web's WebAssembly provider in float32, whatever the file's dtypes.
 *
 * Each engine has its own WebAssembly memory (at most 4 GiB for weights and KV cache together) and threads. Runs
 * block the calling thread; long steps let it breathe between blocks. Closing spans gives memory back to the
 * engine; the system gets it back when the engine is dropped, with more than one thread when the process ends
 * (its workers sleep till then and keep no process alive).
 * @throws `bad_config` for a senseless number of threads, `engine` when the WebAssembly module does not load.
 */
export async function createOnnxEngine(options: OnnxEngineOptions = {}): Promise<Engine> {
  const threads = options.threads ?? defaultThreads(options.cores ?? 1)
  if (!Number.isSafeInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw new ChoraleError(
      'bad_config',
      `threads: ${threads} is not a whole number from 1 to ${MAX_THREADS}`,
      {
        field: 'threads',
      },
    )
  }
  const log = (options.log ?? silentLogger).child('onnx')
  let open: OrtRuntime | undefined = await createOrtRuntime(threads)
  const budget = createMemoryBudget()
  const runtime = (): OrtRuntime => {
    if (open === undefined) throw new ChoraleError('engine', 'the onnx engine was closed')
    return open
  }
  return {
    name: 'onnx',
    description: `onnxruntime-web ${ORT_VERSION} WASM, float32, ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    threads,
    async loadSpan(model, loadOptions) {
      checkSpan(model, loadOptions)
      checkSupport('onnx', model.spec, SUPPORTED)
      checkRotation(model.spec)
      const span = await loadOnnxSpan(runtime(), budget, model, loadOptions)
      const { start, end, weightBytes, kvBytes } = span
      log.debug('span loaded', { start, end, weightBytes, kvBytes })
      return span
    },
    async loadHead(model, loadOptions = {}) {
      checkHeadSupport('onnx', model.spec, SUPPORTED)
      const head = await loadOnnxHead(runtime(), budget, model, loadOptions)
      log.debug('head loaded', { weightBytes: head.weightBytes })
      return head
    },
    async close() {
      open = undefined
    },
  }
}

/**
 * Threads for a process that has `cores` to itself. One token is bound by memory bandwidth, which two cores share
 * better than one uses it; a few saturate it. More than one thread waits by spinning while a run lasts, so on
 * a machine whose cores are all busy with something else one thread is faster: servers that share a machine ask for 1.
 */
export function defaultThreads(cores: number): number {
  return Math.max(1, Math.min(4, Math.floor(cores)))
}
