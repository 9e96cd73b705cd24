import type { Family } from '../family.ts'
import { LLAMA_FIELDS, LLAMA_NAMES, NEUTRAL, SEQUENTIAL, SILU } from './common.ts'

/**
 * Mistral: a Llama without biases whose blocks all have one sliding window or none. Source: transformers
 * `models/mistral`. GGUF files of it say `llama`.
 */
export const mistral: Family = {
  name: 'mistral',
  architectures: ['MistralForCausalLM', 'MistralModel'],
  modelTypes: ['mistral'],
  fields: LLAMA_FIELDS,
  defaults: { normEpsilon: 1e-6, contextLength: 131_072, kvHeadCount: 8 },
  norm: 'rms',
  activation: SILU,
  layouts: SEQUENTIAL,
  mlp: 'gated',
  rope: { theta: 10_000 },
  window: { fallback: 4096 },
  qkNorm: false,
  embeddingNorm: false,
  biases: { qkv: false, attentionOut: false, mlp: false },
  tiedByDefault: false,
  neutral: { ...NEUTRAL, attention_bias: [false], mlp_bias: [false], use_sliding_window: [true] },
  names: LLAMA_NAMES,
}
