import type { BlockRole, ClientRole } from './model.ts'
import { llama } from './families/llama.ts'

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
  readonly fields: Readonly<Record<SizeField, readonly string[]>>
  /** Value of a number whose field is absent; no entry: the field is required. */
  readonly defaults: Readonly<Partial<Record<SizeField, number>>>
  readonly activationField: string
  /** Names of the activation that mean SiLU. */
  readonly activations: readonly string[]
  /** Which config flags switch biases on; a constant for families without a flag. */
  readonly biases: Readonly<Record<'qkv' | 'attentionOut' | 'mlp', string | boolean>>
  readonly tiedByDefault: boolean
  /** Fields that change the computation: absent, null or one of these values, anything else is refused. */
  readonly neutral: Readonly<Record<string, readonly unknown[]>>
  readonly names: TensorNames
  readonly gguf: GgufFamily | undefined
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

/** Tensor names by role, each with its variants; `{i}` stands for the block's number. */
export interface TensorNames {
  readonly block: Readonly<Partial<Record<BlockRole, readonly string[]>>>
  readonly client: Readonly<Partial<Record<ClientRole, readonly string[]>>>
}

export interface GgufFamily {
  /** `general.architecture`, and the prefix of its keys. */
  readonly architecture: string
  /** Rows of q and k come as adjacent pairs (interleaved rotary order) and are put in half-split order. */
  readonly interleavedRotary: boolean
  readonly names: TensorNames
}

/** Every family computed here. */
export const FAMILIES: readonly Family[] = [llama]
