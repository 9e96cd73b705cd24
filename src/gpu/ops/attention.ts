import { ChoraleError } from '../../errors.ts'
import { bind, floatBits, type GpuContext, type GpuOp, padded } from '../context.ts'
import { type HeadShape, type KvBuffers, qkvWidth, type StepBindings } from './rope-kv-write.ts'

/** Tokens in a page of the cache: PAGE_TOKENS of `lib/kv_page.wgsl`. */
export const KV_PAGE_TOKENS = 16

/** The kernel keeps one query in workgroup memory and four values a lane. */
const MAX_HEAD_DIM = 256

export interface AttentionOptions {
  heads: HeadShape
  step: StepBindings
  /** As `rope_kv_write` left it. */
  qkv: GPUBuffer
  cache: KvBuffers
  /** [rows, headCount * headDim], padded rows. */
  output: GPUBuffer
}

/** `attention.wgsl`: causal attention over the cache. @throws `not_supported` for heads beyond 256 values. */
export async function createAttention(context: GpuContext, options: AttentionOptions): Promise<GpuOp> {
  const { heads, step, cache } = options
  if (heads.headDim > MAX_HEAD_DIM || heads.headCount % heads.kvHeadCount !== 0) {
    throw new ChoraleError(
      'not_supported',
      `attention with ${heads.headCount} heads of ${heads.headDim} values over ${heads.kvHeadCount} KV heads; the wgsl engine computes heads of at most ${MAX_HEAD_DIM} values in whole groups`,
    )
  }
  const kernel = await context.pipelines.get({
    shader: 'attention.wgsl',
    bindings: ['uniform', 'read', 'read', 'read', 'read', 'read', 'write'],
  })
  const params = await context.uniform(
    Uint32Array.of(
      heads.headCount,
      heads.kvHeadCount,
      heads.headDim,
      padded(heads.headDim),
      padded(qkvWidth(heads)),
      padded(heads.headCount * heads.headDim),
      floatBits(1 / Math.sqrt(heads.headDim)),
      0,
    ),
  )
  const group = bind(context, kernel, [
    params,
    step.rows,
    step.pages,
    options.qkv,
    cache.keys,
    cache.values,
    options.output,
  ])
  return {
    encode(pass, rows) {
      pass.setPipeline(kernel.pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(heads.headCount, rows)
    },
  }
}

/** Values one token takes in each of a block's key and value buffers. */
export function kvValuesPerToken(heads: HeadShape): number {
  return heads.kvHeadCount * padded(heads.headDim)
}
