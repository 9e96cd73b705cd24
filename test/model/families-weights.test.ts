import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { createFileStore } from '../../node/file-store.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import { memorySource } from '../../src/byte-source.ts'
import { partOf, type TensorPart } from '../../src/model/fused.ts'
import type { BlockRole, ClientRole, Model, WeightTensor } from '../../src/model/model.ts'
import { openGguf } from '../../src/model/open-gguf.ts'
import { openModel } from '../../src/model/open-model.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import type { TensorTable } from '../../src/model/tensor-table.ts'
import { blockRoles, blockShape, clientRoles, weightsByRole } from '../../src/model/weights.ts'
import { byteLength } from '../../src/tensor/weight.ts'
import { countingSource, VECTORS } from './files.ts'
import { f32, type GgufTensor, text, u32, writeGguf } from './write-gguf.ts'

const opened: Model[] = []
afterEach(async () => {
  await Promise.all(opened.splice(0).map((model) => model.close()))
})
const open = async (vector: string) => {
  const model = await openModel(join(VECTORS, vector), { files: createFileStore() })
  opened.push(model)
  return model
}
const specOf = (headCount: number, kvHeadCount: number, headDim: number, more: Partial<ModelSpec> = {}) =>
  ({ headCount, kvHeadCount, headDim, mlp: { kind: 'plain' }, ...more }) as ModelSpec
/** Rows of a role as a list. */
const rowsOf = (spec: ModelSpec, part: TensorPart, role: BlockRole, expert = 0) =>
  partOf(spec, part, role, expert, blockShape(spec, role)).rows.flatMap(({ count, first }) =>
    Array.from({ length: count }, (_, i) => first + i),
  )

describe('partOf', () => {
  const roles = ['q', 'k', 'v'] as const

  it.each([
    // heads, kv heads, order of heads in the file as transformers' views read them
    [4, 4, 'q0 k0 v0 q1 k1 v1 q2 k2 v2 q3 k3 v3'],
    [4, 1, 'q0 q1 q2 q3 k0 v0'],
    [6, 2, 'q0 q1 q2 k0 v0 q3 q4 q5 k1 v1'],
  ])('qkv-grouped of %d heads and %d key heads: %s', (heads, kvHeads, order) => {
    const spec = specOf(heads, kvHeads, 2, { hiddenSize: 3 })
    const found = new Map<number, string>()
    for (const role of roles) {
      rowsOf(spec, 'qkv-grouped', role).forEach((row, i) => {
        expect(i % 2).toBe(row % 2)
        found.set(Math.floor(row / 2), `${role}${Math.floor(i / 2)}`)
      })
    }
    expect([...found].sort(([a], [b]) => a - b).map(([, name]) => name)).toEqual(order.split(' '))
  })

  it.each(['qkv-grouped', 'qkv-stacked'] as const)('%s gives every row to one role', (part) => {
    for (const [heads, kvHeads, headDim] of [
      [71, 1, 64],
      [8, 8, 2],
      [12, 3, 5],
      [1, 1, 1],
    ] as const) {
      const spec = specOf(heads, kvHeads, headDim, { hiddenSize: 3 })
      const all = roles.flatMap((role) => rowsOf(spec, part, role))
      const { stored } = partOf(spec, part, 'q', 0, blockShape(spec, 'q'))
      expect(stored).toEqual([(heads + 2 * kvHeads) * headDim, 3])
      expect([...all].sort((a, b) => a - b)).toEqual(Array.from({ length: stored[0] ?? 0 }, (_, i) => i))
    }
  })

  it('experts lie one after the other, gate above up', () => {
    const mlp = { kind: 'moe', expertCount: 3, topK: 2, normalizeTopK: true } as const
    const spec = specOf(1, 1, 2, { mlp, hiddenSize: 5, intermediateSize: 2 })
    expect(partOf(spec, 'expert', 'down', 2, [5, 2])).toEqual({
      stored: [3, 5, 2],
      rows: [{ first: 10, count: 5 }],
    })
    expect(partOf(spec, 'expert-gate-up', 'gate', 1, [2, 5])).toEqual({
      stored: [3, 4, 5],
      rows: [{ first: 4, count: 2 }],
    })
    expect(partOf(spec, 'expert-gate-up', 'up', 1, [2, 5]).rows).toEqual([{ first: 6, count: 2 }])
  })
})

