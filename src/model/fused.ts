/**
 * Tensors that hold the weights of several roles, and where each role's rows lie in them.
 *
 * A row is what one output reads: the last dimension of a matrix, one value of a bias. Rows are whole blocks of
 * quantised formats, so parts are cut without decoding.
 */

import type { BlockRole } from './model.ts'
import type { ModelSpec } from './spec.ts'

/**
 * - `qkv-grouped` [kvHeads * (group + 2) * headDim, in]: for each key/value head its query heads, its key, its value.
 *   With one query head a group that is q, k, v head by head; with one group all q, then k, then v.
 * - `qkv-stacked` [(heads + 2 kvHeads) * headDim, in]: all q, all k, all v.
 * - `expert` [experts, out, in]: every expert's matrix.
 * - `expert-gate-up` [experts, 2 * out, in]: every expert's gate above its up.
 */
export type TensorPart = 'qkv-grouped' | 'qkv-stacked' | 'expert' | 'expert-gate-up'

/** Rows of a stored tensor, counted over all leading dimensions. */
export interface RowRange {
  readonly first: number
  readonly count: number
}

/** The shape a tensor with `part` of `role` must have, and the role's rows in order. */
export function partOf(
  spec: ModelSpec,
  part: TensorPart,
  role: BlockRole,
  expert: number,
  shape: readonly number[],
): { readonly stored: readonly number[]; readonly rows: readonly RowRange[] } {
  const { headCount, headDim, kvHeadCount } = spec
  const [out = 0, ...inputs] = shape
  const experts = spec.mlp.kind === 'moe' ? spec.mlp.expertCount : 0
  switch (part) {
    case 'qkv-grouped': {
      const group = headCount / kvHeadCount
      const [before, heads] = headPlace(role, group, 1)
      return {
        stored: [kvHeadCount * (group + 2) * headDim, ...inputs],
        rows: Array.from({ length: kvHeadCount }, (_, kv) => ({
          first: (kv * (group + 2) + before) * headDim,
          count: heads * headDim,
        })),
      }
    }
    case 'qkv-stacked': {
      const [before, heads] = headPlace(role, headCount, kvHeadCount)
      return {
        stored: [(headCount + 2 * kvHeadCount) * headDim, ...inputs],
        rows: [{ first: before * headDim, count: heads * headDim }],
      }
    }
    case 'expert':
      return { stored: [experts, ...shape], rows: [{ first: expert * out, count: out }] }
    case 'expert-gate-up': {
      const half = role === 'gate' ? 0 : 1
      return {
        stored: [experts, 2 * out, ...inputs],
        rows: [{ first: (2 * expert + half) * out, count: out }],
      }
    }
  }
}

/** Heads before a role's own, and its own, where `queries` heads of q come before `keys` of k and as many of v. */
function headPlace(role: BlockRole, queries: number, keys: number): readonly [before: number, heads: number] {
  if (role === 'q' || role === 'qBias') return [0, queries]
  return [role === 'k' || role === 'kBias' ? queries : queries + keys, keys]
}
