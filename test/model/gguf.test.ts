import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createFileStore, openFile } from '../../node/file-store.ts'
import { memorySource } from '../../src/byte-source.ts'
import { readGguf } from '../../src/model/gguf.ts'
import { halfSplitRows, openGguf } from '../../src/model/open-gguf.ts'
import { openModel } from '../../src/model/open-model.ts'
import { f32FromBytes } from '../../src/tensor/dtype.ts'
import { dequantize } from '../../src/tensor/quant.ts'
import { countingSource, ropeOf, SHARED_MODELS } from './files.ts'
import { f32, flag, type GgufParts, list, text, tinyLlama, u32, writeGguf } from './write-gguf.ts'

const read = async (parts: GgufParts) => await readGguf(memorySource('x.gguf', writeGguf(parts)))
const open = async (parts: GgufParts) =>
  await openGguf(memorySource('x.gguf', writeGguf(parts)), { name: 'x.gguf' })
const tensor = { name: 'a', shape: [1], bytes: new Uint8Array(4) }
const withKey = (...extra: ReturnType<typeof tinyLlama>['metadata']) => {
  const { metadata, tensors } = tinyLlama()
  const replaced = new Set(extra.map(([key]) => key))
  return { metadata: [...metadata.filter(([key]) => !replaced.has(key)), ...extra], tensors }
}

describe('readGguf', () => {
  it('reads metadata of every kind and tensors with their dimensions outermost first', async () => {
    const file = await read({
      version: 2,
      metadata: [
        ['general.alignment', u32(64)],
        ['s', text('größe')],
        ['b', flag(true)],
        ['f', f32(0.5)],
        ['big', { type: 'u64', value: 2n ** 60n + 1n }],
        ['small', { type: 'u64', value: 7n }],
        ['l', list('string', ['x', ''])],
        ['n', list('array', [list('i32', [-1, 2])])],
      ],
      tensors: [
        { name: 'q', shape: [2, 32], type: 8, bytes: new Uint8Array(68).fill(3) },
        { name: 'v', shape: [3], bytes: new Uint8Array(12).fill(4) },
      ],
      alignment: 64,
    })
    expect(Object.fromEntries(file.metadata)).toEqual({
      'general.alignment': 64,
      s: 'größe',
      b: true,
      f: 0.5,
      big: 2n ** 60n + 1n,
      small: 7,
      l: ['x', ''],
      n: [[-1, 2]],
    })
    const q = file.tensors.get('q')!
    expect(q).toMatchObject({ dtype: 'Q8_0', shape: [2, 32], byteLength: 68 })
    expect(q.offset % 64).toBe(0)
    expect([...(await q.source.read(q.offset, 1))]).toEqual([3])
  })

  it.each<[string, GgufParts, RegExp]>([
    ['another magic', { magic: 'GGML' }, /does not start with GGUF/],
    ['too many tensors', { tensorCount: 262_145n }, /tensor count is 262145/],
    ['too many keys', { keyCount: 2n ** 64n - 1n }, /key count is/],
    ['a header cut short', { keyCount: 3n }, /ends inside its header/],
    [
      'a key twice',
      {
        metadata: [
          ['a', u32(1)],
          ['a', u32(1)],
        ],
      },
      /key a is given twice/,
    ],
    ['a tensor twice', { tensors: [tensor, tensor] }, /tensor a is given twice/],
    ['nesting', { metadata: [['a', list('array', [list('array', [list('u32', [1])])])]] }, /nested deeper/],
    ['five dimensions', { tensors: [{ ...tensor, shape: [1, 1, 1, 1, 1] }] }, /5 dimensions/],
    [
      'rows that are no whole blocks',
      { tensors: [{ ...tensor, shape: [33], type: 8 }] },
      /rows of 33 weights/,
    ],
    ['a shape that overflows', { tensors: [{ ...tensor, shape: [2 ** 40, 2 ** 40] }] }, /too large/],
    ['tensors that overlap', { tensors: [tensor, { ...tensor, name: 'b', offset: 0 }] }, /tensor b overlaps/],
    ['an offset out of alignment', { tensors: [{ ...tensor, offset: 4 }] }, /starts at 4, no multiple of 32/],
    ['a tensor beyond the end', { tensors: [{ ...tensor, offset: 2 ** 40 }] }, /complete\?/],
    ['alignment 0', { metadata: [['general.alignment', u32(0)]] }, /general\.alignment is 0/],
    ['a huge alignment', { metadata: [['general.alignment', u32(1 << 20)]] }, /general\.alignment is/],
  ])('refuses %s', async (_what, parts, message) => {
    await expect(read(parts)).rejects.toMatchObject({
      code: 'bad_file',
      message: expect.stringMatching(message),
    })
  })

  it('refuses forged lengths of strings and arrays without allocating them', async () => {
    const file = writeGguf({ metadata: [['a', list('u32', [1, 2])]] })
    const lengthAt = file.length - 16
    for (const [length, message] of [
      [2n ** 23n, /ends inside its header/],
      [2n ** 63n, /length of a is/],
    ] as const) {
      new DataView(file.buffer).setBigUint64(lengthAt, length, true)
      await expect(readGguf(memorySource('x', file))).rejects.toThrow(message)
    }
    const string = writeGguf({ metadata: [['a', text('hi')]] })
    new DataView(string.buffer).setBigUint64(string.length - 10, 2n ** 62n, true)
    await expect(readGguf(memorySource('x', string))).rejects.toThrow(/length of a is/)
  })

  it.each<[string, GgufParts]>([
    ['version', { version: 1 }],
    ['version', { version: 0x03000000 }],
    ['a', { tensors: [{ ...tensor, type: 99 }] }],
  ])('says what it does not read: %s %j', async (field, parts) => {
    await expect(read(parts)).rejects.toMatchObject({ code: 'not_supported', field })
  })

  it('reads on when the header is longer than the first read', async () => {
    const tokens = Array.from({ length: 70_000 }, (_, i) => `a token that is rather long, number ${i}`)
    const file = writeGguf({ metadata: [['tokens', list('string', tokens)]], tensors: [tensor] })
    expect(file.length).toBeGreaterThan(2 * 2 ** 20)
    const source = countingSource(memorySource('x', file))
    expect((await readGguf(source)).metadata.get('tokens')).toHaveLength(70_000)
    expect(source.reads).toHaveLength(2)
  })
})

