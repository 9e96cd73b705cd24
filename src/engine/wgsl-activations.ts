import { USAGE } from '../gpu/buffers.ts'
import { type GpuContext, padded, rowsThatFit } from '../gpu/context.ts'
import { partialValues, splitCount } from '../gpu/ops/attention.ts'
import { qkvWidth, rotationTable } from '../gpu/ops/rope-kv-write.ts'
import type { PagePool } from '../kv/pages.ts'
import type { ModelSpec } from '../model/spec.ts'
import type { SpanBuffers } from './wgsl-block.ts'
import { createStepBuffer, pageCount, type StepBuffer } from './wgsl-step.ts'
import { vectorBuffer } from './wgsl-weights.ts'

/** Tokens one submit computes; longer prefills go in several. Bounds the activation buffers. */
const MAX_ROWS = 256

/** Bytes for attention's partial results, unless one row needs more: long contexts compute fewer rows a submit. */
const PARTIAL_BYTES = 64 * 2 ** 20

/** The buffers of a step, and how many rows of it they have room for. */
export interface Activations {
  /** Tokens one submit computes. */
  readonly maxRows: number
  /** (row, split) pairs that the partial results have room for. */
  readonly slots: number
  readonly shared: SpanBuffers
  readonly step: StepBuffer
  readonly staging: GPUBuffer
}

/** Allocates what all blocks of a span share. @throws `capacity`. */
export async function createActivations(
  context: GpuContext,
  spec: ModelSpec,
  pool: PagePool,
): Promise<Activations> {
  const { hiddenSize, intermediateSize, mlp, positions, residual } = spec
  const topK = mlp.kind === 'moe' ? mlp.topK : 1
  const experts = mlp.kind === 'moe' ? mlp.expertCount : 0
  const attentionWidth = spec.headCount * spec.headDim
  const widest = Math.max(
    topK * padded(intermediateSize),
    qkvWidth(spec),
    hiddenSize,
    attentionWidth,
    experts,
  )
  const maxRows = rowsThatFit(context.device, MAX_ROWS, widest)
  const create = async (label: string, bytes: number) =>
    await context.buffers.create(label, bytes, USAGE.storage | USAGE.copyTarget | USAGE.copySource)
  const rowsOf = (label: string, width: number, rows = maxRows) => create(label, rows * padded(width) * 4)
  const step = await createStepBuffer(context, maxRows, pageCount(pool.tokens))

  const slotBytes = partialValues(spec) * 4
  const { maxBufferSize, maxStorageBufferBindingSize } = context.device.limits
  const partialBytes = Math.min(PARTIAL_BYTES, maxBufferSize, maxStorageBufferBindingSize)
  const mostSplits = splitCount(pool.tokens)
  const slots = Math.max(mostSplits, Math.min(maxRows * mostSplits, Math.floor(partialBytes / slotBytes)))

  const rope = positions.kind === 'rope' ? positions : undefined
  const table = rope
    ? rotationTable(rope.inverseFrequencies, rope.attentionFactor, pool.tokens)
    : new Float32Array(4)
  const slopes = positions.kind === 'alibi' ? Float32Array.from(positions.slopes) : undefined
  const shared: SpanBuffers = {
    hidden: await rowsOf('hidden', hiddenSize),
    normed: await rowsOf('normed', hiddenSize),
    mlpNormed:
      residual.kind === 'parallel' && residual.norms === 2
        ? await rowsOf('normed for the mlp', hiddenSize)
        : undefined,
    qkv: await rowsOf('qkv', qkvWidth(spec)),
    partial: await create(`partial attention (kvTokens ${pool.tokens})`, slots * slotBytes),
    attended: await rowsOf('attended', attentionWidth),
    activated: await rowsOf('activated', intermediateSize, maxRows * topK),
    experts:
      experts === 0
        ? undefined
        : {
            logits: await rowsOf('router logits', experts),
            choices: await create('chosen experts', maxRows * topK * 8),
          },
    rotation: await vectorBuffer(context, 'rotation table', table),
    slopes: slopes && (await vectorBuffer(context, 'slopes', slopes)),
    step: step.bindings,
  }
  const staging = await context.buffers.create(
    'hidden readback',
    maxRows * padded(hiddenSize) * 4,
    USAGE.mapRead | USAGE.copyTarget,
  )
  return { maxRows, slots, shared, step, staging }
}
