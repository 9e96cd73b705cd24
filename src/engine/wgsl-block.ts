import type { GpuContext, GpuOp } from '../gpu/context.ts'
import type { MatmulKernelSource } from '../gpu/matmul-kernels.ts'
import type { LinearVariant } from '../gpu/ops/activation.ts'
import { createAttention } from '../gpu/ops/attention.ts'
import { createAttentionReduce } from '../gpu/ops/attention-reduce.ts'
import { createMatmul, type MatmulOptions } from '../gpu/ops/matmul.ts'
import { createNorm } from '../gpu/ops/norm.ts'
import { createRopeKvWrite, type KvBuffers, type StepBindings } from '../gpu/ops/rope-kv-write.ts'
import { commonFormat } from '../gpu/pack-weights.ts'
import type { BlockRole, Model } from '../model/model.ts'
import { blockRoles } from '../model/weights.ts'
import { loadMlp } from './wgsl-mlp.ts'
import { loadMatrix, loadVector, type StackedRows, type WeightSource } from './wgsl-weights.ts'

/** What all blocks of a span share. */
export interface SpanBuffers {
  /** [rows, hiddenSize], changed in place. */
  readonly hidden: GPUBuffer
  readonly normed: GPUBuffer
  /** The mlp's normed input where it exists beside attention's: parallel blocks with two norms. */
  readonly mlpNormed: GPUBuffer | undefined
  readonly qkv: GPUBuffer
  /** Attention's results, split by split. */
  readonly partial: GPUBuffer
  readonly attended: GPUBuffer
  /** [rows, intermediateSize]; with experts [rows * topK, intermediateSize]. */
  readonly activated: GPUBuffer
  /** Router logits [rows, experts] and what they choose [rows, topK]. */
  readonly experts: { readonly logits: GPUBuffer; readonly choices: GPUBuffer } | undefined
  /** Pairs (cos, sin); empty without rotation. */
  readonly rotation: GPUBuffer
  /** [headCount], with linear biases. */
  readonly slopes: GPUBuffer | undefined
  readonly step: StepBindings
}

/** Every weight of a block, for progress: none is read. */
export function blockSources(model: Model, block: number, signal?: AbortSignal): WeightSource[] {
  return blockRoles(model.spec).map((role) => sourceOf(model, block, role, signal))
}

function sourceOf(model: Model, block: number, role: BlockRole, signal?: AbortSignal): WeightSource {
  return {
    name: `${block}.${role}`,
    info: model.weights.blockInfo(block, role),
    read: () => model.weights.block(block, role, signal),
  }
}

/**
 * Starts compiling every matmul kernel that these blocks will ask for, side by side and beside the reading of
 * weights. What fails, fails again where it is needed.
 */
export function compileAhead(model: Model, blocks: readonly number[], kernels: MatmulKernelSource): void {
  const { activation, mlp } = model.spec
  const gated = mlp.kind === 'gated'
  const plain: readonly BlockRole[] =
    mlp.kind === 'moe' ? ['q', 'k', 'v', 'o', 'router'] : ['q', 'k', 'v', 'o', 'down']
  const variants = new Map<string, LinearVariant>()
  const add = (variant: LinearVariant) => variants.set(JSON.stringify(variant), variant)
  for (const block of blocks) {
    const dtype = (role: BlockRole) => model.weights.blockInfo(block, role).dtype
    for (const role of plain) add({ format: commonFormat([dtype(role)]), activation: 'none', gated: false })
    if (mlp.kind === 'moe') continue
    const format = commonFormat(gated ? [dtype('gate'), dtype('up')] : [dtype('up')])
    add({ format, activation, gated })
  }
  for (const variant of variants.values()) kernels(variant).catch(() => undefined)
}

export interface WgslBlockOptions {
  model: Model
  block: number
  /** Weights are allocated from this context's buffers. */
  context: GpuContext
  shared: SpanBuffers
  cache: KvBuffers
  kernels: MatmulKernelSource
  onBytes: (bytes: number) => void
  signal?: AbortSignal | undefined
}

