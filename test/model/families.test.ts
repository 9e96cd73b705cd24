import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isChoraleError } from '../../src/errors.ts'
import { alibiBias, alibiSlopes, roundToBfloat16 } from '../../src/model/alibi.ts'
import { readConfig } from '../../src/model/config.ts'
import { FAMILIES } from '../../src/model/family.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import { blockRoles } from '../../src/model/weights.ts'
import { VECTORS } from './files.ts'

type Config = Record<string, unknown>
const configOf = (vector: string) =>
  JSON.parse(readFileSync(join(VECTORS, vector, 'config.json'), 'utf8')) as Config
/** The vector's spec with some fields changed; undefined takes a field away. */
const read = (vector: string, changes: Config = {}): ModelSpec => {
  const config = Object.entries({ ...configOf(vector), ...changes }).filter(
    ([, value]) => value !== undefined,
  )
  return readConfig('config.json', Object.fromEntries(config)).spec
}
const refusal = (code: 'not_supported' | 'bad_file', field: string) =>
  expect.objectContaining({ code, field }) as Error

describe('readConfig of each family', () => {
  it('Mistral: one window in all blocks, head_dim of its own', () => {
    const spec = read('mistral-sliding')
    expect(spec).toMatchObject({ family: 'mistral', headDim: 12, kvHeadCount: 2, windows: [6, 6, 6] })
    expect(read('mistral-sliding', { sliding_window: null }).windows).toEqual([null, null, null])
    expect(read('mistral-sliding', { sliding_window: undefined }).windows).toEqual([4096, 4096, 4096])
    expect(read('mistral-sliding', { head_dim: null }).headDim).toBe(8)
    // transformers' default, which older configs rely on.
    expect(
      read('mistral-sliding', { num_key_value_heads: undefined, num_attention_heads: 8 }).kvHeadCount,
    ).toBe(8)
    expect(read('mistral-sliding', { num_key_value_heads: null }).kvHeadCount).toBe(4)
  })

  it('Qwen2: biases of q, k and v; windows by layer_types, or from max_window_layers on', () => {
    const spec = read('qwen2-windows')
    expect(spec.biases).toEqual({ qkv: true, attentionOut: false, mlp: false })
    expect(spec.windows).toEqual([null, 5, 5])
    expect(read('qwen2-windows', { layer_types: undefined, max_window_layers: 2 }).windows).toEqual([
      null,
      null,
      5,
    ])
    const mixed = ['sliding_attention', 'full_attention', 'sliding_attention']
    expect(read('qwen2-windows', { layer_types: mixed }).windows).toEqual([5, null, 5])
    const off = { use_sliding_window: false, layer_types: undefined }
    expect(read('qwen2-windows', off).windows).toEqual([null, null, null])
    expect(read('qwen2-windows', { ...off, use_sliding_window: undefined }).windows).toEqual([
      null,
      null,
      null,
    ])
  })

  it('Qwen3: norms of heads, biases by flag, head_dim 128 when absent', () => {
    const spec = read('qwen3')
    expect(spec).toMatchObject({ family: 'qwen3', qkNorm: true, headDim: 20, biases: { qkv: false } })
    expect(read('qwen3', { head_dim: undefined }).headDim).toBe(128)
    expect(read('qwen3', { attention_bias: true }).biases).toEqual({
      qkv: true,
      attentionOut: true,
      mlp: false,
    })
    expect(blockRoles(spec)).toEqual(expect.arrayContaining(['qNorm', 'kNorm']))
  })

  it('Mixtral: experts, and its own defaults', () => {
    const spec = read('mixtral')
    expect(spec.mlp).toEqual({ kind: 'moe', expertCount: 8, topK: 2, normalizeTopK: true })
    const bare = read('mixtral', {
      num_local_experts: undefined,
      num_experts_per_tok: undefined,
      rms_norm_eps: undefined,
      rope_parameters: undefined,
    })
    expect(bare).toMatchObject({ mlp: spec.mlp, norm: { epsilon: 1e-5 }, windows: [null, null] })
    expect(bare.positions).toEqual(read('mixtral', { rope_parameters: undefined, rope_theta: 1e6 }).positions)
    expect(blockRoles(spec)).toHaveLength(6 + 1 + 3 * 8)
    expect(blockRoles(spec)).toContain('down.7')
  })

  it('Falcon: wiring and key heads by its flags', () => {
    expect(read('falcon-7b-style')).toMatchObject({
      norm: { kind: 'layer' },
      residual: { kind: 'parallel', norms: 1 },
      mlp: { kind: 'plain' },
      activation: 'gelu',
      kvHeadCount: 1,
      intermediateSize: 192,
      tiedHead: true,
    })
    expect(read('falcon-40b-style')).toMatchObject({
      residual: { kind: 'parallel', norms: 2 },
      kvHeadCount: 2,
    })
    expect(read('falcon-11b-style')).toMatchObject({
      residual: { kind: 'parallel', norms: 1 },
      kvHeadCount: 3,
      tiedHead: false,
    })
    expect(read('falcon-rw-style')).toMatchObject({
      residual: { kind: 'sequential' },
      kvHeadCount: 6,
      biases: { qkv: true, attentionOut: true, mlp: true },
      positions: { kind: 'alibi', scaledByHeadDim: true, roundedBias: true },
    })
  })

  it('Falcon: older field names and what they leave out', () => {
    const old = read('falcon-7b-style', {
      num_hidden_layers: undefined,
      num_attention_heads: undefined,
      hidden_size: undefined,
      n_embed: 48,
      n_layer: 2,
      n_head: 6,
      ffn_hidden_size: undefined,
      activation: undefined,
      multi_query: undefined,
      parallel_attn: undefined,
    })
    expect(old).toEqual(read('falcon-7b-style'))
  })

  it('RefinedWeb: told apart by model_type, flags must be there', () => {
    const rw = {
      architectures: ['RWForCausalLM'],
      new_decoder_architecture: undefined,
      num_ln_in_parallel_attn: undefined,
    }
    const web = (changes: Config) => read('falcon-7b-style', { ...rw, ...changes })
    expect(web({ model_type: 'RefinedWebModel' })).toEqual(read('falcon-7b-style'))
    expect(
      web({ model_type: 'RefinedWeb', multi_query: undefined, n_head_kv: 2, num_kv_heads: undefined }),
    ).toMatchObject({ residual: { norms: 2 }, kvHeadCount: 2 })
    expect(() => web({ model_type: 'RefinedWebModel', parallel_attn: undefined })).toThrow(
      refusal('bad_file', 'parallel_attn'),
    )
  })

  it('Bloom: ALiBi unscaled, a norm on embeddings, biases, sizes from either name', () => {
    expect(read('bloom')).toMatchObject({
      norm: { kind: 'layer', epsilon: 1e-5 },
      residual: { kind: 'sequential' },
      mlp: { kind: 'plain' },
      activation: 'gelu-tanh',
      positions: { kind: 'alibi', slopes: alibiSlopes(6), scaledByHeadDim: false, roundedBias: false },
      embeddingNorm: true,
      biases: { qkv: true, attentionOut: true, mlp: true },
      intermediateSize: 192,
      tiedHead: true,
    })
    const renamed = {
      hidden_size: undefined,
      n_embed: 48,
      n_head: undefined,
      num_attention_heads: 6,
      n_inner: null,
    }
    expect(read('bloom', renamed)).toEqual(read('bloom'))
  })
})

