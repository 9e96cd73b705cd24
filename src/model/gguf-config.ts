/** A GGUF's metadata to a `ModelSpec`. What would be computed wrongly is refused, by key. */

import { ChoraleError } from '../errors.ts'
import { alibiSpec } from './alibi.ts'
import { FAMILIES, type Family, type GgufFamily } from './family.ts'
import { checkSpec, type FieldReader, fieldReader, ROPE_BOUNDS, SIZE_BOUNDS } from './fields.ts'
import type { GgufFile, GgufValue } from './gguf.ts'
import type { JsonObject } from './json.ts'
import { type RopeParameters, ropeSpec, yarnAttentionFactor } from './rope.ts'
import type { ModelSpec, RopeSpec } from './spec.ts'

/** Keys under the architecture's prefix that change the computation unless they have one of these values. */
const NEUTRAL: Readonly<Record<string, readonly GgufValue[]>> = {
  'attention.sliding_window': [0],
  'attention.causal': [true],
  'attention.clamp_kqv': [0],
  'attention.max_alibi_bias': [0],
  'attention.scale': [0],
  'rope.scaling.attn_factor': [1],
  'rope.scaling.yarn_log_multiplier': [0],
  attn_logit_softcapping: [0],
  final_logit_softcapping: [0],
  logit_scale: [0, 1],
  residual_scale: [0, 1],
  embedding_scale: [0, 1],
}

/**
 * The spec of a GGUF file whose architecture is known.
 * @param ropeFactors values of `rope_freqs.weight`, which divide the inverse frequencies; undefined without that tensor
 * @throws `bad_file`, `not_supported`; both name the key.
 */
export function readGgufConfig(
  file: GgufFile,
  ropeFactors: Float32Array | undefined,
): { readonly spec: ModelSpec; readonly family: Family; readonly gguf: GgufFamily } {
  const metadata: JsonObject = Object.fromEntries(
    [...file.metadata].map(([key, value]) => [
      key,
      typeof value === 'number' ? shortestFloat32(value) : value,
    ]),
  )
  const read = fieldReader(file.name)
  const { family, gguf } = familyOf(file)
  const key = (name: string) => `${gguf.architecture}.${name}`
  for (const [name, neutral] of Object.entries(NEUTRAL)) {
    const value = file.metadata.get(key(name))
    if (value !== undefined && !neutral.includes(value)) throw read.unsupported(key(name), value)
  }
  if (Number(metadata['split.count'] ?? 1) > 1) throw read.unsupported('split.count', metadata['split.count'])

  const number = (name: string, field: keyof typeof SIZE_BOUNDS, fallback?: number) =>
    read.number(metadata, key(name), SIZE_BOUNDS[field], fallback)
  const hiddenSize = number('embedding_length', 'hiddenSize')
  const headCount = number('attention.head_count', 'headCount')
  const headDim = number('attention.key_length', 'headDim', hiddenSize / headCount)
  for (const name of ['attention.value_length', 'rope.dimension_count']) {
    if (number(name, 'headDim', headDim) !== headDim) throw read.unsupported(key(name), metadata[key(name)])
  }
  const contextLength = number('context_length', 'contextLength')
  const vocabSize = file.tensors.get('token_embd.weight')?.shape[0]
  const has = (role: 'qBias' | 'oBias' | 'upBias') =>
    (gguf.names.block[role] ?? []).some((variant) =>
      file.tensors.has((typeof variant === 'string' ? variant : variant.name).replace('{i}', '0')),
    )
  const spec: ModelSpec = {
    family: family.name,
    hiddenSize,
    blockCount: number('block_count', 'blockCount'),
    headCount,
    kvHeadCount: number('attention.head_count_kv', 'kvHeadCount', headCount),
    headDim,
    intermediateSize: number('feed_forward_length', 'intermediateSize'),
    vocabSize: read.number({ 'token_embd.weight': vocabSize }, 'token_embd.weight', SIZE_BOUNDS.vocabSize),
    contextLength,
    norm: {
      kind: family.norm,
      epsilon: number(`attention.layer_norm_${family.norm === 'rms' ? 'rms_' : ''}epsilon`, 'normEpsilon'),
    },
    residual:
      gguf.secondNorm !== undefined && file.tensors.has(gguf.secondNorm)
        ? { kind: 'parallel', norms: 2 }
        : gguf.residual,
    mlp:
      family.mlp === 'moe'
        ? {
            kind: 'moe',
            expertCount: number('expert_count', 'expertCount'),
            topK: number('expert_used_count', 'expertsPerToken'),
            normalizeTopK: true,
          }
        : { kind: family.mlp },
    activation: family.activation.fallback,
    positions:
      family.rope === undefined && family.alibi !== undefined
        ? alibiSpec(headCount, family.alibi)
        : rotary(read, readRope(read, metadata, key, contextLength), headDim, ropeFactors),
    windows: Array.from({ length: number('block_count', 'blockCount') }, () => null),
    qkNorm: family.qkNorm,
    embeddingNorm: family.embeddingNorm,
    biases: { qkv: has('qBias'), attentionOut: has('oBias'), mlp: has('upBias') },
    tiedHead: !(gguf.names.client.head ?? []).some((name) => file.tensors.has(name)),
    bosTokenId: tokenId(file, 'tokenizer.ggml.bos_token_id'),
    eosTokenIds: [
      ...new Set(
        ['eos', 'eot', 'eom'].flatMap((name) => tokenId(file, `tokenizer.ggml.${name}_token_id`) ?? []),
      ),
    ],
  }
  checkSpec(file.name, spec)
  return { spec, family, gguf }
}

