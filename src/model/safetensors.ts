/** Reading safetensors: header, shards, and small files whole. Source: its format description. */

import { ChoraleError } from '../errors.ts'
import { f32FromBytes } from '../tensor/dtype.ts'
import { elementCount } from '../tensor/weight.ts'
import type { ByteSource } from '../byte-source.ts'
import { clip, decodeUtf8, isJsonObject, type JsonObject, parseJsonObject, show } from './json.ts'
import { withBlocks } from './quantised-safetensors.ts'
import { checkLayout, type StoredTensor, type TensorTable } from './tensor-table.ts'

/** Defends memory against a forged header length; the format's own limit. */
const MAX_HEADER_BYTES = 100_000_000
/** Defends against shapes made to overflow; no known tensor has more. */
const MAX_DIMENSIONS = 8
/** Defends against an index that makes us open files without end; the largest public models have under 1,000. */
const MAX_SHARDS = 4096

const DTYPE_BYTES: Readonly<Record<string, number>> = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
}

/**
 * Reads the tensor table of one file; no tensor data is read.
 * Checks everything the format promises: lengths, JSON, duplicate names, dtypes, shapes against offsets, holes, overlaps.
 * @throws `bad_file` naming the file and the tensor.
 */
export async function readSafetensors(source: ByteSource, signal?: AbortSignal): Promise<TensorTable> {
  const file = source.name
  if (source.size < 8)
    throw new ChoraleError('bad_file', `${file}: ${source.size} bytes is no safetensors file`)
  const prefix = await source.read(0, 8, signal)
  const headerBytes = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true)
  if (headerBytes > BigInt(MAX_HEADER_BYTES)) {
    throw new ChoraleError(
      'bad_file',
      `${file}: header length ${headerBytes}, at most ${MAX_HEADER_BYTES} (is it a safetensors file?)`,
      { field: 'header length' },
    )
  }
  const dataStart = 8 + Number(headerBytes)
  if (dataStart > source.size) {
    throw new ChoraleError(
      'bad_file',
      `${file}: header of ${headerBytes} bytes in a file of ${source.size}`,
      {
        field: 'header length',
      },
    )
  }
  const header = parseHeader(file, await source.read(8, Number(headerBytes), signal))
  const tensors: StoredTensor[] = []
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue
    tensors.push({ ...tensorEntry(file, name, entry), name, source })
  }
  checkLayout(file, tensors, source.size - dataStart, true)
  const typed = withBlocks(file, header['__metadata__'], tensors)
  return new Map(typed.map((tensor) => [tensor.name, { ...tensor, offset: tensor.offset + dataStart }]))
}

/**
 * Reads the tables of a sharded model, from its parsed `model.safetensors.index.json`.
 * @param open opens a shard by the file name the index gives
 * @throws `bad_file` when the index leaves its folder, names too many files, or a shard lacks a tensor it names.
 */
export async function readShardedSafetensors(
  indexName: string,
  index: JsonObject,
  open: (file: string) => Promise<ByteSource>,
  signal?: AbortSignal,
): Promise<TensorTable> {
  const shards = shardsOf(indexName, index)
  const table = new Map<string, StoredTensor>()
  for (const [file, names] of shards) {
    const shard = await readSafetensors(await open(file), signal)
    for (const name of names) {
      const stored = shard.get(name)
      if (stored === undefined) {
        throw new ChoraleError('bad_file', `${indexName}: ${clip(name)} is not in ${file}`, { field: name })
      }
      table.set(name, stored)
    }
  }
  return table
}

