import { bind, type Binding, type GpuContext, type GpuOp, padded } from '../context.ts'

/** Heads of an attention layer. */
export interface HeadShape {
  readonly headCount: number
  readonly kvHeadCount: number
  readonly headDim: number
}

/** One block's KV cache: see `lib/kv_page.wgsl` for what lies where. */
export interface KvBuffers {
  readonly keys: GPUBuffer
  readonly values: GPUBuffer
}

/** What one step tells the kernels about its rows: `Row` structs and the page table, written by the host. */
export interface StepBindings {
  readonly rows: Binding
  readonly pages: Binding
}

export interface RopeKvWriteOptions {
  heads: HeadShape
  rotaryDim: number
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

/** `rope_kv_write.wgsl`: rotates q and k and writes k and v into the cache. */
export async function createRopeKvWrite(context: GpuContext, options: RopeKvWriteOptions): Promise<GpuOp> {
  const { heads, step, cache } = options
  const kernel = await context.pipelines.get({
    shader: 'rope_kv_write.wgsl',
    bindings: ['uniform', 'read', 'read', 'read', 'write', 'write', 'write'],
  })
  const params = await context.uniform(
    Uint32Array.of(
      heads.headCount,
      heads.kvHeadCount,
      heads.headDim,
      options.rotaryDim,
      padded(qkvWidth(heads)),
      padded(heads.headDim),
      0,
      0,
    ),
  )
  const group = bind(context, kernel, [
    params,
    step.rows,
    step.pages,
    options.rotation,
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
