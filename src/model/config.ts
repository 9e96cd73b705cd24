/** Hugging Face's config.json to a `ModelSpec`. What would be computed wrongly is refused, by field name. */

import { ChoraleError } from '../errors.ts'
import { FAMILIES, type Family, type SizeField } from './family.ts'
import { checkSpec, type FieldReader, fieldReader, ROPE_BOUNDS, SIZE_BOUNDS } from './fields.ts'
import { isJsonObject, type JsonObject, show } from './json.ts'
import { type RopeParameters, ropeSpec, yarnAttentionFactor } from './rope.ts'
import type { ModelSpec } from './spec.ts'

/** No generation config needs more; defends against lists made to fill memory. */
const MAX_EOS_TOKENS = 64

/**
 * Reads a parsed config.json, old and new style (`rope_theta`/`rope_scaling` and `rope_parameters`).
 * @param generation the parsed generation_config.json: its end-of-sequence tokens end answers too
 * @throws `bad_config` for missing or impossible values, `not_supported` for what is not computed; both name the field.
 */
export function readConfig(
  file: string,
  config: JsonObject,
  generation: JsonObject = {},
): { readonly spec: ModelSpec; readonly family: Family } {
  const read = fieldReader(file)
  const family = familyOf(read, config)
  checkNeutral(read, config, family)
  const size = (field: SizeField, fallback?: number) => {
    const names = family.fields[field]
    const name = names.find((candidate) => (config[candidate] ?? null) !== null) ?? names[0] ?? field
    return read.number(config, name, SIZE_BOUNDS[field], family.defaults[field] ?? fallback)
  }
  const flag = (source: string | boolean) =>
    typeof source === 'boolean' ? source : read.boolean(config, source, false)

  const hiddenSize = size('hiddenSize')
  const headCount = size('headCount')
  const headDim = size('headDim', hiddenSize / headCount)
  const spec: ModelSpec = {
    family: family.name,
    hiddenSize,
    blockCount: size('blockCount'),
    headCount,
    kvHeadCount: size('kvHeadCount', headCount),
    headDim,
    intermediateSize: size('intermediateSize'),
    vocabSize: size('vocabSize'),
    contextLength: size('contextLength'),
    norm: { kind: 'rms', epsilon: size('normEpsilon') },
    residual: { kind: 'sequential' },
    mlp: { kind: 'gated' },
    activation: 'silu',
    positions: ropeSpec(readRope(read, config, size('contextLength')), headDim - (headDim % 2)),
    windows: Array.from({ length: size('blockCount') }, () => null),
    qkNorm: false,
    embeddingNorm: false,
    biases: {
      qkv: flag(family.biases.qkv),
      attentionOut: flag(family.biases.attentionOut),
      mlp: flag(family.biases.mlp),
    },
    tiedHead: read.boolean(config, 'tie_word_embeddings', family.tiedByDefault),
    bosTokenId: tokenIds(read, config, 'bos_token_id')[0],
    eosTokenIds: [
      ...new Set([...tokenIds(read, config, 'eos_token_id'), ...tokenIds(read, generation, 'eos_token_id')]),
    ],
  }
  checkSpec(file, spec)
  return { spec, family }
}

/** Sampling defaults of a parsed generation_config.json; values out of bounds are left out. */
export function readGenerationDefaults(generation: JsonObject): {
  temperature?: number
  topP?: number
  topK?: number
} {
  const inside = (field: string, min: number, max: number) => {
    const value = generation[field]
    return typeof value === 'number' && value >= min && value <= max ? value : undefined
  }
  const greedy = generation['do_sample'] === false
  const temperature = greedy ? 0 : inside('temperature', 0, 10)
  const topP = inside('top_p', 0, 1)
  const topK = inside('top_k', 0, 1e6)
  return {
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : { topP }),
    ...(topK === undefined ? {} : { topK: Math.trunc(topK) }),
  }
}

function familyOf(read: FieldReader, config: JsonObject): Family {
  const known = FAMILIES.flatMap((family) => family.architectures).join(', ')
  const architectures = config['architectures'] ?? undefined
  if (architectures !== undefined && !Array.isArray(architectures)) {
    throw read.bad('architectures', architectures, 'a list of names')
  }
  const family =
    architectures === undefined
      ? FAMILIES.find(({ modelTypes }) => modelTypes.some((type) => type === config['model_type']))
      : FAMILIES.find((one) => one.architectures.some((name) => name === architectures[0]))
  if (family !== undefined) return family
  const [field, value] =
    architectures === undefined ? ['model_type', config['model_type']] : ['architectures', architectures[0]]
  throw new ChoraleError(
    'not_supported',
    `${read.file}: ${field} ${value === undefined ? 'is missing' : show(value)}; computed here: ${known}`,
    { field },
  )
}

