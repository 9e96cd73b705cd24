import { bind, type GpuContext, type GpuOp, padded } from '../context.ts'
import type { GpuMatrix } from '../matrix.ts'
import { rowLayout } from '../weight-format.ts'
import { ACTIVATION_NUMBERS } from './activation.ts'
import type { Activation } from '../../model/spec.ts'

/** Weight rows a workgroup computes: 4 groups of COLUMNS. */
const COLUMNS = 2
const OUTPUTS = 4 * COLUMNS

export interface ExpertMatmulOptions {
  /** All experts' rows, one expert after another; made with `expertRows`. */
  matrix: GpuMatrix
  experts: number
  /** Experts a token chooses. */
  topK: number
  /** [rows, topK] of (expert, factor), from `route.wgsl`. */
  choices: GPUBuffer
  input: GPUBuffer
  output: GPUBuffer
  /**
   * gate: input [rows], output [rows * topK] of activation(gate) * up, their rows alternating in the matrix.
   * mix: input [rows * topK], output [rows] += each expert's result times its factor.
   */
  mode: { readonly kind: 'gate'; readonly activation: Activation } | { readonly kind: 'mix' }
}

/** `expert_matmul.wgsl`: each token through the experts it chose, one dispatch a part of the matrix. */
export async function createExpertMatmul(context: GpuContext, options: ExpertMatmulOptions): Promise<GpuOp> {
  const { choices, experts, input, matrix, mode, output, topK } = options
  const expertRows = matrix.rows / experts
  const gate = mode.kind === 'gate'
  const parts = await Promise.all(
    matrix.parts.map(async ({ firstRow, format, rows, scales, weights }) => {
      const kernel = await context.pipelines.get({
        shader: 'expert_matmul.wgsl',
        bindings: ['uniform', 'read', 'read', 'read', 'read', 'write'],
        preludes: [`lib/weight_${format}.wgsl`],
        constants: {
          COLUMNS,
          MIX: gate ? 0 : 1,
          ACTIVATION: ACTIVATION_NUMBERS[gate ? mode.activation : 'none'],
        },
      })
      const columns = Math.min(rows, expertRows)
      const params = Uint32Array.of(
        columns,
        rowLayout(format, matrix.columns).words,
        padded(matrix.columns) / 4,
        padded(gate ? expertRows / 2 : expertRows),
        (firstRow % expertRows) / (gate ? 2 : 1),
        Math.floor(firstRow / expertRows),
        Math.ceil(rows / expertRows),
        topK,
      )
      const bindings = [await context.uniform(params), choices, input, weights, scales ?? weights, output]
      return { columns, kernel, group: bind(context, kernel, bindings) }
    }),
  )
  return {
    encode(pass, rows) {
      for (const { columns, group, kernel } of parts) {
        pass.setPipeline(kernel.pipeline)
        pass.setBindGroup(0, group)
        pass.dispatchWorkgroups(Math.ceil(columns / OUTPUTS), gate ? rows * topK : rows)
      }
    },
  }
}
