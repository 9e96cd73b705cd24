import { bind, type Binding, type GpuContext, type GpuOp, padded } from '../context.ts'
import type { GpuMatrix } from '../matrix.ts'
import { rowLayout } from '../weight-format.ts'
import type { MatmulKernelSource, Tile } from '../matmul-kernels.ts'
import type { KernelSource } from '../pipelines.ts'
import { type LinearVariant, variantConstants } from './activation.ts'

/** Column groups of a workgroup: GROUPS of the kernel. */
export const GROUPS = 4

export interface MatmulOptions {
  matrix: GpuMatrix
  kernels: MatmulKernelSource
  /** Uniform with the step's row count. */
  step: Binding
  /** [rows, matrix.columns] f32, padded rows. */
  input: GPUBuffer
  /** [matrix.rows] f32, or undefined. */
  bias?: GPUBuffer | undefined
  /** [rows, outputs] f32, padded rows: matrix.rows outputs, or half of them when gated. */
  output: GPUBuffer
  /** Adds to what `output` holds: a residual. */
  accumulate?: boolean
  /** What becomes of the results; by default nothing. */
  variant?: Omit<LinearVariant, 'format'>
}

/** `matmul.wgsl` in one of its tile sizes. */
export function matmulKernel(variant: LinearVariant, tile: { rows: number; columns: number }): KernelSource {
  return {
    shader: 'matmul.wgsl',
    bindings: ['uniform', 'uniform', 'read', 'read', 'read', 'read', 'write'],
    preludes: [`lib/weight_${variant.format}.wgsl`],
    constants: { ROWS: tile.rows, COLUMNS: tile.columns, ...variantConstants(variant) },
  }
}

/**
 * output = activation(input × matrixᵀ + bias) (+ output), one dispatch a part of the matrix: `matmul.wgsl` for few
 * rows, `matmul_tiled.wgsl` for many, as `kernels` says.
 */
export async function createMatmul(context: GpuContext, options: MatmulOptions): Promise<GpuOp> {
  const { matrix } = options
  const { activation = 'none', gated = false } = options.variant ?? {}
  const outputsARow = gated ? 2 : 1
  const parts = await Promise.all(
    matrix.parts.map(async (part) => {
      const { format, firstRow, rows, scales, weights } = part
      const kernels = await options.kernels({ format, activation, gated })
      const words = Uint32Array.of(
        rows,
        rowLayout(format, matrix.columns).words,
        padded(matrix.columns) / 4,
        padded(matrix.rows / outputsARow),
        firstRow / outputsARow,
        options.bias === undefined ? 0 : 1,
        options.accumulate === true ? 1 : 0,
        0,
      )
      // What a format or layer lacks is bound to something that the kernel then never reads there.
      const group = bind(context, kernels.oneRow.kernel, [
        await context.uniform(words),
        options.step,
        options.input,
        weights,
        scales ?? weights,
        options.bias ?? options.input,
        options.output,
      ])
      return { kernels, rows, group }
    }),
  )
  return {
    encode(pass, rows) {
      for (const part of parts) {
        const { kernel, tile } = tileFor(part.kernels, rows)
        // Layouts with the same entries are compatible, so one bind group serves all kernels.
        pass.setPipeline(kernel.pipeline)
        pass.setBindGroup(0, part.group)
        pass.dispatchWorkgroups(Math.ceil(part.rows / tile.columns), Math.ceil(rows / tile.rows))
      }
    },
  }
}

/** Up to these many rows go through the kernel that streams weights; more share unpacked ones. */
const FEW_ROWS = 8

function tileFor<T extends { readonly tile: Tile }>(
  kernels: { readonly oneRow: T; readonly fewRows: T; readonly manyRows: T },
  rows: number,
): T {
  if (rows === 1) return kernels.oneRow
  return rows <= FEW_ROWS ? kernels.fewRows : kernels.manyRows
}
