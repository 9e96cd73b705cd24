import type { PagedLease } from '../../kv/pages.ts'
import type { BlockRole, Model } from '../../model/model.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { blockRoles } from '../../model/weights.ts'
import { dequantize } from '../../tensor/quant.ts'
import { attend, type BlockCache } from './attention.ts'
import { addInto } from './math.ts'
import { runMlp } from './mlp.ts'
import { normalize } from './norm.ts'
import { type ActivationRounding, markRounded, roundsActivations } from './rounded-activations.ts'

/** One block's weights in float32, by role; only the roles that the spec has. */
export type BlockWeights = ReadonlyMap<BlockRole, Float32Array>

/**
 * Reads one block's weights as float32; with `rounding`, quantised matrices multiply rounded activations.
 * @throws what `ModelWeights.block` throws.
 */
export async function loadBlock(
  model: Model,
  block: number,
  rounding: ActivationRounding | undefined,
  signal?: AbortSignal,
): Promise<BlockWeights> {
  const weights = new Map<BlockRole, Float32Array>()
  for (const role of blockRoles(model.spec)) {
    const stored = await model.weights.block(block, role, signal)
    const values = dequantize(stored)
    // The wasm engine routes in float32, whatever the router's format.
    const rounds = role !== 'router' && roundsActivations(stored.dtype)
    if (rounding !== undefined && rounds) markRounded(values, rounding)
    weights.set(role, values)
  }
  return weights
}

/**
 * Runs block number `block` over new tokens of one session and writes their keys and values into its pages.
 * hidden [tokens, hiddenSize], changed in place as `ModelSpec.residual` says.
 */
export function runBlock(
  spec: ModelSpec,
  block: number,
  weights: BlockWeights,
  cache: BlockCache,
  lease: PagedLease,
  hidden: Float32Array,
  tokens: number,
): void {
  const norm = (role: 'attentionNorm' | 'mlpNorm') =>
    normalize(spec.norm, hidden, tokens, weights.get(role) as Float32Array, weights.get(`${role}Bias`))
  const window = spec.windows[block] ?? undefined
  const attentionInput = norm('attentionNorm')
  const attention = attend(spec, window, weights, cache, lease, attentionInput, tokens)
  if (spec.residual.kind === 'sequential') {
    addInto(hidden, attention)
    addInto(hidden, runMlp(spec, weights, norm('mlpNorm'), tokens))
    return
  }
  // Both read the block's input, so the mlp's norm comes before the attention is added.
  const mlp = runMlp(spec, weights, spec.residual.norms === 1 ? attentionInput : norm('mlpNorm'), tokens)
  addInto(hidden, attention)
  addInto(hidden, mlp)
}
