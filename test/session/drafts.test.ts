import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openModelArgument } from '../../node/open-model-argument.ts'
import type { EngineHead, EngineSpan } from '../../src/engine/engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { type Embedding, loadEmbedding } from '../../src/model/embedding.ts'
import type { Model } from '../../src/model/model.ts'
import type { SamplingOptions } from '../../src/sampling/options.ts'
import { createDraftWindow, fadeKindRecord, newKindRecord } from '../../src/session/draft-window.ts'
import { createLanguageModel } from '../../src/session/generate.ts'
import type { GenerateDone, LanguageModel } from '../../src/session/language-model.ts'
import { createLocalSpan } from '../../src/session/local-span.ts'
import { createPromptLookup } from '../../src/session/prompt-lookup.ts'
import type { SpanRunner } from '../../src/session/span-runner.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import { seededRandom } from '../protocol/random.ts'

describe('createPromptLookup', () => {
  it('guesses what followed the longest run of last tokens, the latest time', () => {
    const lookup = createPromptLookup([1, 2, 3, 9, 1, 2, 3, 8, 7, 5, 2, 3])
    expect(lookup.outlook()).toEqual({ kind: 2, most: 5, ready: 5, eachMs: 0, firstMs: 0 })
    expect(lookup.make(3)).toEqual([8, 7, 5])
    lookup.append(4)
    expect(lookup.outlook()).toBeUndefined()
    expect(lookup.make(3)).toEqual([])
    lookup.append(1)
    expect(lookup.make(2)).toEqual([2, 3])
    expect(lookup.make(0)).toEqual([])
  })

  it('guesses only tokens of the text, in its order, never more than asked', () => {
    const random = seededRandom(7)
    const lookup = createPromptLookup([])
    const text: number[] = []
    for (let i = 0; i < 2_000; i++) {
      const count = random(6)
      const ids = lookup.make(count) as readonly number[]
      const outlook = lookup.outlook()
      expect(ids.length).toBe(Math.min(count, outlook?.most ?? 0))
      if (ids.length > 0) {
        const run = [...text.slice(text.length - outlook!.kind), ...ids].join()
        expect(`,${text.join()},`).toContain(`,${run},`)
      }
      const id = random(5)
      text.push(id)
      lookup.append(id)
    }
  })
})

describe('createDraftWindow', () => {
  type Window = ReturnType<typeof createDraftWindow>
  const lap = (window: Window, ms: number) => window.note({ ms, kind: 0, guesses: 0, right: 0 })
  const free = (kind: number) => ({ kind, most: 99, ready: 99, eachMs: 0, firstMs: 0 })
  const size = (window: Window, kind: number, limit: number) => window.plan(free(kind), limit).guesses

  it('sends many guesses over long laps, few or none where rows cost as much as laps', () => {
    const far = createDraftWindow({ rowMs: 1 })
    lap(far, 200)
    expect(size(far, 4, 15)).toBeGreaterThanOrEqual(4)
    const near = createDraftWindow({ rowMs: 9 })
    lap(near, 10)
    expect(size(near, 1, 15)).toBe(0)
  })

  it('opens with success, closes after failures, and tries again now and then', () => {
    const window = createDraftWindow({ rowMs: 5 })
    lap(window, 50)
    const first = size(window, 3, 15)
    for (let i = 0; i < 20; i++) window.note({ ms: 60, kind: 3, guesses: 2, right: 2 })
    expect(size(window, 3, 15)).toBeGreaterThan(first)
    for (let i = 0; i < 30; i++) window.note({ ms: 60, kind: 3, guesses: 2, right: 0 })
    const sizes = Array.from({ length: 200 }, () => size(window, 3, 15))
    expect(sizes.filter((count) => count > 0).length).toBeLessThanOrEqual(5)
    expect(sizes.some((count) => count > 0)).toBe(true)
  })

  it('never passes the limit, and sends nothing before a lap was timed', () => {
    const window = createDraftWindow()
    expect(size(window, 4, 15)).toBe(0)
    lap(window, 1_000)
    window.note({ ms: 1_001, kind: 4, guesses: 3, right: 3 })
    expect(size(window, 4, 2)).toBe(2)
    expect(size(window, 4, 0)).toBe(0)
  })

  it('makes no guesses that take as long as they save, and reads ahead only when enough is left to save', () => {
    const window = createDraftWindow({ rowMs: 1 })
    lap(window, 100)
    const model = { kind: 5, most: 99, ready: 0, eachMs: 5, firstMs: 0 }
    expect(window.plan(model, 50).guesses).toBeGreaterThan(1)
    expect(window.plan({ ...model, eachMs: 90 }, 50).guesses).toBe(0)
    // Made ahead, the same guesses are free.
    expect(window.plan({ ...model, eachMs: 90, ready: 4 }, 50).guesses).toBe(4)
    const behind = window.plan({ ...model, firstMs: 500 }, 50)
    expect(behind).toMatchObject({ guesses: 0, prepare: true })
    expect(window.plan({ ...model, firstMs: 500 }, 5)).toMatchObject({ guesses: 0, prepare: false })
  })

  it('gives up guesses that are right but make laps slower than they save', () => {
    const window = createDraftWindow({ rowMs: 0 })
    lap(window, 10)
    const model = { kind: 5, most: 99, ready: 0, eachMs: 1, firstMs: 0 }
    expect(window.plan(model, 50).guesses).toBeGreaterThan(0)
    for (let i = 0; i < 6; i++) window.note({ ms: 10, makingMs: 40, kind: 5, guesses: 2, right: 2 })
    expect(window.plan(model, 50).guesses).toBe(0)
  })

  it('looks at a lap without guesses now and then, where it is not clear what they gain', () => {
    const looks = (right: number) => {
      const window = createDraftWindow()
      lap(window, 10)
      let count = 0
      for (let i = 0; i < 100; i++) {
        if (window.due()) count++
        else window.note({ ms: 10, makingMs: 5, kind: 5, guesses: 4, right })
      }
      return count
    }
    expect(looks(4)).toBe(0)
    expect(looks(1)).toBeGreaterThanOrEqual(3)
    expect(looks(1)).toBeLessThanOrEqual(5)
  })

  it('a poor draft costs a long answer less than a twentieth, whatever the lap takes', () => {
    for (const lapMs of [2, 5, 20, 200]) {
      const memory = new Map([[5, newKindRecord(5)]])
      let [spent, tokens] = [0, 0]
      for (let answer = 0; answer < 8; answer++) {
        fadeKindRecord(memory.get(5)!, 5)
        const window = createDraftWindow({ rowMs: lapMs / 10, memory })
        for (let i = 0; i < 100; i++) {
          const { guesses } = window.plan({ kind: 5, most: 99, ready: 0, eachMs: lapMs / 8, firstMs: 0 }, 90)
          const ms = lapMs + (guesses * lapMs) / 10
          const makingMs = (guesses * lapMs) / 8
          window.note({ ms, makingMs, kind: guesses > 0 ? 5 : 0, guesses, right: 0 })
          spent += ms + makingMs
          tokens++
        }
        // The first answer as well, in which nothing is known of it.
        if (answer === 0) expect((tokens * lapMs) / spent).toBeGreaterThan(0.95)
      }
      expect((tokens * lapMs) / spent).toBeGreaterThan(0.95)
    }
  })
})

