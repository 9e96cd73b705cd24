import type { LanguageModel } from '../session/language-model.ts'
import type { ChatMessage } from '../tokenizer/tokenizer.ts'
import { ApiError, invalidRequest } from './errors.ts'
import type { ChatRequest, CompletionRequest } from './schemas.ts'

/**
 * Token ids of a conversation, by the model's chat template.
 * @throws `ApiError` 400, `not_supported` without a template.
 */
export function chatPromptIds(model: LanguageModel, messages: ChatRequest['messages']): number[] {
  const turns: ChatMessage[] = messages.map(({ role, content }) => ({
    // OpenAI's newer name for the same role.
    role: role === 'developer' ? 'system' : role,
    content: typeof content === 'string' ? content : content.map((part) => part.text).join('\n'),
  }))
  checkTextLength(
    model,
    'messages',
    turns.reduce((length, turn) => length + turn.content.length, 0),
  )
  if (!model.tokenizer.hasChatTemplate) {
    throw new ApiError(
      400,
      'invalid_request_error',
      `${model.model.name} has no chat template; send the text to /v1/completions instead`,
      { param: 'messages', code: 'no_chat_template' },
    )
  }
  return model.tokenizer.encodeChat(turns, { addGenerationPrompt: true })
}

/** Token ids of a raw prompt; an empty one starts from BOS. @throws `ApiError` 400. */
export function rawPromptIds(model: LanguageModel, prompt: CompletionRequest['prompt']): number[] {
  const { tokenizer } = model
  const only = Array.isArray(prompt) && typeof prompt[0] !== 'number' ? (prompt[0] ?? '') : prompt
  let ids: number[]
  if (typeof only === 'string') {
    checkTextLength(model, 'prompt', only.length)
    ids = tokenizer.encode(only)
    if (ids.length === 0 && tokenizer.bosTokenId !== undefined) ids = [tokenizer.bosTokenId]
  } else {
    ids = checkTokenIds(model, 'prompt', only as readonly number[])
  }
  if (ids.length === 0) throw invalidRequest('prompt', 'prompt: it holds no token')
  return ids
}

/** @throws `ApiError` 400 naming `param` when an id is outside the vocabulary. */
export function checkTokenIds(model: LanguageModel, param: string, ids: readonly number[]): number[] {
  const vocabSize = usableVocabulary(model)
  const stranger = ids.find((id) => id >= vocabSize)
  if (stranger !== undefined) {
    throw invalidRequest(
      param,
      `${param}: ${stranger} is not a token id of this model (0 to ${vocabSize - 1})`,
    )
  }
  return [...ids]
}

/**
 * Refuses prompts and answers that don't fit the model's context.
 * @throws `ApiError` 400 `context_length_exceeded` naming `param`, which asked for `wanted` tokens of answer.
 */
export function checkContext(
  model: LanguageModel,
  promptTokens: number,
  promptParam: string,
  wanted: number | undefined,
  param: string,
): void {
  const room = model.contextLength - promptTokens
  if (room < 1) {
    throw contextExceeded(
      promptParam,
      `the prompt has ${promptTokens} tokens and the context of this model holds ${model.contextLength}, answer included; shorten it`,
    )
  }
  if (wanted !== undefined && wanted > room) {
    throw contextExceeded(
      param,
      `the prompt's ${promptTokens} tokens and an answer of ${wanted} exceed the context of ${model.contextLength}; ask for at most ${room}`,
    )
  }
}

/**
 * Refuses text that can't fit whatever its tokens are, before the tokenizer spends time on it: no token is longer
 * than the vocabulary's longest. Lengths in UTF-16 units, of which no character has more than bytes.
 */
export function checkTextLength(model: LanguageModel, param: string, length: number): void {
  const longest = longestToken(model)
  if (length > longest * model.contextLength) {
    throw contextExceeded(
      param,
      `${param}: ${length} characters can't fit the context of ${model.contextLength} tokens`,
    )
  }
}

/** Ids that have both a text and an embedding: tokenizers and models are padded to different sizes. */
export function usableVocabulary(model: LanguageModel): number {
  return Math.min(model.tokenizer.vocabSize, model.model.spec.vocabSize)
}

const longestTokens = new WeakMap<LanguageModel, number>()

function longestToken(model: LanguageModel): number {
  let longest = longestTokens.get(model)
  if (longest === undefined) {
    longest = 1
    for (let id = 0; id < usableVocabulary(model); id++) {
      longest = Math.max(longest, model.tokenizer.tokenBytes(id).length)
    }
    longestTokens.set(model, longest)
  }
  return longest
}

function contextExceeded(param: string, message: string): ApiError {
  return invalidRequest(param, message, 'context_length_exceeded')
}
