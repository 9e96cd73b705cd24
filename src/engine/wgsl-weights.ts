import { ChoraleError } from '../errors.ts'
import { bytesOf, USAGE, upload } from '../gpu/buffers.ts'
import { type GpuContext, padded } from '../gpu/context.ts'
import { createMatrix, type GpuMatrix, type Segment, writeRows } from '../gpu/matrix.ts'
import { alternateRows, commonFormat, packRows } from '../gpu/pack-weights.ts'
import type { WeightFormat } from '../gpu/weight-format.ts'
import type { WeightTensor } from '../model/model.ts'
import { byteLength, dequantize } from '../tensor/quant.ts'
import type { LoadOptions } from './engine.ts'

/** A weight that is read when its turn comes, so that one tensor at a time is in memory beside the GPU's copy. */
export interface WeightSource {
  readonly name: string
  readonly info: Omit<WeightTensor, 'bytes'>
  read(): Promise<WeightTensor>
}

/** Values packed at a time: bounds what lies in memory besides the tensor read and the GPU's copy. */
const PACK_VALUES = 2 ** 20

/** Counts bytes read and passes them on. */
export function countProgress(
  sources: readonly WeightSource[],
  options: LoadOptions,
): (bytes: number) => void {
  const total = sources.reduce((sum, { info }) => sum + byteLength(info.dtype, info.shape), 0)
  let loaded = 0
  return (bytes) => {
    loaded += bytes
    options.onProgress?.(loaded, total)
  }
}

/** What a matrix is stacked from: a weight's rows, or the rows of two (gate and up) in turn. */
export type StackedRows = readonly [WeightSource] | readonly [WeightSource, WeightSource]

/**
 * Stacks weights of `columns` columns into one matrix on the GPU, quantised ones as they are.
 * @param expertRows rows of an expert, when the stack is one of experts.
 * @throws `capacity`, and what reading throws.
 */
export async function loadMatrix(
  context: GpuContext,
  stack: readonly StackedRows[],
  columns: number,
  onBytes: (bytes: number) => void,
  expertRows?: number,
): Promise<GpuMatrix> {
  const segments = stack.map((sources): Segment => {
    const format = commonFormat(sources.map(({ info }) => info.dtype))
    return { format, rows: sources.length * (sources[0].info.shape[0] ?? 0) }
  })
  const matrix = await createMatrix(context, {
    label: stack.map((sources) => sources.map(({ name }) => name).join('|')).join('+'),
    columns,
    segments: joinSegments(segments),
    pack: stack[0]?.length ?? 1,
    ...(expertRows === undefined ? {} : { expertRows }),
  })
  let firstRow = 0
  for (const [index, sources] of stack.entries()) {
    const { format, rows } = segments[index] as Segment
    await writeStacked(context, matrix, firstRow, sources, format, columns, onBytes)
    firstRow += rows
  }
  context.device.check()
  return matrix
}

/** Neighbours of one format become one segment, and so one buffer. */
function joinSegments(segments: readonly Segment[]): Segment[] {
  const joined: Segment[] = []
  for (const { format, rows } of segments) {
    const last = joined.at(-1)
    if (last?.format === format) joined.splice(-1, 1, { format, rows: last.rows + rows })
    else joined.push({ format, rows })
  }
  return joined
}

async function writeStacked(
  context: GpuContext,
  matrix: GpuMatrix,
  firstRow: number,
  sources: StackedRows,
  format: WeightFormat,
  columns: number,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const weights: WeightTensor[] = []
  for (const source of sources) {
    const weight = await source.read()
    checkShape(source.name, weight, [source.info.shape[0] ?? 0, columns])
    weights.push(weight)
  }
  const [first, second] = weights as [WeightTensor] | [WeightTensor, WeightTensor]
  const count = first.shape[0] as number
  const step = Math.max(1, Math.floor(PACK_VALUES / columns))
  for (let row = 0; row < count; row += step) {
    const pack = (weight: WeightTensor) =>
      packRows(someRows(weight, row, Math.min(row + step, count), columns), format)
    const packed = second === undefined ? pack(first) : alternateRows(pack(first), pack(second))
    writeRows(context, matrix, firstRow + row * weights.length, packed)
  }
  // Bounds what the driver stages: the next tensor is read when this one has arrived.
  await context.device.raw.queue.onSubmittedWorkDone()
  for (const { bytes } of weights) onBytes(bytes.length)
}

function someRows(weight: WeightTensor, from: number, to: number, columns: number): WeightTensor {
  const rowBytes = byteLength(weight.dtype, [columns])
  const bytes = weight.bytes.subarray(from * rowBytes, to * rowBytes)
  return { dtype: weight.dtype, shape: [to - from, columns], bytes }
}

/**
 * Stacks vectors into one float32 buffer, padded with zeros as rows are.
 * @param alternate their values in turn, as the rows of gate and up are.
 */
export async function loadVector(
  context: GpuContext,
  sources: readonly WeightSource[],
  onBytes: (bytes: number) => void,
  alternate = false,
): Promise<GPUBuffer> {
  const length = sources.reduce((sum, { info }) => sum + (info.shape[0] ?? 0), 0)
  const values = new Float32Array(padded(length))
  let at = 0
  for (const [index, source] of sources.entries()) {
    const weight = await source.read()
    checkShape(source.name, weight, [source.info.shape[0] ?? 0])
    const own = dequantize(weight)
    if (alternate) own.forEach((value, i) => (values[i * sources.length + index] = value))
    else values.set(own, at)
    at += own.length
    onBytes(weight.bytes.length)
  }
  const label = sources.map(({ name }) => name).join('+')
  return await vectorBuffer(context, label, values)
}

/** A buffer that holds these values for kernels to read. */
export async function vectorBuffer(
  context: GpuContext,
  label: string,
  values: Float32Array,
): Promise<GPUBuffer> {
  const buffer = await context.buffers.create(label, values.byteLength, USAGE.storage | USAGE.copyTarget)
  upload(context.device, buffer, 0, bytesOf(values))
  return buffer
}

function checkShape(name: string, weight: WeightTensor, shape: readonly number[]): void {
  const same = weight.shape.length === shape.length && shape.every((size, i) => size === weight.shape[i])
  if (!same) {
    throw new ChoraleError(
      'bad_file',
      `weight ${name} has shape [${weight.shape.join(', ')}] where [${shape.join(', ')}] is needed`,
      { field: name },
    )
  }
}
