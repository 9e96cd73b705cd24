import { ChoraleError } from '../errors.ts'
import type { TokenizerFiles } from '../model/model.ts'
import { type ChatTemplate, parseChatTemplate } from './chat-template.ts'
import { createEncoder, MAX_TEXT } from './encoder.ts'
import { createGuard } from './guarded-content.ts'
import { pieceDecoder } from './token-bytes.ts'
import type { ChatMessage, Tokenizer } from './tokenizer.ts'
import { readVocabulary, specialToken, type Vocabulary } from './vocabulary.ts'

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
        `messages[${index}].role is ${JSON.stringify(role).slice(0, 40)}, it must be system, user or assistant`,
      )
    }
    if (typeof content !== 'string')
      return refuse(`messages[${index}].content is ${typeof content}, it must be text`)
    length += content.length
    if (length > MAX_TEXT) return refuse(`the messages are longer than ${MAX_TEXT} characters`)
    return { role, content: content.toWellFormed() }
  })
}
