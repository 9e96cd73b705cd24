import { ChoraleError } from '../errors.ts'
import type { LanguageModel } from './language-model.ts'
import type { ChatMessage } from '../tokenizer/tokenizer.ts'

/** What the next answer is computed from. */
export interface FittedPrompt {
  readonly promptIds: readonly number[]
  /** Tokens the answer may have; undefined leaves it to the model. */
  readonly maxTokens: number | undefined
  /** Messages from the front that no longer fit and were left out. */
  readonly dropped: number
}

/** Share of the context kept for the answer when the user set no `max-tokens`. */
const ANSWER_SHARE = 1 / 4

/**
 * Token ids of a conversation, its oldest turns left out until the answer has room too.
 * @throws `context_length` when the last message alone doesn't fit.
 */
export function fitConversation(
  model: LanguageModel,
  system: string | undefined,
  messages: readonly ChatMessage[],
  maxTokens: number | undefined,
): FittedPrompt {
  const { contextLength } = model
  const wanted = Math.min(maxTokens ?? Infinity, Math.max(1, Math.floor(contextLength * ANSWER_SHARE)))
  const head: ChatMessage[] = system === undefined ? [] : [{ role: 'system', content: system }]
  for (let dropped = 0; ; dropped = nextTurn(messages, dropped)) {
    const kept = [...head, ...messages.slice(dropped)]
    const promptIds = model.tokenizer.encodeChat(kept, { addGenerationPrompt: true })
    const left = contextLength - promptIds.length
    const isLast = nextTurn(messages, dropped) >= messages.length
    if (left >= wanted || (isLast && left >= 1)) {
      return { promptIds, maxTokens: atMost(maxTokens, left), dropped }
    }
    if (isLast) throw tooLong(promptIds.length, contextLength)
  }
}

/**
 * Token ids of raw text that the model continues; empty text starts from BOS.
 * @throws `context_length`, `bad_request` when there is nothing to start from.
 */
export function rawPrompt(model: LanguageModel, text: string, maxTokens: number | undefined): FittedPrompt {
  const { tokenizer, contextLength } = model
  let promptIds = tokenizer.encode(text)
  if (promptIds.length === 0 && tokenizer.bosTokenId !== undefined) promptIds = [tokenizer.bosTokenId]
  if (promptIds.length === 0) throw new ChoraleError('bad_request', 'the prompt is empty; type some text')
  const left = contextLength - promptIds.length
  if (left < 1) throw tooLong(promptIds.length, contextLength)
  return { promptIds, maxTokens: atMost(maxTokens, left), dropped: 0 }
}

/** Where the turn after the one at `from` starts: turns start with a message of the user. */
function nextTurn(messages: readonly ChatMessage[], from: number): number {
  const next = messages.findIndex((message, i) => i > from && message.role === 'user')
  return next < 0 ? messages.length : next
}

function atMost(wanted: number | undefined, left: number): number | undefined {
  return wanted === undefined ? undefined : Math.min(wanted, left)
}

function tooLong(tokens: number, contextLength: number): ChoraleError {
  return new ChoraleError(
    'context_length',
    `the prompt has ${tokens} tokens and the model's context holds ${contextLength}, answer included; shorten it`,
  )
}
