import { ChoraleError } from '../errors.ts'
import { upload, USAGE } from './buffers.ts'
import type { GpuContext } from './context.ts'
import type { PackedRows } from './pack-weights.ts'
import { rowLayout, type WeightFormat } from './weight-format.ts'

/** Consecutive rows of a matrix in one buffer of weights and, for quantised ones, one of scales. */
export interface MatrixPart {
  readonly format: WeightFormat
  readonly weights: GPUBuffer
  readonly scales: GPUBuffer | undefined
  readonly firstRow: number
  readonly rows: number
}

/**
 * A weight matrix [rows, columns] on the GPU, split by rows where its format changes and where it exceeds the
 * largest binding.
 */
export interface GpuMatrix {
  readonly rows: number
  readonly columns: number
  readonly parts: readonly MatrixPart[]
  readonly bytes: number
}

/** Rows of one format, after those of the segments before. */
export interface Segment {
  readonly format: WeightFormat
  readonly rows: number
}

export interface MatrixShape {
  readonly label: string
  readonly columns: number
  readonly segments: readonly Segment[]
  /** Rows that stay together in a part: 2 where gate and up alternate. */
  readonly pack?: number
  /** Rows of an expert: a part holds whole experts, or some packs of a single one. Segments are whole experts. */
  readonly expertRows?: number
}

/** Outputs a dispatch of the matmul kernel covers at least per workgroup: bounds the rows of a part. */
const MIN_ROWS_A_WORKGROUP = 8

/** Allocates a matrix of zeros. @throws `capacity`. */
export async function createMatrix(context: GpuContext, shape: MatrixShape): Promise<GpuMatrix> {
  const { columns, label } = shape
  const parts: MatrixPart[] = []
  let bytes = 0
  let firstRow = 0
  try {
    for (const { format, rows } of shape.segments) {
      const layout = rowLayout(format, columns)
      for (const count of partRows(context, shape, Math.max(layout.weightBytes, layout.scaleBytes), rows)) {
        const usage = USAGE.storage | USAGE.copyTarget | USAGE.copySource
        const weights = await context.buffers.create(label, count * layout.weightBytes, usage)
        parts.push({ format, weights, scales: undefined, firstRow, rows: count })
        bytes += weights.size
        if (layout.scaleBytes > 0) {
          const scales = await context.buffers.create(`${label} scales`, count * layout.scaleBytes, usage)
          parts.splice(-1, 1, { format, weights, scales, firstRow, rows: count })
          bytes += scales.size
        }
        firstRow += count
      }
    }
  } catch (error) {
    destroyParts(context, parts)
    throw error
  }
  return { rows: firstRow, columns, parts, bytes }
}

/** Rows of each part of a segment. */
function partRows(context: GpuContext, shape: MatrixShape, rowBytes: number, rows: number): number[] {
  const { limits } = context.device
  const pack = shape.pack ?? 1
  const fits = Math.min(
    Math.floor(Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize) / rowBytes),
    limits.maxComputeWorkgroupsPerDimension * MIN_ROWS_A_WORKGROUP,
  )
  const expert = shape.expertRows ?? 0
  const unit = expert > 0 && fits >= expert ? expert : pack
  const largest = Math.floor(fits / unit) * unit
  if (largest < 1) {
    throw new ChoraleError(
      'capacity',
      `${pack} rows of ${shape.label} take ${pack * rowBytes} bytes, more than this GPU binds at once`,
    )
  }
  // A part of an expert ends where the expert does.
  const together = expert > 0 && unit !== expert ? expert : rows
  const counts: number[] = []
  for (let start = 0; start < rows; start += together) {
    for (let row = 0; row < together; row += largest) counts.push(Math.min(largest, together - row))
  }
  return counts
}

/** Fills rows from `firstRow` on, all of one segment. Not checked: that `packed` is in the segment's format. */
export function writeRows(
  context: GpuContext,
  matrix: GpuMatrix,
  firstRow: number,
  packed: PackedRows,
): void {
  const { rows } = packed
  for (const part of matrix.parts) {
    const from = Math.max(firstRow, part.firstRow)
    const to = Math.min(firstRow + rows, part.firstRow + part.rows)
    if (from >= to) continue
    const put = (buffer: GPUBuffer, bytes: Uint8Array) => {
      const rowBytes = bytes.length / rows
      const some = bytes.subarray((from - firstRow) * rowBytes, (to - firstRow) * rowBytes)
      upload(context.device, buffer, (from - part.firstRow) * rowBytes, some)
    }
    put(part.weights, packed.weights)
    if (part.scales !== undefined) put(part.scales, packed.scales)
  }
}

function destroyParts(context: GpuContext, parts: readonly MatrixPart[]): void {
  for (const { scales, weights } of parts) {
    context.buffers.destroy(weights)
    if (scales !== undefined) context.buffers.destroy(scales)
  }
}
