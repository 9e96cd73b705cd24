import { bind, floatBits, type GpuContext, type GpuOp, padded } from '../context.ts'
import type { RmsNormOptions } from './rms-norm.ts'

export interface LayerNormOptions extends RmsNormOptions {
  /** [width] f32, padded as the rows. */
  bias: GPUBuffer
}

/** `layer_norm.wgsl`: output = (input - mean) / deviation * weight + bias, row by row. */
export async function createLayerNorm(context: GpuContext, options: LayerNormOptions): Promise<GpuOp> {
  const kernel = await context.pipelines.get({
    shader: 'layer_norm.wgsl',
    bindings: ['uniform', 'read', 'read', 'read', 'write'],
  })
  const params = await context.uniform(
    Uint32Array.of(options.width, padded(options.width) / 4, floatBits(options.epsilon), 0),
  )
  const { bias, input, output, weight } = options
  const group = bind(context, kernel, [params, input, weight, bias, output])
  return {
    encode(pass, rows) {
      pass.setPipeline(kernel.pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(rows)
    },
  }
}
