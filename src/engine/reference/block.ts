import type { BlockRole, Model } from '../../model/model.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { dequantize } from '../../tensor/quant.ts'
import { addInto, linear, rmsNorm, rotate, swiglu } from './math.ts'
import { PAGE_TOKENS, type PagedLease } from '../../kv/pages.ts'

/** One block's weights in float32, by role; biases only where the spec has them. */
export type BlockWeights = Partial<Record<BlockRole, Float32Array>>

/** One block's share of the KV cache: keys (rotated) and values, each [kvTokens, kvHeadCount * headDim]. */
export interface BlockCache {
  readonly keys: Float32Array
  readonly values: Float32Array
}

/** Weights a block of this shape has. */
export function blockRoles(spec: ModelSpec): BlockRole[] {
  const roles: BlockRole[] = ['attentionNorm', 'q', 'k', 'v', 'o', 'mlpNorm', 'gate', 'up', 'down']
  if (spec.biases.qkv) roles.push('qBias', 'kBias', 'vBias')
  if (spec.biases.attentionOut) roles.push('oBias')
  if (spec.biases.mlp) roles.push('gateBias', 'upBias', 'downBias')
  return roles
}

export async function loadBlock(model: Model, block: number, signal?: AbortSignal): Promise<BlockWeights> {
  const weights: BlockWeights = {}
  for (const role of blockRoles(model.spec))
    weights[role] = dequantize(await model.weights.block(block, role, signal))
  return weights
}

/**
 * Runs one block over new tokens of one session and writes their keys and values into its pages.
 *
 * hidden [tokens, hiddenSize], changed in place: h += o(attention(norm(h))); h += down(silu(gate(n)) * up(n)), n = norm(h).
 * Source: Hugging Face LlamaDecoderLayer.
 */
export function runBlock(
  spec: ModelSpec,
  weights: BlockWeights,
  cache: BlockCache,
  lease: PagedLease,
  hidden: Float32Array,
  tokens: number,
): void {
  const { hiddenSize, headCount, kvHeadCount, headDim, intermediateSize, positions } = spec
  const get = (role: BlockRole) => weights[role] as Float32Array
  const normed = rmsNorm(hidden, tokens, hiddenSize, get('attentionNorm'), spec.norm.epsilon)
  const kvWidth = kvHeadCount * headDim
  const q = linear(normed, tokens, get('q'), hiddenSize, headCount * headDim, weights.qBias)
  const k = linear(normed, tokens, get('k'), hiddenSize, kvWidth, weights.kBias)
  const v = linear(normed, tokens, get('v'), hiddenSize, kvWidth, weights.vBias)
  rotate(
    q,
    tokens,
    headCount,
    headDim,
    lease.position,
    positions.inverseFrequencies,
    positions.attentionFactor,
  )
  rotate(
    k,
    tokens,
    kvHeadCount,
    headDim,
    lease.position,
    positions.inverseFrequencies,
    positions.attentionFactor,
  )
  for (let t = 0; t < tokens; t++) {
    const row = cacheRow(lease, lease.position + t) * kvWidth
    cache.keys.set(k.subarray(t * kvWidth, (t + 1) * kvWidth), row)
    cache.values.set(v.subarray(t * kvWidth, (t + 1) * kvWidth), row)
  }
  const attended = attention(spec, cache, lease, q, tokens)
  addInto(hidden, linear(attended, tokens, get('o'), headCount * headDim, hiddenSize, weights.oBias))
  const mlpInput = rmsNorm(hidden, tokens, hiddenSize, get('mlpNorm'), spec.norm.epsilon)
  const gate = linear(mlpInput, tokens, get('gate'), hiddenSize, intermediateSize, weights.gateBias)
  const up = linear(mlpInput, tokens, get('up'), hiddenSize, intermediateSize, weights.upBias)
  addInto(
    hidden,
    linear(swiglu(gate, up), tokens, get('down'), intermediateSize, hiddenSize, weights.downBias),
  )
}

/** Causal attention with grouped keys: query head h reads KV head floor(h * kvHeadCount / headCount). q [tokens, headCount, headDim]. */
function attention(
  spec: ModelSpec,
  cache: BlockCache,
  lease: PagedLease,
  q: Float32Array,
  tokens: number,
): Float32Array {
  const { headCount, kvHeadCount, headDim } = spec
  const kvWidth = kvHeadCount * headDim
  const group = headCount / kvHeadCount
  const scale = 1 / Math.sqrt(headDim)
  const out = new Float32Array(tokens * headCount * headDim)
  const scores = new Float64Array(lease.position + tokens)
  for (let t = 0; t < tokens; t++) {
    const length = lease.position + t + 1
    for (let h = 0; h < headCount; h++) {
      const qBase = (t * headCount + h) * headDim
      const kvOffset = Math.floor(h / group) * headDim
      let max = -Infinity
      for (let j = 0; j < length; j++) {
        const kBase = cacheRow(lease, j) * kvWidth + kvOffset
        let dot = 0
        for (let d = 0; d < headDim; d++) dot += (q[qBase + d] as number) * (cache.keys[kBase + d] as number)
        scores[j] = dot * scale
        if (dot * scale > max) max = dot * scale
      }
      let sum = 0
      for (let j = 0; j < length; j++) {
        const weight = Math.exp((scores[j] as number) - max)
        scores[j] = weight
        sum += weight
      }
      for (let d = 0; d < headDim; d++) {
        let value = 0
        for (let j = 0; j < length; j++) {
          value +=
            (scores[j] as number) * (cache.values[cacheRow(lease, j) * kvWidth + kvOffset + d] as number)
        }
        out[qBase + d] = value / sum
      }
    }
  }
  return out
}

function cacheRow(lease: PagedLease, token: number): number {
  return (lease.pages[Math.floor(token / PAGE_TOKENS)] as number) * PAGE_TOKENS + (token % PAGE_TOKENS)
}