describe('readConfig refuses by field what a family does not compute', () => {
  it.each([
    ['mistral-sliding', 'attention_bias', { attention_bias: true }],
    ['mistral-sliding', 'layer_types', { layer_types: Array(3).fill('full_attention') }],
    ['mistral-sliding', 'hidden_act', { hidden_act: 'gelu' }],
    ['qwen2-windows', 'layer_types', { use_sliding_window: false }],
    [
      'qwen2-windows',
      'layer_types',
      { layer_types: ['full_attention', 'chunked_attention', 'full_attention'] },
    ],
    ['qwen3', 'partial_rotary_factor', { partial_rotary_factor: 0.5 }],
    ['qwen3', 'num_experts', { num_experts: 8 }],
    ['mixtral', 'attention_bias', { attention_bias: true }],
    ['falcon-40b-style', 'num_ln_in_parallel_attn', { num_ln_in_parallel_attn: 3 }],
    ['falcon-40b-style', 'parallel_attn', { parallel_attn: false }],
    ['falcon-7b-style', 'num_ln_in_parallel_attn', { num_ln_in_parallel_attn: 2 }],
    ['falcon-7b-style', 'activation', { activation: 'relu' }],
    [
      'falcon-7b-style',
      'apply_residual_connection_post_layernorm',
      { apply_residual_connection_post_layernorm: true },
    ],
    ['bloom', 'apply_residual_connection_post_layernorm', { apply_residual_connection_post_layernorm: true }],
    ['bloom', 'quantization_config', { quantization_config: { quant_method: 'gptq' } }],
  ])('%s: %s', (vector, field, changes) => {
    expect(() => read(vector, changes)).toThrow(refusal('not_supported', field))
  })

  it.each([
    ['mistral-sliding', 'sliding_window', { sliding_window: 0 }],
    ['mistral-sliding', 'sliding_window', { sliding_window: 2.5 }],
    ['qwen2-windows', 'max_window_layers', { max_window_layers: -1 }],
    ['qwen2-windows', 'layer_types', { layer_types: ['full_attention'] }],
    ['qwen2-windows', 'use_sliding_window', { use_sliding_window: 1 }],
    ['mixtral', 'num_experts_per_tok', { num_experts_per_tok: 9 }],
    ['mixtral', 'num_local_experts', { num_local_experts: 1e6 }],
    ['falcon-rw-style', 'alibi', { alibi: 'yes' }],
    ['falcon-rw-style', 'bias', { bias: 1 }],
    ['bloom', 'n_head', { n_head: 0 }],
    ['bloom', 'head_dim', { n_head: 7 }],
  ])('%s: impossible %s', (vector, field, changes) => {
    expect(() => read(vector, changes)).toThrow(refusal('bad_file', field))
  })
})

