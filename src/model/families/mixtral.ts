import type { Family, TensorName } from '../family.ts'
import { GGUF_NAMES, LLAMA_FIELDS, LLAMA_NAMES, neutralExcept, SEQUENTIAL, SILU } from './common.ts'

const LAYER = ['model.layers.{i}.', 'layers.{i}.']
/** Each expert's own tensor, as on the hub, or its part of all experts' tensor, as transformers 5 has them in memory. */
const expert = (own: string, all: string, part: 'expert' | 'expert-gate-up'): TensorName[] =>
  LAYER.flatMap((prefix) => [
    `${prefix}block_sparse_moe.experts.{e}.${own}.weight`,
    { name: `${prefix}mlp.experts.${all}`, part },
  ])
const ggufExpert = (matrix: string): TensorName[] => [
  { name: `blk.{i}.ffn_${matrix}_exps.weight`, part: 'expert' },
  `blk.{i}.ffn_${matrix}.{e}.weight`,
]

/** Mixtral: Mistral with a mixture of gated experts. Source: transformers `models/mixtral`. */
export const mixtral: Family = {
  name: 'mixtral',
  architectures: ['MixtralForCausalLM', 'MixtralModel'],
  modelTypes: ['mixtral'],
  fields: {
    ...LLAMA_FIELDS,
    expertCount: ['num_local_experts', 'num_experts'],
    expertsPerToken: ['num_experts_per_tok'],
  },
  defaults: { normEpsilon: 1e-5, contextLength: 131_072, kvHeadCount: 8, expertCount: 8, expertsPerToken: 2 },
  norm: 'rms',
  activation: SILU,
  layouts: SEQUENTIAL,
  mlp: 'moe',
  rope: { theta: 1_000_000 },
  window: { fallback: null },
  qkNorm: false,
  embeddingNorm: false,
  biases: { qkv: false, attentionOut: false, mlp: false },
  tiedByDefault: false,
  neutral: {
    ...neutralExcept('num_local_experts', 'num_experts'),
    attention_bias: [false],
    mlp_bias: [false],
    use_sliding_window: [true],
  },
  names: {
    ...LLAMA_NAMES,
    block: {
      ...LLAMA_NAMES.block,
      router: LAYER.flatMap((prefix) => [
        `${prefix}block_sparse_moe.gate.weight`,
        `${prefix}mlp.gate.weight`,
      ]),
      gate: expert('w1', 'gate_up_proj', 'expert-gate-up'),
      up: expert('w3', 'gate_up_proj', 'expert-gate-up'),
      down: expert('w2', 'down_proj', 'expert'),
    },
  },
  gguf: {
    // Told from Llama by `expert_count`.
    architecture: 'llama',
    interleavedRotary: true,
    residual: { kind: 'sequential' },
    names: {
      ...GGUF_NAMES,
      block: {
        ...GGUF_NAMES.block,
        router: ['blk.{i}.ffn_gate_inp.weight'],
        gate: ggufExpert('gate'),
        up: ggufExpert('up'),
        down: ggufExpert('down'),
      },
    },
  },
}
