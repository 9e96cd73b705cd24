import type { BlockRole, ClientRole, Model, WeightTensor } from '../../src/model/model.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import { blockShape, clientRoles, clientShape } from '../../src/model/weights.ts'
import { random } from '../gpu/test-context.ts'

/** A Llama of random weights in memory, of any shape a test wants. */

export type Stored = 'F32' | 'F16' | 'BF16'

/** Odd everywhere: nothing is a multiple of 4, heads are not hidden / heads, rotary is partial, every layer has a bias. */
export const ODD_SPEC: ModelSpec = {
  family: 'llama',
  hiddenSize: 45,
  blockCount: 3,
  headCount: 6,
  kvHeadCount: 2,
  headDim: 10,
  intermediateSize: 67,
  vocabSize: 131,
  contextLength: 512,
  norm: { kind: 'rms', epsilon: 1e-5 },
  residual: { kind: 'sequential' },
  mlp: { kind: 'gated' },
  activation: 'silu',
  positions: {
    kind: 'rope',
    rotaryDim: 10,
    inverseFrequencies: [1, 0.3, 0.1, 0.03, 0.01],
    attentionFactor: 1.1,
  },
  windows: [null, null, null],
  qkNorm: false,
  embeddingNorm: false,
  biases: { qkv: true, attentionOut: true, mlp: true },
  tiedHead: false,
  bosTokenId: undefined,
  eosTokenIds: [],
}

/** The model of `spec` with seeded weights stored as `stored`, norms and biases in float32. */
export function randomModel(spec: ModelSpec, stored: (role: BlockRole | ClientRole) => Stored): Model {
  const client: ReadonlySet<string> = new Set(clientRoles(spec))
  const shapeOf = (role: BlockRole | ClientRole) =>
    client.has(role) ? clientShape(spec, role as ClientRole) : blockShape(spec, role as BlockRole)
  const weight = (key: string, role: BlockRole | ClientRole): WeightTensor => {
    const shape = shapeOf(role)
    const dtype = shape.length === 1 ? 'F32' : stored(role)
    return { dtype, shape, bytes: values(key, shape, dtype) }
  }
  const info = (role: BlockRole | ClientRole) => {
    const shape = shapeOf(role)
    return { dtype: shape.length === 1 ? ('F32' as const) : stored(role), shape }
  }
  return {
    name: 'random',
    id: 'random@0',
    format: 'safetensors',
    spec,
    weights: {
      blockInfo: (_, role) => info(role),
      block: async (block, role, signal) => {
        signal?.throwIfAborted()
        return weight(`${block}.${role}`, role)
      },
      clientInfo: info,
      client: async (role) => weight(role, role),
    },
    tokenizerFiles: async () => undefined,
    generationDefaults: {},
    close: async () => undefined,
  }
}

function values(key: string, shape: readonly number[], dtype: Stored): Uint8Array {
  const next = random([...key].reduce((sum, letter) => Math.imul(sum, 31) + letter.charCodeAt(0), 7))
  const count = shape.reduce((product, size) => product * size, 1)
  const centre = key.endsWith('Norm') ? 1 : 0
  const floats = Float32Array.from({ length: count }, () => centre + next() * 0.4)
  if (dtype === 'F32') return new Uint8Array(floats.buffer)
  const words = new Uint32Array(floats.buffer)
  const halves = Uint16Array.from(words, (word) =>
    // float16: the sign, an exponent near 2^-3 and mantissa bits of the float32.
    dtype === 'BF16' ? word >>> 16 : ((word >>> 16) & 0x8000) | 0x2c00 | ((word >>> 10) & 0x7ff),
  )
  return new Uint8Array(halves.buffer)
}
