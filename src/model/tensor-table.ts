import { ChoraleError } from '../errors.ts'
import { byteLength, isWeightDtype, type WeightTensor } from '../tensor/weight.ts'
import type { ByteSource } from '../byte-source.ts'
import type { RowRange } from './fused.ts'

/** Where one tensor lies, as a file's table says; read by name, checked against the file when the table was read. */
export interface StoredTensor {
  readonly name: string
  /** The file's own name of the type; one of `WeightDtype` when it can be computed with. */
  readonly dtype: string
  /** Row-major, outermost dimension first. */
  readonly shape: readonly number[]
  readonly source: ByteSource
  /** From the start of the file. */
  readonly offset: number
  readonly byteLength: number
}

/** All tensors of a model by name, over all its files. */
export type TensorTable = ReadonlyMap<string, StoredTensor>

/** Tensors up to this many bytes are read whole when several parts of them are wanted, instead of part by part. */
const SMALL_TENSOR_BYTES = 2 ** 20

/** Reads one tensor and nothing else. @throws `not_supported` when its dtype can't be computed with. */
export async function readWeight(stored: StoredTensor, signal?: AbortSignal): Promise<WeightTensor> {
  const { dtype, shape } = weightInfo(stored)
  return { dtype, shape, bytes: await stored.source.read(stored.offset, stored.byteLength, signal) }
}

/**
 * Reads rows of a tensor, in the order given, as a weight of `shape`; of a large tensor nothing else is read.
 * The ranges must lie inside it and add up to `shape`. @throws `not_supported` as `readWeight`.
 */
export async function readRows(
  stored: StoredTensor,
  rows: readonly RowRange[],
  shape: readonly number[],
  signal?: AbortSignal,
): Promise<WeightTensor> {
  const { dtype } = weightInfo(stored)
  const matrix = stored.shape.length > 1
  const rowBytes = byteLength(dtype, [matrix ? (stored.shape.at(-1) ?? 1) : 1])
  const whole =
    rows.length > 1 && stored.byteLength <= SMALL_TENSOR_BYTES
      ? await stored.source.read(stored.offset, stored.byteLength, signal)
      : undefined
  const parts: Uint8Array[] = []
  for (const { count, first } of rows) {
    const [at, length] = [first * rowBytes, count * rowBytes]
    parts.push(
      whole === undefined
        ? await stored.source.read(stored.offset + at, length, signal)
        : whole.subarray(at, at + length),
    )
  }
  const [only] = parts
  if (only !== undefined && parts.length === 1) return { dtype, shape, bytes: only }
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let position = 0
  for (const part of parts) {
    bytes.set(part, position)
    position += part.length
  }
  return { dtype, shape, bytes }
}

/**
 * Bytes [offset, offset + length) of rows put together: as `readRows` gives them, and then with rows moved.
 * @param layout `rows`: ranges of the tensor, undefined for all; `sourceRow`: for each row of the result its row among those
 */
export async function readRowsRange(
  stored: StoredTensor,
  layout: {
    readonly shape: readonly number[]
    readonly rows: readonly RowRange[] | undefined
    readonly sourceRow: ((row: number) => number) | undefined
  },
  offset: number,
  length: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const { dtype } = weightInfo(stored)
  const { rows, shape, sourceRow = (row: number) => row } = layout
  const rowBytes = byteLength(dtype, [shape.length > 1 ? (shape.at(-1) ?? 1) : 1])
  const inTensor = (row: number): number => {
    let left = sourceRow(row)
    for (const { count, first } of rows ?? []) {
      if (left < count) return first + left
      left -= count
    }
    return left
  }
  const whole =
    stored.byteLength <= SMALL_TENSOR_BYTES
      ? await stored.source.read(stored.offset, stored.byteLength, signal)
      : undefined
  const bytes = new Uint8Array(length)
  const end = offset + length
  for (let row = Math.floor(offset / rowBytes); row * rowBytes < end;) {
    // Rows that lie side by side are one read.
    const from = inTensor(row)
    let count = 1
    while ((row + count) * rowBytes < end && inTensor(row + count) === from + count) count++
    const start = Math.max(offset, row * rowBytes)
    const stop = Math.min(end, (row + count) * rowBytes)
    const at = from * rowBytes + (start - row * rowBytes)
    const part =
      whole?.subarray(at, at + stop - start) ??
      (await stored.source.read(stored.offset + at, stop - start, signal))
    bytes.set(part, start - offset)
    row += count
  }
  return bytes
}

/** Stored form of a weight without its bytes. @throws `not_supported` naming the tensor and its dtype. */
export function weightInfo(stored: StoredTensor): Omit<WeightTensor, 'bytes'> {
  const { dtype, name, shape, source } = stored
  if (!isWeightDtype(dtype)) {
    throw new ChoraleError('not_supported', `${source.name}: tensor ${name} is stored as ${dtype}`, {
      field: name,
    })
  }
  return { dtype, shape }
}

/**
 * Checks that tensors do not share bytes and, with `whole`, that they leave none of [0, end) out.
 * `ranges` are relative to the data's start. @throws `bad_file` naming the tensor.
 */
export function checkLayout(
  file: string,
  ranges: readonly { readonly name: string; readonly offset: number; readonly byteLength: number }[],
  end: number,
  whole: boolean,
): void {
  const sorted = [...ranges].sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength)
  let position = 0
  for (const { name, offset, byteLength } of sorted) {
    if (offset < position) {
      throw new ChoraleError('bad_file', `${file}: tensor ${name} overlaps the one before it`, {
        field: name,
      })
    }
    if (whole && offset > position) {
      throw new ChoraleError('bad_file', `${file}: ${offset - position} unused bytes before tensor ${name}`, {
        field: name,
      })
    }
    position = offset + byteLength
    if (position > end) {
      throw new ChoraleError(
        'bad_file',
        `${file}: tensor ${name} ends at byte ${position} of ${end} bytes of data (is the file complete?)`,
        { field: name },
      )
    }
  }
  if (whole && position !== end) {
    throw new ChoraleError(
      'bad_file',
      `${file}: ${end - position} bytes after the last tensor belong to none`,
    )
  }
}
