import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readConfig, readGenerationDefaults } from '../../src/model/config.ts'
import { ropeOf, VECTORS } from './files.ts'

const BASE = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 512,
  intermediate_size: 64,
  max_position_embeddings: 8192,
  num_attention_heads: 8,
  num_hidden_layers: 1,
  vocab_size: 32,
}
const read = (config: Record<string, unknown>, generation?: Record<string, unknown>) =>
  readConfig('config.json', { ...BASE, ...config }, generation).spec
const ROPE_INDICES = [1, 8, 12, 16, 20, 31]

describe('readConfig', () => {
  it('reads what transformers 5 writes', () => {
    const config = JSON.parse(readFileSync(join(VECTORS, 'llama-gqa/config.json'), 'utf8')) as Record<
      string,
      unknown
    >
    const { spec } = readConfig('config.json', config)
    expect(spec).toMatchObject({
      family: 'llama',
      hiddenSize: 64,
      blockCount: 4,
      headCount: 8,
      kvHeadCount: 2,
      headDim: 8,
      intermediateSize: 172,
      vocabSize: 320,
      contextLength: 256,
      norm: { kind: 'rms', epsilon: 1e-5 },
      biases: { qkv: false, attentionOut: false, mlp: false },
      tiedHead: false,
      bosTokenId: 1,
      eosTokenIds: [2],
    })
  })

  it('fills in what older configs leave out', () => {
    expect(read({})).toMatchObject({ headDim: 64, kvHeadCount: 8, norm: { epsilon: 1e-6 }, tiedHead: false })
    expect(read({})).toMatchObject({ bosTokenId: undefined, eosTokenIds: [] })
    expect(read({ architectures: undefined, model_type: 'llama' }).family).toBe('llama')
  })

  it('takes head_dim, biases, tied heads and lists of end tokens as given', () => {
    const spec = read(
      { head_dim: 32, attention_bias: true, mlp_bias: true, tie_word_embeddings: true, eos_token_id: [3, 4] },
      { eos_token_id: [4, 5] },
    )
    expect(spec.headDim).toBe(32)
    expect(ropeOf(spec).inverseFrequencies).toHaveLength(16)
    expect(spec.biases).toEqual({ qkv: true, attentionOut: true, mlp: true })
    expect(spec.tiedHead).toBe(true)
    expect(spec.eosTokenIds).toEqual([3, 4, 5])
  })

  // Values of transformers 5.23, LlamaRotaryEmbedding, float32.
  it.each([
    [
      'default',
      { rope_theta: 500_000 },
      1,
      [
        0.663601279258728, 0.03760603070259094, 0.00729266507551074, 0.001414213445968926,
        0.00027424818836152554, 3.01385807688348e-6,
      ],
    ],
    [
      'linear, legacy',
      { rope_scaling: { type: 'linear', factor: 4 } },
      1,
      [
        0.18747355043888092, 0.02500000037252903, 0.007905694656074047, 0.0024999999441206455,
        0.0007905694656074047, 3.333803761051968e-5,
      ],
    ],
    [
      'llama3',
      {
        rope_parameters: {
          rope_type: 'llama3',
          factor: 32,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 8192,
          rope_theta: 500_000,
        },
      },
      1,
      [
        0.663601279258728, 0.03760603070259094, 0.00729266507551074, 0.000429556705057621,
        8.570255886297673e-6, 9.418306490260875e-8,
      ],
    ],
    [
      'llama3, legacy',
      {
        rope_theta: 500_000,
        rope_scaling: {
          rope_type: 'llama3',
          factor: 32,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 8192,
        },
      },
      1,
      [
        0.663601279258728, 0.03760603070259094, 0.00729266507551074, 0.000429556705057621,
        8.570255886297673e-6, 9.418306490260875e-8,
      ],
    ],
    [
      'yarn',
      {
        rope_parameters: {
          rope_type: 'yarn',
          factor: 4,
          original_max_position_embeddings: 2048,
          rope_theta: 1_000_000,
        },
      },
      1.138629436111989,
      [
        0.6493816375732422, 0.023717083036899567, 0.0023430888541042805, 0.0002500000118743628,
        4.4456985051510856e-5, 3.8498163235090033e-7,
      ],
    ],
    [
      'yarn with mscale',
      {
        rope_parameters: {
          rope_type: 'yarn',
          factor: 16,
          original_max_position_embeddings: 4096,
          rope_theta: 10_000,
          beta_fast: 32,
          beta_slow: 1,
          mscale: 1,
          mscale_all_dim: 0.8,
        },
      },
      1.0453850485445595,
      [
        0.7498942017555237, 0.10000000149011612, 0.02706180140376091, 0.005673076957464218,
        0.0008817889611236751, 8.33450940262992e-6,
      ],
    ],
    [
      'yarn not truncated',
      {
        rope_parameters: {
          rope_type: 'yarn',
          factor: 40,
          original_max_position_embeddings: 4096,
          rope_theta: 10_000,
          truncate: false,
          attention_factor: 1.25,
        },
      },
      1.25,
      [
        0.7498942017555237, 0.10000000149011612, 0.02771085873246193, 0.005524062551558018,
        0.0007226381567306817, 3.3338035336782923e-6,
      ],
    ],
  ])('rotary frequencies are those of transformers: %s', (_name, config, factor, expected) => {
    const positions = ropeOf(read(config))
    expect(positions.attentionFactor).toBeCloseTo(factor, 12)
    expected.forEach((value, i) => {
      const actual = positions.inverseFrequencies[ROPE_INDICES[i]!]!
      expect(Math.abs(actual / value - 1)).toBeLessThan(1e-6)
    })
  })

  it.each([
    ['architectures', { architectures: ['GPT2LMHeadModel'] }],
    ['model_type', { architectures: undefined, model_type: 'mamba' }],
    ['model_type', { architectures: undefined }],
    ['hidden_act', { hidden_act: 'gelu' }],
    ['sliding_window', { sliding_window: 4096 }],
    ['quantization_config', { quantization_config: { quant_method: 'gptq' } }],
    ['partial_rotary_factor', { partial_rotary_factor: 0.5 }],
    [
      'partial_rotary_factor',
      { rope_parameters: { rope_type: 'default', rope_theta: 1e4, partial_rotary_factor: 0.5 } },
    ],
    ['rope_scaling.rope_type', { rope_scaling: { type: 'dynamic', factor: 2 } }],
    ['rope_parameters.rope_type', { rope_parameters: { rope_type: 'longrope', rope_theta: 1e4 } }],
    ['rope_parameters', { rope_parameters: { full_attention: { rope_type: 'default', rope_theta: 1e4 } } }],
    ['layer_types', { layer_types: ['sliding_attention'] }],
    ['final_logit_softcapping', { final_logit_softcapping: 30 }],
  ])('refuses to compute wrongly: %s %j', (field, config) => {
    expect(() => read(config)).toThrow(expect.objectContaining({ code: 'not_supported', field }))
    expect(() => read(config)).toThrow(/^config\.json: /)
  })

  it('a sliding window that is switched off is no window', () => {
    expect(read({ sliding_window: 4096, use_sliding_window: false }).blockCount).toBe(1)
  })

  it.each([
    ['hidden_size', { hidden_size: 0 }],
    ['hidden_size', { hidden_size: 65_537 }],
    ['hidden_size', { hidden_size: '512' }],
    ['hidden_size', { hidden_size: undefined }],
    ['num_hidden_layers', { num_hidden_layers: 1e9 }],
    ['num_attention_heads', { num_attention_heads: 0 }],
    ['num_key_value_heads', { num_key_value_heads: 3 }],
    ['head_dim', { head_dim: 7 }],
    ['head_dim', { num_attention_heads: 7, num_key_value_heads: 7 }],
    ['intermediate_size', { intermediate_size: 1.5 }],
    ['vocab_size', { vocab_size: -1 }],
    ['rms_norm_eps', { rms_norm_eps: NaN }],
    ['rms_norm_eps', { rms_norm_eps: 1 }],
    ['rope_theta', { rope_theta: 0 }],
    ['factor', { rope_scaling: { type: 'linear' } }],
    ['factor', { rope_scaling: { type: 'linear', factor: 0 } }],
    [
      'high_freq_factor',
      {
        rope_scaling: {
          rope_type: 'llama3',
          factor: 8,
          low_freq_factor: 4,
          high_freq_factor: 4,
          original_max_position_embeddings: 64,
        },
      },
    ],
    [
      'original_max_position_embeddings',
      { rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 } },
    ],
    ['rope_parameters', { rope_parameters: [] }],
    ['tie_word_embeddings', { tie_word_embeddings: 'yes' }],
    ['eos_token_id', { eos_token_id: 32 }],
    ['eos_token_id', { eos_token_id: 'end' }],
    ['eos_token_id', { eos_token_id: Array(65).fill(1) }],
    ['architectures', { architectures: 'LlamaForCausalLM' }],
  ])('refuses impossible values: %s %j', (field, config) => {
    expect(() => read(config)).toThrow(expect.objectContaining({ code: 'bad_file', field }))
  })
})

describe('readGenerationDefaults', () => {
  it('takes sampling defaults inside bounds and leaves the rest', () => {
    expect(readGenerationDefaults({ temperature: 0.7, top_p: 0.95, top_k: 40 })).toEqual({
      temperature: 0.7,
      topP: 0.95,
      topK: 40,
    })
    expect(readGenerationDefaults({ temperature: 'hot', top_p: 7, top_k: -1 })).toEqual({})
    expect(readGenerationDefaults({ do_sample: false, temperature: 0.7 })).toEqual({ temperature: 0 })
  })
})
