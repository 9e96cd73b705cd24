import type { Family } from '../family.ts'
import { GGUF_NAMES, LLAMA_FIELDS, LLAMA_NAMES, NEUTRAL, SEQUENTIAL, SILU } from './common.ts'

/** Llama 1 to 3 and everything saved as LlamaForCausalLM. Source: transformers `models/llama`. */
export const llama: Family = {
  name: 'llama',
  architectures: ['LlamaForCausalLM', 'LlamaModel'],
  modelTypes: ['llama'],
  fields: LLAMA_FIELDS,
  defaults: { normEpsilon: 1e-6, contextLength: 2048 },
  norm: 'rms',
  activation: SILU,
  layouts: SEQUENTIAL,
  mlp: 'gated',
  rope: { theta: 10_000 },
  qkNorm: false,
  embeddingNorm: false,
  biases: { qkv: 'attention_bias', attentionOut: 'attention_bias', mlp: 'mlp_bias' },
  tiedByDefault: false,
  neutral: { ...NEUTRAL, sliding_window: [], use_sliding_window: [false] },
  names: LLAMA_NAMES,
  gguf: {
    architecture: 'llama',
    interleavedRotary: true,
    residual: { kind: 'sequential' },
    names: GGUF_NAMES,
  },
}
