import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { ChoraleError, errorMessage, isChoraleError } from '../errors.ts'
import type { TokenizerFiles } from '../model/model.ts'
import { type ChatTemplate, parseChatTemplate } from './chat-template.ts'
import { createGuard } from './guarded-content.ts'
import { librarySteps } from './library-steps.ts'
import { createSplitter, type Section } from './split-at.ts'
import { pieceDecoder } from './token-bytes.ts'
import type { ChatMessage, EncodeOptions, Tokenizer } from './tokenizer.ts'
import { readVocabulary, specialToken, type Vocabulary } from './vocabulary.ts'

/** Longest text encoded at once, in UTF-16 units: no context holds more, and tokenising takes time. */
const MAX_TEXT = 2 * 1024 * 1024
/** Most messages of a chat. */
const MAX_MESSAGES = 10_000
const ROLES: ReadonlySet<unknown> = new Set(['system', 'user', 'assistant'])

/** What the model's spec says about tokens; overrides the tokenizer's own files. */
export interface TokenizerSpec {
  readonly bosTokenId?: number | undefined
  readonly eosTokenIds?: readonly number[]
  readonly vocabSize?: number
}

/**
 * A tokenizer of the model's files. Encoding is @huggingface/tokenizers, decoding this project's own (it streams),
 * templates @huggingface/jinja.
 *
 * Regular expressions of a tokenizer.json run as they are: a file made to be slow can be slow.
 * @throws `bad_file` naming the field, `not_supported` for kinds of tokenizers that are not read.
 */
export function createTokenizer(files: TokenizerFiles, spec: TokenizerSpec = {}): Tokenizer {
  const vocabulary = readVocabulary(files)
  const decoder = pieceDecoder(files.tokenizer['decoder'])
  const { pieces } = vocabulary
  const vocabSize = Math.max(spec.vocabSize ?? 0, pieces.length)
  const idOf = (text: string) => (text === '' ? -1 : pieces.indexOf(text))
  const bos = idOf(vocabulary.bosToken)
  const eos = idOf(vocabulary.eosToken)
  const bosTokenId = spec.bosTokenId ?? (bos === -1 ? undefined : bos)
  const eosTokenIds = spec.eosTokenIds ?? (eos === -1 ? [] : [eos])
  const special = new Set(vocabulary.special)
  const added = [...vocabulary.added]
  const addedIds = new Set(added.map((token) => token.id))
  for (const id of [bosTokenId, ...eosTokenIds]) {
    const content = id === undefined ? undefined : pieces[id]
    if (id === undefined || content === undefined || content === '') continue
    special.add(id)
    if (!addedIds.has(id)) added.push(specialToken(id, content))
    addedIds.add(id)
  }

  const template = files.chatTemplate === undefined ? undefined : parseChatTemplate(files.chatTemplate)
  const encoder = createEncoder(files, { ...vocabulary, added, special }, template?.source ?? '')
  const bytesOf: (Uint8Array | undefined)[] = []

  const tokenBytes = (id: number): Uint8Array => {
    checkId(id, vocabSize)
    let bytes = bytesOf[id]
    if (bytes === undefined) {
      const kind = special.has(id) ? 'special' : addedIds.has(id) ? 'added' : 'vocabulary'
      bytes = decoder.bytes(pieces[id] ?? '', kind)
      bytesOf[id] = bytes
    }
    return bytes
  }

  const render = (messages: readonly ChatMessage[], addGenerationPrompt: boolean) => {
    if (template === undefined) {
      throw new ChoraleError(
        'not_supported',
        'the model has no chat template: give it a plain prompt instead of messages',
      )
    }
    return renderGuarded(template, messages, addGenerationPrompt, vocabulary, encoder.reserved)
  }

  return {
    vocabSize,
    bosTokenId,
    eosTokenIds,
    hasChatTemplate: template !== undefined,
    leadingSpaces: decoder.leadingSpaces,
    encode: (text, options) => encoder.encode(text, options ?? {}),
    decode(ids, options = {}) {
      const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
      let text = ''
      for (const id of ids) {
        const bytes = tokenBytes(id)
        if (options.special === true || !special.has(id)) text += utf8.decode(bytes, { stream: true })
      }
      text += utf8.decode()
      let spaces = 0
      while (spaces < decoder.leadingSpaces && text[spaces] === ' ') spaces++
      return text.slice(spaces)
    },
    token(id) {
      checkId(id, vocabSize)
      return pieces[id] ?? ''
    },
    tokenBytes,
    isSpecial: (id) => special.has(id),
    renderChat(messages, options = {}) {
      const { rendered, strip } = render(messages, options.addGenerationPrompt ?? true)
      return strip(rendered)
    },
    encodeChat(messages, options = {}) {
      const { rendered, strip } = render(messages, options.addGenerationPrompt ?? true)
      return encoder.encodeOwn(rendered, strip)
    },
  }
}

function checkId(id: number, vocabSize: number): void {
  if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
    throw new ChoraleError('bad_request', `token ${id} is outside the vocabulary 0..${vocabSize - 1}`)
  }
}

/** @throws `bad_request` for unusable messages and what `ChatTemplate.render` throws. */
function renderGuarded(
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  addGenerationPrompt: boolean,
  vocabulary: Vocabulary,
  reserved: readonly string[],
) {
  const checked = checkMessages(messages)
  const contents = checked.map((message) => message.content)
  const { bosToken, eosToken } = vocabulary
  const guard = createGuard(reserved, template.literals, [...contents, template.source, bosToken, eosToken])
  const rendered = template.render(
    checked.map(({ role, content }) => ({ role, content: guard.protect(content) })),
    { addGenerationPrompt, bosToken, eosToken },
  )
  return { rendered: rendered.toWellFormed(), strip: guard.strip }
}

function checkMessages(messages: readonly ChatMessage[]): ChatMessage[] {
  const refuse = (what: string): never => {
    throw new ChoraleError('bad_request', what, { field: 'messages' })
  }
  if (!Array.isArray(messages) || messages.length === 0)
    return refuse('messages is empty: give at least one message')
  if (messages.length > MAX_MESSAGES)
    return refuse(`${messages.length} messages, at most ${MAX_MESSAGES} are accepted`)
  let length = 0
  return (messages as readonly ChatMessage[]).map((message, index) => {
    const { role, content } = message
    if (!ROLES.has(role)) {
      return refuse(
        `messages[${index}].role is ${String(role).slice(0, 40)}, it must be system, user or assistant`,
      )
    }
    if (typeof content !== 'string')
      return refuse(`messages[${index}].content is ${typeof content}, it must be text`)
    length += content.length
    if (length > MAX_TEXT) return refuse(`the messages are longer than ${MAX_TEXT} characters`)
    return { role, content: content.toWellFormed() }
  })
}

interface Encoder {
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
 */
function createEncoder(files: TokenizerFiles, vocabulary: Vocabulary, templateSource: string): Encoder {
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
  if (!unigram) forgetReserved(library as unknown as Internals, model['merges'], vocabulary, keys)
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
