import type { GpuOp } from '../gpu/context.ts'
import { createExpertMatmul } from '../gpu/ops/expert-matmul.ts'
import { createRoute } from '../gpu/ops/route.ts'
import type { MlpSpec } from '../model/spec.ts'
import type { BlockLoader } from './wgsl-block.ts'
import { loadMatrix, type StackedRows } from './wgsl-weights.ts'

/** hidden += mlp(input), formulas at `MlpSpec`. */
export async function loadMlp(loader: BlockLoader, input: GPUBuffer): Promise<GpuOp[]> {
  const { spec } = loader.model
  const { activation, biases, hiddenSize, intermediateSize, mlp } = spec
  const { activated, hidden } = loader.shared
  if (mlp.kind === 'moe') return await loadExperts(loader, mlp, input)
  const gated = mlp.kind === 'gated'
  return [
    await loader.linear(
      gated ? ['gate', 'up'] : ['up'],
      !biases.mlp ? [] : gated ? ['gateBias', 'upBias'] : ['upBias'],
      hiddenSize,
      { input, output: activated, variant: { activation, gated } },
    ),
    await loader.linear(['down'], biases.mlp ? ['downBias'] : [], intermediateSize, {
      input: activated,
      output: hidden,
      accumulate: true,
    }),
  ]
}

/** Router, choice, gate and up of the chosen experts, down: four ops, and the choice never leaves the GPU. */
async function loadExperts(
  loader: BlockLoader,
  moe: Extract<MlpSpec, { kind: 'moe' }>,
  input: GPUBuffer,
): Promise<GpuOp[]> {
  const { context, model, onBytes, shared } = loader
  const { activation, hiddenSize, intermediateSize } = model.spec
  if (shared.experts === undefined) throw new Error('a span of experts needs buffers for them')
  const { choices, logits } = shared.experts
  const { expertCount: experts, topK } = moe
  const numbers = Array.from({ length: experts }, (_, expert) => expert)
  const router = await loader.linear(['router'], [], hiddenSize, { input, output: logits })
  const gateUp = await loadMatrix(
    context,
    numbers.map((e): StackedRows => [loader.source(`gate.${e}`), loader.source(`up.${e}`)]),
    hiddenSize,
    onBytes,
    2 * intermediateSize,
  )
  const down = await loadMatrix(
    context,
    numbers.map((e): StackedRows => [loader.source(`down.${e}`)]),
    intermediateSize,
    onBytes,
    hiddenSize,
  )
  const shape = { experts, topK, choices }
  return [
    router,
    await createRoute(context, { experts, topK, normalize: moe.normalizeTopK, logits, choices }),
    await createExpertMatmul(context, {
      ...shape,
      matrix: gateUp,
      input,
      output: shared.activated,
      mode: { kind: 'gate', activation },
    }),
    await createExpertMatmul(context, {
      ...shape,
      matrix: down,
      input: shared.activated,
      output: shared.hidden,
      mode: { kind: 'mix' },
    }),
  ]
}
