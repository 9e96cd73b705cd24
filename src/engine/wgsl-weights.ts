import { ChoraleError } from '../errors.ts'
import { bytesOf, USAGE, upload } from '../gpu/buffers.ts'
import { type GpuContext, padded } from '../gpu/context.ts'
import { createMatrix, type GpuMatrix, type WeightFormat, writeRows } from '../gpu/matrix.ts'
import type { WeightTensor } from '../model/model.ts'
import { byteLength, dequantize } from '../tensor/quant.ts'
import type { WeightDtype } from '../tensor/weight.ts'
import type { LoadOptions } from './engine.ts'

/** A weight that is read when its turn comes, so that one tensor at a time is in memory beside the GPU's copy. */
export interface WeightSource {
  readonly name: string
  readonly info: Omit<WeightTensor, 'bytes'>
  read(): Promise<WeightTensor>
}

/** Values converted to float32 at a time, so that a quantised matrix is never in memory as float32 whole. */
const CONVERT_VALUES = 2 ** 20

/** The format a matrix of these stored weights is kept in: half precision as it is, everything else float32. */
export function matrixFormat(dtypes: readonly WeightDtype[]): WeightFormat {
  if (dtypes.every((dtype) => dtype === 'F16')) return 'f16'
  if (dtypes.every((dtype) => dtype === 'BF16')) return 'bf16'
  return 'f32'
}

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

/**
 * Stacks matrices of `columns` columns into one on the GPU.
 * @throws `capacity`, and what reading throws.
 */
export async function loadMatrix(
  context: GpuContext,
  sources: readonly WeightSource[],
  columns: number,
  onBytes: (bytes: number) => void,
): Promise<GpuMatrix> {
  const label = sources.map(({ name }) => name).join('+')
  const rows = sources.reduce((sum, { info }) => sum + (info.shape[0] ?? 0), 0)
  const format = matrixFormat(sources.map(({ info }) => info.dtype))
  const matrix = await createMatrix(context, label, format, rows, columns)
  let firstRow = 0
  for (const source of sources) {
    const weight = await source.read()
    checkShape(source.name, weight, [source.info.shape[0] ?? 0, columns])
    const rowBytes = byteLength(weight.dtype, [columns])
    const count = weight.shape[0] as number
    const step = Math.max(1, Math.floor(CONVERT_VALUES / columns))
    for (let row = 0; row < count; row += step) {
      const some = Math.min(step, count - row)
      const bytes = weight.bytes.subarray(row * rowBytes, (row + some) * rowBytes)
      const raw = format !== 'f32' || weight.dtype === 'F32'
      writeRows(
        context,
        matrix,
        firstRow + row,
        raw ? bytes : bytesOf(dequantize({ dtype: weight.dtype, shape: [some, columns], bytes })),
      )
    }
    // Bounds what the driver stages: the next tensor is read when this one has arrived.
    await context.device.raw.queue.onSubmittedWorkDone()
    firstRow += count
    onBytes(weight.bytes.length)
  }
  context.device.check()
  return matrix
}

/** Stacks vectors into one float32 buffer, padded with zeros to a multiple of 4 values. */
export async function loadVector(
  context: GpuContext,
  sources: readonly WeightSource[],
  onBytes: (bytes: number) => void,
): Promise<GPUBuffer> {
  const length = sources.reduce((sum, { info }) => sum + (info.shape[0] ?? 0), 0)
  const values = new Float32Array(padded(length))
  let at = 0
  for (const source of sources) {
    const weight = await source.read()
    checkShape(source.name, weight, [source.info.shape[0] ?? 0])
    values.set(dequantize(weight), at)
    at += weight.shape[0] as number
    onBytes(weight.bytes.length)
  }
  const label = sources.map(({ name }) => name).join('+')
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
