import { z } from 'zod'

/**
 * Request bodies, OpenAI's names. Optional fields may be null, as its clients send them.
 * Unknown fields are dropped here; those that would change the output are refused in `unsupported.ts`.
 */

/** Stop strings' length: each is searched for at every token. */
const MAX_STOP_LENGTH = 256

const stopString = z
  .string()
  .min(1, 'a stop string must not be empty')
  .max(MAX_STOP_LENGTH, `a stop string has at most ${MAX_STOP_LENGTH} characters`)

const sampling = {
  model: z.string('must be the id of a model; GET /v1/models lists them').min(1).max(512),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0, 'must be above 0').max(1).nullish(),
  /** 0 and -1 keep all tokens. */
  top_k: z.int().min(-1).max(10_000_000).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  max_tokens: z.int().min(1).nullish(),
  stop: z
    .union([stopString, z.array(stopString).max(4, 'at most 4 stop strings')], {
      error: `must be a string or an array of at most 4 strings of 1 to ${MAX_STOP_LENGTH} characters`,
    })
    .nullish(),
  /** Any safe integer; negative ones mean their two's complement. */
  seed: z.int().nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  repetition_penalty: z.number().gt(0).max(10).nullish(),
  logit_bias: z.record(z.string(), z.number().min(-100).max(100)).nullish(),
  ignore_eos: z.boolean().nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
}

const textPart = z.object({
  type: z.literal('text', 'only parts of type "text" are supported'),
  text: z.string(),
})

const message = z.object({
  role: z.enum(
    ['system', 'developer', 'user', 'assistant'],
    'must be "system", "developer", "user" or "assistant"',
  ),
  content: z.union([z.string(), z.array(textPart).min(1).max(256)], {
    error: 'must be a string or an array of parts of type "text"',
  }),
})

/** `POST /v1/chat/completions`. */
export const chatRequest = z.object({
  ...sampling,
  messages: z.array(message, 'must be an array of messages').min(1, 'needs at least one message'),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
})

const tokenIds = z.array(z.int().min(0), 'must be an array of token ids')

/** `POST /v1/completions`. */
export const completionRequest = z.object({
  ...sampling,
  prompt: z.union([z.string(), tokenIds, z.array(z.string()).length(1), z.array(tokenIds).length(1)], {
    error: 'must be one string or one array of token ids',
  }),
  logprobs: z.int().min(0).max(20).nullish(),
})

/** `POST /v1/tokenize`. */
export const tokenizeRequest = z.object({
  model: sampling.model,
  content: z.string('must be a string'),
  /** Whether the tokenizer adds its own tokens, e.g. BOS. */
  add_special: z.boolean().nullish(),
  /** Whether text that spells a special token becomes that token. */
  parse_special: z.boolean().nullish(),
})

/** `POST /v1/detokenize`. */
export const detokenizeRequest = z.object({ model: sampling.model, tokens: tokenIds })

export type ChatRequest = z.infer<typeof chatRequest>
export type CompletionRequest = z.infer<typeof completionRequest>
export type SharedRequest = Omit<CompletionRequest, 'prompt' | 'logprobs'>
