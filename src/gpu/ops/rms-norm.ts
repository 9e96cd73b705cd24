import { bind, floatBits, type GpuContext, type GpuOp, padded } from '../context.ts'

export interface RmsNormOptions {
  /** Values in a row; rows are padded with zeros. */
  width: number
  epsilon: number
  input: GPUBuffer
  /** [width] f32, padded likewise. */
  weight: GPUBuffer
  output: GPUBuffer
}

/** `rms_norm.wgsl`: output = input / rms(input) * weight, row by row. */
export async function createRmsNorm(context: GpuContext, options: RmsNormOptions): Promise<GpuOp> {
  const kernel = await context.pipelines.get({
    shader: 'rms_norm.wgsl',
    bindings: ['uniform', 'read', 'read', 'write'],
  })
  const params = await context.uniform(
    Uint32Array.of(options.width, padded(options.width) / 4, floatBits(options.epsilon), 0),
  )
  const group = bind(context, kernel, [params, options.input, options.weight, options.output])
  return {
    encode(pass, rows) {
      pass.setPipeline(kernel.pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(rows)
    },
  }
}
