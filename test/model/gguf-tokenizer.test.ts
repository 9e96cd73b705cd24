import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Template } from '@huggingface/jinja'
import { Tokenizer } from '@huggingface/tokenizers'
import { beforeAll, describe, expect, it } from 'vitest'
import { openFile } from '../../node/file-store.ts'
import { memorySource } from '../../src/byte-source.ts'
import { readGguf } from '../../src/model/gguf.ts'
import { ggufTokenizerFiles } from '../../src/model/gguf-tokenizer.ts'
import type { TokenizerFiles } from '../../src/model/model.ts'
import { SHARED_MODELS } from './files.ts'
import { flag, list, text, u32, writeGguf } from './write-gguf.ts'

type Metadata = Parameters<typeof writeGguf>[0]['metadata'] & {}

async function filesOf(metadata: Metadata): Promise<TokenizerFiles | undefined> {
  return ggufTokenizerFiles(await readGguf(memorySource('x.gguf', writeGguf({ metadata }))))
}
const tokenizerOf = (files: TokenizerFiles) => new Tokenizer(files.tokenizer, files.config)

const bpe = (pre: string, ...extra: Metadata): Metadata => [
  ['tokenizer.ggml.model', text('gpt2')],
  ['tokenizer.ggml.pre', text(pre)],
  ['tokenizer.ggml.tokens', list('string', ['<|end|>', 'a', 'b', 'ab', 'Ġ', '1', '2', '12', 'c', 'abc'])],
  ['tokenizer.ggml.token_type', list('i32', [3, 1, 1, 1, 1, 1, 1, 1, 1, 1])],
  ['tokenizer.ggml.merges', list('string', ['a b', '1 2'])],
  ['tokenizer.ggml.bos_token_id', u32(0)],
  ['tokenizer.ggml.eos_token_id', u32(0)],
  ...extra,
]
const spm = (...extra: Metadata): Metadata => [
  ['tokenizer.ggml.model', text('llama')],
  [
    'tokenizer.ggml.tokens',
    list('string', ['<unk>', '<s>', '</s>', '<0xC3>', '<0xA9>', '▁', 'a', 'b', 'c', 'ab', 'bc', '▁a']),
  ],
  ['tokenizer.ggml.scores', list('f32', [0, 0, 0, 0, 0, -3, -4, -5, -6, -2, -1, -7])],
  ['tokenizer.ggml.token_type', list('i32', [2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 1])],
  ['tokenizer.ggml.bos_token_id', u32(1)],
  ['tokenizer.ggml.eos_token_id', u32(2)],
  ['tokenizer.ggml.padding_token_id', u32(0xffffffff)],
  ...extra,
]

describe('ggufTokenizerFiles, byte-level BPE', () => {
  it('merges words, keeps control tokens special and adds no BOS unasked', async () => {
    const files = (await filesOf(bpe('gpt-2', ['tokenizer.chat_template', text('{{ bos_token }}')])))!
    expect(tokenizerOf(files).encode('ab 12<|end|>').ids).toEqual([3, 4, 7, 0])
    expect(files.chatTemplate).toBe('{{ bos_token }}')
    expect(files.config).toMatchObject({ bos_token: '<|end|>', eos_token: '<|end|>', add_bos_token: false })
  })

  it('cuts digits as the named rule says', async () => {
    expect(tokenizerOf((await filesOf(bpe('gpt-2')))!).encode('12').ids).toEqual([7])
    expect(tokenizerOf((await filesOf(bpe('smollm')))!).encode('12').ids).toEqual([5, 6])
    expect(tokenizerOf((await filesOf(bpe('qwen2')))!).encode('12').ids).toEqual([5, 6])
  })

  it('llama-bpe takes words that are tokens whole and starts with BOS', async () => {
    expect(tokenizerOf((await filesOf(bpe('llama-bpe')))!).encode('abc').ids).toEqual([0, 9])
    expect(tokenizerOf((await filesOf(bpe('qwen2')))!).encode('abc').ids).toEqual([3, 8])
    const without = (await filesOf(bpe('llama-bpe', ['tokenizer.ggml.add_bos_token', flag(false)])))!
    expect(tokenizerOf(without).encode('abc').ids).toEqual([9])
  })
})

describe('ggufTokenizerFiles, SentencePiece', () => {
  it('joins the neighbours whose piece scores highest', async () => {
    // bc (-1) wins over ab (-2), then nothing joins ▁ a bc but ▁a.
    expect(tokenizerOf((await filesOf(spm()))!).encode('abc').ids).toEqual([1, 11, 10])
  })

  it('falls back to bytes, and decodes them to the character', async () => {
    const tokenizer = tokenizerOf((await filesOf(spm()))!)
    expect(tokenizer.encode('é a').ids).toEqual([1, 5, 3, 4, 11])
    expect(tokenizer.decode([1, 5, 3, 4, 11], { skip_special_tokens: true })).toBe('é a')
  })

  it('leaves the space in front away when the file says so', async () => {
    const files = (await filesOf(spm(['tokenizer.ggml.add_space_prefix', flag(false)])))!
    expect(tokenizerOf(files).encode('ab').ids).toEqual([1, 9])
  })
})