const VECTORS_OF_FAMILIES = [
  'llama-gqa',
  'mistral-sliding',
  'qwen2-windows',
  'qwen3',
  'mixtral',
  'falcon-7b-style',
  'falcon-40b-style',
  'falcon-11b-style',
  'falcon-rw-style',
  'bloom',
]

/** Fields of transformers' configs that no computation of a trained model reads. */
const UNREAD = [
  'attention_dropout',
  'hidden_dropout',
  'initializer_range',
  'output_router_logits',
  'pretraining_tp',
  'router_aux_loss_coef',
  'router_jitter_noise',
  'slow_but_exact',
  'use_cache',
  'pad_token_id',
]
/** Fields that a family's other fields make meaningless. */
const OVERRIDDEN: Readonly<Record<string, readonly string[]>> = {
  // layer_types says it all.
  'qwen2-windows': ['max_window_layers'],
  qwen3: ['max_window_layers', 'sliding_window', 'use_sliding_window'],
  // One key head whatever the number; rotary positions in the place of ALiBi.
  'falcon-7b-style': ['num_kv_heads'],
  // "Ignored when new_decoder_architecture is True."
  'falcon-40b-style': ['multi_query'],
  'falcon-11b-style': ['multi_query'],
  'falcon-rw-style': ['num_ln_in_parallel_attn'],
}

describe('every boolean and number of a config is used, refused or known to mean nothing', () => {
  it.each(VECTORS_OF_FAMILIES)('%s', (vector) => {
    const config = configOf(vector)
    const before = read(vector)
    const unnoticed: string[] = []
    for (const [field, value] of Object.entries(config)) {
      if (typeof value !== 'boolean' && typeof value !== 'number' && value !== null) continue
      const changed = typeof value === 'boolean' ? !value : value === null ? 3 : value * 2 + 1
      try {
        if (JSON.stringify(read(vector, { [field]: changed })) === JSON.stringify(before))
          unnoticed.push(field)
      } catch (error) {
        if (!isChoraleError(error)) throw error
      }
    }
    const explained = [...UNREAD, ...(OVERRIDDEN[vector] ?? [])]
    expect(unnoticed.filter((field) => !explained.includes(field))).toEqual([])
  })
})