describe('openGguf', () => {
  it('reads the spec', async () => {
    const model = await open(tinyLlama())
    expect(model.spec).toMatchObject({
      hiddenSize: 8,
      blockCount: 1,
      headCount: 2,
      kvHeadCount: 1,
      headDim: 4,
      intermediateSize: 12,
      vocabSize: 5,
      contextLength: 64,
      norm: { kind: 'rms', epsilon: 1e-5 },
      positions: { rotaryDim: 4, inverseFrequencies: [1, Math.fround(0.01)], attentionFactor: 1 },
      biases: { qkv: false, attentionOut: false, mlp: false },
      tiedHead: true,
      eosTokenIds: [],
    })
    expect(await model.tokenizerFiles()).toBeUndefined()
    expect((await model.weights.client('head')).bytes).toEqual(
      (await model.weights.client('embedding')).bytes,
    )
  })

  it('divides the rotary frequencies by rope_freqs.weight', async () => {
    const parts = tinyLlama()
    const bytes = new Uint8Array(Float32Array.of(1, 8).buffer)
    const model = await open({
      ...parts,
      tensors: [...parts.tensors, { name: 'rope_freqs.weight', shape: [2], bytes }],
    })
    expect(ropeOf(model.spec).inverseFrequencies).toEqual([1, Math.fround(Math.fround(0.01) / 8)])
    const short = { name: 'rope_freqs.weight', shape: [1], bytes: bytes.slice(0, 4) }
    await expect(open({ ...parts, tensors: [...parts.tensors, short] })).rejects.toMatchObject({
      code: 'bad_file',
    })
  })

  it('reads linear scaling, old and new', async () => {
    const scaled = [0.25, Math.fround(0.01) / 4]
    const modern = await open(
      withKey(['llama.rope.scaling.type', text('linear')], ['llama.rope.scaling.factor', f32(4)]),
    )
    const old = await open(withKey(['llama.rope.scale_linear', f32(4)]))
    expect(ropeOf(modern.spec).inverseFrequencies).toEqual(scaled)
    expect(ropeOf(old.spec).inverseFrequencies).toEqual(scaled)
  })

  it.each([
    [withKey(['general.architecture', text('mamba')]), 'not_supported', 'general.architecture'],
    [withKey(['llama.expert_count', u32(8)]), 'bad_file', 'llama.expert_used_count'],
    [withKey(['llama.rope.dimension_count', u32(2)]), 'not_supported', 'llama.rope.dimension_count'],
    [withKey(['llama.rope.scaling.type', text('longrope')]), 'not_supported', 'llama.rope.scaling.type'],
    [withKey(['split.count', u32(2)]), 'not_supported', 'split.count'],
    [withKey(['llama.block_count', u32(0)]), 'bad_file', 'llama.block_count'],
    [withKey(['llama.block_count', text('1')]), 'bad_file', 'llama.block_count'],
    [withKey(['llama.attention.head_count', list('u32', [2])]), 'bad_file', 'llama.attention.head_count'],
    [withKey(['llama.attention.head_count_kv', u32(3)]), 'bad_file', 'num_key_value_heads'],
    [withKey(['tokenizer.ggml.eos_token_id', u32(5)]), 'bad_file', 'eos_token_id'],
  ])('refuses what it would compute wrongly: case %#', async (parts, code, field) => {
    await expect(open(parts)).rejects.toMatchObject({ code, field })
  })

  it('names a tensor that is missing or misshapen', async () => {
    const { metadata, tensors } = tinyLlama()
    const model = await open({
      metadata,
      tensors: tensors.filter(({ name }) => name !== 'blk.0.ffn_up.weight'),
    })
    expect(() => model.weights.blockInfo(0, 'up')).toThrow(
      expect.objectContaining({ code: 'not_found', field: 'blk.0.ffn_up.weight' }),
    )
    const wide = await open(withKey(['llama.feed_forward_length', u32(13)]))
    await expect(wide.weights.block(0, 'up')).rejects.toMatchObject({
      code: 'bad_file',
      field: 'blk.0.ffn_up.weight',
    })
    expect(() => wide.weights.blockInfo(1, 'q')).toThrow(expect.objectContaining({ code: 'bad_request' }))
  })

  it('closes the file when it can not be opened', async () => {
    let closed = false
    const source = { ...memorySource('x', new Uint8Array(30)), close: async () => void (closed = true) }
    await expect(openGguf(source, { name: 'x' })).rejects.toThrow()
    expect(closed).toBe(true)
  })
})

