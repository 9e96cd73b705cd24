/**
 * Quantised weights in a safetensors file: the format has no type for them, so they are stored as U8 rows and
 * `__metadata__["chorale.blocks"]` says, as JSON, what each one is: `{"name": {"dtype": "Q4_1", "shape": [out, in]}}`.
 * config.json then carries `quantization_config.quant_method` = `chorale-blocks`, so that other programs refuse the
 * model by that field instead of reading bytes as weights.
 */

import { ChoraleError } from '../errors.ts'
import { blockBytes, blockSize, byteLength, isWeightDtype, type WeightDtype } from '../tensor/weight.ts'
import { clip, isJsonObject, type JsonObject, parseJsonObject, show } from './json.ts'
import type { StoredTensor } from './tensor-table.ts'

export const QUANT_METHOD = 'chorale-blocks'
export const BLOCKS_KEY = 'chorale.blocks'

/** What a U8 tensor of the file really is. */
export interface BlockEntry {
  readonly dtype: WeightDtype
  readonly shape: readonly number[]
}

/** Shape of the U8 tensor that stores such a weight: its rows in bytes. */
export function storedShape({ dtype, shape }: BlockEntry): readonly number[] {
  const row = shape.at(-1) ?? 1
  return [...shape.slice(0, -1), (row / blockSize(dtype)) * blockBytes(dtype)]
}

/**
 * Gives the tensors that a file's metadata names their real types.
 * @throws `bad_file` naming the tensor when an entry does not fit what is stored.
 */
export function withBlocks(
  file: string,
  metadata: unknown,
  tensors: readonly StoredTensor[],
): readonly StoredTensor[] {
  const text = isJsonObject(metadata) ? metadata[BLOCKS_KEY] : undefined
  if (text === undefined) return tensors
  if (typeof text !== 'string')
    throw new ChoraleError('bad_file', `${file}: ${BLOCKS_KEY} is no text`, { field: BLOCKS_KEY })
  const entries: JsonObject = parseJsonObject(`${file} ${BLOCKS_KEY}`, text)
  const known = new Set(tensors.map(({ name }) => name))
  for (const name of Object.keys(entries)) {
    if (!known.has(name))
      throw new ChoraleError('bad_file', `${file}: ${BLOCKS_KEY} names no tensor ${clip(name)}`, {
        field: name,
      })
  }
  return tensors.map((stored) => {
    if (!Object.hasOwn(entries, stored.name)) return stored
    const bad = (problem: string) =>
      new ChoraleError('bad_file', `${file}: ${BLOCKS_KEY} of ${clip(stored.name)}: ${problem}`, {
        field: stored.name,
      })
    const entry = entries[stored.name]
    if (!isJsonObject(entry)) throw bad('not an object')
    const { dtype, shape } = entry as Record<'dtype' | 'shape', unknown>
    if (typeof dtype !== 'string' || !isWeightDtype(dtype)) throw bad(`unknown dtype ${show(dtype)}`)
    if (
      !Array.isArray(shape) ||
      shape.length < 1 ||
      shape.length > 3 ||
      !shape.every((size) => Number.isSafeInteger(size) && size > 0)
    ) {
      throw bad(`bad shape ${show(shape)}`)
    }
    if (stored.dtype !== 'U8') throw bad(`stored as ${stored.dtype}, not as U8`)
    const wanted = byteLength(dtype, shape as number[])
    if (wanted !== stored.byteLength)
      throw bad(`${dtype} [${shape.join(', ')}] takes ${wanted} bytes, ${stored.byteLength} are stored`)
    return { ...stored, dtype, shape: shape as number[] }
  })
}

/** Whether config.json says that its weights are stored this way. */
export function hasBlocks(config: JsonObject): boolean {
  const quantization = config['quantization_config']
  return isJsonObject(quantization) && quantization['quant_method'] === QUANT_METHOD
}