describe('LanguageModel.generate with drafts', () => {
  const engine = createReferenceEngine()
  let model: Model
  let span: EngineSpan
  let head: EngineHead
  let embedding: Embedding
  let languageModel: LanguageModel

  beforeAll(async () => {
    model = await openModelArgument(join(import.meta.dirname, '../../models/storyteller'))
    span = await engine.loadSpan(model, { start: 0, end: model.spec.blockCount, kvTokens: 512 })
    head = await engine.loadHead(model)
    embedding = await loadEmbedding(model)
    const tokenizer = createTokenizer((await model.tokenizerFiles())!, model.spec)
    const { hiddenSize } = model.spec
    const runner = createLocalSpan(span, { modelId: model.id, hiddenSize, engineName: engine.name })
    languageModel = createLanguageModel({
      model,
      tokenizer,
      embedding,
      head,
      runner,
      clock: farClock(runner),
    })
  })
  afterAll(async () => {
    await head.close()
    await span.close()
    await model.close()
  })

  /** A clock by which every step takes 100 ms and 1 ms a row, as on a far chain. */
  function farClock(runner: SpanRunner): () => number {
    let now = 0
    const open = runner.open.bind(runner)
    runner.open = async (options) => {
      const session = await open(options)
      const step = session.step.bind(session)
      return Object.assign(Object.create(session) as typeof session, {
        step: async (...args: Parameters<typeof step>) => {
          now += 100 + args[0].shape[0]
          return await step(...args)
        },
        rollback: (position: number) => session.rollback(position),
        close: () => session.close(),
      })
    }
    return () => now
  }

  async function ask(promptIds: readonly number[], sampling: SamplingOptions, drafts: boolean) {
    const ids: number[] = []
    let done: GenerateDone | undefined
    const request = { promptIds, sampling, drafts, maxTokens: 20, ignoreEos: true }
    for await (const event of languageModel.generate(request)) {
      if (event.type === 'token') ids.push(event.token.id)
      if (event.type === 'done') done = event
    }
    return { ids, text: done!.text, drafts: done!.drafts }
  }

  it('gives the same tokens, greedy or sampled, with penalties and filters, in fewer laps', async () => {
    const random = seededRandom(11)
    let laps = 0
    let tokens = 0
    const presets: SamplingOptions[] = [
      {},
      // Few tokens to choose from, so that the answer repeats itself as a summary repeats its prompt.
      {
        logitBias: new Map([
          [300, 60],
          [301, 60],
        ]),
        temperature: 0.3,
      },
      { temperature: 0.7 },
      { temperature: 1.2, topK: 20 },
      { repetitionPenalty: 1.2, temperature: 0.5, topP: 0.9 },
    ]
    for (let round = 0; round < 5; round++) {
      const phrase = Array.from({ length: 6 }, () => 10 + random(300))
      const promptIds = [1, ...phrase, ...phrase, ...phrase]
      const sampling = { ...presets[round % presets.length], seed: round }
      const plain = await ask(promptIds, sampling, false)
      const drafted = await ask(promptIds, sampling, true)
      expect(drafted.ids).toEqual(plain.ids)
      expect(plain.drafts).toBeUndefined()
      expect(drafted.drafts!.accepted).toBeLessThanOrEqual(drafted.drafts!.proposed)
      laps += drafted.drafts!.laps
      tokens += drafted.ids.length - 1
    }
    expect(laps).toBeLessThan(tokens - 5)
  })
})
