import type { BlockRole, ClientRole, Model, WeightTensor } from '../../../src/model/model.ts'
import type { ModelSpec } from '../../../src/model/spec.ts'
import { blockShape, clientShape, clientRoles } from '../../../src/model/weights.ts'
import { quantize } from '../../../src/tensor/quantize.ts'
import { byteLength } from '../../../src/tensor/weight.ts'
import { f32ToF16, f32ToBytes } from '../../../src/tensor/dtype.ts'

export type BlockFormat = 'F16' | 'Q4_0'

/** Sizes of one block of a Llama. */
export interface BlockShape {
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly headCount: number
  readonly kvHeadCount: number
  readonly headDim: number
}

/** A block of Llama-3-8B: 218 million weights. */
export const LLAMA_3_8B: BlockShape = {
  hiddenSize: 4096,
  intermediateSize: 14336,
  headCount: 32,
  kvHeadCount: 8,
  headDim: 128,
}

/** The same proportions at a sixty-fourth of the work, for adapters that are software. */
export const SHRUNKEN: BlockShape = {
  hiddenSize: 512,
  intermediateSize: 1792,
  headCount: 8,
  kvHeadCount: 2,
  headDim: 64,
}

const CONTEXT = 2048
/** Weights repeat after this many: what they are does not change how fast they are read. */
const PERIOD = 1 << 16

/** A model of `blocks` equal blocks with made-up weights: speed depends on shapes and formats, not on values. */
export function syntheticBlocks(shape: BlockShape, format: BlockFormat, blocks: number): Model {
  const spec: ModelSpec = {
    family: 'llama',
    ...shape,
    blockCount: blocks,
    // Room for the 256 bytes; too small to show in a step's time.
    vocabSize: 288,
    contextLength: CONTEXT,
    norm: { kind: 'rms', epsilon: 1e-5 },
    residual: { kind: 'sequential' },
    mlp: { kind: 'gated' },
    activation: 'silu',
    positions: {
      kind: 'rope',
      rotaryDim: shape.headDim,
      inverseFrequencies: Array.from(
        { length: shape.headDim / 2 },
        (_, i) => 10_000 ** ((-2 * i) / shape.headDim),
      ),
      attentionFactor: 1,
    },
    windows: Array.from({ length: blocks }, () => null),
    qkNorm: false,
    embeddingNorm: false,
    biases: { qkv: false, attentionOut: false, mlp: false },
    tiedHead: true,
    bosTokenId: undefined,
    eosTokenIds: [],
  }
  const period = Float32Array.from({ length: PERIOD }, (_, i) => Math.sin(i * 12.9898) * 0.02)
  const bytesOfPeriod = format === 'F16' ? f32ToF16(period) : quantize('Q4_0', period)
  const client: ReadonlySet<string> = new Set(clientRoles(spec))
  const shapeOf = (role: BlockRole | ClientRole) =>
    client.has(role) ? clientShape(spec, role as ClientRole) : blockShape(spec, role as BlockRole)
  const info = (role: BlockRole | ClientRole) => {
    const size = shapeOf(role)
    return { dtype: size.length === 1 ? ('F32' as const) : format, shape: size }
  }
  const weight = (role: BlockRole | ClientRole): WeightTensor => {
    const { dtype, shape: size } = info(role)
    const count = size.reduce((product, one) => product * one, 1)
    if (dtype === 'F32') return { dtype, shape: size, bytes: f32ToBytes(new Float32Array(count).fill(1)) }
    const bytes = new Uint8Array(byteLength(dtype, size))
    for (let at = 0; at < bytes.length; at += bytesOfPeriod.length) {
      bytes.set(bytesOfPeriod.subarray(0, bytes.length - at), at)
    }
    return { dtype, shape: size, bytes }
  }
  return {
    name: `${blocks} block${blocks === 1 ? '' : 's'}, hidden ${shape.hiddenSize}`,
    id: `synthetic-${shape.hiddenSize}-${blocks}@${format}`,
    format: 'safetensors',
    spec,
    weights: {
      blockInfo: (_, role) => info(role),
      block: async (_, role) => weight(role),
      clientInfo: info,
      client: async (role) => weight(role),
    },
    tokenizerFiles: async () => undefined,
    generationDefaults: {},
    close: async () => undefined,
  }
}

/** Bytes of all blocks' matrices as a file has them. */
export function matrixBytes(shape: BlockShape, format: BlockFormat, blocks: number): number {
  return blocks * byteLength(format, [blockWeights(shape)])
}

/** Multiply-adds of one token through the block's matrices. */
export function blockWeights({
  hiddenSize,
  intermediateSize,
  headCount,
  kvHeadCount,
  headDim,
}: BlockShape): number {
  return (
    2 * hiddenSize * headCount * headDim +
    2 * hiddenSize * kvHeadCount * headDim +
    3 * hiddenSize * intermediateSize
  )
}
