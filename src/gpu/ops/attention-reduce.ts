import { bind, type GpuContext, type GpuOp, padded } from '../context.ts'
import type { HeadShape, StepBindings } from './rope-kv-write.ts'

export interface AttentionReduceOptions {
  heads: HeadShape
  /** As `attention` had it. */
  window?: number | undefined
  step: StepBindings
  partial: GPUBuffer
  /** [rows, headCount * headDim], padded rows. */
  output: GPUBuffer
}

/** `attention_reduce.wgsl`: joins the splits' partial results. */
export async function createAttentionReduce(
  context: GpuContext,
  options: AttentionReduceOptions,
): Promise<GpuOp> {
  const { heads, output, partial, step } = options
  const kernel = await context.pipelines.get({
    shader: 'attention_reduce.wgsl',
    bindings: ['uniform', 'uniform', 'read', 'read', 'write'],
  })
  const params = await context.uniform(
    Uint32Array.of(
      heads.headCount,
      heads.headDim,
      padded(heads.headCount * heads.headDim),
      options.window ?? 0xffff_ffff,
    ),
  )
  const group = bind(context, kernel, [params, step.count, step.rows, partial, output])
  return {
    encode(pass, rows) {
      pass.setPipeline(kernel.pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(heads.headCount, rows)
    },
  }
}
