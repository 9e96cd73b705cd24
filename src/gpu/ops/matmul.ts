import { bind, type Binding, type GpuContext, type GpuOp, padded } from '../context.ts'
import type { GpuMatrix, WeightFormat } from '../matrix.ts'
import type { Kernel } from '../pipelines.ts'

/** Tokens a workgroup and outputs an invocation computes. */
interface Tile {
  readonly rows: number
  readonly columns: number
}

/** Column groups of a workgroup: GROUPS of the kernel. */
const GROUPS = 4

const ONE_ROW: Tile = { rows: 1, columns: 2 }
const MANY_ROWS: Tile = { rows: 4, columns: 4 }

/** The kernel compiled for one tile size. */
export interface TiledKernel {
  readonly kernel: Kernel
  readonly tile: Tile
}

/** What one weight format is multiplied with: a kernel for decoding one token, one for everything else. */
export interface MatmulKernels {
  readonly oneRow: TiledKernel
  readonly manyRows: TiledKernel
}

export interface MatmulOptions {
  matrix: GpuMatrix
  kernels: MatmulKernels
  /** Uniform with the step's row count. */
  step: Binding
  /** [rows, matrix.columns] f32, rows padded with zeros to a multiple of 4. */
  input: GPUBuffer
  /** [matrix.rows] f32, or undefined. */
  bias?: GPUBuffer | undefined
  /** [rows, matrix.rows] f32, padded rows. */
  output: GPUBuffer
  /** Adds to what `output` holds: a residual. */
  accumulate?: boolean
}

/**
 * Compiles `matmul.wgsl` for one weight format in two tile sizes. Both add in the same order; that a driver compiles
 * them to the same bits is for `matmul-probe.ts` to find out.
 */
export async function compileMatmul(context: GpuContext, format: WeightFormat): Promise<MatmulKernels> {
  const compile = async (tile: Tile) => ({
    tile,
    kernel: await context.pipelines.get({
      shader: 'matmul.wgsl',
      bindings: ['uniform', 'uniform', 'read', 'read', 'read', 'write'],
      preludes: [`lib/weight_${format}.wgsl`],
      constants: { ROWS: tile.rows, COLUMNS: tile.columns },
    }),
  })
  const [oneRow, manyRows] = await Promise.all([compile(ONE_ROW), compile(MANY_ROWS)])
  return { oneRow, manyRows }
}

/** `matmul.wgsl`: output = input × matrixᵀ (+ bias) (+ output), one dispatch a part of the matrix. */
export async function createMatmul(context: GpuContext, options: MatmulOptions): Promise<GpuOp> {
  const { matrix, kernels } = options
  const quads = padded(matrix.columns) / 4
  const parts = await Promise.all(
    matrix.parts.map(async (part) => {
      const words = Uint32Array.of(
        part.rows,
        quads,
        quads,
        padded(matrix.rows),
        part.firstRow,
        options.bias === undefined ? 0 : 1,
        options.accumulate === true ? 1 : 0,
        0,
      )
      // Without a bias the binding is filled with the input, which the kernel then never reads there.
      const bindings = [
        await context.uniform(words),
        options.step,
        options.input,
        part.buffer,
        options.bias ?? options.input,
        options.output,
      ]
      return { rows: part.rows, group: bind(context, kernels.oneRow.kernel, bindings) }
    }),
  )
  return {
    encode(pass, rows) {
      // Layouts with the same entries are compatible, so one bind group serves both kernels.
      const { kernel, tile } = rows === 1 ? kernels.oneRow : kernels.manyRows
      pass.setPipeline(kernel.pipeline)
      for (const part of parts) {
        pass.setBindGroup(0, part.group)
        pass.dispatchWorkgroups(Math.ceil(part.rows / (GROUPS * tile.columns)), Math.ceil(rows / tile.rows))
      }
    },
  }
}
