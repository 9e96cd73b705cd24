import type { AlibiSpec } from '../../model/spec.ts'
import { bind, floatBits, type GpuContext, type GpuOp, padded } from '../context.ts'
import {
  cacheDim,
  checkHeads,
  type HeadShape,
  type KvBuffers,
  qkvWidth,
  type StepBindings,
} from './rope-kv-write.ts'

/** Tokens in a page of the cache: PAGE_TOKENS of `lib/kv_page.wgsl`. */
export const KV_PAGE_TOKENS = 16

/** Positions a workgroup reads of the cache: SPLIT_KEYS of `lib/split.wgsl`. */
export const KV_SPLIT_KEYS = 256

/** Splits of the keys of a session of `tokens` tokens. */
export function splitCount(tokens: number): number {
  return Math.ceil(tokens / KV_SPLIT_KEYS)
}

/** Values of one row's partial result in one split. */
export function partialValues(heads: HeadShape): number {
  return heads.headCount * (heads.headDim + 2)
}

/** A window that sees every key. */
const EVERY_KEY = 0xffff_ffff

export interface AttentionOptions {
  heads: HeadShape
  /** Keys a query sees, itself among them; undefined: all. */
  window?: number | undefined
  /** Linear biases with their slopes [headCount] on the device; undefined: none. */
  alibi?: { readonly spec: AlibiSpec; readonly slopes: GPUBuffer } | undefined
  step: StepBindings
  /** As `rope_kv_write` left it. */
  qkv: GPUBuffer
  cache: KvBuffers
  /** [rows, splits] of `partialValues`. */
  partial: GPUBuffer
}

/** `attention.wgsl`: causal attention over the cache, split by split. @throws `not_supported`. */
export async function createAttention(context: GpuContext, options: AttentionOptions): Promise<GpuOp> {
  const { alibi, cache, heads, step } = options
  checkHeads(heads)
  const kernel = await context.pipelines.get({
    shader: 'attention.wgsl',
    bindings: ['uniform', 'uniform', 'read', 'read', 'read', 'read', 'read', 'read', 'write'],
    preludes: [`lib/kv_${cache.format}.wgsl`],
    constants: { POSITIONS: alibi === undefined ? 0 : alibi.spec.scaledByHeadDim ? 2 : 1 },
  })
  const params = await context.uniform(
    Uint32Array.of(
      heads.headCount,
      heads.kvHeadCount,
      heads.headDim,
      cacheDim(heads),
      padded(qkvWidth(heads)),
      floatBits(1 / Math.sqrt(heads.headDim)),
      options.window ?? EVERY_KEY,
      alibi?.spec.roundedBias === true ? 1 : 0,
    ),
  )
  const group = bind(context, kernel, [
    params,
    step.count,
    step.rows,
    step.pages,
    alibi?.slopes ?? options.qkv,
    options.qkv,
    cache.keys,
    cache.values,
    options.partial,
  ])
  return {
    encode(pass, rows, splits) {
      pass.setPipeline(kernel.pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(heads.headCount, rows, splits)
    },
  }
}
