/**
 * The tokenizer inside a GGUF file as Hugging Face's tokenizer.json and tokenizer_config.json, made in memory.
 * Sources: llama.cpp `llama-vocab.cpp`; transformers `convert_slow_tokenizer.py` for SentencePiece scores.
 */

import { ChoraleError } from '../errors.ts'
import type { GgufFile, GgufValue } from './gguf.ts'
import { tokenId } from './gguf-config.ts'
import { clip } from './json.ts'
import type { TokenizerFiles } from './model.ts'
import { byteLevelSplit } from './pretokenizers.ts'

/** `tokenizer.ggml.token_type` values that matter here. */
const UNKNOWN = 2
const CONTROL = 3
const USER_DEFINED = 4

interface Vocabulary {
  readonly tokens: readonly string[]
  readonly types: readonly GgufValue[]
  readonly bos: number | undefined
  readonly eos: number | undefined
  readonly unknown: number | undefined
}

/**
 * Converts `tokenizer.ggml.*`; undefined when the file holds no tokenizer.
 * @throws `bad_file` for broken arrays, `not_supported` for other tokenizer models or split rules; both name the key.
 */
export function ggufTokenizerFiles(file: GgufFile): TokenizerFiles | undefined {
  const model = file.metadata.get('tokenizer.ggml.model')
  if (model === undefined || model === 'none' || model === 'no_vocab') return undefined
  const vocabulary = readVocabulary(file)
  const template = file.metadata.get('tokenizer.chat_template')
  const isBytes = model === 'gpt2'
  if (!isBytes && model !== 'llama') {
    throw new ChoraleError('not_supported', `${file.name}: tokenizer.ggml.model is ${clip(String(model))}`, {
      field: 'tokenizer.ggml.model',
    })
  }
  const split = isBytes ? byteLevelSplit(file.name, file.metadata.get('tokenizer.ggml.pre')) : undefined
  const addBos = flag(file, 'add_bos_token', split?.addBos ?? true)
  const addEos = flag(file, 'add_eos_token', false)
  const { bos, eos, tokens } = vocabulary
  const text = (id: number | undefined) => (id === undefined ? undefined : tokens[id])
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: addedTokens(vocabulary),
      ...(split === undefined ? sentencePiece(file, vocabulary) : byteLevel(file, vocabulary, split)),
      post_processor: templateProcessing(tokens, addBos ? bos : undefined, addEos ? eos : undefined),
    },
    config: {
      tokenizer_class: 'PreTrainedTokenizerFast',
      bos_token: text(bos) ?? null,
      eos_token: text(eos) ?? null,
      add_bos_token: addBos,
      add_eos_token: addEos,
      clean_up_tokenization_spaces: false,
    },
    chatTemplate: typeof template === 'string' ? template : undefined,
  }
}

/** GPT-2 style: byte-level BPE with merges in the file. */
function byteLevel(file: GgufFile, vocabulary: Vocabulary, split: ReturnType<typeof byteLevelSplit>) {
  const merges = strings(file, 'tokenizer.ggml.merges').map((merge) => {
    // The space between the two parts: parts are byte-level text and hold none themselves.
    const space = merge.indexOf(' ', 1)
    if (space === -1) throw bad(file, 'tokenizer.ggml.merges', `"${clip(merge)}" is no pair`)
    return [merge.slice(0, space), merge.slice(space + 1)]
  })
  return {
    normalizer: null,
    pre_tokenizer: split.preTokenizer,
    model: {
      type: 'BPE',
      unk_token: null,
      byte_fallback: false,
      fuse_unk: false,
      ignore_merges: split.ignoreMerges,
      vocab: Object.fromEntries(tokenIds(file, vocabulary)),
      merges,
    },
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  }
}

/**
 * SentencePiece BPE. It joins the neighbours whose joint piece scores highest; BPE joins the pair of lowest rank:
 * every split of every piece, in order of score, gives the same joins.
 */
