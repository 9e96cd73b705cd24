import { bloom } from './families/bloom.ts'
import { falcon, refinedWeb } from './families/falcon.ts'
import { llama } from './families/llama.ts'
import { mistral } from './families/mistral.ts'
import { mixtral } from './families/mixtral.ts'
import { qwen2 } from './families/qwen2.ts'
import { qwen3 } from './families/qwen3.ts'
import type { TensorPart } from './fused.ts'
import type { BlockRole, ClientRole } from './model.ts'
import type { Activation, NormSpec, ResidualSpec } from './spec.ts'

/**
 * One model family as data: what its files call things, and what its config must say for the block of
 * `ModelSpec` to compute it. Another family is another such table.
 */
export interface Family {
  readonly name: string
  /** Values of `architectures` in config.json. */
  readonly architectures: readonly string[]
  /** Values of `model_type`, read when `architectures` is absent. */
  readonly modelTypes: readonly string[]
  /** Where config.json keeps each number of the spec: the first field present counts. */
  readonly fields: Readonly<Partial<Record<SizeField, readonly string[]>>>
  /**
   * Value of a number whose field is absent, as a number or a multiple of the hidden size; no entry: the field is
   * required, except head sizes that follow from others.
   */
  readonly defaults: Readonly<Partial<Record<SizeField, number | { readonly timesHiddenSize: number }>>>
  readonly norm: NormSpec['kind']
  readonly activation: ActivationFields
  /** How blocks are wired: the first whose conditions hold counts, and there is no other way. */
  readonly layouts: readonly BlockLayout[]
  readonly mlp: 'gated' | 'plain' | 'moe'
  /** Rotary positions, and the base when the config names none. Undefined: ALiBi always. */
  readonly rope: { readonly theta: number } | undefined
  readonly alibi?: AlibiFields
  readonly window?: WindowFields
  readonly qkNorm: boolean
  readonly embeddingNorm: boolean
  /** Which config flags switch biases on; a constant for families without a flag. */
  readonly biases: Readonly<Record<'qkv' | 'attentionOut' | 'mlp', string | boolean>>
  readonly tiedByDefault: boolean
  /** Fields that change the computation: absent, null or one of these values, anything else is refused. */
  readonly neutral: Readonly<Record<string, readonly unknown[]>>
  readonly names: TensorNames
  readonly gguf?: GgufFamily
}

export type SizeField =
  | 'hiddenSize'
  | 'blockCount'
  | 'headCount'
  | 'kvHeadCount'
  | 'headDim'
  | 'intermediateSize'
  | 'vocabSize'
  | 'contextLength'
  | 'normEpsilon'
  | 'expertCount'
  | 'expertsPerToken'

export interface ActivationFields {
  /** Undefined when no field says: always `fallback`. */
  readonly field: string | undefined
  readonly fallback: Activation
  /** Names computed here; any other is refused. */
  readonly names: Readonly<Record<string, Activation>>
}

export interface BlockLayout {
  /** Config fields, most telling first, and the values of each that select this layout; null stands for absent. */
  readonly when: Readonly<Record<string, readonly unknown[]>>
  readonly residual: ResidualSpec
  /** All query heads share one key and value head, whatever the config's number. */
  readonly sharedKvHead?: boolean
}

export interface AlibiFields {
  /** The flag that puts ALiBi in the place of rotary positions; undefined: always. */
  readonly flag?: string
  readonly scaledByHeadDim: boolean
  readonly roundedBias: boolean
}

/** Sliding windows: `sliding_window` tokens, null for none. */
export interface WindowFields {
  /** Its value when absent. */
  readonly fallback: number | null
  /** The window counts only when this flag is true; absent means false. */
  readonly flag?: string
  /** The field with the number of leading blocks without a window; the whole model without this. */
  readonly from?: { readonly field: string; readonly fallback: number }
}

/**
 * Tensor names by role, each with its variants; `{i}` stands for the block's number, `{e}` for the expert's.
 * Experts' roles are listed without their number.
 */
export interface TensorNames {
  readonly block: Readonly<Partial<Record<BlockRole, readonly TensorName[]>>>
  readonly client: Readonly<Partial<Record<ClientRole, readonly string[]>>>
}

/** A tensor of its own, or the role's part of one that holds several. */
export type TensorName = string | { readonly name: string; readonly part: TensorPart }

export interface GgufFamily {
  /** `general.architecture`, and the prefix of its keys. */
  readonly architecture: string
  /** Rows of q and k come as adjacent pairs (interleaved rotary order) and are put in half-split order. */
  readonly interleavedRotary: boolean
  readonly residual: ResidualSpec
  /** A tensor of block 0 that only files with two parallel norms have. */
  readonly secondNorm?: string
  readonly names: TensorNames
}

/** Every family computed here. */
export const FAMILIES: readonly Family[] = [llama, mistral, mixtral, qwen2, qwen3, falcon, refinedWeb, bloom]
