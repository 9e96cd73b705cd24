/**
 * A model's shape as data: everything an engine has to know, nothing about files.
 *
 * Families differ in these values, not in code paths with family names: an engine switches on
 * `norm.kind`, `positions.kind` and so on, never on `family`.
 */

/** RMSNorm, Hugging Face semantics: f32 compute, epsilon inside the root, weight applied last. */
export interface NormSpec {
  readonly kind: 'rms'
  readonly epsilon: number
}

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

export interface ModelSpec {
  /** The family's name for people and errors, e.g. `llama`. */
  readonly family: string
  readonly hiddenSize: number
  readonly blockCount: number
  readonly headCount: number
  readonly kvHeadCount: number
  /** May differ from hiddenSize / headCount. */
  readonly headDim: number
  readonly intermediateSize: number
  readonly vocabSize: number
  /** The longest sequence the model was made for (`max_position_embeddings`). */
  readonly contextLength: number
  readonly norm: NormSpec
  readonly activation: 'silu'
  readonly positions: RopeSpec
  /** Which linear layers carry a bias. */
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
