import { type GpuContext, openContext } from '../gpu/context.ts'
import { compileInvariantMatmul } from '../gpu/matmul-probe.ts'
import type { WeightFormat } from '../gpu/matrix.ts'
import type { MatmulKernels } from '../gpu/ops/matmul.ts'
import type { ShaderSources } from '../gpu/shader-set.ts'
import type { Logger } from '../log.ts'
import { checkHeadSupport, checkSupport, LLAMA_SUPPORT } from './check-support.ts'
import type { Engine } from './engine.ts'
import { loadWgslHead } from './wgsl-head.ts'
import { loadWgslSpan } from './wgsl-span.ts'

export interface WgslEngineOptions {
  gpu: GPU
  shaders: ShaderSources
  log: Logger
  /** Accept a software adapter: for tests and parity, never for work. */
  allowSoftware?: boolean
  /** Lowers the largest storage binding, in bytes: lets a test split small tensors. */
  maxBindingBytes?: number
}

/** The WGSL engine with its device's books open: for tests and metrics. */
export interface WgslEngine extends Engine {
  readonly name: 'wgsl'
  /** Bytes of all buffers on the device. */
  readonly allocatedBytes: number
}

/**
 * Opens the GPU and compiles nothing yet: kernels are compiled when the first weights of their format are loaded.
 * @throws `engine` when there is no adapter, or only a software one that was not allowed.
 */
export async function createWgslEngine(options: WgslEngineOptions): Promise<WgslEngine> {
  const context: GpuContext = await openContext({ ...options, log: options.log.child('wgsl') })
  const byFormat = new Map<WeightFormat, Promise<MatmulKernels>>()
  const kernels = (format: WeightFormat): Promise<MatmulKernels> => {
    let compiled = byFormat.get(format)
    if (compiled === undefined) {
      compiled = compileInvariantMatmul(context, format)
      byFormat.set(format, compiled)
    }
    return compiled
  }
  const { adapter } = context.device
  return {
    name: 'wgsl',
    description: `WebGPU kernels, float32 sums, ${adapter.name}`,
    threads: 0,
    get allocatedBytes() {
      return context.buffers.allocatedBytes
    },
    async loadSpan(model, spanOptions) {
      checkSupport('wgsl', model.spec, LLAMA_SUPPORT)
      return await loadWgslSpan(context, kernels, model, spanOptions)
    },
    async loadHead(model, headOptions = {}) {
      checkHeadSupport('wgsl', model.spec, LLAMA_SUPPORT)
      return await loadWgslHead(context, kernels, model, headOptions)
    },
    close: async () => context.close(),
  }
}
