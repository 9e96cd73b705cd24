import type { KernelSource } from '../pipelines.ts'
import { type LinearVariant, variantConstants } from './activation.ts'

/** Tokens, and weight rows, of a workgroup: TILE of the kernel. */
export const MATMUL_TILE = 32

/** `matmul_tiled.wgsl`, bound as `matmul.wgsl` and dispatched by `createMatmul`. */
export function matmulTiledKernel(variant: LinearVariant): KernelSource {
  return {
    shader: 'matmul_tiled.wgsl',
    bindings: ['uniform', 'uniform', 'read', 'read', 'read', 'read', 'write'],
    preludes: [`lib/weight_${variant.format}.wgsl`],
    constants: variantConstants(variant),
  }
}
