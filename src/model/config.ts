/** Hugging Face's config.json to a `ModelSpec`. What would be computed wrongly is refused, by field name. */

import { ChoraleError } from '../errors.ts'
import { alibiSpec } from './alibi.ts'
import { readRope } from './config-rope.ts'
import { readWindows } from './config-windows.ts'
import { type BlockLayout, FAMILIES, type Family, type SizeField } from './family.ts'
import { checkSpec, type FieldReader, fieldReader, SIZE_BOUNDS } from './fields.ts'
import { type JsonObject, show } from './json.ts'
import { ropeSpec } from './rope.ts'
import type { Activation, ModelSpec } from './spec.ts'

/** No generation config needs more; defends against lists made to fill memory. */
const MAX_EOS_TOKENS = 64

/**
 * Reads a parsed config.json, old and new style (`rope_theta`/`rope_scaling` and `rope_parameters`).
 * @param generation the parsed generation_config.json: its end-of-sequence tokens end answers too
 * @throws `bad_file` for missing or impossible values, `not_supported` for what is not computed; both name the field.
 */
export function readConfig(
  file: string,
  config: JsonObject,
  generation: JsonObject = {},
): { readonly spec: ModelSpec; readonly family: Family } {
  const read = fieldReader(file)
  const family = familyOf(read, config)
  for (const [field, neutral] of Object.entries(family.neutral)) {
    const value = config[field] ?? undefined
    // A window that `use_sliding_window` switches off is not used.
    if (field === 'sliding_window' && config['use_sliding_window'] === false) continue
    if (value !== undefined && !neutral.includes(value)) throw read.unsupported(field, value)
  }
  const layout = readLayout(read, config, family)
  const size = sizeReader(read, config, family)
  const flag = (source: string | boolean) =>
    typeof source === 'boolean' ? source : read.boolean(config, source, false)

  const hiddenSize = size('hiddenSize')
  const headCount = size('headCount')
  const headDim = size('headDim', hiddenSize / headCount)
  const blockCount = size('blockCount')
  const spec: ModelSpec = {
    family: family.name,
    hiddenSize,
    blockCount,
    headCount,
    kvHeadCount: layout.sharedKvHead === true ? 1 : size('kvHeadCount', headCount),
    headDim,
    intermediateSize: size('intermediateSize'),
    vocabSize: size('vocabSize'),
    contextLength: size('contextLength'),
    norm: { kind: family.norm, epsilon: size('normEpsilon') },
    residual: layout.residual,
    mlp:
      family.mlp === 'moe'
        ? {
            kind: 'moe',
            expertCount: size('expertCount'),
            topK: size('expertsPerToken'),
            normalizeTopK: true,
          }
        : { kind: family.mlp },
    activation: readActivation(read, config, family),
    positions: readPositions(read, config, family, size('contextLength'), headCount, headDim),
    windows: readWindows(read, config, family.window, blockCount),
    qkNorm: family.qkNorm,
    embeddingNorm: family.embeddingNorm,
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

/**
 * Reads the family's numbers: the first field present counts. Without one it is the family's default, else
 * `fallback`; null means `fallback` where there is one.
 */
function sizeReader(read: FieldReader, config: JsonObject, family: Family) {
  const size = (field: SizeField, fallback?: number): number => {
    const names = family.fields[field] ?? []
    const name = names.find((candidate) => (config[candidate] ?? null) !== null) ?? names[0] ?? field
    const familyDefault = family.defaults[field]
    const absent =
      typeof familyDefault === 'object'
        ? familyDefault.timesHiddenSize * size('hiddenSize')
        : (familyDefault ?? fallback)
    const isNull = names.some((candidate) => config[candidate] === null)
    return read.number(config, name, SIZE_BOUNDS[field], isNull ? (fallback ?? absent) : absent)
  }
  return size
}

/** The first layout whose conditions hold. @throws `not_supported` naming the field that rules out the nearest one. */
function readLayout(read: FieldReader, config: JsonObject, family: Family): BlockLayout {
  let nearest = { held: -1, field: 'architectures' }
  for (const layout of family.layouts) {
    const conditions = Object.entries(layout.when)
    const held = conditions.findIndex(([field, values]) => !values.includes(config[field] ?? null))
    if (held < 0) return layout
    if (held > nearest.held) nearest = { held, field: conditions[held]?.[0] ?? '' }
  }
  const value = config[nearest.field]
  if (value === undefined || value === null) throw read.bad(nearest.field, undefined, 'given')
  throw read.unsupported(nearest.field, value)
}

function readActivation(read: FieldReader, config: JsonObject, family: Family): Activation {
  const { fallback, field, names } = family.activation
  const name = field === undefined ? undefined : (config[field] ?? undefined)
  if (field === undefined || name === undefined) return fallback
  const known = typeof name === 'string' && Object.hasOwn(names, name) ? names[name] : undefined
  if (known === undefined) throw read.unsupported(field, name)
  return known
}

function readPositions(
  read: FieldReader,
  config: JsonObject,
  family: Family,
  contextLength: number,
  headCount: number,
  headDim: number,
): ModelSpec['positions'] {
  const { alibi, rope } = family
  if (
    alibi !== undefined &&
    (rope === undefined || (alibi.flag !== undefined && read.boolean(config, alibi.flag, false)))
  ) {
    return alibiSpec(headCount, alibi)
  }
  return ropeSpec(readRope(read, config, contextLength, rope?.theta ?? 10_000), headDim - (headDim % 2))
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