describe('readConfig survives 30,000 broken configs of all families', () => {
  it('with errors of its own, or a spec whose parts agree', () => {
    let state = 7
    const random = (below: number) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    const nasty = [null, true, false, 0, 1, -1, 2, 3, 1.5, 64, 1e9, 1e308, '', 'gelu', [], {}, [null], ['x']]
    const configs = VECTORS_OF_FAMILIES.map(configOf)
    const fields = [...new Set(configs.flatMap((config) => Object.keys(config)))]
    let accepted = 0
    for (let i = 0; i < 30_000; i++) {
      const config = { ...configs[random(configs.length)] }
      for (let edits = 1 + random(3); edits > 0; edits--) {
        config[fields[random(fields.length)] ?? ''] = nasty[random(nasty.length)]
      }
      try {
        const { spec } = readConfig('c', config)
        accepted++
        expect(spec.windows).toHaveLength(spec.blockCount)
        expect(spec.headCount % spec.kvHeadCount).toBe(0)
        const { positions } = spec
        if (positions.kind === 'alibi') expect(positions.slopes).toHaveLength(spec.headCount)
        else expect(positions.inverseFrequencies).toHaveLength(spec.headDim / 2)
        if (spec.mlp.kind === 'moe') expect(spec.mlp.topK).toBeLessThanOrEqual(spec.mlp.expertCount)
      } catch (error) {
        if (!isChoraleError(error)) throw error
      }
    }
    expect(accepted).toBeGreaterThan(3000)
    expect(accepted).toBeLessThan(27_000)
  })
})

describe('alibiSlopes', () => {
  // transformers' build_alibi_tensor, float32.
  it.each([
    [1, [0.00390625]],
    [8, [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]],
    [6, [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]],
    [
      12,
      [
        0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625, 0.7071067690849304,
        0.3535533845424652, 0.1767766922712326, 0.0883883461356163,
      ],
    ],
  ])('of %d heads', (heads, expected) => {
    const slopes = alibiSlopes(heads)
    expect(slopes).toHaveLength(heads)
    slopes.forEach((slope, i) => expect(Math.abs(slope / (expected[i] ?? NaN) - 1)).toBeLessThan(3e-7))
  })

  it('falls with the distance for every number of heads', () => {
    for (let heads = 1; heads <= 128; heads++) {
      const slopes = alibiSlopes(heads)
      expect(slopes).toHaveLength(heads)
      expect(slopes.every((slope) => slope > 0 && slope < 1)).toBe(true)
      expect(new Set(slopes).size).toBe(heads)
    }
  })
})

describe('alibiBias', () => {
  it('rounds position and product to bfloat16 where the spec says so', () => {
    const slopes = [roundToBfloat16(0.7071067690849304)]
    const alibi = { kind: 'alibi', slopes, scaledByHeadDim: true } as const
    // torch: torch.tensor(0.70710677).bfloat16() * torch.tensor([3, 300, 1001])
    expect([3, 300, 1001].map((j) => alibiBias({ ...alibi, roundedBias: true }, 0, j))).toEqual([
      2.125, 212, 708,
    ])
    expect(alibiBias({ ...alibi, roundedBias: false }, 0, 300)).toBe(300 * 0.70703125)
  })

  it('roundToBfloat16 rounds to nearest, ties to even', () => {
    expect([1, 257, 259, 258, -3.1].map(roundToBfloat16)).toEqual([1, 256, 260, 258, -3.09375])
  })
})

it('every family has a name for each of its weights', () => {
  for (const family of FAMILIES) {
    for (const [role, names] of Object.entries({ ...family.names.block, ...family.gguf?.names.block })) {
      expect(names?.length, `${family.name} ${role}`).toBeGreaterThan(0)
    }
  }
  expect(new Set(FAMILIES.flatMap(({ architectures }) => architectures)).size).toBe(2 * FAMILIES.length)
})
