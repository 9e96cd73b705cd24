import { setTimeout as sleep } from 'node:timers/promises'
import { ChoraleError } from '../../src/errors.ts'
import type { Model } from '../../src/model/model.ts'
import type { GenerateEvent, GenerateRequest, LanguageModel } from '../../src/session/language-model.ts'
import type { ChatMessage, Tokenizer } from '../../src/tokenizer/tokenizer.ts'

export const BOS = 256
export const EOS = 257
const VOCAB = 258

export interface FakeOptions {
  name?: string
  id?: string
  contextLength?: number
  chatTemplate?: boolean
  generationDefaults?: Model['generationDefaults']
  /** The answer's text; default: `Hello, <last line of the prompt>` with the seed when sampling. */
  answer?: (prompt: string, request: GenerateRequest) => string
  /** Milliseconds before each token. */
  tokenMs?: number
  /** Thrown before token number `failAt`. */
  failure?: Error
  failAt?: number
  /** A failover event comes before this token. */
  failoverAt?: number
  missing?: readonly { start: number; end: number }[]
}

export interface FakeLanguageModel extends LanguageModel {
  /** Sessions open right now. */
  readonly sessions: () => number
  readonly requests: GenerateRequest[]
  closed: boolean
}

/** A deterministic model whose tokens are bytes: every character outside ASCII takes several. */
export function fakeLanguageModel(options: FakeOptions = {}): FakeLanguageModel {
  const name = options.name ?? 'tests/fake'
  const contextLength = options.contextLength ?? 4096
  const tokenizer = byteTokenizer(options.chatTemplate ?? true)
  const requests: GenerateRequest[] = []
  let sessions = 0
  const model = {
    name,
    id: options.id ?? `${name}@0123456789ab`,
    format: 'safetensors',
    spec: {
      family: 'llama',
      eosTokenIds: [EOS],
      blockCount: 8,
      hiddenSize: 16,
      vocabSize: VOCAB,
      contextLength,
    },
    weights: { blockInfo: () => ({ dtype: 'F16', shape: [16, 16] }) },
    generationDefaults: options.generationDefaults ?? {},
    close: async () => undefined,
  } as unknown as Model

  async function* generate(request: GenerateRequest): AsyncGenerator<GenerateEvent, void, void> {
    requests.push(request)
    const promptTokens = request.promptIds.length
    if (promptTokens + (request.maxTokens ?? 1) > contextLength) {
      throw new ChoraleError('context_length', 'too long for the fake')
    }
    sessions++
    try {
      const answer = (options.answer ?? defaultAnswer)(tokenizer.decode(request.promptIds), request)
      const bytes = new TextEncoder().encode(answer)
      const decoder = new TextDecoder()
      let text = ''
      let shown = 0
      let finishReason: 'stop' | 'length' | 'cancelled' = 'stop'
      let count = 0
      const done = (): GenerateEvent => ({
        type: 'done',
        text: finishReason === 'stop' && stopAt(text, request.stop) >= 0 ? '' : text.slice(shown),
        finishReason,
        usage: { promptTokens, completionTokens: count },
        timings: { prefillMs: 10, decodeMs: 20, firstTokenMs: 12 },
        route: [
          { peer: 'peer-a', start: 0, end: 3, engine: 'reference' },
          { peer: 'peer-b', start: 3, end: 8, engine: 'onnx' },
        ],
        failovers: options.failoverAt === undefined ? 0 : 1,
      })
      for (const id of [...bytes, EOS]) {
        if (count === (options.failAt ?? 0) && options.failure !== undefined) throw options.failure
        if (options.tokenMs !== undefined)
          await sleep(options.tokenMs, undefined, { signal: request.signal }).catch(() => undefined)
        if (request.signal?.aborted) {
          finishReason = 'cancelled'
          break
        }
        if (count === options.failoverAt) {
          yield {
            type: 'failover',
            span: { start: 3, end: 7 },
            from: 'peer-b',
            reason: 'closed',
            recoveryMs: 400,
          }
        }
        count++
        if (id !== EOS) text += decoder.decode(Uint8Array.of(id), { stream: true })
        const stop = stopAt(text, request.stop)
        const safe = stop >= 0 ? stop : text.length - heldBack(text, request.stop)
        const emit = text.slice(shown, Math.max(shown, safe))
        shown += emit.length
        yield {
          type: 'token',
          token: {
            id,
            logprob: request.sampling?.topLogprobs === undefined ? undefined : -0.5,
            topLogprobs: alternatives(id, request.sampling?.topLogprobs ?? 0),
          },
          text: emit,
        }
        if (stop >= 0) break
        if (count >= (request.maxTokens ?? Infinity)) {
          if (id !== EOS) finishReason = 'length'
          break
        }
      }
      yield done()
    } finally {
      sessions--
    }
  }

  const fake: FakeLanguageModel = {
    model,
    tokenizer,
    contextLength,
    generate,
    readiness: async () => ({
      ready: (options.missing ?? []).length === 0,
      missing: options.missing ?? [],
    }),
    close: async () => {
      fake.closed = true
    },
    sessions: () => sessions,
    requests,
    closed: false,
  }
  return fake
}

function defaultAnswer(prompt: string, request: GenerateRequest): string {
  const last = prompt.trimEnd().split('\n').at(-2) ?? prompt
  const noise = (request.sampling?.temperature ?? 0) > 0 ? ` #${request.sampling?.seed}` : ''
  return `Hello, ${last}${noise}`
}

function stopAt(text: string, stops: readonly string[] = []): number {
  const found = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0)
  return found.length === 0 ? -1 : Math.min(...found)
}

/** Characters at the end that may be the start of a stop string. */
function heldBack(text: string, stops: readonly string[] = []): number {
  let held = 0
  for (const stop of stops) {
    for (let n = Math.min(stop.length - 1, text.length); n > held; n--)
      if (text.endsWith(stop.slice(0, n))) held = n
  }
  return held
}

function alternatives(id: number, count: number) {
  return Array.from({ length: count }, (_, i) => ({ id: (id + i) % 256, logprob: -0.5 - i }))
}

function byteTokenizer(hasChatTemplate: boolean): Tokenizer {
  const bytes = (text: string) => [...new TextEncoder().encode(text)]
  const renderChat = (messages: readonly ChatMessage[], options?: { addGenerationPrompt?: boolean }) =>
    messages.map(({ role, content }) => `<${role}>\n${content}\n`).join('') +
    (options?.addGenerationPrompt === true ? '<assistant>\n' : '')
  return {
    vocabSize: VOCAB,
    bosTokenId: BOS,
    eosTokenIds: [EOS],
    hasChatTemplate,
    encode: (text, options) => [...(options?.addSpecial === false ? [] : [BOS]), ...bytes(text)],
    decode: (ids) => new TextDecoder().decode(Uint8Array.from(ids.filter((id) => id < 256))),
    token: (id) => (id < 256 ? `<0x${id.toString(16)}>` : id === BOS ? '<s>' : '</s>'),
    tokenBytes: (id) =>
      id < 256 ? Uint8Array.of(id) : new TextEncoder().encode(id === BOS ? '<s>' : '</s>'),
    isSpecial: (id) => id >= 256,
    encodeChat: (messages, options) => [BOS, ...bytes(renderChat(messages, options))],
    renderChat,
  }
}
