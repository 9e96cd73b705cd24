import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { ChoraleError, errorMessage, isChoraleError } from '../errors.ts'
import type { TokenizerFiles } from '../model/model.ts'
import { librarySteps } from './library-steps.ts'
import { createSplitter, type Section } from './split-at.ts'
import type { EncodeOptions } from './tokenizer.ts'
import type { Vocabulary } from './vocabulary.ts'

/** Longest text encoded at once, in UTF-16 units: no context holds more, and tokenising takes time. */
export const MAX_TEXT = 2 * 1024 * 1024

/** Text to ids, deciding stretch by stretch what may become a special token. */
export interface Encoder {
  /** Spellings that become special tokens. */
  readonly reserved: readonly string[]
  encode(text: string, options: EncodeOptions): number[]
  /** Encodes a rendered template: reserved spellings found before guards are stripped become special tokens. */
  encodeOwn(rendered: string, strip: (text: string) => string): number[]
}

/** The parts of the library's tokenizer that are set or read here; fixed by the pinned version. */
interface Internals {
  splitter_unnormalized: { split(text: string): string[] }
  model: { tokens_to_ids: Map<string, number>; bpe_ranks?: Map<string, number> }
}

/**
 * The library matches every added token in every text. To decide that per stretch of text, special tokens are given to
 * it under keys that no text can spell (each begins with a lone surrogate, texts are made well-formed), and the
 * library's splitter is replaced by one that hands out those keys where a special token is meant.
 *
 * @param templateSource added tokens that it spells are reserved too, special or not.
 * @throws `bad_file`, `not_supported` when the library can't run the files.
 */
export function createEncoder(
  files: TokenizerFiles,
  vocabulary: Vocabulary,
  templateSource: string,
): Encoder {
  const keys = new Map<string, string>()
  const isReserved = (content: string, id: number) =>
    vocabulary.special.has(id) || (content.trim() !== '' && templateSource.includes(content))
  for (const { content, id } of vocabulary.added)
    if (isReserved(content, id)) keys.set(content, `\udc00${id}`)
  const reserved = [...keys.keys()]
  const plainAdded = vocabulary.added.filter((token) => !keys.has(token.content) && !token.normalized)
  const splitPlain = createSplitter(plainAdded.map((token) => token.content))
  const splitReserved = createSplitter(reserved)
  const splitAll = createSplitter([...reserved, ...plainAdded.map((token) => token.content)])

  const library = build(files, vocabulary, keys)
  const internals = library as unknown as Internals
  const textOf = (section: Section) =>
    section.match ? (keys.get(section.text) ?? section.text) : section.text

  const run = (sections: string[], addSpecial: boolean): number[] => {
    internals.splitter_unnormalized = { split: () => sections }
    let ids: number[]
    try {
      // The text itself goes through the splitter above; an empty one would be skipped.
      ids = library.encode(sections.join(''), { add_special_tokens: addSpecial }).ids
    } catch (error) {
      throw new ChoraleError(
        'bad_file',
        `the tokenizer can't encode the text: ${errorMessage(error).slice(0, 200)}`,
        {
          cause: error,
        },
      )
    }
    const bad = ids.findIndex((id) => !Number.isInteger(id))
    if (bad !== -1) {
      throw new ChoraleError(
        'bad_file',
        `the tokenizer has no token for part ${bad} of the text and no unknown token`,
      )
    }
    return ids
  }

  return {
    reserved,
    encode(text, { parseSpecial = true, addSpecial = true }) {
      if (typeof text !== 'string')
        throw new ChoraleError('bad_request', `can't encode ${typeof text}, only text`)
      if (text.length > MAX_TEXT) {
        throw new ChoraleError(
          'limit',
          `the text has ${text.length} characters, at most ${MAX_TEXT} are encoded at once`,
        )
      }
      const split = parseSpecial ? splitAll : splitPlain
      return run(split(text.toWellFormed()).map(textOf), addSpecial)
    },
    encodeOwn(rendered, strip) {
      const sections = splitReserved(rendered).flatMap((section) =>
        section.match ? [textOf(section)] : splitPlain(strip(section.text)).map((plain) => plain.text),
      )
      // The template writes its own BOS.
      return run(sections, false)
    },
  }
}

/** @throws `bad_file` when the library refuses the files. */
function build(
  files: TokenizerFiles,
  vocabulary: Vocabulary,
  keys: ReadonlyMap<string, string>,
): HuggingFaceTokenizer {
  const source = files.tokenizer
  const model = source['model'] as Record<string, unknown>
  const unigram = Array.isArray(model['vocab'])
  const added = vocabulary.added.map((token) => ({
    ...token.source,
    content: keys.get(token.content) ?? token.content,
    special: token.special,
    normalized: token.normalized && !keys.has(token.content),
  }))
  const pieceKey = (piece: string) => (piece === vocabulary.unknownToken ? piece : (keys.get(piece) ?? piece))
  let library: HuggingFaceTokenizer
  try {
    library = new HuggingFaceTokenizer(
      {
        ...source,
        normalizer: librarySteps(source['normalizer'], 'normalizer'),
        pre_tokenizer: librarySteps(source['pre_tokenizer'], 'pre_tokenizer'),
        decoder: null,
        post_processor: rename(source['post_processor'] ?? null, keys, 0),
        added_tokens: added,
        model: {
          ...model,
          ...(unigram
            ? {
                vocab: (model['vocab'] as [string, number][]).map(([piece, score]) => [
                  pieceKey(piece),
                  score,
                ]),
              }
            : { type: 'BPE', merges: model['merges'] ?? [] }),
        },
      },
      { ...files.config, eos_token: vocabulary.eosToken },
    )
  } catch (error) {
    if (isChoraleError(error)) throw error
    throw new ChoraleError('bad_file', `tokenizer.json can't be used: ${errorMessage(error).slice(0, 200)}`, {
      cause: error,
    })
  }
  if (!unigram) forgetReserved(library, model['merges'], vocabulary, keys)
  return library
}

/** Takes reserved spellings out of a BPE vocabulary, so that no merge of plain text arrives at one. */
function forgetReserved(
  internals: Internals,
  merges: unknown,
  vocabulary: Vocabulary,
  keys: ReadonlyMap<string, string>,
): void {
  for (const content of keys.keys()) {
    if (content !== vocabulary.unknownToken) internals.model.tokens_to_ids.delete(content)
  }
  for (const merge of (merges ?? []) as (string | [string, string])[]) {
    const [left, right] = typeof merge === 'string' ? (merge.split(' ') as [string, string]) : merge
    if (keys.has(left + right)) internals.model.bpe_ranks?.delete(JSON.stringify([left, right]))
  }
}

/** The post-processor names its tokens by their text. */
function rename(value: unknown, keys: ReadonlyMap<string, string>, depth: number): unknown {
  if (depth > 16)
    throw new ChoraleError('bad_file', 'tokenizer.json: post_processor is nested deeper than 16')
  if (typeof value === 'string') return keys.get(value) ?? value
  if (Array.isArray(value)) return value.map((item) => rename(item, keys, depth + 1))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, rename(item, keys, depth + 1)]),
  )
}
