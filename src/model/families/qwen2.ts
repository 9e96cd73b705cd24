import type { Family } from '../family.ts'
import { GGUF_NAMES, LLAMA_FIELDS, LLAMA_NAMES, NEUTRAL, SEQUENTIAL, SILU } from './common.ts'

/**
 * Qwen 2 and 2.5: a Llama with biases of q, k and v, and windows in the upper blocks when asked for. Source:
 * transformers `models/qwen2`.
 */
export const qwen2: Family = {
  name: 'qwen2',
  architectures: ['Qwen2ForCausalLM', 'Qwen2Model'],
  modelTypes: ['qwen2'],
  fields: LLAMA_FIELDS,
  defaults: { normEpsilon: 1e-6, contextLength: 32_768, kvHeadCount: 32 },
  norm: 'rms',
  activation: SILU,
  layouts: SEQUENTIAL,
  mlp: 'gated',
  rope: { theta: 10_000 },
  window: {
    fallback: 4096,
    flag: 'use_sliding_window',
    from: { field: 'max_window_layers', fallback: 28 },
  },
  qkNorm: false,
  embeddingNorm: false,
  biases: { qkv: true, attentionOut: false, mlp: false },
  tiedByDefault: false,
  neutral: { ...NEUTRAL, attention_bias: [true], mlp_bias: [false] },
  names: LLAMA_NAMES,
  gguf: {
    architecture: 'qwen2',
    interleavedRotary: false,
    residual: { kind: 'sequential' },
    names: GGUF_NAMES,
  },
}