describe('weights of fused tensors', () => {
  /** One tensor whose every quantised row is filled with its number. */
  function quantised(rows: number, columns: number, onPrefetch: (ranges: number) => void) {
    const rowBytes = byteLength('Q8_0', [columns])
    const bytes = Uint8Array.from({ length: rows * rowBytes }, (_, i) => Math.floor(i / rowBytes))
    const memory = countingSource(memorySource('m', bytes))
    const source = { ...memory, prefetch: async (ranges: readonly unknown[]) => onPrefetch(ranges.length) }
    const stored = {
      name: 'qkv.0',
      dtype: 'Q8_0',
      shape: [rows, columns],
      source,
      offset: 0,
      byteLength: bytes.length,
    }
    const table: TensorTable = new Map([['qkv.0', stored]])
    return { table, reads: memory.reads, rowBytes }
  }
  const names = {
    block: {
      q: [{ name: 'qkv.{i}', part: 'qkv-grouped' as const }],
      k: [{ name: 'qkv.{i}', part: 'qkv-grouped' as const }],
      v: [{ name: 'qkv.{i}', part: 'qkv-grouped' as const }],
    },
    client: {},
  }

  it('announces the tensor once and reads of a large one only the rows of the role, quantised as they are', async () => {
    const heads = 4
    const announced: number[] = []
    const [headDim, hiddenSize] = [64, 2048]
    const { table, reads, rowBytes } = quantised(3 * heads * headDim, hiddenSize, (count) =>
      announced.push(count),
    )
    const base = (await open('bloom')).spec
    const spec = { ...base, headCount: heads, kvHeadCount: heads, headDim, hiddenSize }
    const all = Object.fromEntries(blockRoles(spec).map((role) => [role, [`own.${role}`]]))
    const full = new Map(table)
    for (const role of blockRoles(spec)) {
      const shape = blockShape(spec, role)
      const bytes = byteLength('F32', shape)
      full.set(`own.${role}`, {
        name: `own.${role}`,
        dtype: 'F32',
        shape,
        source: memorySource('o', new Uint8Array(0)),
        offset: 0,
        byteLength: bytes,
      })
    }
    const weights = weightsByRole({
      modelName: 'm',
      spec,
      names: { block: { ...all, ...names.block }, client: {} },
      table: full,
    })
    const k = await weights.block(0, 'k')
    expect(k.shape).toEqual([256, 2048])
    expect(k.bytes.length).toBe(256 * rowBytes)
    expect([0, 63, 64, 255].map((row) => k.bytes[row * rowBytes])).toEqual(
      [64, 127, 64 + 192, 64 + 3 * 192 + 63].map((row) => row % 256),
    )
    expect(reads.reduce((sum, { length }) => sum + length, 0)).toBe(256 * rowBytes)
    expect(reads).toHaveLength(heads)
    expect(announced).toEqual([1])
  })
})

describe('transformers 5 names of experts', () => {
  it('hold the same weights as one tensor an expert', async () => {
    const model = await open('mixtral')
    const { spec } = model
    const table = new Map<string, TensorTable extends ReadonlyMap<string, infer T> ? T : never>()
    const put = (name: string, shape: readonly number[], parts: readonly WeightTensor[]) => {
      const bytes = concat(parts)
      table.set(name, {
        name,
        dtype: 'F32',
        shape,
        source: memorySource(name, bytes),
        offset: 0,
        byteLength: bytes.length,
      })
    }
    const experts = Array.from({ length: 8 }, (_, e) => e)
    const prefix = 'model.layers.1.'
    const { hiddenSize: h, intermediateSize: i } = spec
    const gateUp: WeightTensor[] = []
    const down: WeightTensor[] = []
    for (const e of experts) {
      gateUp.push(await model.weights.block(1, `gate.${e}`), await model.weights.block(1, `up.${e}`))
      down.push(await model.weights.block(1, `down.${e}`))
    }
    put(`${prefix}mlp.experts.gate_up_proj`, [8, 2 * i, h], gateUp)
    put(`${prefix}mlp.experts.down_proj`, [8, h, i], down)
    put(`${prefix}mlp.gate.weight`, [8, h], [await model.weights.block(1, 'router')])
    const own = { attentionNorm: 'input_layernorm', mlpNorm: 'post_attention_layernorm' } as const
    for (const role of ['attentionNorm', 'mlpNorm'] as const) {
      put(`${prefix}${own[role]}.weight`, [h], [await model.weights.block(1, role)])
    }
    for (const role of ['q', 'k', 'v', 'o'] as const) {
      put(`${prefix}self_attn.${role}_proj.weight`, blockShape(spec, role), [
        await model.weights.block(1, role),
      ])
    }
    const { mixtral } = await import('../../src/model/families/mixtral.ts')
    const modern = weightsByRole({ modelName: 'm', spec, names: mixtral.names, table })
    for (const role of blockRoles(spec)) {
      expect(await modern.block(1, role), role).toEqual(await model.weights.block(1, role))
    }
  })
})

