import { ChoraleError } from '../../errors.ts'
import { bind, type GpuContext, type GpuOp, padded } from '../context.ts'

/** The kernel keeps one token's logits in workgroup memory. */
const MAX_EXPERTS = 256

export interface RouteOptions {
  experts: number
  /** Experts a token chooses. */
  topK: number
  /** Factors are divided by their sum. */
  normalize: boolean
  /** [rows, experts], padded rows. */
  logits: GPUBuffer
  /** [rows, topK] of (expert, factor), 8 bytes each. */
  choices: GPUBuffer
}

/** `route.wgsl`: each token's experts and their factors. @throws `not_supported` for more than 256 experts. */
export async function createRoute(context: GpuContext, options: RouteOptions): Promise<GpuOp> {
  const { choices, experts, logits, normalize, topK } = options
  if (experts > MAX_EXPERTS) {
    throw new ChoraleError(
      'not_supported',
      `${experts} experts a block; the wgsl engine computes at most ${MAX_EXPERTS}`,
    )
  }
  const kernel = await context.pipelines.get({
    shader: 'route.wgsl',
    bindings: ['uniform', 'read', 'write'],
  })
  const params = await context.uniform(Uint32Array.of(experts, topK, normalize ? 1 : 0, padded(experts)))
  const group = bind(context, kernel, [params, logits, choices])
  return {
    encode(pass, rows) {
      pass.setPipeline(kernel.pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(rows)
    },
  }
}
