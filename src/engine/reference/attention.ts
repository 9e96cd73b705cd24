import { PAGE_TOKENS, type PagedLease } from '../../kv/pages.ts'
import { alibiBias } from '../../model/alibi.ts'
import type { BlockRole } from '../../model/model.ts'
import type { AlibiSpec, ModelSpec } from '../../model/spec.ts'
import { linear, rotate } from './math.ts'
import { rmsNorm } from './norm.ts'

/** One block's share of the KV cache: keys (rotated) and values, each [kvTokens, kvHeadCount * headDim]. */
export interface BlockCache {
  readonly keys: Float32Array
  readonly values: Float32Array
}

/**
 * Attention of one session's new tokens, from their normed states x [tokens, hiddenSize] to the output
 * projection's result [tokens, hiddenSize]: q, k, v, norms of heads, rotation, cache, softmax, o.
 */
export function attend(
  spec: ModelSpec,
  window: number | undefined,
  weights: ReadonlyMap<BlockRole, Float32Array>,
  cache: BlockCache,
  lease: PagedLease,
  x: Float32Array,
  tokens: number,
): Float32Array {
  const { hiddenSize, headCount, kvHeadCount, headDim, positions } = spec
  const get = (role: BlockRole) => weights.get(role) as Float32Array
  const project = (role: 'q' | 'k' | 'v', heads: number) => {
    const y = linear(x, tokens, get(role), hiddenSize, heads * headDim, weights.get(`${role}Bias`))
    if (role === 'v') return y
    const normed = spec.qkNorm ? rmsNorm(y, tokens * heads, get(`${role}Norm`), spec.norm.epsilon) : y
    if (positions.kind === 'rope') rotate(normed, tokens, heads, headDim, lease.position, positions)
    return normed
  }
  const q = project('q', headCount)
  const k = project('k', kvHeadCount)
  const v = project('v', kvHeadCount)
  const kvWidth = kvHeadCount * headDim
  for (let t = 0; t < tokens; t++) {
    const row = cacheRow(lease, lease.position + t) * kvWidth
    cache.keys.set(k.subarray(t * kvWidth, (t + 1) * kvWidth), row)
    cache.values.set(v.subarray(t * kvWidth, (t + 1) * kvWidth), row)
  }
  const mixed = mixValues(spec, window, cache, lease, q, tokens)
  return linear(mixed, tokens, get('o'), headCount * headDim, hiddenSize, weights.get('oBias'))
}

/**
 * Causal softmax attention over the cache, [tokens, headCount, headDim] from q of that shape. Query head h reads
 * KV head floor(h * kvHeadCount / headCount); with a window W the query at p sees keys p - W < j <= p.
 */
function mixValues(
  spec: ModelSpec,
  window: number | undefined,
  cache: BlockCache,
  lease: PagedLease,
  q: Float32Array,
  tokens: number,
): Float32Array {
  const { headCount, kvHeadCount, headDim, positions } = spec
  const kvWidth = kvHeadCount * headDim
  const group = headCount / kvHeadCount
  const scale = 1 / Math.sqrt(headDim)
  const out = new Float32Array(tokens * headCount * headDim)
  const scores = new Float64Array(lease.position + tokens)
  const rows = Uint32Array.from(scores, (_, token) => cacheRow(lease, token) * kvWidth)
  const values = new Float64Array(headDim)
  for (let t = 0; t < tokens; t++) {
    const position = lease.position + t
    const first = window === undefined ? 0 : Math.max(0, position - window + 1)
    for (let h = 0; h < headCount; h++) {
      const qBase = (t * headCount + h) * headDim
      const kvOffset = Math.floor(h / group) * headDim
      let max = -Infinity
      for (let j = first; j <= position; j++) {
        const kBase = (rows[j] as number) + kvOffset
        let dot = 0
        for (let d = 0; d < headDim; d++) dot += (q[qBase + d] as number) * (cache.keys[kBase + d] as number)
        const score = positions.kind === 'alibi' ? biased(positions, h, j, dot, scale) : dot * scale
        scores[j] = score
        if (score > max) max = score
      }
      let sum = 0
      for (let j = first; j <= position; j++) {
        const weight = Math.exp((scores[j] as number) - max)
        scores[j] = weight
        sum += weight
      }
      values.fill(0)
      for (let j = first; j <= position; j++) {
        const weight = scores[j] as number
        const vBase = (rows[j] as number) + kvOffset
        for (let d = 0; d < headDim; d++)
          values[d] = (values[d] as number) + weight * (cache.values[vBase + d] as number)
      }
      for (let d = 0; d < headDim; d++) out[qBase + d] = (values[d] as number) / sum
    }
  }
  return out
}

/** A score with the linear bias of head h for the key at position j. */
function biased(alibi: AlibiSpec, h: number, j: number, dot: number, scale: number): number {
  const bias = alibiBias(alibi, h, j)
  return alibi.scaledByHeadDim ? (dot + bias) * scale : dot * scale + bias
}

/** The row of the cache that holds a token. */
export function cacheRow(lease: PagedLease, token: number): number {
  return (lease.pages[Math.floor(token / PAGE_TOKENS)] as number) * PAGE_TOKENS + (token % PAGE_TOKENS)
}
