import { ChoraleError, errorCode } from '../errors.ts'
import type {
  GenerateDone,
  GenerateEvent,
  GenerateRequest,
  LanguageModel,
} from '../session/language-model.ts'
import type { Admission } from './admission.ts'
import type { ApiMetrics } from './api-metrics.ts'
import { type BlockHost, explainMissing, waitForBlocks } from './short-of-blocks.ts'

/** One answer under way: its events, and the way to stop it from outside. */
export interface Answer {
  readonly events: AsyncGenerator<GenerateEvent, void, void>
  /** Ends the answer and frees its session everywhere. */
  abort(): void
}

export interface AnswerHost extends BlockHost {
  readonly admission: Admission
  readonly metrics: ApiMetrics
}

/**
 * An answer that waits for its place, keeps its deadline, ends with its client and is counted.
 * Nothing starts before the first event is asked for.
 * @param waitMs how long to wait for servers of missing blocks.
 * @throws from its events: `ApiError` 429, `timeout`, `cancelled`, and what `LanguageModel.generate` throws.
 */
export function startAnswer(
  host: AnswerHost,
  model: LanguageModel,
  request: Omit<GenerateRequest, 'signal'>,
  client: AbortSignal,
  waitMs = 0,
): Answer {
  const controller = new AbortController()
  const abort = () => controller.abort(new ChoraleError('cancelled', 'the client went away'))
  if (client.aborted) abort()
  else client.addEventListener('abort', abort, { once: true })

  async function* events(): AsyncGenerator<GenerateEvent, void, void> {
    const { metrics, now } = host
    const startedAt = now()
    const deadline = setTimeout(() => {
      const message = `no answer within the limit of ${host.limits.requestMs} ms`
      controller.abort(new ChoraleError('timeout', message))
    }, host.limits.requestMs)
    let leave: (() => void) | undefined
    try {
      await waitForBlocks(host, model, waitMs, controller.signal)
      leave = await host.admission.enter(controller.signal)
      let lastAt: number | undefined
      for await (const event of model.generate({ ...request, signal: controller.signal })) {
        const at = now()
        if (event.type === 'token') {
          metrics.generationTokens.inc()
          if (lastAt === undefined) metrics.timeToFirstToken.observe((at - startedAt) / 1000)
          else metrics.interTokenLatency.observe((at - lastAt) / 1000)
          lastAt = at
        } else if (event.type === 'failover') metrics.failovers.inc()
        else {
          controller.signal.throwIfAborted()
          metrics.promptTokens.inc({}, event.usage.promptTokens)
          metrics.requestLatency.observe((at - startedAt) / 1000)
          metrics.success.inc({ finish_reason: event.finishReason })
        }
        yield event
      }
    } catch (error) {
      // Whatever an aborted generation throws, the reason is why it was aborted.
      throw controller.signal.aborted ? controller.signal.reason : await explainMissing(host, model, error)
    } finally {
      clearTimeout(deadline)
      client.removeEventListener('abort', abort)
      leave?.()
    }
  }
  return { events: events(), abort }
}

/** Whether an error only says that the client left: nobody to tell, nothing to log. */
export function isClientGone(error: unknown): boolean {
  return errorCode(error) === 'cancelled'
}

/** OpenAI's `usage`. */
export function usageOf(done: GenerateDone) {
  const { cachedTokens = 0, promptTokens, completionTokens } = done.usage
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  }
}

/** llama.cpp's `timings`, which chat pages read, and who computed the answer. */
export function provenanceOf(done: GenerateDone, seed: number | bigint) {
  const { prefillMs, decodeMs } = done.timings
  const { cachedTokens = 0, completionTokens } = done.usage
  const promptTokens = done.usage.promptTokens - cachedTokens
  const rate = (tokens: number, ms: number) => (ms > 0 ? (tokens * 1000) / ms : 0)
  return {
    timings: {
      cache_n: cachedTokens,
      prompt_n: promptTokens,
      prompt_ms: prefillMs,
      prompt_per_second: rate(promptTokens, prefillMs),
      predicted_n: completionTokens,
      predicted_ms: decodeMs,
      // The first token came with the prompt.
      predicted_per_second: rate(Math.max(0, completionTokens - 1), decodeMs),
    },
    // A string: half of all 64-bit seeds would not survive a JSON number.
    swarm: { route: done.route, failovers: done.failovers, seed: String(seed) },
  }
}

/** OpenAI's finish reason; a cancelled answer never reaches a client. */
export function finishReasonOf(done: GenerateDone): 'stop' | 'length' {
  return done.finishReason === 'length' ? 'length' : 'stop'
}

/** Whether a token is the model's way to end an answer, and so no part of its text. */
export function endsAnswer(model: LanguageModel, id: number): boolean {
  return model.tokenizer.eosTokenIds.includes(id) || model.model.spec.eosTokenIds.includes(id)
}