/** The shards an index names, each with its tensors. @throws `bad_file` naming the field. */
export function shardsOf(indexName: string, index: JsonObject): ReadonlyMap<string, readonly string[]> {
  const weightMap = index['weight_map']
  if (!isJsonObject(weightMap)) {
    throw new ChoraleError('bad_file', `${indexName}: no object "weight_map"`, { field: 'weight_map' })
  }
  const shards = new Map<string, string[]>()
  for (const [name, file] of Object.entries(weightMap)) {
    // A shard lies beside its index: anything else could read the machine's other files.
    if (typeof file !== 'string' || !/^[A-Za-z0-9_][A-Za-z0-9._-]{0,200}\.safetensors$/.test(file)) {
      throw new ChoraleError('bad_file', `${indexName}: ${show(file)} is no name of a shard`, {
        field: 'weight_map',
      })
    }
    const names = shards.get(file)
    if (names !== undefined) names.push(name)
    else if (shards.size >= MAX_SHARDS) {
      throw new ChoraleError('bad_file', `${indexName}: more than ${MAX_SHARDS} shards`, {
        field: 'weight_map',
      })
    } else shards.set(file, [name])
  }
  if (shards.size === 0) {
    throw new ChoraleError('bad_file', `${indexName}: "weight_map" is empty`, { field: 'weight_map' })
  }
  return shards
}

/** A tensor read whole, as numbers: reference files, tests. */
export interface NumberTensor {
  readonly dtype: 'F32' | 'I32' | 'U8'
  readonly shape: readonly number[]
  readonly data: Float32Array | Int32Array | Uint8Array
}

/** Reads every tensor of a small file. @throws `not_supported` for a dtype other than F32, I32, U8. */
export async function readTensors(source: ByteSource): Promise<ReadonlyMap<string, NumberTensor>> {
  const tensors = new Map<string, NumberTensor>()
  for (const [name, stored] of await readSafetensors(source)) {
    const { dtype, shape } = stored
    const bytes = await source.read(stored.offset, stored.byteLength)
    if (dtype === 'F32') tensors.set(name, { dtype, shape, data: f32FromBytes(bytes) })
    else if (dtype === 'I32')
      tensors.set(name, { dtype, shape, data: new Int32Array(new Uint8Array(bytes).buffer) })
    else if (dtype === 'U8') tensors.set(name, { dtype, shape, data: bytes })
    else throw new ChoraleError('not_supported', `${source.name}: ${name} is ${dtype}`, { field: name })
  }
  return tensors
}

function parseHeader(file: string, bytes: Uint8Array): JsonObject {
  if (bytes[0] !== 0x7b) throw new ChoraleError('bad_file', `${file}: header does not start with {`)
  return parseJsonObject(`${file} header`, decodeUtf8(`${file} header`, bytes))
}

function tensorEntry(
  file: string,
  name: string,
  entry: unknown,
): Pick<StoredTensor, 'dtype' | 'shape' | 'offset' | 'byteLength'> {
  const bad = (problem: string) =>
    new ChoraleError('bad_file', `${file}: tensor ${clip(name)}: ${problem}`, { field: name })
  if (!isJsonObject(entry)) throw bad('not an object')
  const { dtype, shape, data_offsets: offsets } = entry as Record<'dtype' | 'shape' | 'data_offsets', unknown>
  const size = typeof dtype === 'string' && Object.hasOwn(DTYPE_BYTES, dtype) ? DTYPE_BYTES[dtype] : undefined
  if (typeof dtype !== 'string' || size === undefined) throw bad(`unknown dtype ${show(dtype)}`)
  if (!isIndexArray(shape) || shape.length > MAX_DIMENSIONS) throw bad(`bad shape ${show(shape)}`)
  if (!isIndexArray(offsets) || offsets.length !== 2) throw bad(`bad data_offsets ${show(offsets)}`)
  const [begin, end] = offsets as [number, number]
  const byteLength = elementCount(shape) * size
  if (end - begin !== byteLength) {
    throw bad(`data_offsets ${begin}..${end}, but ${dtype} [${shape.join(', ')}] takes ${byteLength} bytes`)
  }
  return { dtype, shape, offset: begin, byteLength }
}

function isIndexArray(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0)
}
