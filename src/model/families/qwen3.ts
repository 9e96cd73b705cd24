import type { Family } from '../family.ts'
import { GGUF_NAMES, LLAMA_NAMES, NEUTRAL } from './common.ts'
import { qwen2 } from './qwen2.ts'

/** Qwen 3, dense: no biases by default, heads of q and k normed before rotation. Source: transformers `models/qwen3`. */
export const qwen3: Family = {
  ...qwen2,
  name: 'qwen3',
  architectures: ['Qwen3ForCausalLM', 'Qwen3Model'],
  modelTypes: ['qwen3'],
  defaults: { ...qwen2.defaults, headDim: 128 },
  qkNorm: true,
  biases: { qkv: 'attention_bias', attentionOut: 'attention_bias', mlp: false },
  neutral: { ...NEUTRAL, mlp_bias: [false] },
  names: LLAMA_NAMES,
  gguf: {
    architecture: 'qwen3',
    interleavedRotary: false,
    residual: { kind: 'sequential' },
    names: GGUF_NAMES,
  },
}
