import { ChoraleError } from '../errors.ts'
import type { GpuContext } from '../gpu/context.ts'
import type { MatmulKernelSource } from '../gpu/matmul-kernels.ts'
import { probeWeights, pseudo } from '../gpu/probe-weights.ts'
import type { ShaderSources } from '../gpu/shader-set.ts'
import type { BlockRole, Model, WeightTensor } from '../model/model.ts'
import type { ModelSpec } from '../model/spec.ts'
import { blockShape } from '../model/weights.ts'
import type { FactStore } from '../platform.ts'
import { type Tensor, tensor } from '../tensor/tensor.ts'
import type { EngineSpan } from './engine.ts'
import { createReferenceEngine } from './reference/reference-engine.ts'
import { loadWgslSpan } from './wgsl-span.ts'

/** Largest |a - b| / max |b| of a driver that works; float32 rounding stays a hundred times below. */
const TOLERANCE = 1e-4

/**
 * Runs every kernel on small blocks of three families and compares with the reference engine, unless `store` says
 * that this adapter passed with these shaders. Matmul kernels of further weight formats are tried when they are
 * first compiled (`compileInvariantMatmul`).
 * @throws `engine` when the driver computes wrong numbers.
 */
export async function selfTest(
  context: GpuContext,
  kernels: MatmulKernelSource,
  shaders: ShaderSources,
  store: FactStore | undefined,
): Promise<void> {
  const key = `wgsl ${context.device.adapter.name} ${shaderHash(shaders)}`
  if ((await store?.get(key)) === PASSED) return
  for (const { name, spec, tokens } of CASES) {
    const error = await tryOut(context, kernels, spec, tokens)
    if (error <= TOLERANCE) continue
    throw new ChoraleError(
      'engine',
      `the GPU driver of ${context.device.adapter.name} computes wrong numbers (self-test ${name}: error ${error}, allowed ${TOLERANCE}); use another engine`,
    )
  }
  await store?.put(key, PASSED)
}

const PASSED = 'passed'

/** FNV-1a over all sources: tells kernel sets apart, keeps nobody out. */
function shaderHash(shaders: ShaderSources): string {
  let hash = 0x811c9dc5
  for (const text of [...shaders].toSorted(([a], [b]) => (a < b ? -1 : 1)).flat()) {
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  }
  return (hash >>> 0).toString(16)
}

/** Odd where the kernels allow it; rows of 96 and 160 values so that some weights can be quantised. */
const BASE: ModelSpec = {
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
 * Together they run every kernel, each matmul tile, several tiles and splits of keys, and a window's edge; of the
 * linear layers only two variants, since each costs three pipelines and is tried when it is first compiled.
 */
const CASES: readonly { name: string; spec: ModelSpec; tokens: number }[] = [
  { name: 'head norms, window', spec: { ...BASE, qkNorm: true, windows: [70] }, tokens: 90 },
  {
    name: 'layer norms, linear biases, parallel',
    spec: {
      ...BASE,
      norm: { kind: 'layer', epsilon: 1e-5 },
      residual: { kind: 'parallel', norms: 2 },
      positions: {
        kind: 'alibi',
        // Eight significant bits: products with positions have to be rounded.
        slopes: [181, 77, 53, 29, 13, 7].map((slope) => slope / 256),
        scaledByHeadDim: true,
        roundedBias: true,
      },
      biases: { qkv: true, attentionOut: true, mlp: true },
    },
    tokens: 270,
  },
  {
    name: 'experts',
    spec: { ...BASE, mlp: { kind: 'moe', expertCount: 5, topK: 2, normalizeTopK: true } },
    tokens: 20,
  },
]

/** Error of one block: a prefill, then a few tokens, then one, so that each matmul kernel has its turn. */
async function tryOut(
  context: GpuContext,
  kernels: MatmulKernelSource,
  spec: ModelSpec,
  tokens: number,
): Promise<number> {
  const model = testModel(spec)
  const options = { start: 0, end: 1, kvTokens: tokens }
  const values = Float32Array.from({ length: tokens * spec.hiddenSize }, (_, i) => pseudo(i, 7919))
  const span = await loadWgslSpan(context, kernels, model, options)
  const reference = await createReferenceEngine().loadSpan(model, options)
  try {
    const cuts = [tokens - 4, tokens - 1, tokens]
    const actual = await runCuts(span, values, spec.hiddenSize, cuts)
    const expected = await runCuts(reference, values, spec.hiddenSize, [tokens])
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    let error = 0
    for (const [i, value] of expected.entries()) {
      const difference = Math.abs((actual[i] as number) - value)
      if (!(difference <= error)) error = difference
    }
    return error / largest
  } finally {
    await span.close()
    await reference.close()
  }
}

async function runCuts(
  span: EngineSpan,
  values: Float32Array,
  width: number,
  cuts: readonly number[],
): Promise<Float32Array> {
  const out = new Float32Array(values.length)
  const lease = span.lease(values.length / width)
  let from = 0
  for (const to of cuts) {
    const hidden = tensor(to - from, width, values.slice(from * width, to * width))
    const [result] = await span.step([{ lease, hidden }])
    out.set((result as Tensor).data, from * width)
    from = to
  }
  lease.release()
  return out
}

/** A model of pseudo-random weights in memory: the mlp's in 8 bits, the rest float32. */
function testModel(spec: ModelSpec): Model {
  const weight = (role: BlockRole): WeightTensor => {
    const shape = blockShape(spec, role)
    const [rows = 0, columns] = shape
    // Every role its own numbers, or exchanged weights would not show.
    const seed = Array.from(role).reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7) % 99_991
    if (columns !== undefined) {
      return probeWeights(/^(gate|up|down)/.test(role) ? 'q8' : 'f32', rows, columns, seed)
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