describe('ggufTokenizerFiles, errors', () => {
  it('has none when the file has none', async () => {
    expect(await filesOf([])).toBeUndefined()
  })

  it.each([
    [bpe('some-new-rule'), 'not_supported', 'tokenizer.ggml.pre'],
    [
      [
        ['tokenizer.ggml.model', text('t5')],
        ['tokenizer.ggml.tokens', list('string', [])],
      ],
      'not_supported',
      'tokenizer.ggml.model',
    ],
    [[['tokenizer.ggml.model', text('gpt2')]], 'bad_file', 'tokenizer.ggml.tokens'],
    [spm().filter(([key]) => key !== 'tokenizer.ggml.scores'), 'bad_file', 'tokenizer.ggml.scores'],
    [
      bpe('gpt-2', ['tokenizer.ggml.unknown_token_id', u32(10)]),
      'bad_file',
      'tokenizer.ggml.unknown_token_id',
    ],
    [bpe('gpt-2', ['tokenizer.ggml.add_bos_token', u32(1)]), 'bad_file', 'tokenizer.ggml.add_bos_token'],
    [
      bpe('gpt-2').map(
        ([key, value]) => [key, key.endsWith('merges') ? list('string', ['ab']) : value] as const,
      ),
      'bad_file',
      'tokenizer.ggml.merges',
    ],
    [
      bpe('gpt-2').map(
        ([key, value]) => [key, key.endsWith('.tokens') ? list('string', ['a', 'a']) : value] as const,
      ),
      'bad_file',
      'tokenizer.ggml.tokens',
    ],
  ] as const)('names the key: case %#', async (metadata, code, field) => {
    await expect(filesOf(metadata as Metadata)).rejects.toMatchObject({ code, field })
  })
})

const smol = join(SHARED_MODELS, 'smollm2-135m-instruct-q4_1.gguf')
describe.skipIf(!existsSync(smol))('SmolLM2 (skipped without ../shared)', () => {
  let files: TokenizerFiles
  let tokenizer: Tokenizer
  beforeAll(async () => {
    const source = await openFile(smol)
    files = ggufTokenizerFiles(await readGguf(source))!
    await source.close()
    tokenizer = tokenizerOf(files)
  })
  const golden = () =>
    JSON.parse(readFileSync(smol.replace('.gguf', '.golden.json'), 'utf8')) as {
      chats: { user: string; rendered: string; prompt_ids: number[]; greedy_ids: number[]; text: string }[]
      tokens: { text: string; ids: number[]; decoded: string }[]
    }

  it('encodes and decodes the golden texts', () => {
    for (const { decoded, ids, text } of golden().tokens) {
      expect(tokenizer.encode(text).ids).toEqual(ids)
      expect(tokenizer.decode(ids, { skip_special_tokens: false })).toBe(decoded)
    }
  })

  it('renders and encodes the golden chats', () => {
    for (const chat of golden().chats) {
      const messages = [{ role: 'user', content: chat.user }]
      const rendered = new Template(files.chatTemplate!).render({ messages, add_generation_prompt: true })
      expect(rendered).toBe(chat.rendered)
      expect(tokenizer.encode(rendered, { add_special_tokens: false }).ids).toEqual(chat.prompt_ids)
      expect(tokenizer.decode(chat.greedy_ids, { skip_special_tokens: true })).toBe(chat.text)
    }
  })
})

const stories = join(SHARED_MODELS, 'stories260K')
describe.skipIf(!existsSync(stories))('stories260K (skipped without ../shared)', () => {
  it('decodes the golden ids to the documented text and encodes it back', async () => {
    const source = await openFile(join(stories, 'stories260K.gguf'))
    const tokenizer = tokenizerOf(ggufTokenizerFiles(await readGguf(source))!)
    await source.close()
    const golden = JSON.parse(readFileSync(join(stories, 'golden_stories260K.json'), 'utf8')) as {
      greedy_from_bos_ids: number[]
      greedy_text: string
    }
    expect(tokenizer.decode(golden.greedy_from_bos_ids, { skip_special_tokens: true })).toBe(
      golden.greedy_text,
    )
    const prompt = 'Once upon a time, there was a little girl named Lily.'
    expect(tokenizer.encode(prompt).ids).toEqual(
      golden.greedy_from_bos_ids.slice(0, tokenizer.encode(prompt).ids.length),
    )
  })
})
