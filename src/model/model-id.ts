import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import { isJsonObject, type JsonObject } from './json.ts'
import type { TensorTable } from './tensor-table.ts'

const WINDOWS = 16
const WINDOW_BYTES = 4096

/** Config fields that say who wrote the file, not what is computed. */
const NOT_IDENTITY = new Set(['_name_or_path', 'transformers_version', 'use_cache'])

/**
 * `name@12 hex digits`: SHA-256 over the config, the tensor table and 16 evenly spaced windows of 4 KiB of all tensors
 * in order of name. The last segment of `name` counts, so a hub model and a copy of it in a folder are the same.
 */
export async function modelId(
  name: string,
  config: JsonObject,
  table: TensorTable,
  signal?: AbortSignal,
): Promise<string> {
  const tensors = [...table.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  const hash = sha256.create()
  const text = (value: unknown) => hash.update(new TextEncoder().encode(JSON.stringify(value)))
  text(canonical(config))
  text(tensors.map(({ dtype, name, shape }) => [name, dtype, shape]))
  const total = tensors.reduce((sum, { byteLength }) => sum + byteLength, 0)
  const length = Math.min(WINDOW_BYTES, total)
  let index = 0
  let start = 0 // where tensors[index] begins in the concatenation
  for (let window = 0; window < WINDOWS; window++) {
    let at = Math.floor(((total - length) * window) / (WINDOWS - 1))
    const end = at + length
    while (at < end) {
      let tensor = tensors[index]!
      while (at >= start + tensor.byteLength) {
        start += tensor.byteLength
        tensor = tensors[++index]!
      }
      const take = Math.min(end, start + tensor.byteLength) - at
      hash.update(await tensor.source.read(tensor.offset + at - start, take, signal))
      at += take
    }
    // Windows of a small model overlap: look for the next one from the first tensor again.
    index = 0
    start = 0
  }
  return `${idName(name)}@${bytesToHex(hash.digest()).slice(0, 12)}`
}

/** The part of an id before `@`: safe in topics, paths and logs. */
function idName(name: string): string {
  const last = name.split('/').findLast((part) => part !== '') ?? 'model'
  return last.replaceAll(/[^A-Za-z0-9._-]/g, '-').slice(0, 96)
}

/** The same JSON for the same config, whatever the order of its keys. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical)
  if (!isJsonObject(value)) return value
  return Object.keys(value)
    .filter((key) => !NOT_IDENTITY.has(key))
    .sort()
    .map((key) => [key, canonical(value[key])])
}
