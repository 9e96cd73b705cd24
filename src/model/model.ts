import type { WeightDtype, WeightTensor } from '../tensor/weight.ts'
import type { ModelSpec } from './spec.ts'

export type { WeightDtype, WeightTensor }

/** Expert E's matrix of a mixture of experts, e.g. `gate.3`: shaped as `gate`, `up` and `down` are. */
export type ExpertRole = `${'gate' | 'up' | 'down'}.${number}`

/** A weight by its job in a block, whatever its name in the file. Biases end in `Bias`. */
export type BlockRole =
  | 'attentionNorm'
  | 'attentionNormBias'
  | 'q'
  | 'k'
  | 'v'
  | 'qBias'
  | 'kBias'
  | 'vBias'
  | 'qNorm'
  | 'kNorm'
  | 'o'
  | 'oBias'
  | 'mlpNorm'
  | 'mlpNormBias'
  | 'router'
  | 'gate'
  | 'up'
  | 'down'
  | 'gateBias'
  | 'upBias'
  | 'downBias'
  | ExpertRole

/** A weight of the client's part. `head` resolves to the embedding when the head is tied. */
export type ClientRole =
  | 'embedding'
  | 'embeddingNorm'
  | 'embeddingNormBias'
  | 'finalNorm'
  | 'finalNormBias'
  | 'head'

/**
 * Weights by role; `blockRoles` and `clientRoles` list those that a spec has. Tensors that a file keeps fused (q, k
 * and v; gate and up; all experts) come apart, reading only the bytes of the role. Rows of `q` and `k` always come in the half-split rotary order (GGUF's interleaved
 * order is undone on reading), so engines know one layout.
 */
export interface ModelWeights {
  /** Stored form of a block's weight, without reading it. @throws `not_found` naming the tensor. */
  blockInfo(block: number, role: BlockRole): Omit<WeightTensor, 'bytes'>
  /** @throws `not_found` naming the tensor, `bad_file` when its shape is not the spec's. */
  block(block: number, role: BlockRole, signal?: AbortSignal): Promise<WeightTensor>
  clientInfo(role: ClientRole): Omit<WeightTensor, 'bytes'>
  client(role: ClientRole, signal?: AbortSignal): Promise<WeightTensor>
  /**
   * Bytes [offset, offset + length) of what `block` gives, without reading the rest. Absent where weights are only read
   * whole. NOT checked: that the range lies inside.
   */
  blockRange?(
    block: number,
    role: BlockRole,
    offset: number,
    length: number,
    signal?: AbortSignal,
  ): Promise<Uint8Array>
  clientRange?(role: ClientRole, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array>
}

/** What a tokenizer needs, as Hugging Face's two files hold it; made in memory from a GGUF's metadata. */
export interface TokenizerFiles {
  readonly tokenizer: Record<string, unknown>
  readonly config: Record<string, unknown>
  /** Jinja source, or undefined when the model has no chat template. */
  readonly chatTemplate: string | undefined
}

/** An opened model: its shape, its weights on demand, its tokenizer. Nothing heavy is read until asked for. */
export interface Model {
  /** What people call it: folder or file name, or hub name. */
  readonly name: string
  /**
   * `name@digest`: equal on every machine that holds the same files. The digest covers the config, the tensor
   * table and sampled windows of the data: an identifier, not a proof of the weights.
   */
  readonly id: string
  readonly format: 'safetensors' | 'gguf'
  /** Commit of the hub that its files came from. */
  readonly revision?: string
  readonly spec: ModelSpec
  readonly weights: ModelWeights
  /** Undefined when the folder holds no tokenizer (test vectors). @throws `bad_file`. */
  tokenizerFiles(): Promise<TokenizerFiles | undefined>
  /** `generation_config.json` where there is one: default temperature, top_p. */
  readonly generationDefaults: {
    readonly temperature?: number
    readonly topP?: number
    readonly topK?: number
  }
  close(): Promise<void>
}
