/** What several families' tables share. */

import type { Family, SizeField, TensorNames } from '../family.ts'

const layer = (name: string) => [`model.layers.{i}.${name}`, `layers.{i}.${name}`]
const top = (name: string) => [`model.${name}`, name]

/** Fields of configs derived from Llama's. */
export const LLAMA_FIELDS: Readonly<Partial<Record<SizeField, readonly string[]>>> = {
  hiddenSize: ['hidden_size'],
  blockCount: ['num_hidden_layers'],
  headCount: ['num_attention_heads'],
  kvHeadCount: ['num_key_value_heads'],
  headDim: ['head_dim'],
  intermediateSize: ['intermediate_size'],
  vocabSize: ['vocab_size'],
  contextLength: ['max_position_embeddings'],
  normEpsilon: ['rms_norm_eps'],
}

/** Fields of any Hugging Face config that change the computation, with the values that do not. */
export const NEUTRAL: Family['neutral'] = {
  partial_rotary_factor: [1],
  quantization_config: [],
  num_local_experts: [0, 1],
  num_experts: [0, 1],
  attn_logit_softcapping: [],
  final_logit_softcapping: [],
  is_decoder: [true, false],
  add_cross_attention: [false],
  embedding_multiplier: [1],
  residual_multiplier: [1],
  logits_scaling: [1],
  alibi: [false],
  use_qk_norm: [false],
}

/** The same without fields that a family reads itself. */
export function neutralExcept(...fields: readonly string[]): Family['neutral'] {
  return Object.fromEntries(Object.entries(NEUTRAL).filter(([field]) => !fields.includes(field)))
}

/** SiLU only. */
export const SILU: Family['activation'] = {
  field: 'hidden_act',
  fallback: 'silu',
  names: { silu: 'silu', swish: 'silu' },
}

/** Tensor names of Llama in Hugging Face's files; others add to them. */
export const LLAMA_NAMES: TensorNames = {
  block: {
    attentionNorm: layer('input_layernorm.weight'),
    q: layer('self_attn.q_proj.weight'),
    k: layer('self_attn.k_proj.weight'),
    v: layer('self_attn.v_proj.weight'),
    qBias: layer('self_attn.q_proj.bias'),
    kBias: layer('self_attn.k_proj.bias'),
    vBias: layer('self_attn.v_proj.bias'),
    qNorm: layer('self_attn.q_norm.weight'),
    kNorm: layer('self_attn.k_norm.weight'),
    o: layer('self_attn.o_proj.weight'),
    oBias: layer('self_attn.o_proj.bias'),
    mlpNorm: layer('post_attention_layernorm.weight'),
    gate: layer('mlp.gate_proj.weight'),
    up: layer('mlp.up_proj.weight'),
    down: layer('mlp.down_proj.weight'),
    gateBias: layer('mlp.gate_proj.bias'),
    upBias: layer('mlp.up_proj.bias'),
    downBias: layer('mlp.down_proj.bias'),
  },
  client: {
    embedding: top('embed_tokens.weight'),
    finalNorm: top('norm.weight'),
    head: ['lm_head.weight'],
  },
}

/** Tensor names of GGUF files; a family picks what it has by the roles of its spec. */
export const GGUF_NAMES: TensorNames = {
  block: {
    attentionNorm: ['blk.{i}.attn_norm.weight'],
    attentionNormBias: ['blk.{i}.attn_norm.bias'],
    q: ['blk.{i}.attn_q.weight', { name: 'blk.{i}.attn_qkv.weight', part: 'qkv-stacked' }],
    k: ['blk.{i}.attn_k.weight', { name: 'blk.{i}.attn_qkv.weight', part: 'qkv-stacked' }],
    v: ['blk.{i}.attn_v.weight', { name: 'blk.{i}.attn_qkv.weight', part: 'qkv-stacked' }],
    qBias: ['blk.{i}.attn_q.bias', { name: 'blk.{i}.attn_qkv.bias', part: 'qkv-stacked' }],
    kBias: ['blk.{i}.attn_k.bias', { name: 'blk.{i}.attn_qkv.bias', part: 'qkv-stacked' }],
    vBias: ['blk.{i}.attn_v.bias', { name: 'blk.{i}.attn_qkv.bias', part: 'qkv-stacked' }],
    qNorm: ['blk.{i}.attn_q_norm.weight'],
    kNorm: ['blk.{i}.attn_k_norm.weight'],
    o: ['blk.{i}.attn_output.weight'],
    oBias: ['blk.{i}.attn_output.bias'],
    mlpNorm: ['blk.{i}.ffn_norm.weight'],
    mlpNormBias: ['blk.{i}.ffn_norm.bias'],
    gate: ['blk.{i}.ffn_gate.weight'],
    up: ['blk.{i}.ffn_up.weight'],
    down: ['blk.{i}.ffn_down.weight'],
    gateBias: ['blk.{i}.ffn_gate.bias'],
    upBias: ['blk.{i}.ffn_up.bias'],
    downBias: ['blk.{i}.ffn_down.bias'],
  },
  client: {
    embedding: ['token_embd.weight'],
    embeddingNorm: ['token_embd_norm.weight'],
    embeddingNormBias: ['token_embd_norm.bias'],
    finalNorm: ['output_norm.weight'],
    finalNormBias: ['output_norm.bias'],
    head: ['output.weight'],
  },
}

/** Attention first, then the mlp, in every block. */
export const SEQUENTIAL: Family['layouts'] = [{ when: {}, residual: { kind: 'sequential' } }]