/** A token id in the metadata; -1 as an unsigned number means none. */
export function tokenId(file: GgufFile, key: string): number | undefined {
  const value = file.metadata.get(key)
  if (value === undefined || value === 0xffffffff || value === -1) return undefined
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) {
    throw new ChoraleError('bad_file', `${file.name}: ${key} is no token id`, { field: key })
  }
  return value
}

function familyOf(file: GgufFile): { readonly family: Family; readonly gguf: GgufFamily } {
  const architecture = file.metadata.get('general.architecture')
  const experts = Number(file.metadata.get(`${String(architecture)}.expert_count`) ?? 0) > 0
  for (const family of FAMILIES) {
    const { gguf } = family
    // Mixtral says `llama` too.
    if (gguf?.architecture === architecture && gguf !== undefined && (family.mlp === 'moe') === experts) {
      return { family, gguf }
    }
  }
  const known = [...new Set(FAMILIES.flatMap(({ gguf }) => gguf?.architecture ?? []))]
  const alike = FAMILIES.find(({ gguf }) => gguf?.architecture === architecture)
  const field = alike === undefined ? 'general.architecture' : `${String(architecture)}.expert_count`
  throw new ChoraleError(
    'not_supported',
    `${file.name}: ${field} ${String(file.metadata.get(field)).slice(0, 80)}; computed here: ${known.join(', ')}, experts with llama`,
    { field },
  )
}

/** @param factors values of `rope_freqs.weight` */
function rotary(
  read: FieldReader,
  parameters: RopeParameters,
  headDim: number,
  factors: Float32Array | undefined,
): RopeSpec {
  const rope = ropeSpec(parameters, headDim - (headDim % 2))
  if (factors === undefined) return rope
  if (factors.length !== rope.inverseFrequencies.length) {
    throw read.bad('rope_freqs.weight', factors.length, `${rope.inverseFrequencies.length} values long`)
  }
  return {
    ...rope,
    inverseFrequencies: rope.inverseFrequencies.map((frequency, i) =>
      Math.fround(frequency / (factors[i] ?? 1)),
    ),
  }
}

function readRope(
  read: FieldReader,
  metadata: JsonObject,
  key: (name: string) => string,
  contextLength: number,
): RopeParameters {
  const theta = read.number(metadata, key('rope.freq_base'), ROPE_BOUNDS.theta, 10_000)
  const type =
    metadata[key('rope.scaling.type')] ?? (key('rope.scale_linear') in metadata ? 'linear' : 'none')
  switch (type) {
    case 'none':
      return { type: 'default', theta }
    case 'linear': {
      const old = read.number(metadata, key('rope.scale_linear'), ROPE_BOUNDS.factor, 1)
      return {
        type: 'linear',
        theta,
        factor: read.number(metadata, key('rope.scaling.factor'), ROPE_BOUNDS.factor, old),
      }
    }
    case 'yarn': {
      const factor = read.number(metadata, key('rope.scaling.factor'), ROPE_BOUNDS.factor)
      const original = key('rope.scaling.original_context_length')
      return {
        type: 'yarn',
        theta,
        factor,
        originalContext: read.number(metadata, original, ROPE_BOUNDS.context, contextLength),
        betaFast: read.number(metadata, key('rope.scaling.yarn_beta_fast'), ROPE_BOUNDS.smallFactor, 32),
        betaSlow: read.number(metadata, key('rope.scaling.yarn_beta_slow'), ROPE_BOUNDS.smallFactor, 1),
        truncate: true,
        attentionFactor: yarnAttentionFactor(factor),
      }
    }
    default:
      throw read.unsupported(key('rope.scaling.type'), type)
  }
}

/** 1e-5 stored as float32 reads as 0.00000999999975: the shortest decimal that gives the same float32. */
function shortestFloat32(value: number): number {
  if (Number.isInteger(value) || Math.fround(value) !== value) return value
  for (let digits = 1; digits < 10; digits++) {
    const short = Number(value.toPrecision(digits))
    if (Math.fround(short) === value) return short
  }
  return value
}