function sentencePiece(file: GgufFile, vocabulary: Vocabulary) {
  const { tokens, types, unknown } = vocabulary
  const scores = array(file, 'tokenizer.ggml.scores')
  if (scores.length !== tokens.length) {
    throw bad(file, 'tokenizer.ggml.scores', `${scores.length} scores for ${tokens.length} tokens`)
  }
  const ids = tokenIds(file, vocabulary)
  const merges: { readonly pair: readonly [string, string]; readonly id: number; readonly first: number }[] =
    []
  tokens.forEach((token, id) => {
    if (types[id] !== 1 && types[id] !== USER_DEFINED) return
    // By code points: half a surrogate pair is no piece.
    const characters = Array.from(token)
    let left = ''
    for (let at = 1; at < characters.length; at++) {
      left += characters[at - 1]
      const right = token.slice(left.length)
      const first = ids.get(left)
      if (first !== undefined && ids.has(right)) merges.push({ pair: [left, right], id, first })
    }
  })
  merges.sort((a, b) => Number(scores[b.id]) - Number(scores[a.id]) || a.id - b.id || a.first - b.first)
  const prefix = flag(file, 'add_space_prefix', true)
  const space = { type: 'Replace', pattern: { String: ' ' }, content: '▁' }
  return {
    normalizer: prefix
      ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, space] }
      : space,
    pre_tokenizer: null,
    model: {
      type: 'BPE',
      unk_token: unknown === undefined ? null : tokens[unknown],
      byte_fallback: true,
      fuse_unk: true,
      ignore_merges: false,
      vocab: Object.fromEntries(ids),
      merges: merges.map(({ pair }) => pair),
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
  }
}

function readVocabulary(file: GgufFile): Vocabulary {
  const tokens = strings(file, 'tokenizer.ggml.tokens')
  const types = file.metadata.has('tokenizer.ggml.token_type') ? array(file, 'tokenizer.ggml.token_type') : []
  const id = (name: string) => {
    const value = tokenId(file, `tokenizer.ggml.${name}_token_id`)
    if (value !== undefined && value >= tokens.length) {
      throw bad(file, `tokenizer.ggml.${name}_token_id`, `${value} is outside the ${tokens.length} tokens`)
    }
    return value
  }
  return {
    tokens,
    types: tokens.map((_, i) => types[i] ?? 1),
    bos: id('bos'),
    eos: id('eos'),
    unknown: id('unknown') ?? indexOrUndefined(types.indexOf(UNKNOWN)),
  }
}

function tokenIds(file: GgufFile, { tokens }: Vocabulary): Map<string, number> {
  const ids = new Map<string, number>()
  tokens.forEach((token, id) => {
    if (ids.has(token)) throw bad(file, 'tokenizer.ggml.tokens', `"${clip(token)}" is given twice`)
    ids.set(token, id)
  })
  return ids
}

function addedTokens({ tokens, types, unknown }: Vocabulary): Record<string, unknown>[] {
  return tokens.flatMap((content, id) => {
    const special = types[id] === CONTROL || id === unknown
    if (!special && types[id] !== USER_DEFINED) return []
    return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }
  })
}

function templateProcessing(tokens: readonly string[], bos: number | undefined, eos: number | undefined) {
  const ids = [bos, eos].filter((id) => id !== undefined)
  if (ids.length === 0) return null
  const special = (id: number | undefined) =>
    id === undefined ? [] : [{ SpecialToken: { id: tokens[id], type_id: 0 } }]
  const sequence = (id: 'A' | 'B') => ({ Sequence: { id, type_id: 0 } })
  return {
    type: 'TemplateProcessing',
    single: [...special(bos), sequence('A'), ...special(eos)],
    pair: [...special(bos), sequence('A'), ...special(eos), ...special(bos), sequence('B'), ...special(eos)],
    special_tokens: Object.fromEntries(
      ids.map((id) => [tokens[id], { id: tokens[id], ids: [id], tokens: [tokens[id]] }]),
    ),
  }
}

function flag(file: GgufFile, name: string, fallback: boolean): boolean {
  const value = file.metadata.get(`tokenizer.ggml.${name}`) ?? fallback
  if (typeof value !== 'boolean') throw bad(file, `tokenizer.ggml.${name}`, 'is not true or false')
  return value
}

function array(file: GgufFile, key: string): readonly GgufValue[] {
  const value = file.metadata.get(key)
  if (!Array.isArray(value)) throw bad(file, key, 'is missing or no array')
  return value as readonly GgufValue[]
}

function strings(file: GgufFile, key: string): readonly string[] {
  const items = array(file, key)
  if (!items.every((item) => typeof item === 'string'))
    throw bad(file, key, 'holds something that is no text')
  return items
}

function indexOrUndefined(index: number): number | undefined {
  return index === -1 ? undefined : index
}

function bad(file: GgufFile, key: string, problem: string): ChoraleError {
  return new ChoraleError('bad_file', `${file.name}: ${key}: ${problem}`, { field: key })
}
