import type { WindowFields } from './family.ts'
import { type Bounds, type FieldReader, SIZE_BOUNDS } from './fields.ts'
import type { JsonObject } from './json.ts'

/** Any window up to the longest context; defends against sizes that overflow. */
const WINDOW_BOUNDS: Bounds = SIZE_BOUNDS.contextLength
const BLOCK_BOUNDS: Bounds = { min: 0, max: SIZE_BOUNDS.blockCount.max, integer: true }

/**
 * Each block's sliding window. `layer_types` says which blocks have one in families that begin theirs at some block;
 * elsewhere it must agree with the other fields, which transformers reads instead.
 * @throws `bad_file`, `not_supported` naming the field.
 */
export function readWindows(
  read: FieldReader,
  config: JsonObject,
  fields: WindowFields | undefined,
  blockCount: number,
): readonly (number | null)[] {
  const window = fields === undefined ? null : readWindow(read, config, fields)
  const first =
    fields?.from === undefined || window === null
      ? 0
      : read.number(config, fields.from.field, BLOCK_BOUNDS, fields.from.fallback)
  const usual = Array.from({ length: blockCount }, (_, block) => (block < first ? null : window))
  const types = config['layer_types'] ?? undefined
  if (types === undefined) return usual
  if (!Array.isArray(types) || types.length !== blockCount) {
    throw read.bad('layer_types', types, `a list of ${blockCount}, one for each block`)
  }
  return usual.map((expected, block) => {
    const type: unknown = types[block]
    if (type !== 'full_attention' && type !== 'sliding_attention') throw read.unsupported('layer_types', type)
    const own = type === 'sliding_attention' ? window : null
    const chosenHere = fields?.from !== undefined
    if ((type === 'sliding_attention' && window === null) || (!chosenHere && own !== expected)) {
      throw read.unsupported('layer_types', type)
    }
    return own
  })
}

function readWindow(read: FieldReader, config: JsonObject, fields: WindowFields): number | null {
  if (fields.flag !== undefined && !read.boolean(config, fields.flag, false)) return null
  const value = config['sliding_window'] === undefined ? fields.fallback : config['sliding_window']
  return value === null ? null : read.number({ sliding_window: value }, 'sliding_window', WINDOW_BOUNDS)
}
