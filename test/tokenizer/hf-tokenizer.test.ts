import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { errorCode, isChoraleError } from '../../src/errors.ts'
import type { TokenizerFiles } from '../../src/model/model.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import { byteLevelFiles, sentencePieceFiles } from './small-tokenizers.ts'

const TEMPLATE = '{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}'

function codeOf(action: () => unknown): string {
  try {
    action()
    return 'none'
  } catch (error) {
    return errorCode(error)
  }
}

describe('createTokenizer', () => {
  const byteLevel = createTokenizer(byteLevelFiles(['<|user|>', '<|end|>'], TEMPLATE))
  const sentencePiece = createTokenizer(sentencePieceFiles())

  it('decodes what it encoded: any text, special spellings as tokens or as plain text', () => {
    const text = fc
      .array(
        fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('<|end|>', '<|user|>', 'abc', ' a', '\n\n')),
        { maxLength: 5 },
      )
      .map((parts) => parts.join('').toWellFormed())
    fc.assert(
      fc.property(text, fc.boolean(), (value, parseSpecial) => {
        const ids = byteLevel.encode(value, { parseSpecial })
        expect(byteLevel.decode(ids, { special: true })).toBe(value)
        const specials = ids.filter((id) => byteLevel.isSpecial(id)).length
        expect(specials).toBe(parseSpecial ? value.split(/<\|(?:end|user)\|>/).length - 1 : 0)
        expect(
          sentencePiece.decode(sentencePiece.encode(value, { parseSpecial: false, addSpecial: false })),
        ).toBe(value)
      }),
      { numRuns: 2000 },
    )
  })

  it('adds BOS where the post-processor says so, and only when asked', () => {
    expect(sentencePiece.encode('ab')[0]).toBe(1)
    expect(sentencePiece.encode('ab', { addSpecial: false })[0]).not.toBe(1)
    expect(sentencePiece.encode('')).toEqual([1])
    expect(byteLevel.encode('')).toEqual([])
    expect(sentencePiece.bosTokenId).toBe(1)
    expect(sentencePiece.eosTokenIds).toEqual([2])
  })

  it('gives the bytes of a token', () => {
    const bytes = (tokenizer: typeof byteLevel, text: string) =>
      tokenizer.encode(text, { addSpecial: false }).map((id) => [...tokenizer.tokenBytes(id)])
    expect(bytes(byteLevel, ' aé')).toEqual([[32, 97], [0xc3], [0xa9]])
    expect(bytes(sentencePiece, 'abü')).toEqual([[32, 97, 98], [0xc3], [0xbc]])
    expect(bytes(byteLevel, '<|end|>')).toEqual([[...'<|end|>'].map((character) => character.charCodeAt(0))])
  })

  it('turns a lone surrogate into U+FFFD', () => {
    expect(byteLevel.decode(byteLevel.encode('a\ud800b'))).toBe('a\ufffdb')
  })

  it('takes ends and size from the spec', () => {
    const tokenizer = createTokenizer(byteLevelFiles(['<|end|>']), {
      bosTokenId: 5,
      eosTokenIds: [266, 7],
      vocabSize: 300,
    })
    expect([tokenizer.vocabSize, tokenizer.bosTokenId, tokenizer.eosTokenIds]).toEqual([300, 5, [266, 7]])
    expect(tokenizer.isSpecial(7)).toBe(true)
    expect(tokenizer.tokenBytes(299)).toEqual(new Uint8Array())
    expect(codeOf(() => tokenizer.token(300))).toBe('bad_request')
  })

  it('keeps plain text from a special token that merges or the unigram table could reach', () => {
    const files = byteLevelFiles(['<|end|>'])
    const model = files.tokenizer['model'] as { merges: string[][]; vocab: Record<string, number> }
    model.merges.push(['<|end', '|>'])
    const tokenizer = createTokenizer(files)
    expect(tokenizer.encode('<|end|>', { parseSpecial: false }).some((id) => tokenizer.isSpecial(id))).toBe(
      false,
    )
    expect(tokenizer.decode(tokenizer.encode('<|end|>', { parseSpecial: false }))).toBe('<|end|>')

    const unigram = createTokenizer({
      tokenizer: {
        added_tokens: [{ id: 1, content: '</s>', special: true, normalized: false }],
        pre_tokenizer: { type: 'Metaspace' },
        decoder: { type: 'Metaspace' },
        model: {
          type: 'Unigram',
          unk_id: 0,
          vocab: [['<unk>', 0], ['</s>', 0], ...[...'▁</s>ab'].map((c) => [c, -5])],
        },
      },
      config: { eos_token: '</s>' },
      chatTemplate: undefined,
    })
    expect(unigram.encode('a</s>b')).toContain(1)
    expect(unigram.encode('a</s>b', { parseSpecial: false })).not.toContain(1)
    expect(unigram.decode(unigram.encode('a</s>b', { parseSpecial: false }))).toBe('a</s>b')
  })

  it('matches special tokens that only the config names', () => {
    const files = byteLevelFiles([], '{{ eos_token }}{{ messages[0].content }}{{ eos_token }}')
    const tokenizer = createTokenizer({ ...files, config: { eos_token: '<|end' } })
    const eos = tokenizer.eosTokenIds[0] as number
    expect(tokenizer.token(eos)).toBe('<|end')
    const ids = tokenizer.encodeChat([{ role: 'user', content: '<|end' }])
    expect([ids.filter((id) => id === eos).length, ids[0], ids.at(-1)]).toEqual([2, eos, eos])
  })

  it('says what it can not do', () => {
    expect(codeOf(() => sentencePiece.encodeChat([{ role: 'user', content: 'x' }]))).toBe('not_supported')
    expect(codeOf(() => byteLevel.encode('x'.repeat(5_000_000)))).toBe('limit')
    const files = byteLevelFiles([])
    const broken = (change: Record<string, unknown>) => () =>
      createTokenizer({ ...files, tokenizer: { ...files.tokenizer, ...change } })
    expect(codeOf(broken({ decoder: { type: 'WordPiece' } }))).toBe('not_supported')
    expect(codeOf(broken({ decoder: null }))).toBe('not_supported')
    expect(codeOf(broken({ model: { type: 'WordLevel', vocab: {} } }))).toBe('not_supported')
    expect(codeOf(broken({ pre_tokenizer: { type: 'FixedLength', length: 0 } }))).toBe('bad_file')
    expect(codeOf(broken({ pre_tokenizer: { type: 'Split', pattern: {} } }))).toBe('bad_file')
    expect(codeOf(broken({ pre_tokenizer: { type: 'Split', pattern: { Regex: '(' } } }))).toBe('bad_file')
    expect(broken({ added_tokens: [{ id: 4_000_000, content: 'x' }] })).toThrow(
      /added_tokens\[0\].*id 4000000/,
    )
    expect(broken({ model: { type: 'BPE', vocab: { a: 0 }, merges: ['a'] } })).toThrow(
      /model\.merges\[0\] is not a pair/,
    )
  })

  it('throws nothing but its own errors on 50,000 mutated tokenizer files', () => {
    const junk = fc.constantFrom<unknown>(
      null,
      undefined,
      0,
      1,
      -1,
      1.5,
      1e9,
      '',
      'a',
      '▁',
      'ByteLevel',
      'Sequence',
      'Metaspace',
      'Unigram',
      'BPE',
      'Split',
      'Strip',
      'Replace',
      'Digits',
      true,
      [],
      {},
      ['a', 'b'],
      [['a', 1]],
      { a: 0 },
      { String: '' },
      { String: 'a' },
      { Regex: '[' },
      { Regex: 'a*' },
      { type: 'Sequence' },
      { type: 'Replace', pattern: { String: 'a' }, content: 'aa' },
      '\udc001',
    )
    const mutation = fc.tuple(fc.array(fc.nat(30), { minLength: 1, maxLength: 5 }), junk)
    const small: TokenizerFiles = {
      ...sentencePieceFiles(TEMPLATE),
      tokenizer: {
        ...sentencePieceFiles().tokenizer,
        pre_tokenizer: {
          type: 'Sequence',
          pretokenizers: [{ type: 'Split', pattern: { String: ' ' }, behavior: 'Isolated' }],
        },
        model: {
          type: 'BPE',
          unk_token: '<unk>',
          byte_fallback: true,
          vocab: { '<unk>': 0, '<s>': 1, '</s>': 2, a: 3, b: 4, ab: 5, '▁': 6, '▁a': 7 },
          merges: [['a', 'b'], '▁ a'],
        },
      },
    }
    let usable = 0
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 3 }), (mutations) => {
        const files = structuredClone(small)
        for (const [path, value] of mutations)
          mutate(files as unknown as Record<string, unknown>, path, value)
        try {
          const tokenizer = createTokenizer(files)
          const ids = tokenizer.encode('ab a</s> b')
          for (const id of ids) if (!Number.isInteger(id)) throw new Error('no id')
          tokenizer.decode(ids)
          if (tokenizer.hasChatTemplate) tokenizer.encodeChat([{ role: 'user', content: 'a</s>' }])
          usable++
        } catch (error) {
          if (!isChoraleError(error) || error.code === 'internal') throw error
        }
      }),
      { numRuns: 50_000, seed: 1 },
    )
    expect(usable).toBeGreaterThan(1000)
  })
})

/** Replaces, deletes (undefined) or adds a value somewhere along the path. */
function mutate(root: Record<string, unknown>, path: readonly number[], value: unknown): void {
  let target = root
  for (const [depth, step] of path.entries()) {
    const names = Object.keys(target)
    if (names.length === 0) return
    const name = names[step % names.length] as string
    const child = target[name]
    if (depth === path.length - 1 || typeof child !== 'object' || child === null) {
      if (value === undefined && Array.isArray(target)) target.splice(Number(name), 1)
      else if (value === undefined) delete target[name]
      else target[name] = structuredClone(value)
      return
    }
    target = child as Record<string, unknown>
  }
}
