import { bytesOf, ownBuffers, readFloats, upload, USAGE } from './buffers.ts'
import type { GpuContext } from './context.ts'
import { createMatrix, formatBytes, type WeightFormat, writeRows } from './matrix.ts'
import { compileMatmul, createMatmul, type MatmulKernels, type TiledKernel } from './ops/matmul.ts'

/** Odd on purpose: the last tile, the last lane round and the last column group are all ragged. */
const ROWS = 7
const COLUMNS = 37
const INNER = 252

/**
 * The matmul kernels of one weight format, safe to mix: a token's bits must not depend on how many tokens share a
 * step, so the one-row kernel is used only where this device's compiler makes the same bits of both.
 */
export async function compileInvariantMatmul(
  context: GpuContext,
  format: WeightFormat,
): Promise<MatmulKernels> {
  const kernels = await compileMatmul(context, format)
  const [one, many] = [
    await probe(context, format, kernels.oneRow),
    await probe(context, format, kernels.manyRows),
  ]
  if (one.every((word, index) => word === many[index])) return kernels
  context.log.warn('this GPU compiles the matmul tiles to different sums; decoding uses the larger tile', {
    format,
  })
  return { oneRow: kernels.manyRows, manyRows: kernels.manyRows }
}

/** Bits of a fixed product, computed with one kernel only. */
async function probe(context: GpuContext, format: WeightFormat, kernel: TiledKernel): Promise<Uint32Array> {
  const { device } = context
  const owned = ownBuffers(context.buffers)
  const own = { ...context, buffers: owned }
  try {
    const matrix = await createMatrix(own, 'matmul probe', format, COLUMNS, INNER)
    writeRows(own, matrix, 0, probeWeights(format))
    const input = await owned.create('matmul probe', ROWS * INNER * 4, USAGE.storage | USAGE.copyTarget)
    upload(device, input, 0, bytesOf(Float32Array.from({ length: ROWS * INNER }, (_, i) => pseudo(i, 7919))))
    const outputBytes = ROWS * 40 * 4
    const output = await owned.create('matmul probe', outputBytes, USAGE.storage | USAGE.copySource)
    const staging = await owned.create('matmul probe', outputBytes, USAGE.mapRead | USAGE.copyTarget)
    const step = await context.uniform(Uint32Array.of(ROWS, 0, 0, 0))
    const op = await createMatmul(own, {
      matrix,
      kernels: { oneRow: kernel, manyRows: kernel },
      step,
      input,
      output,
    })
    const encoder = device.raw.createCommandEncoder()
    const pass = encoder.beginComputePass()
    op.encode(pass, ROWS)
    pass.end()
    encoder.copyBufferToBuffer(output, 0, staging, 0, outputBytes)
    device.raw.queue.submit([encoder.finish()])
    const values = await readFloats(device, staging, outputBytes / 4)
    device.check()
    return new Uint32Array(values.buffer)
  } finally {
    owned.destroyAll()
  }
}

/** Finite values of varied size in any format: sign and exponent fields are kept in range. */
function probeWeights(format: WeightFormat): Uint8Array {
  const values = Float32Array.from({ length: COLUMNS * INNER }, (_, i) => pseudo(i, 104_729))
  if (formatBytes(format) === 4) return bytesOf(values)
  const bits = new Uint32Array(values.buffer)
  // bfloat16 is the upper half of float32; for float16 the sign, a middling exponent and the same mantissa bits do.
  return bytesOf(
    Uint16Array.from(bits, (word) =>
      format === 'bf16' ? word >>> 16 : ((word >>> 16) & 0x8000) | 0x3400 | ((word >>> 10) & 0x3ff),
    ),
  )
}

/** A value in (-1, 1) that looks random and is the same everywhere. */
function pseudo(index: number, factor: number): number {
  return ((Math.imul(index + 1, factor * 40_503) >>> 8) / 2 ** 24) * 2 - 1
}
