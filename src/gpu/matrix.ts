import { ChoraleError } from '../errors.ts'
import { upload, USAGE } from './buffers.ts'
import { type GpuContext, padded } from './context.ts'

/** How a matrix is kept on the GPU; everything else is converted to one of these on loading. */
export type WeightFormat = 'f32' | 'f16' | 'bf16'

/** Consecutive rows of a matrix in one buffer. */
export interface MatrixPart {
  readonly buffer: GPUBuffer
  readonly firstRow: number
  readonly rows: number
}

/**
 * A weight matrix [rows, columns] on the GPU, rows padded with zeros to a multiple of 4 values, split by rows where
 * it exceeds the largest binding.
 */
export interface GpuMatrix {
  readonly format: WeightFormat
  readonly rows: number
  readonly columns: number
  readonly parts: readonly MatrixPart[]
  readonly bytes: number
}

/** Outputs a dispatch of the matmul kernel covers at least per workgroup: bounds the rows of a part. */
const MIN_ROWS_A_WORKGROUP = 8

/** Bytes of one value. */
export function formatBytes(format: WeightFormat): number {
  return format === 'f32' ? 4 : 2
}

/** Allocates a matrix of zeros. @throws `capacity`. */
export async function createMatrix(
  context: GpuContext,
  label: string,
  format: WeightFormat,
  rows: number,
  columns: number,
): Promise<GpuMatrix> {
  const { limits } = context.device
  const rowBytes = padded(columns) * formatBytes(format)
  const largest = Math.min(
    Math.floor(Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize) / rowBytes),
    limits.maxComputeWorkgroupsPerDimension * MIN_ROWS_A_WORKGROUP,
  )
  if (largest < 1) {
    throw new ChoraleError(
      'capacity',
      `one row of ${label} takes ${rowBytes} bytes, more than this GPU binds at once`,
    )
  }
  const parts: MatrixPart[] = []
  let bytes = 0
  try {
    for (let firstRow = 0; firstRow < rows; firstRow += largest) {
      const count = Math.min(largest, rows - firstRow)
      const buffer = await context.buffers.create(
        label,
        count * rowBytes,
        USAGE.storage | USAGE.copyTarget | USAGE.copySource,
      )
      parts.push({ buffer, firstRow, rows: count })
      bytes += buffer.size
    }
  } catch (error) {
    for (const part of parts) context.buffers.destroy(part.buffer)
    throw error
  }
  return { format, rows, columns, parts, bytes }
}

/** Fills rows from `firstRow` on; `bytes` holds whole unpadded rows in the matrix's format. */
export function writeRows(context: GpuContext, matrix: GpuMatrix, firstRow: number, bytes: Uint8Array): void {
  const rowBytes = matrix.columns * formatBytes(matrix.format)
  const paddedBytes = padded(matrix.columns) * formatBytes(matrix.format)
  const count = bytes.length / rowBytes
  for (const part of matrix.parts) {
    const from = Math.max(firstRow, part.firstRow)
    const to = Math.min(firstRow + count, part.firstRow + part.rows)
    if (from >= to) continue
    const slice = bytes.subarray((from - firstRow) * rowBytes, (to - firstRow) * rowBytes)
    const rows = rowBytes === paddedBytes ? slice : padRows(slice, rowBytes, paddedBytes)
    upload(context.device, part.buffer, (from - part.firstRow) * paddedBytes, rows)
  }
}

/** Destroys the matrix's buffers. */
export function destroyMatrix(context: GpuContext, matrix: GpuMatrix): void {
  for (const part of matrix.parts) context.buffers.destroy(part.buffer)
}

/** Copies rows of `from` bytes to rows of `to` bytes, zeros in between. */
export function padRows(bytes: Uint8Array, from: number, to: number): Uint8Array {
  const count = bytes.length / from
  const out = new Uint8Array(count * to)
  for (let row = 0; row < count; row++) out.set(bytes.subarray(row * from, (row + 1) * from), row * to)
  return out
}
