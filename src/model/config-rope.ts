import { type FieldReader, ROPE_BOUNDS } from './fields.ts'
import { isJsonObject, type JsonObject } from './json.ts'
import { type RopeParameters, yarnAttentionFactor } from './rope.ts'

/**
 * Rotary parameters of a config: `rope_parameters`, or the older `rope_theta` and `rope_scaling`.
 * @throws `bad_file`, `not_supported` naming the field.
 */
export function readRope(
  read: FieldReader,
  config: JsonObject,
  contextLength: number,
  defaultTheta: number,
): RopeParameters {
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
    defaultTheta,
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