describe('tied heads', () => {
  it('a head that a file holds all the same counts, as in transformers', async () => {
    const source = await open('bloom')
    const { falcon } = await import('../../src/model/families/falcon.ts')
    const { withStoredHead } = await import('../../src/model/weights.ts')
    const stored = { name: 'x' } as TensorTable extends ReadonlyMap<string, infer T> ? T : never
    const tables = {
      both: new Map([
        ['word_embeddings.weight', stored],
        ['lm_head.weight', stored],
      ]),
      head: new Map([['lm_head.weight', stored]]),
      embedding: new Map([['word_embeddings.weight', stored]]),
    }
    const tied = (table: TensorTable) => withStoredHead(source.spec, falcon.names, table).tiedHead
    expect([tied(tables.both), tied(tables.head), tied(tables.embedding)]).toEqual([false, true, true])
  })

  it('Bloom without a stored head reads the embedding, normed on gathering', async () => {
    const model = await open('bloom')
    expect((await model.weights.client('head')).bytes).toEqual(
      (await model.weights.client('embedding')).bytes,
    )
    expect(clientRoles(model.spec)).toContain('embeddingNormBias')
    const [row] = [(await loadEmbedding(model)).gather([3])]
    expect(row?.data.every(Number.isFinite)).toBe(true)
  })
})

describe('GGUF of each family holds what its safetensors hold', () => {
  const cases: readonly [
    vector: string,
    architecture: string,
    style: 'own' | 'fused' | 'experts' | 'split',
  ][] = [
    ['qwen2-windows', 'qwen2', 'own'],
    ['qwen3', 'qwen3', 'own'],
    ['mixtral', 'llama', 'experts'],
    ['mixtral', 'llama', 'split'],
    ['falcon-7b-style', 'falcon', 'fused'],
    ['falcon-40b-style', 'falcon', 'fused'],
    ['falcon-11b-style', 'falcon', 'fused'],
    ['bloom', 'bloom', 'fused'],
  ]
  it.each(cases)('%s as %s (%s)', async (vector, architecture, style) => {
    const hf = await open(vector)
    const file = await convert(hf, architecture, style)
    const gguf = await openGguf(memorySource('x.gguf', file), { name: 'x' })
    opened.push(gguf)
    expect({ ...gguf.spec, contextLength: 0, windows: [], bosTokenId: 1, eosTokenIds: [2] }).toEqual({
      ...hf.spec,
      contextLength: 0,
      windows: [],
    })
    for (let block = 0; block < hf.spec.blockCount; block++) {
      for (const role of blockRoles(hf.spec)) {
        const [a, b] = [await gguf.weights.block(block, role), await hf.weights.block(block, role)]
        expect(a.shape, role).toEqual(b.shape)
        expect(Buffer.compare(a.bytes, b.bytes), `${block} ${role}`).toBe(0)
      }
    }
    for (const role of clientRoles(hf.spec)) {
      expect(
        Buffer.compare((await gguf.weights.client(role)).bytes, (await hf.weights.client(role)).bytes),
      ).toBe(0)
    }
  })

  it('refuses experts of an architecture whose experts are not computed', async () => {
    const file = await convert(await open('qwen3'), 'qwen3', 'own', [['qwen3.expert_count', u32(8)]])
    await expect(openGguf(memorySource('x.gguf', file), { name: 'x' })).rejects.toMatchObject({
      code: 'not_supported',
      field: 'qwen3.expert_count',
    })
  })
})

