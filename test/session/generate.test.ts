import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openModelArgument } from '../../node/open-model-argument.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { ChoraleError } from '../../src/errors.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import type { Model } from '../../src/model/model.ts'
import { createClient } from '../../src/session/client.ts'
import { createLanguageModel } from '../../src/session/generate.ts'
import type {
  GenerateDone,
  GenerateEvent,
  GenerateRequest,
  LanguageModel,
} from '../../src/session/language-model.ts'
import { createLocalSpan } from '../../src/session/local-span.ts'
import type { SpanRunner } from '../../src/session/span-runner.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts'
import { failureOf, spanRunnerContract } from '../contract/span-runner.ts'
import { createFakeSwarm } from './fake-swarm.ts'

const engine = createReferenceEngine()
let model: Model
let tokenizer: Tokenizer
let local: LanguageModel

beforeAll(async () => {
  model = await openModelArgument(join(import.meta.dirname, '../../models/storyteller'))
  tokenizer = createTokenizer((await model.tokenizerFiles())!, model.spec)
  local = await createClient({ model, tokenizer, engine, backend: { kind: 'local', kvTokens: 512 } })
})
afterAll(async () => {
  await local.close()
  await model.close()
})

spanRunnerContract('local span, reference engine', async () => {
  const span = await engine.loadSpan(model, { start: 2, end: 4, kvTokens: 64 })
  const { hiddenSize } = model.spec
  const runner = createLocalSpan(span, { modelId: model.id, hiddenSize, engineName: engine.name })
  return { runner, kvTokens: 64, freeTokens: () => span.kvTokensFree, close: () => runner.close() }
})

interface Answer {
  readonly ids: number[]
  readonly text: string
  readonly events: GenerateEvent[]
  readonly done: GenerateDone
}

async function ask(languageModel: LanguageModel, request: GenerateRequest): Promise<Answer> {
  const events: GenerateEvent[] = []
  for await (const event of languageModel.generate(request)) events.push(event)
  const done = events.at(-1)
  if (done?.type !== 'done') throw new Error('the last event is not done')
  const tokens = events.filter((event) => event.type === 'token')
  return {
    ids: tokens.map(({ token }) => token.id),
    text: tokens.map(({ text }) => text).join('') + done.text,
    events,
    done,
  }
}

/** From the golden file of the bundled model (Hugging Face, float32, greedy). */
const HELLO = [1, 4, 263, 1712, 6, 2, 5]
const HELLO_IDS = [1369, 6, 397, 330, 597, 291, 469, 578, 328, 19, 1331, 898, 328, 509, 291, 469, 36, 2]
const HELLO_TEXT = 'Hello! It is good to hear from you. What would you like to hear?'

