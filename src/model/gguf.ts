/**
 * Reading GGUF, versions 2 and 3, little-endian: metadata and tensor table, no tensor data.
 * Source: ggml's docs/gguf.md and gguf.cpp.
 */

import { ChoraleError } from '../errors.ts'
import { elementCount } from '../tensor/weight.ts'
import type { ByteSource } from '../byte-source.ts'
import { GGML_TYPES } from './ggml-types.ts'
import { clip } from './json.ts'
import { checkLayout, type StoredTensor, type TensorTable } from './tensor-table.ts'

/** Defends memory against a header that never ends; vocabularies of 256,000 tokens take about 12 MiB. */
const MAX_HEADER_BYTES = 256 * 2 ** 20
/** Read first, and doubled until the header fits: most headers take one read. */
const FIRST_READ_BYTES = 2 * 2 ** 20
/** Defends against a count made to loop; real files have under 100 keys. */
const MAX_KEYS = 65_536
/** Defends against a count made to loop; real files have under 3,000 tensors. */
const MAX_TENSORS = 262_144
/** The format's own limit for keys; ggml's for tensor names is 64. */
const MAX_NAME_BYTES = 65_535
/** Defends memory against one huge string; chat templates are under 100 KB. */
const MAX_STRING_BYTES = 8 * 2 ** 20
/** Defends memory against a huge array; the largest real one has one entry a token. */
const MAX_ARRAY_ITEMS = 16 * 2 ** 20
/** Defends the stack; ggml itself writes no nested arrays. */
const MAX_NESTING = 2
/** ggml's own limit. */
const MAX_DIMENSIONS = 4
/** Defends against an alignment that moves the data out of the file. */
const MAX_ALIGNMENT = 65_536

const MAGIC = 0x46554747
const MINIMUM_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8] as const
const STRING = 8
const ARRAY = 9

/** Integers beyond 2^53 stay bigint. */
export type GgufValue = number | bigint | boolean | string | readonly GgufValue[]

export interface GgufFile {
  readonly name: string
  readonly version: number
  readonly metadata: ReadonlyMap<string, GgufValue>
  /** Shapes outermost dimension first, as everywhere in this code (GGUF stores them reversed). */
  readonly tensors: TensorTable
}

/**
 * Reads metadata and tensor table.
 * @throws `bad_file` naming the file and the key or tensor; `not_supported` for version 1 and unknown types.
 */
export async function readGguf(source: ByteSource, signal?: AbortSignal): Promise<GgufFile> {
  for (let length = FIRST_READ_BYTES; ; length *= 4) {
    const take = Math.min(length, source.size, MAX_HEADER_BYTES)
    const header = parseHeader(source, await source.read(0, take, signal))
    if (header !== 'longer') return header
    if (take === source.size) throw bad(source, 'ends inside its header (is it complete?)', 'header')
    if (take === MAX_HEADER_BYTES) throw bad(source, `header longer than ${MAX_HEADER_BYTES} bytes`, 'header')
  }
}

/** Thrown when the header goes on beyond the bytes read so far. */
class NeedMore extends Error {}

function parseHeader(source: ByteSource, bytes: Uint8Array): GgufFile | 'longer' {
  try {
    return parse(source, bytes)
  } catch (error) {
    if (error instanceof NeedMore) return 'longer'
    throw error
  }
}

function parse(source: ByteSource, bytes: Uint8Array): GgufFile {
  const cursor = createCursor(source, bytes)
  if (cursor.u32() !== MAGIC) throw bad(source, 'does not start with GGUF (is it a GGUF file?)', 'magic')
  const version = cursor.u32()
  if (version !== 2 && version !== 3) {
    throw new ChoraleError(
      'not_supported',
      `${source.name}: GGUF version ${version}${version > 0xffff ? ' (big-endian?)' : ''}, read are 2 and 3`,
      { field: 'version' },
    )
  }
  const tensorCount = cursor.count('tensor count', MAX_TENSORS)
  const keyCount = cursor.count('key count', MAX_KEYS)
  const metadata = new Map<string, GgufValue>()
  for (let i = 0; i < keyCount; i++) {
    const key = cursor.string(`key ${i}`, MAX_NAME_BYTES)
    if (metadata.has(key)) throw bad(source, `key ${clip(key)} is given twice`, key)
    metadata.set(key, cursor.value(key, cursor.u32(), 0))
  }
  const infos: Omit<StoredTensor, 'source'>[] = []
  const names = new Set<string>()
  for (let i = 0; i < tensorCount; i++) {
    const info = readTensorInfo(source, cursor, i)
    if (names.has(info.name)) throw bad(source, `tensor ${clip(info.name)} is given twice`, info.name)
    names.add(info.name)
    infos.push(info)
  }
  const alignment = metadata.get('general.alignment') ?? 32
  if (typeof alignment !== 'number' || alignment < 1 || alignment > MAX_ALIGNMENT || alignment % 1 !== 0) {
    throw bad(
      source,
      `general.alignment is ${String(alignment)}, at most ${MAX_ALIGNMENT}`,
      'general.alignment',
    )
  }
  for (const { name, offset } of infos) {
    if (offset % alignment !== 0) {
      throw bad(source, `tensor ${clip(name)} starts at ${offset}, no multiple of ${alignment}`, name)
    }
  }
  const dataStart = Math.ceil(cursor.position() / alignment) * alignment
  checkLayout(source.name, infos, Math.max(0, source.size - dataStart), false)
  return {
    name: source.name,
    version,
    metadata,
    tensors: new Map(infos.map((info) => [info.name, { ...info, offset: dataStart + info.offset, source }])),
  }
}

