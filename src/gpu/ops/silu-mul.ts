import { bind, type GpuContext, type GpuOp, padded } from '../context.ts'

export interface SiluMulOptions {
  /** Values of gate and of up in a row of `input`; rows of `output` are padded to a multiple of 4. */
  width: number
  /** [rows, 2 * width]: gate, then up. */
  input: GPUBuffer
  output: GPUBuffer
}

/** `silu_mul.wgsl`: output = silu(gate) * up. */
export async function createSiluMul(context: GpuContext, options: SiluMulOptions): Promise<GpuOp> {
  const { width } = options
  const kernel = await context.pipelines.get({
    shader: 'silu_mul.wgsl',
    bindings: ['uniform', 'read', 'write'],
  })
  const params = await context.uniform(Uint32Array.of(width, padded(2 * width), padded(width), 0))
  const group = bind(context, kernel, [params, options.input, options.output])
  return {
    encode(pass, rows) {
      pass.setPipeline(kernel.pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(Math.ceil(width / 64), rows)
    },
  }
}