/** What llama.cpp's converter makes of a model: its names, q/k/v and experts joined, Llama's rows interleaved. */
async function convert(
  model: Model,
  architecture: string,
  style: 'own' | 'fused' | 'experts' | 'split',
  more: NonNullable<Parameters<typeof writeGguf>[0]['metadata']> = [],
): Promise<Uint8Array> {
  const { spec, weights } = model
  const tensors: GgufTensor[] = []
  const put = (name: string, shape: readonly number[], parts: readonly WeightTensor[]) =>
    tensors.push({ name, shape, bytes: concat(parts) })
  const twoNorms = spec.residual.kind === 'parallel' && spec.residual.norms === 2
  const plainNames: Partial<Record<BlockRole, string>> = {
    attentionNorm: twoNorms ? 'attn_norm_2.weight' : 'attn_norm.weight',
    attentionNormBias: twoNorms ? 'attn_norm_2.bias' : 'attn_norm.bias',
    mlpNorm: twoNorms ? 'attn_norm.weight' : 'ffn_norm.weight',
    mlpNormBias: twoNorms ? 'attn_norm.bias' : 'ffn_norm.bias',
    qNorm: 'attn_q_norm.weight',
    kNorm: 'attn_k_norm.weight',
    o: 'attn_output.weight',
    oBias: 'attn_output.bias',
    router: 'ffn_gate_inp.weight',
    gate: 'ffn_gate.weight',
    up: 'ffn_up.weight',
    upBias: 'ffn_up.bias',
    down: 'ffn_down.weight',
    downBias: 'ffn_down.bias',
  }
  const experts = spec.mlp.kind === 'moe' ? spec.mlp.expertCount : 0
  for (let i = 0; i < spec.blockCount; i++) {
    const get = async (role: BlockRole) => await weights.block(i, role)
    for (const role of blockRoles(spec)) {
      const name = plainNames[role]
      if (name !== undefined) put(`blk.${i}.${name}`, blockShape(spec, role), [await get(role)])
    }
    const suffixes = spec.biases.qkv ? (['', 'Bias'] as const) : ([''] as const)
    for (const suffix of suffixes) {
      const kind = suffix === '' ? 'weight' : 'bias'
      const parts: WeightTensor[] = []
      for (const letter of ['q', 'k', 'v'] as const) {
        const weight = await get(`${letter}${suffix}`)
        const heads = letter === 'q' ? spec.headCount : spec.kvHeadCount
        const stored = architecture === 'llama' && letter !== 'v' ? interleave(weight, heads) : weight
        parts.push(stored)
        if (style !== 'fused') put(`blk.${i}.attn_${letter}.${kind}`, weight.shape, [stored])
      }
      const rows = parts.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0)
      if (style === 'fused') {
        put(`blk.${i}.attn_qkv.${kind}`, [rows, ...(parts[0]?.shape.slice(1) ?? [])], parts)
      }
    }
    for (const matrix of ['gate', 'up', 'down'] as const) {
      const parts: WeightTensor[] = []
      for (let e = 0; e < experts; e++) parts.push(await get(`${matrix}.${e}`))
      const [first] = parts
      if (first === undefined) continue
      if (style === 'experts') put(`blk.${i}.ffn_${matrix}_exps.weight`, [experts, ...first.shape], parts)
      else parts.forEach((part, e) => put(`blk.${i}.ffn_${matrix}.${e}.weight`, part.shape, [part]))
    }
  }
  const clientNames: Record<ClientRole, string> = {
    embedding: 'token_embd.weight',
    embeddingNorm: 'token_embd_norm.weight',
    embeddingNormBias: 'token_embd_norm.bias',
    finalNorm: 'output_norm.weight',
    finalNormBias: 'output_norm.bias',
    head: 'output.weight',
  }
  for (const role of clientRoles(spec)) {
    if (role === 'head' && spec.tiedHead) continue
    const weight = await weights.client(role)
    put(clientNames[role], weight.shape, [weight])
  }
  const key = (name: string) => `${architecture}.${name}`
  const norm = spec.norm.kind === 'rms' ? 'layer_norm_rms_epsilon' : 'layer_norm_epsilon'
  const theta = architecture === 'llama' ? 1e6 : 1e4
  return writeGguf({
    metadata: [
      ['general.architecture', text(architecture)],
      [key('block_count'), u32(spec.blockCount)],
      [key('context_length'), u32(64)],
      [key('embedding_length'), u32(spec.hiddenSize)],
      [key('feed_forward_length'), u32(spec.intermediateSize)],
      [key('attention.head_count'), u32(spec.headCount)],
      [key('attention.head_count_kv'), u32(spec.kvHeadCount)],
      [key('attention.key_length'), u32(spec.headDim)],
      [key(`attention.${norm}`), f32(spec.norm.epsilon)],
      [key('rope.freq_base'), f32(theta)],
      ...(spec.mlp.kind === 'moe'
        ? ([
            [key('expert_count'), u32(spec.mlp.expertCount)],
            [key('expert_used_count'), u32(spec.mlp.topK)],
          ] as const)
        : []),
      ...more,
    ],
    tensors,
  })
}

function concat(parts: readonly WeightTensor[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts.map(({ bytes }) => bytes)))
}

/** Row j·d/2 + i of each head of d rows goes to 2i + j: what converters do to Llama's q and k. */
function interleave(weight: WeightTensor, heads: number): WeightTensor {
  const [rows = 0] = weight.shape
  const rowBytes = weight.bytes.length / rows
  const headDim = rows / heads
  const bytes = new Uint8Array(weight.bytes.length)
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim
    const to = row - inHead + 2 * (inHead % (headDim / 2)) + Math.floor(inHead / (headDim / 2))
    bytes.set(weight.bytes.subarray(row * rowBytes, (row + 1) * rowBytes), to * rowBytes)
  }
  return { ...weight, bytes }
}
