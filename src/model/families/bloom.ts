import type { Family, TensorName } from '../family.ts'
import { GGUF_NAMES, neutralExcept, SEQUENTIAL } from './common.ts'

/** The first checkpoints have no prefix. */
const layer = (name: string) => [`transformer.h.{i}.${name}`, `h.{i}.${name}`]
const top = (name: string) => [`transformer.${name}`, name]
/** Rows come head by head: q, k, v of head 0, then of head 1. */
const fused = (name: string): TensorName[] =>
  layer(`self_attention.query_key_value.${name}`).map((full) => ({ name: full, part: 'qkv-grouped' }))

/** Bloom and BloomZ: ALiBi, a norm on embeddings, biases everywhere. Source: transformers `models/bloom`. */
export const bloom: Family = {
  name: 'bloom',
  architectures: ['BloomForCausalLM', 'BloomModel'],
  modelTypes: ['bloom'],
  fields: {
    hiddenSize: ['n_embed', 'hidden_size'],
    blockCount: ['n_layer', 'num_hidden_layers'],
    headCount: ['n_head', 'num_attention_heads'],
    headDim: ['head_dim'],
    intermediateSize: ['n_inner'],
    vocabSize: ['vocab_size'],
    contextLength: ['seq_length'],
    normEpsilon: ['layer_norm_epsilon'],
  },
  defaults: { normEpsilon: 1e-5, contextLength: 2048, intermediateSize: { timesHiddenSize: 4 } },
  norm: 'layer',
  activation: { field: undefined, fallback: 'gelu-tanh', names: {} },
  layouts: SEQUENTIAL,
  mlp: 'plain',
  rope: undefined,
  alibi: { scaledByHeadDim: false, roundedBias: false },
  qkNorm: false,
  embeddingNorm: true,
  biases: { qkv: true, attentionOut: true, mlp: true },
  tiedByDefault: true,
  neutral: {
    ...neutralExcept('alibi'),
    apply_residual_connection_post_layernorm: [false],
    sliding_window: [],
    alibi: [true],
  },
  names: {
    block: {
      attentionNorm: layer('input_layernorm.weight'),
      attentionNormBias: layer('input_layernorm.bias'),
      q: fused('weight'),
      k: fused('weight'),
      v: fused('weight'),
      qBias: fused('bias'),
      kBias: fused('bias'),
      vBias: fused('bias'),
      o: layer('self_attention.dense.weight'),
      oBias: layer('self_attention.dense.bias'),
      mlpNorm: layer('post_attention_layernorm.weight'),
      mlpNormBias: layer('post_attention_layernorm.bias'),
      up: layer('mlp.dense_h_to_4h.weight'),
      upBias: layer('mlp.dense_h_to_4h.bias'),
      down: layer('mlp.dense_4h_to_h.weight'),
      downBias: layer('mlp.dense_4h_to_h.bias'),
    },
    client: {
      embedding: top('word_embeddings.weight'),
      embeddingNorm: top('word_embeddings_layernorm.weight'),
      embeddingNormBias: top('word_embeddings_layernorm.bias'),
      finalNorm: top('ln_f.weight'),
      finalNormBias: top('ln_f.bias'),
      head: ['lm_head.weight'],
    },
  },
  gguf: {
    architecture: 'bloom',
    interleavedRotary: false,
    residual: { kind: 'sequential' },
    names: GGUF_NAMES,
  },
}