function readTensorInfo(source: ByteSource, cursor: Cursor, index: number): Omit<StoredTensor, 'source'> {
  const name = cursor.string(`name of tensor ${index}`, MAX_NAME_BYTES)
  const dimensions = cursor.u32()
  if (dimensions > MAX_DIMENSIONS) {
    throw bad(source, `tensor ${clip(name)} has ${dimensions} dimensions, at most ${MAX_DIMENSIONS}`, name)
  }
  const shape: number[] = []
  for (let i = 0; i < dimensions; i++)
    shape.unshift(cursor.count(`tensor ${clip(name)}`, Number.MAX_SAFE_INTEGER))
  const typeNumber = cursor.u32()
  const type = GGML_TYPES.get(typeNumber)
  if (type === undefined) {
    throw new ChoraleError(
      'not_supported',
      `${source.name}: tensor ${clip(name)} has ggml type ${typeNumber}`,
      {
        field: name,
      },
    )
  }
  const [dtype, blockWeights, blockSize] = type
  const row = shape.at(-1) ?? 1
  if (row % blockWeights !== 0) {
    throw bad(source, `tensor ${clip(name)}: rows of ${row} weights are no whole blocks of ${dtype}`, name)
  }
  const byteLength = (elementCount(shape) / blockWeights) * blockSize
  if (!Number.isSafeInteger(byteLength)) {
    throw bad(source, `tensor ${clip(name)}: shape [${shape.join(', ')}] is too large`, name)
  }
  const offset = cursor.count(`offset of tensor ${clip(name)}`, Number.MAX_SAFE_INTEGER)
  return { name, dtype, shape, offset, byteLength }
}

interface Cursor {
  position(): number
  u32(): number
  /** A u64 that must not pass `max`. */
  count(field: string, max: number): number
  string(field: string, maxBytes: number): string
  value(field: string, type: number, depth: number): GgufValue
}

function createCursor(source: ByteSource, bytes: Uint8Array): Cursor {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const text = new TextDecoder()
  let position = 0
  /** Moves on by `size` bytes and returns where they begin. */
  const take = (size: number): number => {
    const at = position
    if (at + size > bytes.length) {
      // Bytes that the file itself lacks will not come with a longer read.
      if (at + size > source.size) throw bad(source, 'ends inside its header (is it complete?)', 'header')
      throw new NeedMore()
    }
    position += size
    return at
  }
  const u32 = () => view.getUint32(take(4), true)
  const count = (field: string, max: number): number => {
    const value = view.getBigUint64(take(8), true)
    if (value > BigInt(max)) throw bad(source, `${field} is ${value}, at most ${max}`, field)
    return Number(value)
  }
  const string = (field: string, maxBytes: number): string => {
    const length = count(`length of ${field}`, maxBytes)
    const at = take(length)
    return text.decode(bytes.subarray(at, at + length))
  }
  const wide = (value: bigint): number | bigint =>
    Number.isSafeInteger(Number(value)) ? Number(value) : value
  const scalars: readonly (() => GgufValue)[] = [
    () => view.getUint8(take(1)),
    () => view.getInt8(take(1)),
    () => view.getUint16(take(2), true),
    () => view.getInt16(take(2), true),
    u32,
    () => view.getInt32(take(4), true),
    () => view.getFloat32(take(4), true),
    () => view.getUint8(take(1)) !== 0,
  ]
  const wideScalars: readonly (() => GgufValue)[] = [
    () => wide(view.getBigUint64(take(8), true)),
    () => wide(view.getBigInt64(take(8), true)),
    () => view.getFloat64(take(8), true),
  ]
  const value = (field: string, type: number, depth: number): GgufValue => {
    const scalar = scalars[type] ?? wideScalars[type - 10]
    if (scalar !== undefined) return scalar()
    if (type === STRING) return string(field, MAX_STRING_BYTES)
    if (type !== ARRAY) throw bad(source, `${clip(field)} has unknown value type ${type}`, field)
    if (depth >= MAX_NESTING) throw bad(source, `${clip(field)} is nested deeper than ${MAX_NESTING}`, field)
    const itemType = u32()
    const length = count(`length of ${clip(field)}`, MAX_ARRAY_ITEMS)
    const minimum = MINIMUM_BYTES[itemType]
    if (minimum === undefined) throw bad(source, `${clip(field)} has unknown item type ${itemType}`, field)
    // Before any item is made: a forged length must not cost more than the file's own bytes.
    take(length * minimum)
    position -= length * minimum
    const items: GgufValue[] = []
    for (let i = 0; i < length; i++) items.push(value(field, itemType, depth + 1))
    return items
  }
  return { position: () => position, u32, count, string, value }
}

function bad(source: ByteSource, problem: string, field: string): ChoraleError {
  return new ChoraleError('bad_file', `${source.name}: ${problem}`, { field: clip(field) })
}
