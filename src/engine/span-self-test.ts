import { ChoraleError } from '../errors.ts'
import { probeWeights, pseudo } from '../gpu/probe-weights.ts'
import type { WeightFormat } from '../gpu/weight-format.ts'
import type { BlockRole, Model, WeightTensor } from '../model/model.ts'
import type { ModelSpec } from '../model/spec.ts'
import { blockShape } from '../model/weights.ts'
import { relativeError } from '../tensor/relative-error.ts'
import { type Tensor, tensor } from '../tensor/tensor.ts'
import type { EngineSpan, LoadSpanOptions } from './engine.ts'
import { createReferenceEngine } from './reference/reference-engine.ts'

/** Odd where the kernels allow it; rows of 96 and 160 values so that some weights can be quantised. */
export const SELF_TEST_SPEC: ModelSpec = {
  family: 'self-test',
  hiddenSize: 96,
  blockCount: 1,
  headCount: 6,
  kvHeadCount: 2,
  headDim: 18,
  intermediateSize: 160,
  vocabSize: 1,
  contextLength: 512,
  norm: { kind: 'rms', epsilon: 1e-5 },
  residual: { kind: 'sequential' },
  mlp: { kind: 'plain' },
  activation: 'gelu',
  positions: {
    kind: 'rope',
    rotaryDim: 12,
    inverseFrequencies: [1, 0.4, 0.2, 0.1, 0.05, 0.02],
    attentionFactor: 1.1,
  },
  windows: [null],
  qkNorm: false,
  embeddingNorm: false,
  biases: { qkv: false, attentionOut: false, mlp: false },
  tiedHead: false,
  bosTokenId: undefined,
  eosTokenIds: [],
}

/**
 * Largest |a - b| / max |b| of one block of `spec` on the engine under test (a) and the reference (b): a prefill, then a
 * few tokens, then one, so that kernels for many rows, few and one have their turn.
 * @param load the engine's `loadSpan`.
 */
export async function spanError(
  load: (model: Model, options: LoadSpanOptions) => Promise<EngineSpan>,
  spec: ModelSpec,
  tokens: number,
): Promise<number> {
  const model = selfTestModel(spec)
  const actual = await spanOutput(load, model, [tokens - 4, 3, 1])
  const expected = await spanOutput(createReferenceEngine().loadSpan, model, [tokens])
  return relativeError(actual, expected)
}

/**
 * What a block of `model` makes of some hidden states [tokens, hiddenSize], for comparing kernels with each other.
 * @param steps rows of each step.
 */
export async function spanOutput(
  load: (model: Model, options: LoadSpanOptions) => Promise<EngineSpan>,
  model: Model,
  steps: readonly number[],
): Promise<Float32Array> {
  const { hiddenSize } = model.spec
  const tokens = steps.reduce((sum, rows) => sum + rows, 0)
  const values = Float32Array.from({ length: tokens * hiddenSize }, (_, i) => pseudo(i, 7919))
  const span = await load(model, { start: 0, end: 1, kvTokens: tokens })
  try {
    const out = new Float32Array(values.length)
    const lease = span.lease(tokens)
    let from = 0
    for (const rows of steps) {
      const to = from + rows * hiddenSize
      const [result] = await span.step([{ lease, hidden: tensor(rows, hiddenSize, values.slice(from, to)) }])
      out.set((result as Tensor).data, from)
      from = to
    }
    lease.release()
    return out
  } finally {
    await span.close()
  }
}

/** A model of pseudo-random weights in memory: where `formats` do not say otherwise, the mlp's in 8 bits, the rest float32. */
export function selfTestModel(
  spec: ModelSpec,
  formats: Readonly<Partial<Record<BlockRole, WeightFormat>>> = {},
): Model {
  const made = new Map<BlockRole, WeightTensor>()
  const weight = (role: BlockRole): WeightTensor => {
    const tensor = made.get(role) ?? make(role)
    made.set(role, tensor)
    return tensor
  }
  const make = (role: BlockRole): WeightTensor => {
    const shape = blockShape(spec, role)
    const [rows = 0, columns] = shape
    // Every role its own numbers, or exchanged weights would not show.
    const seed = Array.from(role).reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7) % 99_991
    if (columns !== undefined) {
      const format = formats[role] ?? (/^(gate|up|down)/.test(role) ? 'q8' : 'f32')
      return probeWeights(format, rows, columns, seed)
    }
    const centre = role.endsWith('Bias') ? 0 : 1
    const values = Float32Array.from({ length: rows }, (_, i) => centre + pseudo(i + seed, 31_337) / 4)
    return { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) }
  }
  const none = () => {
    throw new ChoraleError('not_found', 'the self-test has blocks only')
  }
  return {
    name: 'self-test',
    id: 'self-test@0',
    format: 'safetensors',
    spec,
    weights: {
      blockInfo: (_, role) => weight(role),
      block: async (_, role) => weight(role),
      clientInfo: none,
      client: none,
    },
    tokenizerFiles: async () => undefined,
    generationDefaults: {},
    close: async () => undefined,
  }
}
