import type { Context } from 'hono'
import type { GenerateDone, GenerateEvent, LanguageModel } from '../session/language-model.ts'
import { endsAnswer, finishReasonOf, provenanceOf, startAnswer, usageOf, type Answer } from './answer.ts'
import { fingerprintOf, streamErrorBody, type ApiContext, type ApiEnv } from './context.ts'
import { invalidRequest } from './errors.ts'
import { findModelHere } from './find-model.ts'
import { readJson } from './json-body.ts'
import { chatLogprob, type ChatLogprob } from './logprobs.ts'
import { chatPromptIds, checkContext } from './prompt.ts'
import { randomName } from './request-id.ts'
import { samplingOf, stopOf, type SeededSampling } from './sampling-request.ts'
import { chatRequest, type ChatRequest } from './schemas.ts'
import { waitOf } from './short-of-blocks.ts'
import { streamAnswer, type ChunkWriter } from './sse.ts'
import { refuseUnsupported } from './unsupported.ts'

/** `POST /v1/chat/completions`. */
export async function chatCompletions(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const body = await readJson(c.req.raw, chatRequest, api.limits, refuseUnsupported)
  const model = await findModelHere(api, body.model)
  const top = topLogprobs(body)
  const sampling = samplingOf(body, model, api.limits, top)
  const promptIds = chatPromptIds(model, body.messages)
  const { maxTokens, param } = wantedTokens(body)
  checkContext(model, promptIds.length, 'messages', maxTokens, param)
  const answer = startAnswer(
    api,
    model,
    {
      promptIds,
      // Left open, it is the model's to say how much room it leases.
      ...(maxTokens === undefined ? {} : { maxTokens }),
      sampling,
      stop: stopOf(body.stop),
      ignoreEos: body.ignore_eos ?? false,
    },
    c.req.raw.signal,
    waitOf(c.req.raw.headers, api.limits),
  )
  const head = {
    id: `chatcmpl-${randomName()}`,
    created: Math.floor(api.now() / 1000),
    model: model.model.id,
    system_fingerprint: fingerprintOf(model, api.version),
  }
  if (body.stream !== true) return c.json({ ...head, ...(await wholeAnswer(model, answer, sampling, top)) })
  return streamAnswer(
    answer,
    chunkWriter(model, head, sampling, top, body.stream_options?.include_usage === true),
    { keepAliveMs: api.limits.keepAliveMs, errorBody: streamErrorBody(api, c.get('requestId')) },
  )
}

async function wholeAnswer(
  model: LanguageModel,
  answer: Answer,
  sampling: SeededSampling,
  top: number | undefined,
) {
  let content = ''
  let done: GenerateDone | undefined
  const logprobs: ChatLogprob[] = []
  for await (const event of answer.events) {
    if (event.type !== 'failover') content += event.text
    if (event.type === 'done') done = event
    logprobs.push(...eventLogprobs(model, event, top))
  }
  if (done === undefined) throw new Error('the answer ended without its last event')
  return {
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content, refusal: null },
        logprobs: top === undefined ? null : { content: logprobs, refusal: null },
        finish_reason: finishReasonOf(done),
      },
    ],
    usage: usageOf(done),
    ...provenanceOf(done, sampling.seed),
  }
}

function chunkWriter(
  model: LanguageModel,
  head: object,
  sampling: SeededSampling,
  top: number | undefined,
  includeUsage: boolean,
): ChunkWriter {
  const chunk = (delta: object, logprobs: readonly ChatLogprob[], finishReason: string | null = null) => ({
    ...head,
    object: 'chat.completion.chunk',
    choices: [
      {
        index: 0,
        delta,
        logprobs: logprobs.length === 0 ? null : { content: logprobs, refusal: null },
        finish_reason: finishReason,
      },
    ],
    ...(includeUsage ? { usage: null } : {}),
  })
  return {
    start: () => [chunk({ role: 'assistant', content: '' }, [])],
    event: (event) => {
      if (event.type === 'failover') return []
      const logprobs = eventLogprobs(model, event, top)
      const chunks: unknown[] = []
      if (event.text !== '' || logprobs.length > 0) chunks.push(chunk({ content: event.text }, logprobs))
      if (event.type === 'done') {
        chunks.push({ ...chunk({}, [], finishReasonOf(event)), ...provenanceOf(event, sampling.seed) })
        if (includeUsage) {
          chunks.push({ ...head, object: 'chat.completion.chunk', choices: [], usage: usageOf(event) })
        }
      }
      return chunks
    },
  }
}

/** The end-of-sequence token that ended an answer is no part of it. */
function eventLogprobs(
  model: LanguageModel,
  event: GenerateEvent,
  top: number | undefined,
): readonly ChatLogprob[] {
  if (top === undefined || event.type !== 'token') return []
  if (endsAnswer(model, event.token.id)) return []
  return [chatLogprob(model.tokenizer, event.token, top)]
}

/** Alternatives a token, 0 for the chosen token's own value only; undefined when no logprobs are asked for. */
function topLogprobs(body: ChatRequest): number | undefined {
  if (body.logprobs === true) return body.top_logprobs ?? 0
  if ((body.top_logprobs ?? 0) > 0) {
    throw invalidRequest('top_logprobs', 'top_logprobs: set logprobs to true as well')
  }
  return undefined
}

function wantedTokens(body: ChatRequest): { maxTokens: number | undefined; param: string } {
  const older = body.max_tokens ?? undefined
  const newer = body.max_completion_tokens ?? undefined
  if (older !== undefined && newer !== undefined && older !== newer) {
    throw invalidRequest(
      'max_tokens',
      `max_tokens: ${older} contradicts max_completion_tokens: ${newer}; send one`,
    )
  }
  return newer === undefined
    ? { maxTokens: older, param: 'max_tokens' }
    : { maxTokens: newer, param: 'max_completion_tokens' }
}
