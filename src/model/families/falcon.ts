import type { BlockLayout, Family, TensorName } from '../family.ts'
import { GGUF_NAMES, neutralExcept } from './common.ts'

const layer = (name: string) => [`transformer.h.{i}.${name}`, `h.{i}.${name}`]
const top = (name: string) => [`transformer.${name}`, name]
const fused = (name: string): TensorName[] =>
  layer(`self_attention.query_key_value.${name}`).map((full) => ({ name: full, part: 'qkv-grouped' }))

/**
 * The ways of wiring, as transformers tells them apart (`FalconDecoderLayer`); combinations on which it fails are
 * in no entry. Names of norms tell apart the rest: `ln_attn` and `ln_mlp`, or `input_layernorm`.
 */
const LAYOUTS: readonly BlockLayout[] = [
  // 40B, 180B.
  {
    when: {
      new_decoder_architecture: [true],
      parallel_attn: [true, null],
      num_ln_in_parallel_attn: [2, null],
    },
    residual: { kind: 'parallel', norms: 2 },
  },
  // 11B.
  {
    when: { new_decoder_architecture: [true], parallel_attn: [true, null], num_ln_in_parallel_attn: [1] },
    residual: { kind: 'parallel', norms: 1 },
  },
  // 7B.
  {
    when: {
      new_decoder_architecture: [false, null],
      parallel_attn: [true, null],
      multi_query: [true, null],
      num_ln_in_parallel_attn: [1, null],
    },
    residual: { kind: 'parallel', norms: 1 },
    sharedKvHead: true,
  },
  {
    when: {
      new_decoder_architecture: [false, null],
      parallel_attn: [true, null],
      multi_query: [false],
      num_ln_in_parallel_attn: [1, null],
    },
    residual: { kind: 'parallel', norms: 1 },
  },
  // RW.
  {
    when: { new_decoder_architecture: [false, null], parallel_attn: [false], multi_query: [false] },
    residual: { kind: 'sequential' },
  },
  {
    when: { new_decoder_architecture: [false, null], parallel_attn: [false], multi_query: [true, null] },
    residual: { kind: 'sequential' },
    sharedKvHead: true,
  },
]

/** What both kinds of config share: everything of Hugging Face's files. */
const shared: Family = {
  name: 'falcon',
  architectures: ['FalconForCausalLM', 'FalconModel'],
  modelTypes: ['falcon'],
  fields: {
    hiddenSize: ['n_embed', 'hidden_size'],
    blockCount: ['num_hidden_layers', 'n_layer'],
    headCount: ['num_attention_heads', 'n_head'],
    kvHeadCount: ['num_kv_heads', 'n_head_kv'],
    headDim: ['head_dim'],
    intermediateSize: ['ffn_hidden_size'],
    vocabSize: ['vocab_size'],
    contextLength: ['max_position_embeddings'],
    normEpsilon: ['layer_norm_epsilon'],
  },
  defaults: { normEpsilon: 1e-5, contextLength: 2048, intermediateSize: { timesHiddenSize: 4 } },
  norm: 'layer',
  activation: {
    field: 'activation',
    fallback: 'gelu',
    names: { gelu: 'gelu', gelu_new: 'gelu-tanh', gelu_pytorch_tanh: 'gelu-tanh' },
  },
  layouts: LAYOUTS,
  mlp: 'plain',
  rope: { theta: 10_000 },
  alibi: { flag: 'alibi', scaledByHeadDim: true, roundedBias: true },
  qkNorm: false,
  embeddingNorm: false,
  biases: { qkv: 'bias', attentionOut: 'bias', mlp: 'bias' },
  tiedByDefault: true,
  neutral: {
    ...neutralExcept('alibi'),
    apply_residual_connection_post_layernorm: [false],
    sliding_window: [],
  },
  names: {
    block: {
      attentionNorm: [...layer('ln_attn.weight'), ...layer('input_layernorm.weight')],
      attentionNormBias: [...layer('ln_attn.bias'), ...layer('input_layernorm.bias')],
      q: fused('weight'),
      k: fused('weight'),
      v: fused('weight'),
      qBias: fused('bias'),
      kBias: fused('bias'),
      vBias: fused('bias'),
      o: layer('self_attention.dense.weight'),
      oBias: layer('self_attention.dense.bias'),
      mlpNorm: [...layer('ln_mlp.weight'), ...layer('post_attention_layernorm.weight')],
      mlpNormBias: [...layer('ln_mlp.bias'), ...layer('post_attention_layernorm.bias')],
      up: layer('mlp.dense_h_to_4h.weight'),
      upBias: layer('mlp.dense_h_to_4h.bias'),
      down: layer('mlp.dense_4h_to_h.weight'),
      downBias: layer('mlp.dense_4h_to_h.bias'),
    },
    client: {
      embedding: top('word_embeddings.weight'),
      finalNorm: top('ln_f.weight'),
      finalNormBias: top('ln_f.bias'),
      head: ['lm_head.weight'],
    },
  },
}

/** Falcon: 7B, 40B, 180B, 11B and RW. Source: transformers `models/falcon`. */
export const falcon: Family = {
  ...shared,
  gguf: {
    architecture: 'falcon',
    interleavedRotary: false,
    residual: { kind: 'parallel', norms: 1 },
    secondNorm: 'blk.0.attn_norm_2.weight',
    names: {
      ...GGUF_NAMES,
      block: {
        ...GGUF_NAMES.block,
        // With two norms `attn_norm` is the mlp's: converters map `ln_mlp` to it and `ln_attn` to `attn_norm_2`.
        attentionNorm: ['blk.{i}.attn_norm_2.weight', 'blk.{i}.attn_norm.weight'],
        attentionNormBias: ['blk.{i}.attn_norm_2.bias', 'blk.{i}.attn_norm.bias'],
        mlpNorm: ['blk.{i}.attn_norm.weight'],
        mlpNormBias: ['blk.{i}.attn_norm.bias'],
      },
    },
  },
}

/**
 * Falcon's first configs, which came with their own code: defaults differ from transformers' (and between its
 * versions), so the flags that choose the wiring must be there.
 */
export const refinedWeb: Family = {
  ...shared,
  architectures: ['RWForCausalLM', 'RWModel'],
  modelTypes: ['RefinedWeb', 'RefinedWebModel'],
  layouts: [
    {
      when: { model_type: ['RefinedWeb'], parallel_attn: [true], multi_query: [null, false] },
      residual: { kind: 'parallel', norms: 2 },
    },
    {
      when: { model_type: ['RefinedWebModel'], parallel_attn: [true], multi_query: [true] },
      residual: { kind: 'parallel', norms: 1 },
      sharedKvHead: true,
    },
    {
      when: { model_type: ['RefinedWebModel'], parallel_attn: [false], multi_query: [false] },
      residual: { kind: 'sequential' },
    },
  ],
  neutral: { ...shared.neutral, new_decoder_architecture: [], num_ln_in_parallel_attn: [] },
}
