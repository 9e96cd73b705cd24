import { ChoraleError } from '../../errors.ts'
import { bind, type Binding, floatBits, type GpuContext, type GpuOp, padded } from '../context.ts'

/** Heads of an attention layer. */
export interface HeadShape {
  readonly headCount: number
  readonly kvHeadCount: number
  readonly headDim: number
}

/** How keys and values are kept: their prelude is `lib/kv_<format>.wgsl`. Sums are in float32 either way. */
export type KvFormat = 'f32' | 'f16'

/** Bytes of a value in the cache. */
export const KV_BYTES: Readonly<Record<KvFormat, number>> = { f32: 4, f16: 2 }

/** One block's KV cache: see `lib/kv_page.wgsl` for what lies where. */
export interface KvBuffers {
  readonly format: KvFormat
  readonly keys: GPUBuffer
  readonly values: GPUBuffer
}

/** What one step tells the kernels about its rows: `Row` structs and the page table, written by the host. */
export interface StepBindings {
  /** Uniform: how many rows, and how many splits of the keys the longest of them has. */
  readonly count: Binding
  readonly rows: Binding
  readonly pages: Binding
}

export interface RopeKvWriteOptions {
  heads: HeadShape
  /** 0: no rotation. */
  rotaryDim: number
  /** Each head of q and k is normed before the rotation: weights [2, headDim], q's then k's. */
  headNorm?: { readonly weight: GPUBuffer; readonly epsilon: number } | undefined
  step: StepBindings
  /** [positions, rotaryDim / 2] pairs (cos, sin). */
  rotation: GPUBuffer
  /** [rows, (headCount + 2 * kvHeadCount) * headDim], padded rows: q is rotated in place. */
  qkv: GPUBuffer
  cache: KvBuffers
}

/** Values in a row of q, k and v, without and with padding. */
export function qkvWidth(heads: HeadShape): number {
  return (heads.headCount + 2 * heads.kvHeadCount) * heads.headDim
}

/** Values one token takes in each of a block's key and value buffers. */
export function kvValuesPerToken(heads: HeadShape): number {
  return heads.kvHeadCount * cacheDim(heads)
}

/** Values of a head in the cache: vec4s. */
export function cacheDim(heads: HeadShape): number {
  return Math.ceil(heads.headDim / 4) * 4
}

/** The kernels keep one head in workgroup memory. */
const MAX_HEAD_DIM = 256

/** @throws `not_supported` for heads that the kernels have no room for. */
export function checkHeads(heads: HeadShape): void {
  if (heads.headDim > MAX_HEAD_DIM || heads.headCount % heads.kvHeadCount !== 0) {
    throw new ChoraleError(
      'not_supported',
      `attention with ${heads.headCount} heads of ${heads.headDim} values over ${heads.kvHeadCount} KV heads; the wgsl engine computes heads of at most ${MAX_HEAD_DIM} values in whole groups`,
    )
  }
}

/** `rope_kv_write.wgsl`: norms and rotates q and k and writes k and v into the cache. @throws `not_supported`. */
export async function createRopeKvWrite(context: GpuContext, options: RopeKvWriteOptions): Promise<GpuOp> {
  const { heads, headNorm, step, cache } = options
  checkHeads(heads)
  const kernel = await context.pipelines.get({
    shader: 'rope_kv_write.wgsl',
    bindings: ['uniform', 'read', 'read', 'read', 'read', 'write', 'write', 'write'],
    preludes: [`lib/kv_${cache.format}.wgsl`],
  })
  const params = await context.uniform(
    Uint32Array.of(
      heads.headCount,
      heads.kvHeadCount,
      heads.headDim,
      options.rotaryDim,
      padded(qkvWidth(heads)),
      cacheDim(heads),
      headNorm === undefined ? 0 : 1,
      floatBits(headNorm?.epsilon ?? 0),
    ),
  )
  const group = bind(context, kernel, [
    params,
    step.rows,
    step.pages,
    options.rotation,
    headNorm?.weight ?? options.rotation,
    options.qkv,
    cache.keys,
    cache.values,
  ])
  return {
    encode(pass, rows) {
      pass.setPipeline(kernel.pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(heads.headCount + 2 * heads.kvHeadCount, rows)
    },
  }
}

/**
 * The rotation table [positions, frequencies] of (cos, sin) pairs in float32, angles in float64: sin and cos of
 * large angles are inaccurate in WGSL. @param factor multiplies both.
 */
export function rotationTable(
  inverseFrequencies: readonly number[],
  factor: number,
  positions: number,
): Float32Array {
  const table = new Float32Array(positions * inverseFrequencies.length * 2)
  let at = 0
  for (let position = 0; position < positions; position++) {
    for (const frequency of inverseFrequencies) {
      table[at++] = Math.cos(position * frequency) * factor
      table[at++] = Math.sin(position * frequency) * factor
    }
  }
  return table
}
