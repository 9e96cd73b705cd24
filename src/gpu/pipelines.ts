import type { GpuDevice } from './device.ts'
import { resolveShader, type ShaderSources } from './shader-set.ts'

/** What a kernel's binding is, in the order of its `@binding` numbers. */
export type BindingKind = 'uniform' | 'read' | 'write'

export interface KernelSource {
  /** Path under `shaders/`. */
  readonly shader: string
  readonly bindings: readonly BindingKind[]
  readonly preludes?: readonly string[]
  readonly constants?: Readonly<Record<string, number>>
}

/** A compiled kernel. */
export interface Kernel {
  readonly pipeline: GPUComputePipeline
  readonly layout: GPUBindGroupLayout
}

/** Compiles each kernel once, whoever asks. */
export interface Pipelines {
  /** @throws `engine` with the compiler's words. */
  get(source: KernelSource): Promise<Kernel>
}

/** Makes the pipeline cache of `device`. */
export function createPipelines(device: GpuDevice, shaders: ShaderSources): Pipelines {
  const kernels = new Map<string, Promise<Kernel>>()
  return {
    get(source) {
      const key = JSON.stringify([source.shader, source.preludes ?? [], source.constants ?? {}])
      let kernel = kernels.get(key)
      if (kernel === undefined) {
        kernel = compile(device, shaders, source)
        kernels.set(key, kernel)
      }
      return kernel
    },
  }
}

async function compile(device: GpuDevice, shaders: ShaderSources, source: KernelSource): Promise<Kernel> {
  const code = resolveShader(shaders, source.shader, source.preludes, source.constants)
  const { raw } = device
  const layout = raw.createBindGroupLayout({
    label: source.shader,
    entries: source.bindings.map((kind, binding) => ({
      binding,
      visibility: 0x4, // GPUShaderStage.COMPUTE
      buffer: { type: LAYOUT_TYPES[kind] },
    })),
  })
  try {
    const pipeline = await raw.createComputePipelineAsync({
      label: source.shader,
      layout: raw.createPipelineLayout({ label: source.shader, bindGroupLayouts: [layout] }),
      compute: { module: raw.createShaderModule({ label: source.shader, code }), entryPoint: 'main' },
    })
    return { pipeline, layout }
  } catch (error) {
    throw device.explain(error)
  }
}

const LAYOUT_TYPES = {
  uniform: 'uniform',
  read: 'read-only-storage',
  write: 'storage',
} as const satisfies Record<BindingKind, GPUBufferBindingType>
