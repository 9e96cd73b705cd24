/**
 * A model's shape as data: everything an engine has to know, nothing about files.
 *
 * Families differ in these values, not in code paths with family names: an engine switches on
 * `norm.kind`, `positions.kind` and so on, never on `family`.
 */

/**
 * Every norm of the model. `rms`: RMSNorm, Hugging Face semantics: f32 compute, epsilon inside the root, weight
 * applied last. `layer`: LayerNorm with biased variance, a weight and a bias (roles ending in `NormBias`).
 */
export interface NormSpec {
  readonly kind: 'rms' | 'layer'
  readonly epsilon: number
}

/**
 * How a block adds up, h being its input, attention and mlp without their norms:
 * - `sequential`: r = h + attention(attentionNorm(h)); out = r + mlp(mlpNorm(r)).
 * - `parallel`, 2 norms: out = h + attention(attentionNorm(h)) + mlp(mlpNorm(h)).
 * - `parallel`, 1 norm: the mlp reads attentionNorm(h) too; there is no `mlpNorm`.
 */
export type ResidualSpec =
  | { readonly kind: 'sequential' }
  | { readonly kind: 'parallel'; readonly norms: 1 | 2 }

/**
 * The layer after attention, x being its normed input:
 * - `gated`: down(activation(gate(x)) * up(x)).
 * - `plain`: down(activation(up(x))); there is no `gate`.
 * - `moe`: p = softmax(router(x)) over all experts; the `topK` largest p (divided by their sum when
 *   `normalizeTopK`; of equal ones the lower expert first) weigh a sum of gated experts `gate.E`, `up.E`, `down.E`.
 */
export type MlpSpec =
  | { readonly kind: 'gated' }
  | { readonly kind: 'plain' }
  | {
      readonly kind: 'moe'
      readonly expertCount: number
      readonly topK: number
      readonly normalizeTopK: boolean
    }

/** silu: x / (1 + e^-x). gelu: exact, by erf. gelu-tanh: 0.5x(1 + tanh(sqrt(2/pi)(x + 0.044715x³))). */
export type Activation = 'silu' | 'gelu' | 'gelu-tanh'

/**
 * Rotary positions, half-split layout: element i is rotated with element i + rotaryDim / 2.
 *
 * `inverseFrequencies` has rotaryDim / 2 entries and already includes every scaling rule (linear, llama3, yarn);
 * `attentionFactor` multiplies cos and sin (1 except for yarn).
 */
export interface RopeSpec {
  readonly kind: 'rope'
  readonly rotaryDim: number
  readonly inverseFrequencies: readonly number[]
  readonly attentionFactor: number
}

/**
 * No rotation: query head h adds bias(j) = slopes[h] * j to its score with the key at position j (counted from the
 * sequence's start). A bias that is the same for all keys changes nothing, so slopes[h] * (j - i) does as well.
 *
 * `scaledByHeadDim`: score = (q·k + bias) / sqrt(headDim), else q·k / sqrt(headDim) + bias.
 * `roundedBias`: bias(j) = bf16(slopes[h] * bf16(j)), both rounded to bfloat16 (nearest, ties to even), so j must be
 * the absolute position; the slopes are already so rounded. `alibiBias` in alibi.ts computes it. arXiv 2108.12409.
 */
export interface AlibiSpec {
  readonly kind: 'alibi'
  /** One for each query head. */
  readonly slopes: readonly number[]
  readonly scaledByHeadDim: boolean
  readonly roundedBias: boolean
}

export interface ModelSpec {
  /** The family's name for people and errors, e.g. `llama`. */
  readonly family: string
  readonly hiddenSize: number
  readonly blockCount: number
  readonly headCount: number
  readonly kvHeadCount: number
  /** May differ from hiddenSize / headCount. */
  readonly headDim: number
  /** Width of the mlp; of each expert when there are experts. */
  readonly intermediateSize: number
  readonly vocabSize: number
  /** The longest sequence the model was made for (`max_position_embeddings`). */
  readonly contextLength: number
  readonly norm: NormSpec
  readonly residual: ResidualSpec
  readonly mlp: MlpSpec
  readonly activation: Activation
  readonly positions: RopeSpec | AlibiSpec
  /**
   * One entry for each block: W, a sliding window, so that the query at position p sees keys j with p - W < j <= p;
   * null, all keys up to p.
   */
  readonly windows: readonly (number | null)[]
  /** Each head of q and k gets its own RMSNorm (weights `qNorm`, `kNorm` [headDim]) before the rotation. */
  readonly qkNorm: boolean
  /** The client applies a norm (`embeddingNorm`, `embeddingNormBias`) to embeddings before block 0. */
  readonly embeddingNorm: boolean
  /** Which linear layers carry a bias; experts and routers never do. */
  readonly biases: { readonly qkv: boolean; readonly attentionOut: boolean; readonly mlp: boolean }
  /** The head is the transposed embedding. */
  readonly tiedHead: boolean
  readonly bosTokenId: number | undefined
  /** Any of these ends an answer. */
  readonly eosTokenIds: readonly number[]
}

/** Bytes of KV cache one token takes in `blocks` blocks, f32 keys and values. */
export function kvBytesPerToken(spec: ModelSpec, blocks: number, bytesPerValue = 4): number {
  return 2 * blocks * spec.kvHeadCount * spec.headDim * bytesPerValue
}
