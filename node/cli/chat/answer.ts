import { errorCode } from '../../../src/errors.ts'
import type { DraftStats } from '../../../src/session/draft-laps.ts'
import type { GenerateDone, GenerateEvent, LanguageModel } from '../../../src/session/language-model.ts'
import type { SampledToken, SamplingOptions } from '../../../src/sampling/options.ts'
import type { RouteHop, Span } from '../../../src/session/span-runner.ts'
import { formatSeconds } from '../terminal.ts'

export interface AskOptions {
  readonly languageModel: LanguageModel
  readonly promptIds: readonly number[]
  readonly maxTokens: number | undefined
  readonly sampling: SamplingOptions
  readonly stop: readonly string[]
  readonly signal: AbortSignal
  readonly onText: (text: string) => Promise<void> | void
  readonly onFailover: (words: string) => void
}

export interface Asked {
  readonly text: string
  readonly tokens: readonly SampledToken[]
  /** Undefined when the answer was stopped before the model said its last word. */
  readonly done: GenerateDone | undefined
  readonly cancelled: boolean
}

/** Streams one answer. Being stopped is a result, not an error. @throws what `LanguageModel.generate` throws. */
export async function ask(options: AskOptions): Promise<Asked> {
  const { languageModel, promptIds, maxTokens, sampling, stop, signal } = options
  const tokens: SampledToken[] = []
  let text = ''
  let done: GenerateDone | undefined
  try {
    const request = { promptIds, sampling, stop, signal, ...(maxTokens !== undefined && { maxTokens }) }
    for await (const event of languageModel.generate(request)) {
      if (event.type === 'failover') {
        options.onFailover(failoverWords(event))
        continue
      }
      if (event.type === 'token') tokens.push(event.token)
      else done = event
      text += event.text
      if (event.text !== '') await options.onText(event.text)
    }
  } catch (error) {
    if (!(signal.aborted || errorCode(error) === 'cancelled')) throw error
  }
  return { text, tokens, done, cancelled: done === undefined || done.finishReason === 'cancelled' }
}

/** What happened, for people: `a server left (blocks 3–6), continuing on another after 0.4 s`. */
export function failoverWords(event: Extract<GenerateEvent, { type: 'failover' }>): string {
  return `a server left (${blockWords(event.span)}), continuing on another after ${formatSeconds(event.recoveryMs)}`
}

function blockWords({ start, end }: Span): string {
  return end - start === 1 ? `block ${start}` : `blocks ${start}–${end - 1}`
}

/** Speed and way of an answer, one line each. */
export function statsLines(done: GenerateDone, seed: number | bigint | undefined): string[] {
  const { promptTokens, completionTokens } = done.usage
  const { firstTokenMs, prefillMs, decodeMs } = done.timings
  const parts = [
    `first token ${formatSeconds(firstTokenMs)}`,
    `prompt ${promptTokens} tokens${rate(promptTokens, prefillMs)}`,
    `answer ${completionTokens} tokens${rate(completionTokens - 1, decodeMs)}`,
    `${done.failovers} failover${done.failovers === 1 ? '' : 's'}`,
    ...(seed === undefined ? [] : [`seed ${seed}`]),
  ]
  const guessed = done.drafts && done.drafts.proposed > 0 ? [draftWords(done.drafts)] : []
  return [parts.join(' · '), ...guessed, `route: ${routeWords(done.route)}`]
}

/** `drafts: 12 of 15 guesses right (10 of 11 by the draft model), 9 round trips` */
function draftWords({ laps, proposed, accepted, model }: DraftStats): string {
  const own = model ? ` (${model.accepted} of ${model.proposed} by the draft model)` : ''
  return `drafts: ${accepted} of ${proposed} guesses right${own}, ${laps} round trips`
}

/** `0:3 …abcdef (onnx), 3:8 …` */
export function routeWords(route: readonly RouteHop[]): string {
  return route
    .map(({ start, end, peer, engine }) => `${start}:${end} ${shortPeer(peer)} (${engine})`)
    .join(', ')
}

function shortPeer(peer: string): string {
  return peer.length > 16 ? `…${peer.slice(-8)}` : peer
}

function rate(tokens: number, ms: number): string {
  if (!(tokens > 0 && ms > 0)) return ''
  const perSecond = (tokens * 1000) / ms
  return ` at ${perSecond >= 100 ? Math.round(perSecond) : perSecond.toPrecision(3)} tok/s`
}
