import { ChoraleError } from '../errors.ts'
import { silentLogger, type Logger } from '../log.ts'
import type { CompileWideWasm, WasmKernels, WasmThread, WasmThreadJob } from '../platform.ts'
import { checkHeadSupport, checkSupport, type SupportedSpec } from './check-support.ts'
import { checkSpan } from './check-span.ts'
import type { Engine } from './engine.ts'
import { fastestKernels, loadKernels } from './wasm/kernel-code.ts'
import { createWasmRuntime } from './wasm/runtime.ts'
import { loadWasmHead } from './wasm/wasm-head.ts'
import { loadWasmSpan } from './wasm/wasm-span.ts'

export interface WasmEngineOptions {
  /** Compiled kernels by name (`Platform.wasmKernels`). */
  kernels: (name: keyof WasmKernels) => Promise<Uint8Array<ArrayBuffer>>
  /** Compiles them to 256-bit vectors (`Platform.compileWideWasm`); without it vectors have 128 bits. */
  compileWide?: CompileWideWasm
  /** Starts threads (`Platform.startWasmThread`); without it there is one. */
  startThread?: (job: WasmThreadJob) => Promise<WasmThread>
  /** CPU threads, 1 to 64; default: all cores, up to `MAX_DEFAULT_THREADS`. */
  threads?: number
  /** Logical cores of this machine, for the default number of threads. */
  cores?: number
  /**
   * Bits that activations are rounded to, in groups of 32, before they meet a quantised weight. Default 15: results
   * agree with float32 activations to 1e-4. 8 is what llama.cpp does: a third faster where the machine computes
   * rather than waits for memory, and costs SmolLM2 0.4 % perplexity, on some texts 0.7 % (measured).
   */
  activationBits?: 8 | 15
  /** Uses the kernels for machines without relaxed SIMD: for tests. */
  plain?: boolean
  log?: Logger
}

/** Every value of a spec there is; one that is added starts refused. */
const WASM_SUPPORT: SupportedSpec = {
  norms: ['rms', 'layer'],
  residuals: ['sequential', 'parallel'],
  mlps: ['gated', 'plain', 'moe'],
  activations: ['silu', 'gelu', 'gelu-tanh'],
  positions: ['rope', 'alibi'],
  windows: true,
  qkNorm: true,
}

const MAX_THREADS = 64

/** A few cores saturate the memory that decoding streams weights from; more only wait for each other. */
const MAX_DEFAULT_THREADS = 8

/**
 * An engine for machines without a GPU: our own WebAssembly SIMD kernels. Weights stay as the file has them, in 4 or
 * 8 bits (groups of 32), f16, bf16 or f32; activations are rounded to `activationBits` in groups of 32 before they meet a
 * quantised weight, so that dot products are exact integers, and stay float32 elsewhere.
 *
 * Each engine has its own memory (at most 4 GiB for weights and KV cache together) and threads. Steps block the
 * calling thread, which is one of them; long steps let it breathe between blocks.
 * @throws `bad_config` for a senseless number of threads, `engine` when kernels or threads do not start.
 */
export async function createWasmEngine(options: WasmEngineOptions): Promise<Engine> {
  const { activationBits = 15, startThread } = options
  const cores = startThread === undefined ? 1 : (options.cores ?? 1)
  const threads = options.threads ?? Math.max(1, Math.min(cores, MAX_DEFAULT_THREADS))
  if (!Number.isSafeInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw new ChoraleError(
      'bad_config',
      `threads: ${threads} is not a whole number from 1 to ${MAX_THREADS}`,
      {
        field: 'threads',
      },
    )
  }
  const log = (options.log ?? silentLogger).child('wasm')
  const { kernels, compileWide } = options
  const code =
    options.plain === true
      ? await loadKernels({ kernels }, 'plain')
      : await fastestKernels({ kernels, compileWide, log })
  const runtime = await createWasmRuntime({
    threads,
    code,
    startThread,
    log,
    wide: activationBits === 15,
  })
  return {
    name: 'wasm',
    description: `own WASM kernels, ${code.relaxed ? 'relaxed SIMD' : 'SIMD'} of ${code.vectorBits} bits, ${activationBits}-bit activations for quantised weights, ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    threads,
    async loadSpan(model, spanOptions) {
      checkSpan(model, spanOptions)
      checkSupport('wasm', model.spec, WASM_SUPPORT)
      const span = await loadWasmSpan(runtime, model, spanOptions)
      const { end, kvBytes, start, weightBytes } = span
      log.debug('span loaded', { start, end, weightBytes, kvBytes })
      return span
    },
    async loadHead(model, headOptions = {}) {
      checkHeadSupport('wasm', model.spec, WASM_SUPPORT)
      const head = await loadWasmHead(runtime, model, headOptions)
      log.debug('head loaded', { weightBytes: head.weightBytes })
      return head
    },
    close: () => runtime.close(),
  }
}
