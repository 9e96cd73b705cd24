import type { TokenizerFiles } from '../../src/model/model.ts'

/** The 256 byte characters of byte-level vocabularies, by byte. */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    return String.fromCharCode(printable ? byte : next++)
  })
})()

/** A byte-level BPE tokenizer: every byte, some merges, special tokens at the end. */
export function byteLevelFiles(specials: readonly string[], chatTemplate?: string): TokenizerFiles {
  const pieces = [...BYTE_CHARACTERS]
  const merges: [string, string][] = [
    ['<', '|'],
    ['|', '>'],
    ['a', 'b'],
    ['ab', 'c'],
    ['e', 'n'],
    ['en', 'd'],
    ['Ġ', 'a'],
    ['Ċ', 'Ċ'],
    ['Ċ', 'a'],
    ['<|', 'end'],
  ]
  pieces.push(...merges.map(([left, right]) => left + right))
  const first = pieces.length
  pieces.push(...specials)
  return {
    tokenizer: {
      added_tokens: specials.map((content, index) => ({
        id: first + index,
        content,
        special: true,
        normalized: false,
      })),
      normalizer: null,
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
      post_processor: null,
      decoder: { type: 'ByteLevel' },
      model: { type: 'BPE', vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])), merges },
    },
    config: {},
    chatTemplate,
  }
}

/** A SentencePiece-style tokenizer: byte tokens, letters, a space before every text. */
export function sentencePieceFiles(chatTemplate?: string): TokenizerFiles {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  )
  const pieces = ['<unk>', '<s>', '</s>', ...bytes, '▁', ...'abcdefghij', '▁a', '▁ab', '▁▁', 'é']
  const added = (content: string, id: number) => ({ id, content, special: true, normalized: false })
  return {
    tokenizer: {
      added_tokens: [added('<unk>', 0), added('<s>', 1), added('</s>', 2)],
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '▁' },
          { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        ],
      },
      pre_tokenizer: null,
      post_processor: {
        type: 'TemplateProcessing',
        single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
        pair: [],
        special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
      },
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
      model: {
        type: 'BPE',
        unk_token: '<unk>',
        byte_fallback: true,
        fuse_unk: true,
        vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
        merges: [
          ['▁', 'a'],
          ['▁a', 'b'],
          ['▁', '▁'],
        ],
      },
    },
    config: { bos_token: '<s>', eos_token: { content: '</s>' }, unk_token: '<unk>' },
    chatTemplate,
  }
}
