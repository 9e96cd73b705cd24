import type { SampledToken } from '../sampling/options.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'

/** A token in `choices[].logprobs.content[]`; `bytes` because a token may be part of a character. */
export interface TokenLogprob {
  readonly token: string
  readonly logprob: number
  readonly bytes: readonly number[]
}

export interface ChatLogprob extends TokenLogprob {
  readonly top_logprobs: readonly TokenLogprob[]
}

/** `/v1/completions` keeps the old, columnar shape. */
export interface CompletionLogprobs {
  readonly tokens: string[]
  readonly token_logprobs: number[]
  readonly top_logprobs: Record<string, number>[] | null
  readonly text_offset: number[]
}

/** JSON has no -Infinity: a token that can't happen gets what OpenAI's servers send. */
const IMPOSSIBLE = -9999

/** One token of a chat answer. `top`: how many alternatives were asked for. */
export function chatLogprob(tokenizer: Tokenizer, token: SampledToken, top: number): ChatLogprob {
  return {
    ...tokenLogprob(tokenizer, token.id, token.logprob),
    top_logprobs: token.topLogprobs
      .slice(0, top)
      .map(({ id, logprob }) => tokenLogprob(tokenizer, id, logprob)),
  }
}

function tokenLogprob(tokenizer: Tokenizer, id: number, logprob: number | undefined): TokenLogprob {
  const bytes = tokenizer.tokenBytes(id)
  return { token: new TextDecoder().decode(bytes), logprob: finite(logprob), bytes: [...bytes] }
}

/** Collects the columns of a text completion, with each token's place in the text. */
export function createCompletionLogprobs(tokenizer: Tokenizer, top: number) {
  // Bytes of the answer so far as text: a token inside a character starts where the character does.
  const decoder = new TextDecoder()
  let offset = 0
  return {
    add(token: SampledToken): CompletionLogprobs {
      const start = offset
      if (!tokenizer.isSpecial(token.id)) {
        offset += decoder.decode(tokenizer.tokenBytes(token.id), { stream: true }).length
      }
      const { token: text, logprob } = tokenLogprob(tokenizer, token.id, token.logprob)
      const alternatives = token.topLogprobs.slice(0, top).map((other) => {
        const entry = tokenLogprob(tokenizer, other.id, other.logprob)
        return [entry.token, entry.logprob] as const
      })
      return {
        tokens: [text],
        token_logprobs: [logprob],
        top_logprobs: top === 0 ? null : [Object.fromEntries(alternatives)],
        text_offset: [start],
      }
    },
  }
}

/** Several tokens' columns as one. */
export function joinCompletionLogprobs(parts: readonly CompletionLogprobs[]): CompletionLogprobs {
  return {
    tokens: parts.flatMap((part) => part.tokens),
    token_logprobs: parts.flatMap((part) => part.token_logprobs),
    top_logprobs: parts.some((part) => part.top_logprobs !== null)
      ? parts.flatMap((part) => part.top_logprobs ?? [])
      : null,
    text_offset: parts.flatMap((part) => part.text_offset),
  }
}

function finite(logprob: number | undefined): number {
  return logprob !== undefined && Number.isFinite(logprob) ? logprob : IMPOSSIBLE
}