describe('halfSplitRows', () => {
  it('undoes the permutation of GGUF converters, head by head', () => {
    // Two heads of 4 rows. Hugging Face's row j·2 + i lies at 2i + j.
    const hf = Float32Array.from({ length: 8 }, (_, i) => i)
    const gguf = Float32Array.of(0, 2, 1, 3, 4, 6, 5, 7)
    const bytes = new Uint8Array(gguf.buffer)
    expect(f32FromBytes(halfSplitRows({ dtype: 'F32', shape: [8, 1], bytes }, 2).bytes)).toEqual(hf)
  })

  it('moves quantised rows whole', () => {
    const bytes = Uint8Array.from({ length: 4 * 34 }, (_, i) => Math.floor(i / 34))
    const moved = halfSplitRows({ dtype: 'Q8_0', shape: [4, 32], bytes }, 1).bytes
    expect([0, 34, 68, 102].map((at) => moved[at])).toEqual([0, 2, 1, 3])
  })
})

const stories = join(SHARED_MODELS, 'stories260K')
describe.skipIf(!existsSync(stories))(
  'stories260K as GGUF and as safetensors (skipped without ../shared)',
  () => {
    it('holds the same weights', async () => {
      const platform = { files: createFileStore() }
      const hf = await openModel(stories, platform)
      const gguf = await openModel(join(stories, 'stories260K.gguf'), platform)
      for (const role of ['attentionNorm', 'q', 'k', 'v', 'o', 'mlpNorm', 'gate', 'up', 'down'] as const) {
        const expected = dequantize(await hf.weights.block(3, role))
        expect(dequantize(await gguf.weights.block(3, role))).toEqual(expected)
      }
      for (const role of ['embedding', 'finalNorm', 'head'] as const) {
        const expected = dequantize(await hf.weights.client(role))
        expect(dequantize(await gguf.weights.client(role))).toEqual(expected)
      }
      expect(gguf.spec.positions).toEqual(hf.spec.positions)
      await Promise.all([hf.close(), gguf.close()])
    })
  },
)

const smol = join(SHARED_MODELS, 'smollm2-135m-instruct-q4_1.gguf')
describe.skipIf(!existsSync(smol))('SmolLM2 (skipped without ../shared)', () => {
  it('reads the header and 64 KiB of samples to open, then only the weights asked for', async () => {
    const source = countingSource(await openFile(smol))
    const model = await openGguf(source, { name: 'smol' })
    expect(source.reads.reduce((sum, { length }) => sum + length, 0)).toBeLessThan(2.2 * 2 ** 20)
    source.reads.length = 0
    const q = await model.weights.block(29, 'q')
    expect(source.reads).toEqual([{ offset: expect.any(Number), length: 576 * (576 / 32) * 20 }])
    expect(q.dtype).toBe('Q4_1')
    await model.close()
  })
})