/** Reads a block's weights onto the GPU and makes its linear layers: what attention and mlp are built from. */
export interface BlockLoader extends WgslBlockOptions {
  source(role: BlockRole): WeightSource
  vector(roles: readonly BlockRole[], alternate?: boolean): Promise<GPUBuffer>
  /** `roles` and `biases` are stacked; gated ones are the two whose rows alternate. */
  linear(
    roles: readonly BlockRole[],
    biases: readonly BlockRole[],
    columns: number,
    ends: Pick<MatmulOptions, 'input' | 'output' | 'accumulate' | 'variant'>,
  ): Promise<GpuOp>
}

/**
 * Loads one block and prepares its ops, nine for a sequential block with one mlp: norm, q·k·v, rotation and cache,
 * attention, its reduction, o, norm, up (and gate, and activation), down. `ModelSpec` says how they add up.
 */
export async function loadWgslBlock(options: WgslBlockOptions): Promise<GpuOp[]> {
  const { spec } = options.model
  const { residual } = spec
  const { hidden, mlpNormed, normed } = options.shared
  const loader = blockLoader(options)
  const norm = async (role: 'attentionNorm' | 'mlpNorm', output: GPUBuffer): Promise<GpuOp> =>
    await createNorm(options.context, {
      norm: spec.norm,
      width: spec.hiddenSize,
      input: hidden,
      weight: await loader.vector([role]),
      bias: spec.norm.kind === 'layer' ? await loader.vector([`${role}Bias`]) : undefined,
      output,
    })
  const attentionNorm = await norm('attentionNorm', normed)
  const attention = await loadAttention(loader)
  if (residual.kind === 'sequential') {
    const mlpNorm = await norm('mlpNorm', normed)
    return [attentionNorm, ...attention, mlpNorm, ...(await loadMlp(loader, normed))]
  }
  if (mlpNormed === undefined) return [attentionNorm, ...attention, ...(await loadMlp(loader, normed))]
  // Both norms read the block's input, before attention is added to it.
  const mlpNorm = await norm('mlpNorm', mlpNormed)
  return [attentionNorm, mlpNorm, ...attention, ...(await loadMlp(loader, mlpNormed))]
}

function blockLoader(options: WgslBlockOptions): BlockLoader {
  const { block, context, kernels, model, onBytes, shared, signal } = options
  const source = (role: BlockRole) => sourceOf(model, block, role, signal)
  const vector = async (roles: readonly BlockRole[], alternate = false): Promise<GPUBuffer> =>
    await loadVector(context, roles.map(source), onBytes, alternate)
  return {
    ...options,
    source,
    vector,
    async linear(roles, biases, columns, ends) {
      const gated = ends.variant?.gated === true
      const sources = roles.map(source)
      const stack = gated ? [sources as unknown as StackedRows] : sources.map((one): StackedRows => [one])
      const matrix = await loadMatrix(context, stack, columns, onBytes)
      const bias = biases.length === 0 ? undefined : await vector(biases, gated)
      return await createMatmul(context, { ...ends, matrix, bias, kernels, step: shared.step.count })
    },
  }
}

/** hidden += o(attention(q, k, v of normed)). */
async function loadAttention(loader: BlockLoader): Promise<GpuOp[]> {
  const { block, cache, context, model, shared } = loader
  const { spec } = model
  const { attended, hidden, normed, partial, qkv, rotation, slopes, step } = shared
  const { positions } = spec
  const heads = spec
  const window = spec.windows[block] ?? undefined
  const alibi = positions.kind === 'alibi' && slopes !== undefined ? { spec: positions, slopes } : undefined
  const project = await loader.linear(
    ['q', 'k', 'v'],
    spec.biases.qkv ? ['qBias', 'kBias', 'vBias'] : [],
    spec.hiddenSize,
    { input: normed, output: qkv },
  )
  const headNorm = spec.qkNorm
    ? { weight: await loader.vector(['qNorm', 'kNorm']), epsilon: spec.norm.epsilon }
    : undefined
  const rotaryDim = positions.kind === 'rope' ? positions.rotaryDim : 0
  const output = await loader.linear(
    ['o'],
    spec.biases.attentionOut ? ['oBias'] : [],
    spec.headCount * spec.headDim,
    { input: attended, output: hidden, accumulate: true },
  )
  return [
    project,
    await createRopeKvWrite(context, { heads, rotaryDim, headNorm, step, rotation, qkv, cache }),
    await createAttention(context, { heads, window, alibi, step, qkv, cache, partial }),
    await createAttentionReduce(context, { heads, window, step, partial, output: attended }),
    output,
  ]
}
