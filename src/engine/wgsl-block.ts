import type { GpuContext, GpuOp } from '../gpu/context.ts'
import type { GpuMatrix } from '../gpu/matrix.ts'
import { createAttention } from '../gpu/ops/attention.ts'
import { createMatmul, type MatmulKernels } from '../gpu/ops/matmul.ts'
import { createRmsNorm } from '../gpu/ops/rms-norm.ts'
import { createRopeKvWrite, type KvBuffers, type StepBindings } from '../gpu/ops/rope-kv-write.ts'
import { createSiluMul } from '../gpu/ops/silu-mul.ts'
import type { WeightFormat } from '../gpu/matrix.ts'
import type { BlockRole, Model } from '../model/model.ts'
import type { ModelSpec } from '../model/spec.ts'
import { rotaryPositions } from './check-support.ts'
import { loadMatrix, loadVector, type WeightSource } from './wgsl-weights.ts'

/** What all blocks of a span share. */
export interface SpanBuffers {
  /** [rows, hiddenSize], changed in place. */
  readonly hidden: GPUBuffer
  readonly normed: GPUBuffer
  readonly qkv: GPUBuffer
  readonly attended: GPUBuffer
  /** [rows, 2 * intermediateSize]. */
  readonly gateUp: GPUBuffer
  readonly activated: GPUBuffer
  readonly rotation: GPUBuffer
  readonly step: StepBindings & { readonly count: GPUBufferBinding }
}

/** A block's weights by their job in the kernels: q, k and v stacked, gate and up stacked. */
const MATRICES = { qkv: ['q', 'k', 'v'], o: ['o'], gateUp: ['gate', 'up'], down: ['down'] } as const
const BIASES = {
  qkv: ['qBias', 'kBias', 'vBias'],
  o: ['oBias'],
  gateUp: ['gateBias', 'upBias'],
  down: ['downBias'],
} as const
type MatrixName = keyof typeof MATRICES

/** Which stacked matrices have a bias. */
function biased(spec: ModelSpec): Record<MatrixName, boolean> {
  const { qkv, attentionOut, mlp } = spec.biases
  return { qkv, o: attentionOut, gateUp: mlp, down: mlp }
}

/** Every weight of a block, for progress: none is read. */
export function blockSources(model: Model, block: number, signal?: AbortSignal): WeightSource[] {
  const has = biased(model.spec)
  const roles: BlockRole[] = ['attentionNorm', 'mlpNorm']
  for (const name of Object.keys(MATRICES) as MatrixName[]) {
    roles.push(...MATRICES[name])
    if (has[name]) roles.push(...BIASES[name])
  }
  return roles.map((role) => sourceOf(model, block, role, signal))
}

function sourceOf(model: Model, block: number, role: BlockRole, signal?: AbortSignal): WeightSource {
  return {
    name: `${block}.${role}`,
    info: model.weights.blockInfo(block, role),
    read: () => model.weights.block(block, role, signal),
  }
}

export interface WgslBlockOptions {
  model: Model
  block: number
  /** Weights are allocated from this context's buffers. */
  context: GpuContext
  shared: SpanBuffers
  cache: KvBuffers
  kernels: (format: WeightFormat) => Promise<MatmulKernels>
  onBytes: (bytes: number) => void
  signal?: AbortSignal | undefined
}

/**
 * Loads one block and prepares its nine ops:
 * h += o(attention(rope(qkv(norm(h))))); h += down(silu(gate(n)) * up(n)), n = norm(h).
 */
export async function loadWgslBlock(options: WgslBlockOptions): Promise<GpuOp[]> {
  const { model, block, context, shared, cache, onBytes, signal } = options
  const { spec } = model
  const attentionWidth = spec.headCount * spec.headDim
  const has = biased(spec)
  const sources = (roles: readonly BlockRole[]) => roles.map((role) => sourceOf(model, block, role, signal))
  const linear = async (
    name: MatrixName,
    columns: number,
    input: GPUBuffer,
    output: GPUBuffer,
    accumulate: boolean,
  ): Promise<GpuOp> => {
    const matrix: GpuMatrix = await loadMatrix(context, sources(MATRICES[name]), columns, onBytes)
    const bias = has[name] ? await loadVector(context, sources(BIASES[name]), onBytes) : undefined
    const kernels = await options.kernels(matrix.format)
    const step = shared.step.count
    return await createMatmul(context, { matrix, kernels, step, input, bias, output, accumulate })
  }
  const norm = async (role: BlockRole): Promise<GpuOp> =>
    await createRmsNorm(context, {
      width: spec.hiddenSize,
      epsilon: spec.norm.epsilon,
      input: shared.hidden,
      weight: await loadVector(context, sources([role]), onBytes),
      output: shared.normed,
    })
  return [
    await norm('attentionNorm'),
    await linear('qkv', spec.hiddenSize, shared.normed, shared.qkv, false),
    await createRopeKvWrite(context, {
      heads: spec,
      rotaryDim: rotaryPositions('wgsl', spec).rotaryDim,
      step: shared.step,
      rotation: shared.rotation,
      qkv: shared.qkv,
      cache,
    }),
    await createAttention(context, {
      heads: spec,
      step: shared.step,
      qkv: shared.qkv,
      cache,
      output: shared.attended,
    }),
    await linear('o', attentionWidth, shared.attended, shared.hidden, true),
    await norm('mlpNorm'),
    await linear('gateUp', spec.hiddenSize, shared.normed, shared.gateUp, false),
    await createSiluMul(context, {
      width: spec.intermediateSize,
      input: shared.gateUp,
      output: shared.activated,
    }),
    await linear('down', spec.intermediateSize, shared.activated, shared.hidden, true),
  ]
}
