/** Untrusted JSON: parsed strictly, read field by field with bounds, errors that name file and field. */

import { ChoraleError } from '../errors.ts'
import type { ByteSource } from '../byte-source.ts'

/** A JSON object whose fields are not checked yet. */
export type JsonObject = Record<string, unknown>

/** Defends memory against a config or index file that is none: real ones are under 10 MB, tokenizers under 64. */
export const MAX_JSON_BYTES = 64 * 2 ** 20

/** Defends the stack of JSON.parse and of everything that walks the result. */
const MAX_DEPTH = 64

/** Reads and parses a whole JSON file. @throws `bad_file` naming the file; `limit` when it is too long. */
export async function readJsonFile(source: ByteSource, signal?: AbortSignal): Promise<JsonObject> {
  return parseJsonObject(source.name, await readTextFile(source, signal))
}

/** A whole small file as text. @throws `bad_file` unless it is UTF-8; `limit` when it is too long. */
export async function readTextFile(source: ByteSource, signal?: AbortSignal): Promise<string> {
  if (source.size > MAX_JSON_BYTES) {
    throw new ChoraleError(
      'limit',
      `${source.name}: ${source.size} bytes, at most ${MAX_JSON_BYTES} are read`,
    )
  }
  return decodeUtf8(source.name, await source.read(0, source.size, signal))
}

/** @throws `bad_file` when `bytes` are not UTF-8. */
export function decodeUtf8(file: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new ChoraleError('bad_file', `${file}: not UTF-8 text`, { cause })
  }
}

/**
 * Parses a JSON object; a key given twice is an error, because two readers could then disagree about the file.
 * @throws `bad_file` naming the file and, for a duplicate, the key.
 */
export function parseJsonObject(file: string, text: string): JsonObject {
  let value: unknown
  try {
    checkDepth(file, text)
    value = JSON.parse(text)
  } catch (cause) {
    if (cause instanceof ChoraleError) throw cause
    throw new ChoraleError('bad_file', `${file}: not JSON (${(cause as Error).message.slice(0, 200)})`, {
      cause,
    })
  }
  if (!isJsonObject(value)) throw new ChoraleError('bad_file', `${file}: not a JSON object`)
  const duplicate = duplicateKey(text)
  if (duplicate !== undefined) {
    throw new ChoraleError('bad_file', `${file}: "${clip(duplicate)}" is given twice`, { field: duplicate })
  }
  return value
}

/** Whether `value` is a JSON object (not null, not an array). */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** `text` short enough for an error message: a hostile name could be megabytes long. */
export function clip(text: string): string {
  return text.length > 120 ? `${text.slice(0, 120)}…` : text
}

/** A value as an error message shows it. */
export function show(value: unknown): string {
  return clip(JSON.stringify(value) ?? String(value))
}

function checkDepth(file: string, text: string): void {
  let depth = 0
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === 0x22) i = stringEnd(text, i)
    else if (c === 0x7b || c === 0x5b) {
      if (++depth > MAX_DEPTH) {
        throw new ChoraleError('bad_file', `${file}: nested deeper than ${MAX_DEPTH} levels`)
      }
    } else if (c === 0x7d || c === 0x5d) depth--
  }
}

/** The first key that one object of valid JSON `text` holds twice. */
function duplicateKey(text: string): string | undefined {
  // One set of keys per open object, undefined per open array.
  const open: (Set<string> | undefined)[] = []
  let expectKey = false
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === 0x22) {
      const end = stringEnd(text, i)
      const keys = open.at(-1)
      if (expectKey && keys !== undefined) {
        const key = JSON.parse(text.slice(i, end + 1)) as string
        if (keys.has(key)) return key
        keys.add(key)
        expectKey = false
      }
      i = end
    } else if (c === 0x7b) {
      open.push(new Set())
      expectKey = true
    } else if (c === 0x5b) {
      open.push(undefined)
      expectKey = false
    } else if (c === 0x7d || c === 0x5d) {
      open.pop()
      expectKey = false
    } else if (c === 0x2c) {
      expectKey = open.at(-1) !== undefined
    }
  }
  return undefined
}

/** Index of the closing quote of the string that opens at `start`. */
function stringEnd(text: string, start: number): number {
  let i = start + 1
  while (i < text.length) {
    const c = text.charCodeAt(i)
    if (c === 0x22) return i
    i += c === 0x5c ? 2 : 1
  }
  return i
}
