import type { Context } from 'hono'
import type { GenerateDone, GenerateEvent, LanguageModel } from '../session/language-model.ts'
import { endsAnswer, finishReasonOf, provenanceOf, startAnswer, usageOf, type Answer } from './answer.ts'
import { fingerprintOf, streamErrorBody, type ApiContext, type ApiEnv } from './context.ts'
import { findModelHere } from './find-model.ts'
import { readJson } from './json-body.ts'
import { createCompletionLogprobs, joinCompletionLogprobs, type CompletionLogprobs } from './logprobs.ts'
import { checkContext, rawPromptIds } from './prompt.ts'
import { randomName } from './request-id.ts'
import { samplingOf, stopOf, type SeededSampling } from './sampling-request.ts'
import { completionRequest } from './schemas.ts'
import { waitOf } from './short-of-blocks.ts'
import { streamAnswer, type ChunkWriter } from './sse.ts'
import { refuseUnsupported } from './unsupported.ts'

/** OpenAI's default of `max_tokens` on this endpoint. */
const DEFAULT_MAX_TOKENS = 16

type LogprobsOf = (event: GenerateEvent) => CompletionLogprobs | undefined

/** `POST /v1/completions`: a raw prompt, text or token ids, without a chat template. */
export async function completions(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const body = await readJson(c.req.raw, completionRequest, api.limits, refuseUnsupported)
  const model = await findModelHere(api, body.model)
  const top = body.logprobs ?? undefined
  const sampling = samplingOf(body, model, api.limits, top)
  const promptIds = rawPromptIds(model, body.prompt)
  checkContext(model, promptIds.length, 'prompt', body.max_tokens ?? undefined, 'max_tokens')
  const room = model.contextLength - promptIds.length
  const answer = startAnswer(
    api,
    model,
    {
      promptIds,
      maxTokens: body.max_tokens ?? Math.min(DEFAULT_MAX_TOKENS, room),
      sampling,
      stop: stopOf(body.stop),
      ignoreEos: body.ignore_eos ?? false,
    },
    c.req.raw.signal,
    waitOf(c.req.raw.headers, api.limits),
  )
  const head = {
    id: `cmpl-${randomName()}`,
    object: 'text_completion',
    created: Math.floor(api.now() / 1000),
    model: model.model.id,
    system_fingerprint: fingerprintOf(model, api.version),
  }
  const logprobsOf = logprobsReader(model, top)
  if (body.stream !== true)
    return c.json({ ...head, ...(await wholeAnswer(answer, sampling, logprobsOf, top)) })
  return streamAnswer(
    answer,
    chunkWriter(head, sampling, logprobsOf, body.stream_options?.include_usage === true),
    { keepAliveMs: api.limits.keepAliveMs, errorBody: streamErrorBody(api, c.get('requestId')) },
  )
}

async function wholeAnswer(
  answer: Answer,
  sampling: SeededSampling,
  logprobsOf: LogprobsOf,
  top: number | undefined,
) {
  let text = ''
  let done: GenerateDone | undefined
  const logprobs: CompletionLogprobs[] = []
  for await (const event of answer.events) {
    if (event.type !== 'failover') text += event.text
    if (event.type === 'done') done = event
    const part = logprobsOf(event)
    if (part !== undefined) logprobs.push(part)
  }
  if (done === undefined) throw new Error('the answer ended without its last event')
  return {
    choices: [
      {
        index: 0,
        text,
        logprobs: top === undefined ? null : joinCompletionLogprobs(logprobs),
        finish_reason: finishReasonOf(done),
      },
    ],
    usage: usageOf(done),
    ...provenanceOf(done, sampling.seed),
  }
}

function chunkWriter(
  head: object,
  sampling: SeededSampling,
  logprobsOf: LogprobsOf,
  includeUsage: boolean,
): ChunkWriter {
  const chunk = (
    text: string,
    logprobs: CompletionLogprobs | undefined,
    finishReason: string | null = null,
  ) => ({
    ...head,
    choices: [{ index: 0, text, logprobs: logprobs ?? null, finish_reason: finishReason }],
    ...(includeUsage ? { usage: null } : {}),
  })
  return {
    start: () => [],
    event: (event) => {
      if (event.type === 'failover') return []
      const logprobs = logprobsOf(event)
      const chunks: unknown[] = []
      if (event.text !== '' || logprobs !== undefined) chunks.push(chunk(event.text, logprobs))
      if (event.type === 'done') {
        chunks.push({
          ...chunk('', undefined, finishReasonOf(event)),
          ...provenanceOf(event, sampling.seed),
        })
        if (includeUsage) chunks.push({ ...head, choices: [], usage: usageOf(event) })
      }
      return chunks
    },
  }
}

function logprobsReader(model: LanguageModel, top: number | undefined): LogprobsOf {
  if (top === undefined) return () => undefined
  const collector = createCompletionLogprobs(model.tokenizer, top)
  return (event) =>
    event.type === 'token' && !endsAnswer(model, event.token.id) ? collector.add(event.token) : undefined
}
