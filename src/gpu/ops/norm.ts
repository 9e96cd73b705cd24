import type { NormSpec } from '../../model/spec.ts'
import type { GpuContext, GpuOp } from '../context.ts'
import { createLayerNorm } from './layer-norm.ts'
import { createRmsNorm } from './rms-norm.ts'

export interface NormOptions {
  norm: NormSpec
  /** Values in a row; rows are padded with zeros. */
  width: number
  input: GPUBuffer
  /** [width] f32, padded likewise. */
  weight: GPUBuffer
  /** [width] f32, padded likewise; layer norms need it, others have none. */
  bias: GPUBuffer | undefined
  output: GPUBuffer
}

/** The spec's norm of each row: `layer_norm.wgsl` or `rms_norm.wgsl`. */
export async function createNorm(context: GpuContext, options: NormOptions): Promise<GpuOp> {
  const { bias, norm } = options
  const { epsilon } = norm
  if (norm.kind === 'rms') return await createRmsNorm(context, { ...options, epsilon })
  if (bias === undefined) throw new Error('a layer norm needs a bias')
  return await createLayerNorm(context, { ...options, bias, epsilon })
}
