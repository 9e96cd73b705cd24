import type { BlockRole } from '../../model/model.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { activate } from './activation.ts'
import { linear } from './math.ts'

type Weights = ReadonlyMap<BlockRole, Float32Array>

/** The spec's mlp of normed states x [tokens, hiddenSize], result of the same shape; formulas at `MlpSpec`. */
export function runMlp(spec: ModelSpec, weights: Weights, x: Float32Array, tokens: number): Float32Array {
  const { activation, hiddenSize, intermediateSize, mlp } = spec
  const get = (role: BlockRole) => weights.get(role) as Float32Array
  if (mlp.kind === 'moe') return mixExperts(spec, mlp, weights, x, tokens)
  const up = linear(x, tokens, get('up'), hiddenSize, intermediateSize, weights.get('upBias'))
  const inner =
    mlp.kind === 'plain'
      ? activate(activation, up)
      : multiply(
          activate(
            activation,
            linear(x, tokens, get('gate'), hiddenSize, intermediateSize, weights.get('gateBias')),
          ),
          up,
        )
  return linear(inner, tokens, get('down'), intermediateSize, hiddenSize, weights.get('downBias'))
}

/** Weighted sum of each token's best experts, in the order of their numbers. Source: transformers `models/mixtral`. */
function mixExperts(
  spec: ModelSpec,
  moe: Extract<ModelSpec['mlp'], { kind: 'moe' }>,
  weights: Weights,
  x: Float32Array,
  tokens: number,
): Float32Array {
  const { hiddenSize } = spec
  const get = (role: BlockRole) => weights.get(role) as Float32Array
  const logits = linear(x, tokens, get('router'), hiddenSize, moe.expertCount)
  const out = new Float32Array(tokens * hiddenSize)
  for (let t = 0; t < tokens; t++) {
    const row = x.subarray(t * hiddenSize, (t + 1) * hiddenSize)
    const sums = new Float64Array(hiddenSize)
    for (const [expert, weight] of route(
      logits.subarray(t * moe.expertCount, (t + 1) * moe.expertCount),
      moe.topK,
      moe.normalizeTopK,
    )) {
      const y = gated(spec, row, get(`gate.${expert}`), get(`up.${expert}`), get(`down.${expert}`))
      for (let c = 0; c < hiddenSize; c++) sums[c] = (sums[c] as number) + weight * (y[c] as number)
    }
    out.set(sums, t * hiddenSize)
  }
  return out
}

/**
 * The `topK` experts with the largest router logits, of equal ones the lower number, with their weights:
 * softmax over all experts, divided by the chosen ones' sum when `normalize`. In the order of their numbers.
 */
export function route(
  logits: Float32Array,
  topK: number,
  normalize: boolean,
): readonly (readonly [expert: number, weight: number])[] {
  const max = logits.reduce((a, b) => Math.max(a, b), -Infinity)
  const exponentials = Array.from(logits, (logit) => Math.exp(logit - max))
  const chosen = [...logits.keys()]
    .sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)
    .slice(0, topK)
    .sort((a, b) => a - b)
  const counted = normalize ? chosen.map((expert) => exponentials[expert] as number) : exponentials
  const sum = counted.reduce((a, b) => a + b, 0)
  return chosen.map((expert) => [expert, (exponentials[expert] as number) / sum] as const)
}

function gated(
  spec: ModelSpec,
  x: Float32Array,
  gate: Float32Array,
  up: Float32Array,
  down: Float32Array,
): Float32Array {
  const { activation, hiddenSize, intermediateSize } = spec
  const inner = multiply(
    activate(activation, linear(x, 1, gate, hiddenSize, intermediateSize)),
    linear(x, 1, up, hiddenSize, intermediateSize),
  )
  return linear(inner, 1, down, intermediateSize, hiddenSize)
}

function multiply(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, index) => value * (b[index] as number))
}