describe('LanguageModel.generate', () => {
  it('gives the golden answer, ends at end-of-sequence and says what it did', async () => {
    const { ids, text, done } = await ask(local, { promptIds: HELLO })
    expect(ids).toEqual(HELLO_IDS)
    expect(text).toBe(HELLO_TEXT)
    expect(done).toMatchObject({
      finishReason: 'stop',
      usage: { promptTokens: 7, completionTokens: 18 },
      route: [{ start: 0, end: 8, peer: 'local', engine: 'reference' }],
      failovers: 0,
    })
    expect(done.timings.firstTokenMs).toBeGreaterThan(0)
  })

  it('stops at maxTokens, and goes on past end-of-sequence when asked', async () => {
    expect((await ask(local, { promptIds: HELLO, maxTokens: 3 })).done).toMatchObject({
      finishReason: 'length',
      usage: { completionTokens: 3 },
    })
    const past = await ask(local, { promptIds: HELLO, maxTokens: 20, ignoreEos: true })
    expect(past.ids).toHaveLength(20)
    expect(past.ids.slice(0, 18)).toEqual(HELLO_IDS)
  })

  it('ends before a stop string that spans tokens and emits none of it', async () => {
    const { text, done } = await ask(local, { promptIds: HELLO, stop: ['from you'] })
    expect(text).toBe('Hello! It is good to hear ')
    expect(done.finishReason).toBe('stop')
  })

  it('same seed, same text; logprobs on demand', async () => {
    const request = { promptIds: HELLO, maxTokens: 8, sampling: { temperature: 1, seed: 7, topLogprobs: 2 } }
    const [first, second] = [await ask(local, request), await ask(local, request)]
    expect(first.ids).toEqual(second.ids)
    const token = first.events.find((event) => event.type === 'token')
    expect(token?.token.topLogprobs).toHaveLength(2)
  })

  it('answers several prompts at once as it answers them alone', async () => {
    const answers = await Promise.all([1, 2, 3].map(() => ask(local, { promptIds: HELLO, maxTokens: 6 })))
    for (const { ids } of answers) expect(ids).toEqual(HELLO_IDS.slice(0, 6))
  })

  it('a signal ends the answer with `cancelled` and frees the room', async () => {
    const stop = new AbortController()
    const events: GenerateEvent[] = []
    for await (const event of local.generate({ promptIds: HELLO, signal: stop.signal })) {
      events.push(event)
      if (events.length === 3) stop.abort()
    }
    expect(events.at(-1)).toMatchObject({ type: 'done', finishReason: 'cancelled' })
    expect(events).toHaveLength(4)
    // All of the cache is free again, or the next two would not fit.
    await ask(local, { promptIds: HELLO, maxTokens: 500 })
  })

  it('a signal aborted beforehand runs nothing', async () => {
    const { ids, done } = await ask(local, { promptIds: HELLO, signal: AbortSignal.abort() })
    expect(ids).toEqual([])
    expect(done).toMatchObject({ finishReason: 'cancelled', route: [] })
  })

  it('stopping the iteration frees the room', async () => {
    for (let i = 0; i < 3; i++) {
      for await (const event of local.generate({ promptIds: HELLO, maxTokens: 500 })) {
        if (event.type === 'token') break
      }
    }
  })

  it('refuses prompts without room for an answer, empty prompts, wrong ids and lengths', async () => {
    const fail = (request: GenerateRequest) => failureOf(ask(local, request))
    expect(await fail({ promptIds: Array.from({ length: 1024 }, () => 5) })).toBe('context_length')
    expect(await fail({ promptIds: [] })).toBe('bad_request')
    expect(await fail({ promptIds: [2048] })).toBe('bad_request')
    expect(await fail({ promptIds: HELLO, maxTokens: 0 })).toBe('bad_request')
    expect(await fail({ promptIds: HELLO, maxTokens: 600 })).toBe('capacity')
  })

  it('an answer of open length takes less room when servers are full', async () => {
    const asked: number[] = []
    const refusing: SpanRunner = {
      modelId: model.id,
      hiddenSize: model.spec.hiddenSize,
      span: { start: 0, end: 8 },
      open: async ({ maxTokens }) => {
        asked.push(maxTokens)
        throw new ChoraleError('capacity', 'full')
      },
      close: async () => undefined,
    }
    const embedding = await loadEmbedding(model)
    const head = await engine.loadHead(model)
    const full = createLanguageModel({
      model,
      tokenizer,
      embedding,
      head,
      runner: refusing,
      answerTokens: 400,
    })
    expect(await failureOf(ask(full, { promptIds: HELLO }))).toBe('capacity')
    expect(asked).toEqual([406, 206, 106, 56])
    await head.close()
  })

  it('over a chain whose servers die: the golden answer, failover events in the stream', async () => {
    const spans = [
      [0, 3],
      [3, 5],
      [5, 8],
    ] as const
    const specs = await Promise.all(
      spans.flatMap(([start, end], i) =>
        [1, 2].map(async (copy) => ({
          id: `${'abc'[i]}${copy}`,
          start,
          end,
          engineSpan: await engine.loadSpan(model, { start, end, kvTokens: 256 }),
        })),
      ),
    )
    const swarm = createFakeSwarm(model.spec.hiddenSize, specs)
    let steps = 0
    for (const server of swarm.servers.values()) {
      server.onStep = () => {
        if (++steps === 9 || steps === 26) server.mode = 'dead'
      }
    }
    const chat = await createClient({
      model,
      tokenizer,
      engine,
      answerTokens: 128,
      backend: { kind: 'chain', directory: swarm.directory, connect: swarm.connect },
    })
    expect(await chat.readiness()).toEqual({ ready: true, missing: [] })
    const { ids, text, events, done } = await ask(chat, { promptIds: HELLO })
    expect(ids).toEqual(HELLO_IDS)
    expect(text).toBe(HELLO_TEXT)
    expect(done.failovers).toBe(2)
    expect(events.filter((event) => event.type === 'failover')).toHaveLength(2)
    expect(done.route.map(({ start, end }) => [start, end])).toEqual(spans)
    await chat.close()
    for (const server of swarm.servers.values()) expect(server.openSessions).toBe(0)
  })
})
