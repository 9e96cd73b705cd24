import { bytesOf, ownBuffers, readFloats, upload, USAGE } from './buffers.ts'
import { type GpuContext, padded } from './context.ts'
import { createMatrix, writeRows } from './matrix.ts'
import type { LinearVariant } from './ops/activation.ts'
import { createMatmul, GROUPS, matmulKernel } from './ops/matmul.ts'
import { MATMUL_TILE, matmulTiledKernel } from './ops/matmul-tiled.ts'
import type { Kernel, KernelSource } from './pipelines.ts'
import { rowLayout, type WeightFormat } from './weight-format.ts'

/** Tokens and weight rows of a workgroup. */
export interface Tile {
  readonly rows: number
  readonly columns: number
}

/** A kernel compiled for one tile size. */
export interface TiledKernel {
  readonly kernel: Kernel
  readonly tile: Tile
}

/** What one variant is multiplied with: for decoding one token, for few rows and for many. */
export interface MatmulKernels {
  readonly oneRow: TiledKernel
  readonly fewRows: TiledKernel
  readonly manyRows: TiledKernel
}

/** Kernels by variant, compiled when first asked for. */
export type MatmulKernelSource = (variant: LinearVariant) => Promise<MatmulKernels>

/** Tokens a workgroup and weight rows an invocation of `matmul.wgsl`. */
const ONE_ROW = { rows: 1, columns: 2 }
const FEW_ROWS = { rows: 4, columns: 2 }

/** A cache of `compileInvariantMatmul`. */
export function createMatmulKernels(context: GpuContext): MatmulKernelSource {
  const compiled = new Map<string, Promise<MatmulKernels>>()
  return (variant) => {
    const key = `${variant.format} ${variant.activation} ${variant.gated}`
    let kernels = compiled.get(key)
    if (kernels === undefined) {
      kernels = compileInvariantMatmul(context, variant)
      compiled.set(key, kernels)
    }
    return kernels
  }
}

/** Compiles one variant in every tile size. All add in the same order. */
export async function compileMatmul(context: GpuContext, variant: LinearVariant): Promise<MatmulKernels> {
  const compile = async (source: KernelSource, tile: Tile) => ({
    tile,
    kernel: await context.pipelines.get(source),
  })
  const streaming = (tile: Tile) =>
    compile(matmulKernel(variant, tile), { rows: tile.rows, columns: tile.columns * GROUPS })
  const [oneRow, fewRows, manyRows] = await Promise.all([
    streaming(ONE_ROW),
    streaming(FEW_ROWS),
    compile(matmulTiledKernel(variant), { rows: MATMUL_TILE, columns: MATMUL_TILE }),
  ])
  return { oneRow, fewRows, manyRows }
}

/**
 * The matmul kernels of one variant, safe to mix: a token's bits must not depend on how many tokens share a step,
 * so different kernels are used only where this device's compiler makes the same bits of them.
 */
export async function compileInvariantMatmul(
  context: GpuContext,
  variant: LinearVariant,
): Promise<MatmulKernels> {
  const kernels = await compileMatmul(context, variant)
  const { fewRows, manyRows, oneRow } = kernels
  const [expected, one, many] = [
    await probe(context, variant, fewRows),
    await probe(context, variant, oneRow),
    await probe(context, variant, manyRows),
  ]
  const same = (bits: Uint32Array) => bits.every((word, index) => word === expected[index])
  if (same(one) && same(many)) return kernels
  context.log.warn('this GPU compiles the matmul kernels to different sums; one of them does all the work', {
    format: variant.format,
  })
  return { oneRow: fewRows, fewRows, manyRows: fewRows }
}

/** Odd on purpose: the last tile, the last lane round and the last column group are all ragged. */
const ROWS = 3
const COLUMNS = 38
const INNER = 640

/** Bits of a fixed product, computed with one kernel only. */
async function probe(context: GpuContext, variant: LinearVariant, kernel: TiledKernel): Promise<Uint32Array> {
  const { device } = context
  const owned = ownBuffers(context.buffers)
  const own = { ...context, buffers: owned }
  const { format } = variant
  try {
    const matrix = await createMatrix(own, {
      label: 'matmul probe',
      columns: INNER,
      segments: [{ format, rows: COLUMNS }],
      pack: 2,
    })
    const layout = rowLayout(format, INNER)
    writeRows(own, matrix, 0, {
      rows: COLUMNS,
      weights: probeWords(format, (COLUMNS * layout.weightBytes) / 4, false),
      scales: probeWords(format, (COLUMNS * layout.scaleBytes) / 4, true),
    })
    const input = await owned.create('matmul probe', ROWS * INNER * 4, USAGE.storage | USAGE.copyTarget)
    upload(device, input, 0, bytesOf(Float32Array.from({ length: ROWS * INNER }, (_, i) => pseudo(i, 7919))))
    const outputBytes = ROWS * padded(variant.gated ? COLUMNS / 2 : COLUMNS) * 4
    const output = await owned.create('matmul probe', outputBytes, USAGE.storage | USAGE.copySource)
    const staging = await owned.create('matmul probe', outputBytes, USAGE.mapRead | USAGE.copyTarget)
    const kernels = { oneRow: kernel, fewRows: kernel, manyRows: kernel }
    const op = await createMatmul(own, {
      matrix,
      kernels: async () => kernels,
      step: await context.uniform(Uint32Array.of(ROWS, 0, 0, 0)),
      input,
      output,
      variant,
    })
    const encoder = device.raw.createCommandEncoder()
    const pass = encoder.beginComputePass()
    op.encode(pass, ROWS, 1)
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

/** Words that are finite numbers of varied size in any format: sign and exponent fields are kept in range. */
function probeWords(format: WeightFormat, count: number, isScale: boolean): Uint8Array {
  const floats = Float32Array.from({ length: count }, (_, i) => pseudo(i, 104_729))
  if (format === 'f32') return bytesOf(floats)
  const bits = new Uint32Array(floats.buffer)
  if (format === 'f16' || (isScale && (format === 'q4' || format === 'q8'))) {
    // Two halves of a middling exponent with mantissa bits of the float32.
    return bytesOf(bits.map((word) => (word & 0x83ff_83ff) | 0x3000_3000))
  }
  if (isScale) return bytesOf(floats)
  if (format === 'bf16') return bytesOf(bits.map((word) => (word & 0x807f_807f) | 0x3e80_3f00))
  return bytesOf(bits.map((word) => Math.imul(word, 0x9e37_79b1)))
}

/** A value in (-1, 1) that looks random and is the same everywhere. */
function pseudo(index: number, factor: number): number {
  return ((Math.imul(index + 1, factor * 40_503) >>> 8) / 2 ** 24) * 2 - 1
}