function checkNeutral(read: FieldReader, config: JsonObject, family: Family): void {
  for (const [field, neutral] of Object.entries(family.neutral)) {
    const value = config[field] ?? undefined
    // A window that `use_sliding_window` switches off is not used.
    if (field === 'sliding_window' && config['use_sliding_window'] === false) continue
    if (value !== undefined && !neutral.includes(value)) throw read.unsupported(field, value)
  }
  const activation = config[family.activationField] ?? 'silu'
  if (!family.activations.some((name) => name === activation)) {
    throw read.unsupported(family.activationField, activation)
  }
  const layerTypes = config['layer_types'] ?? []
  if (!Array.isArray(layerTypes) || layerTypes.some((type) => type !== 'full_attention')) {
    throw read.unsupported('layer_types', layerTypes)
  }
}

/** Rotary parameters of a config: `rope_parameters`, or the older `rope_theta` and `rope_scaling`. */
function readRope(read: FieldReader, config: JsonObject, contextLength: number): RopeParameters {
  const modern = read.object(config, 'rope_parameters')
  const place = modern === undefined ? 'rope_scaling' : 'rope_parameters'
  const rope = modern ?? read.object(config, 'rope_scaling') ?? {}
  if (Object.values(rope).some(isJsonObject)) throw read.unsupported(place, rope)
  if ((rope['partial_rotary_factor'] ?? 1) !== 1) {
    throw read.unsupported('partial_rotary_factor', rope['partial_rotary_factor'])
  }
  const theta = read.number(
    rope['rope_theta'] === undefined ? config : rope,
    'rope_theta',
    ROPE_BOUNDS.theta,
    10_000,
  )
  const type = rope['rope_type'] ?? rope['type'] ?? 'default'
  const factor = () => read.number(rope, 'factor', ROPE_BOUNDS.factor)
  switch (type) {
    case 'default':
      return { type: 'default', theta }
    case 'linear':
      return { type: 'linear', theta, factor: factor() }
    case 'llama3': {
      const lowFreqFactor = read.number(rope, 'low_freq_factor', ROPE_BOUNDS.smallFactor)
      const highFreqFactor = read.number(rope, 'high_freq_factor', ROPE_BOUNDS.smallFactor)
      if (highFreqFactor <= lowFreqFactor) {
        throw read.bad('high_freq_factor', highFreqFactor, `above low_freq_factor ${lowFreqFactor}`)
      }
      const originalContext = read.number(rope, 'original_max_position_embeddings', ROPE_BOUNDS.context)
      return { type: 'llama3', theta, factor: factor(), lowFreqFactor, highFreqFactor, originalContext }
    }
    case 'yarn':
      return readYarn(read, rope, theta, contextLength)
    default:
      throw read.unsupported(`${place}.rope_type`, type)
  }
}

function readYarn(read: FieldReader, rope: JsonObject, theta: number, contextLength: number): RopeParameters {
  const originalContext = read.number(
    rope,
    'original_max_position_embeddings',
    ROPE_BOUNDS.context,
    contextLength,
  )
  const factor = read.number(rope, 'factor', ROPE_BOUNDS.factor, contextLength / originalContext)
  const optional = (field: string) =>
    (rope[field] ?? null) === null
      ? undefined
      : read.number(rope, field, { min: 0, max: 1e6, integer: false })
  const mscale = optional('mscale')
  const mscaleAll = optional('mscale_all_dim')
  // As transformers: a zero mscale counts as none.
  const derived =
    mscale && mscaleAll
      ? yarnAttentionFactor(factor, mscale) / yarnAttentionFactor(factor, mscaleAll)
      : yarnAttentionFactor(factor)
  return {
    type: 'yarn',
    theta,
    factor,
    originalContext,
    betaFast: read.number(rope, 'beta_fast', ROPE_BOUNDS.smallFactor, 32),
    betaSlow: read.number(rope, 'beta_slow', ROPE_BOUNDS.smallFactor, 1),
    truncate: read.boolean(rope, 'truncate', true),
    attentionFactor: optional('attention_factor') ?? derived,
  }
}

/** Token ids in a field that holds one, a list or nothing. Negative ids mean none. */
function tokenIds(read: FieldReader, object: JsonObject, field: string): readonly number[] {
  const value = object[field] ?? []
  const list: unknown[] = Array.isArray(value) ? value : [value]
  if (list.length > MAX_EOS_TOKENS || !list.every((id) => Number.isSafeInteger(id))) {
    throw read.bad(field, value, `a token id or a list of at most ${MAX_EOS_TOKENS}`)
  }
  return (list as number[]).filter((id) => id >= 0)
}
