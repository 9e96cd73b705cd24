import { ChoraleError } from '../errors.ts'
import { dequantize } from '../tensor/quant.ts'
import { bytesOf, ownBuffers, readFloats, upload, USAGE } from './buffers.ts'
import { type GpuContext, padded } from './context.ts'
import { createMatrix, writeRows } from './matrix.ts'
import type { LinearVariant } from './ops/activation.ts'
import { createMatmul, GROUPS, matmulKernel } from './ops/matmul.ts'
import { MATMUL_TILE, matmulTiledKernel } from './ops/matmul-tiled.ts'
import { packRows } from './pack-weights.ts'
import type { Kernel, KernelSource } from './pipelines.ts'
import { probeWeights, pseudo } from './probe-weights.ts'

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
 * The matmul kernels of one variant, tried out on this device: right, and safe to mix. A token's bits must not depend
 * on how many tokens share a step, so different kernels are used only where the driver makes the same bits of them.
 * @throws `engine` when one computes wrong numbers.
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
const INNER = 768

/** Largest |a - b| / max |b| of a right kernel: sums of 768 products in float32 stay a hundred times below. */
const TOLERANCE = 1e-4

/** Bits of a fixed product, computed with one kernel only. @throws `engine` when they are wrong. */
async function probe(context: GpuContext, variant: LinearVariant, kernel: TiledKernel): Promise<Uint32Array> {
  const { device } = context
  const owned = ownBuffers(context.buffers)
  const own = { ...context, buffers: owned }
  const { format, gated } = variant
  const outputs = gated ? COLUMNS / 2 : COLUMNS
  const weight = probeWeights(format, COLUMNS, INNER)
  const inputs = Float32Array.from({ length: ROWS * INNER }, (_, i) => pseudo(i, 7919))
  try {
    const segments = [{ format, rows: COLUMNS }]
    const matrix = await createMatrix(own, { label: 'matmul probe', columns: INNER, segments, pack: 2 })
    writeRows(own, matrix, 0, packRows(weight, format))
    const input = await owned.create('matmul probe', inputs.byteLength, USAGE.storage | USAGE.copyTarget)
    upload(device, input, 0, bytesOf(inputs))
    const outputBytes = ROWS * padded(outputs) * 4
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
    checkProbe(context, variant, values, expectedProbe(variant, dequantize(weight), inputs))
    return new Uint32Array(values.buffer)
  } finally {
    owned.destroyAll()
  }
}

/** The probe in float64: [ROWS, outputs], rows unpadded. */
function expectedProbe(variant: LinearVariant, weights: Float32Array, inputs: Float32Array): number[] {
  const linear = (row: number, column: number): number => {
    let sum = 0
    for (let k = 0; k < INNER; k++) {
      sum += (weights[column * INNER + k] as number) * (inputs[row * INNER + k] as number)
    }
    return sum
  }
  const activate = ACTIVATIONS[variant.activation]
  const outputs = variant.gated ? COLUMNS / 2 : COLUMNS
  return Array.from({ length: ROWS * outputs }, (_, i) => {
    const [row, n] = [Math.floor(i / outputs), i % outputs]
    return variant.gated ? activate(linear(row, 2 * n)) * linear(row, 2 * n + 1) : activate(linear(row, n))
  })
}

/** Good to 2e-7, which is enough to tell right from wrong; formulas at `lib/activation.wgsl`. */
const ACTIVATIONS: Readonly<Record<LinearVariant['activation'], (x: number) => number>> = {
  none: (x) => x,
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => {
    const t = 1 / (1 + (0.3275911 * Math.abs(x)) / Math.SQRT2)
    const series = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592]
    const tail = 0.5 * series.reduce((sum, factor) => sum * t + factor, 0) * t * Math.exp((-x * x) / 2)
    return x * (x < 0 ? tail : 1 - tail)
  },
  'gelu-tanh': (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
}

function checkProbe(
  context: GpuContext,
  variant: LinearVariant,
  values: Float32Array,
  expected: readonly number[],
): void {
  const outputs = expected.length / ROWS
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  expected.forEach((value, i) => {
    const actual = values[Math.floor(i / outputs) * padded(outputs) + (i % outputs)] as number
    if (Math.abs(actual - value) <= TOLERANCE * largest) return
    throw new ChoraleError(
      'engine',
      `the GPU driver of ${context.device.adapter.name} computes wrong numbers: a product of ${variant.format} weights is ${actual} and should be ${value}; use another engine`,
    )
  })
}
