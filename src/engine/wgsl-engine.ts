import { type GpuContext, openContext } from '../gpu/context.ts'
import { createMatmulKernels } from '../gpu/matmul-kernels.ts'
import type { KvFormat } from '../gpu/ops/rope-kv-write.ts'
import type { ShaderSources } from '../gpu/shader-set.ts'
import type { Logger } from '../log.ts'
import type { FactStore } from '../platform.ts'
import { checkHeadSupport, checkSupport, type SupportedSpec } from './check-support.ts'
import type { Engine } from './engine.ts'
import { loadWgslHead } from './wgsl-head.ts'
import { selfTest } from './wgsl-self-test.ts'
import { loadWgslSpan } from './wgsl-span.ts'

export interface WgslEngineOptions {
  gpu: GPU
  shaders: ShaderSources
  log: Logger
  /** Accept a software adapter: for tests and parity, never for work. */
  allowSoftware?: boolean
  /** Remembers devices that passed the self-test; without it every start runs it. */
  facts?: FactStore
  /** Lowers the largest storage binding, in bytes: lets a test split small tensors. */
  maxBindingBytes?: number
  /**
   * How keys and values are kept. Default f32, which agrees with the reference to 1e-4; f16 halves the cache and what
   * attention reads, and agrees to 5e-3.
   */
  kv?: KvFormat
}

/** The WGSL engine with its device's books open: for tests and metrics. */
export interface WgslEngine extends Engine {
  readonly name: 'wgsl'
  /** Bytes of all buffers on the device. */
  readonly allocatedBytes: number
}

/** What the kernels compute. */
const WGSL_SUPPORT: SupportedSpec = {
  norms: ['rms', 'layer'],
  residuals: ['sequential', 'parallel'],
  mlps: ['gated', 'plain', 'moe'],
  activations: ['silu', 'gelu', 'gelu-tanh'],
  positions: ['rope', 'alibi'],
  windows: true,
  qkNorm: true,
}

/**
 * Opens the GPU and tries its driver out (a second or two, once for each adapter and kernel set when `facts`
 * remembers). Matmul kernels are compiled when the first weights of their format are loaded.
 * @throws `engine` when there is no adapter, only a software one that was not allowed, or one whose driver computes
 *   wrong numbers.
 */
export async function createWgslEngine(options: WgslEngineOptions): Promise<WgslEngine> {
  const context: GpuContext = await openContext({ ...options, log: options.log.child('wgsl') })
  const kernels = createMatmulKernels(context)
  const { kv = 'f32' } = options
  try {
    await selfTest(context, kernels, { ...options, kv })
  } catch (error) {
    context.close()
    throw error
  }
  const { adapter } = context.device
  return {
    name: 'wgsl',
    description: `WebGPU kernels, float32 sums${kv === 'f16' ? ', f16 KV cache' : ''}, ${adapter.name}`,
    threads: 0,
    get allocatedBytes() {
      return context.buffers.allocatedBytes
    },
    async loadSpan(model, spanOptions) {
      checkSupport('wgsl', model.spec, WGSL_SUPPORT)
      return await loadWgslSpan(context, kernels, model, spanOptions, kv)
    },
    async loadHead(model, headOptions = {}) {
      checkHeadSupport('wgsl', model.spec, WGSL_SUPPORT)
      return await loadWgslHead(context, kernels, model, headOptions)
    },
    close: async () => context.close(),
  }
}
