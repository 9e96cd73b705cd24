import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { firstBlocks, fourBit } from '../../node/cli/bench/draft-models.ts'
import { openModelArgument } from '../../node/open-model-argument.ts'
import { readWasmKernels, startWasmThread } from '../../node/wasm-threads.ts'
import type { Engine, EngineSpan } from '../../src/engine/engine.ts'
import { createWasmEngine } from '../../src/engine/wasm-engine.ts'
import { loadEmbedding } from '../../src/model/embedding.ts'
import type { Model, TokenizerFiles } from '../../src/model/model.ts'
import type { SamplingOptions } from '../../src/sampling/options.ts'
import { createChain } from '../../src/session/chain-span.ts'
import { createClient } from '../../src/session/client.ts'
import type { DraftWish } from '../../src/session/draft-laps.ts'
import { type DraftModel, loadDraftModel } from '../../src/session/draft-model.ts'
import { createLanguageModel } from '../../src/session/generate.ts'
import type { GenerateDone, LanguageModel } from '../../src/session/language-model.ts'
import type { SpanRunner } from '../../src/session/span-runner.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts'
import { seededRandom } from '../protocol/random.ts'
import { createFakeSwarm, type FakeSwarm } from './fake-swarm.ts'

const SHARED = join(import.meta.dirname, '../../../shared/models')
let engine: Engine
let model: Model
let tokenizer: Tokenizer
let draft: DraftModel
/** The draft's span: its engine's, to look into. */
let draftSpan: EngineSpan
const spans: EngineSpan[] = []
let ticks = 0
/** By it everything takes 1 ms: what is worth drafting must not depend on how busy this machine is. */
const draftClock = () => ++ticks

beforeAll(async () => {
  engine = await createWasmEngine({ kernels: readWasmKernels, startThread: startWasmThread, threads: 1 })
  model = await openModelArgument(join(import.meta.dirname, '../../models/storyteller'))
  tokenizer = createTokenizer((await model.tokenizerFiles())!, model.spec)
  const watched: Engine = {
    ...engine,
    loadSpan: async (...args) => (draftSpan = await engine.loadSpan(...args)),
  }
  const parts = { model: fourBit(model), target: model, engine: watched, kvTokens: 512 }
  draft = await loadDraftModel({ ...parts, clock: draftClock })
  for (const [start, end] of [
    [0, 3],
    [3, 5],
    [5, 8],
  ] as const) {
    for (let copy = 0; copy < 2; copy++)
      spans.push(await engine.loadSpan(model, { start, end, kvTokens: 512 }))
  }
})
afterAll(async () => {
  await draft.close()
  for (const span of spans) await span.close()
  await engine.close()
  await model.close()
})

/** Three spans on two servers each, over engine spans that all tests share. */
function createSwarm(): FakeSwarm {
  return createFakeSwarm(
    model.spec.hiddenSize,
    spans.map((engineSpan, i) => ({
      id: `${'abc'[engineSpan.start >> 1 === 0 ? 0 : engineSpan.start === 3 ? 1 : 2]}${i % 2}`,
      start: engineSpan.start,
      end: engineSpan.end,
      engineSpan,
    })),
  )
}

/** A model over a swarm whose laps take 100 ms and 1 ms a row by its clock, as on a far chain. */
async function farModel(swarm: FakeSwarm, guesses: DraftModel | undefined): Promise<LanguageModel> {
  const { id, name, spec } = model
  const record = { modelId: id, name, blockCount: spec.blockCount, hiddenSize: spec.hiddenSize }
  const runner = createChain({ model: record, directory: swarm.directory, connect: swarm.connect })
  let now = 0
  const timed: SpanRunner = {
    ...runner,
    async open(options) {
      const session = await runner.open(options)
      const step: typeof session.step = async (hidden, stepOptions) => {
        const output = await session.step(hidden, stepOptions)
        now += 100 + hidden.shape[0]
        return output
      }
      return Object.assign(Object.create(session) as typeof session, {
        step,
        rollback: (position: number) => session.rollback(position),
        close: () => session.close(),
      })
    },
  }
  const head = await engine.loadHead(model)
  return createLanguageModel({
    model,
    tokenizer,
    embedding: await loadEmbedding(model),
    head,
    runner: timed,
    answerTokens: 128,
    clock: () => now,
    ...(guesses && { draft: { ...guesses, close: async () => undefined } }),
    close: () => head.close(),
  })
}

interface Answer {
  readonly ids: readonly number[]
  readonly text: string
  readonly done: GenerateDone
}

async function ask(
  languageModel: LanguageModel,
  promptIds: readonly number[],
  drafts: DraftWish,
  sampling: SamplingOptions = {},
  maxTokens = 40,
): Promise<Answer> {
  const ids: number[] = []
  let text = ''
  for await (const event of languageModel.generate({
    promptIds,
    sampling,
    drafts,
    maxTokens,
    ignoreEos: true,
  })) {
    if (event.type === 'token') ids.push(event.token.id)
    if (event.type !== 'failover') text += event.text
    if (event.type === 'done') return { ids, text, done: event }
  }
  throw new Error('the last event is not done')
}

const prompt = (text: string) => tokenizer.encodeChat([{ role: 'user', content: text }])
const PRESETS: readonly SamplingOptions[] = [
  {},
  { temperature: 0.7, topP: 0.95, seed: 1 },
  { temperature: 1, topK: 40, minP: 0.05, seed: 2 },
  { temperature: 0.8, topP: 0.9, repetitionPenalty: 1.2, frequencyPenalty: 0.3, topLogprobs: 2, seed: 3 },
]

describe('LanguageModel.generate with a draft model', () => {
  it('gives the same text greedy and sampled, in far fewer laps', async () => {
    const far = await farModel(createSwarm(), draft)
    for (const sampling of PRESETS) {
      const promptIds = prompt('Tell me a story about a brave cat.')
      const plain = await ask(far, promptIds, false, sampling)
      for (const wish of ['model', true] as const) {
        const drafted = await ask(far, promptIds, wish, sampling)
        expect(drafted.ids).toEqual(plain.ids)
        expect(drafted.text).toBe(plain.text)
        const { laps, proposed, accepted, model: own } = drafted.done.drafts!
        expect(laps).toBeLessThan(plain.ids.length / 2)
        expect(own!.accepted).toBeLessThanOrEqual(own!.proposed)
        expect(own!.accepted).toBeGreaterThan(accepted / 2)
        expect(laps + accepted).toBeGreaterThanOrEqual(plain.ids.length - 1)
        expect(proposed).toBeGreaterThanOrEqual(accepted)
      }
      expect(plain.done.drafts).toBeUndefined()
    }
    await far.close()
  })

  it('gives the same text over chains whose servers die while guesses are under way', async () => {
    const promptIds = prompt('Tell me a story about a fox and a bear.')
    const undisturbed = await farModel(createSwarm(), undefined)
    const expected = await Promise.all(
      PRESETS.slice(0, 2).map((one) => ask(undisturbed, promptIds, false, one)),
    )
    await undisturbed.close()
    const random = seededRandom(5)
    for (let round = 0; round < 6; round++) {
      const swarm = createSwarm()
      const far = await farModel(swarm, draft)
      // Three steps a lap: the prompt, the lap that is timed, and what the draft reads meanwhile come first.
      const deaths = new Set([8 + random(4), 14 + random(4)])
      let steps = 0
      for (const server of swarm.servers.values()) {
        server.onStep = () => {
          if (!deaths.has(++steps)) return
          for (const other of swarm.servers.values()) if (other.mode === 'dead') other.mode = 'ok'
          server.mode = 'dead'
        }
      }
      const drafted = await ask(far, promptIds, true, PRESETS[round % 2])
      expect(drafted.ids).toEqual(expected[round % 2]!.ids)
      expect(drafted.done.failovers).toBeGreaterThan(0)
      expect(drafted.done.drafts!.model!.accepted).toBeGreaterThan(5)
      await far.close()
      for (const server of swarm.servers.values()) expect(server.openSessions).toBe(0)
    }
  })

  it('hardly sends guesses of a draft that is hardly ever right', async () => {
    const poor = await loadDraftModel({
      model: firstBlocks(model, 1),
      target: model,
      engine,
      clock: draftClock,
    })
    const far = await farModel(createSwarm(), poor)
    const promptIds = prompt('Tell me a story about a brave cat.')
    let proposed = 0
    let tokens = 0
    for (let seed = 0; seed < 3; seed++) {
      const sampling = { temperature: 1.5, seed }
      const drafted = await ask(far, promptIds, 'model', sampling)
      expect(drafted.ids).toEqual((await ask(far, promptIds, false, sampling)).ids)
      tokens += drafted.ids.length
      proposed += drafted.done.drafts!.proposed
    }
    expect(proposed).toBeLessThan(tokens / 2)
    await far.close()
    await poor.close()
  })

  it('goes on without guesses when the draft has no room, and frees all of it after every answer', async () => {
    const far = await farModel(createSwarm(), draft)
    const room = draftSpan.kvTokensFree
    const full = draftSpan.lease(room)
    const promptIds = prompt('Hello!')
    const without = await ask(far, promptIds, 'model')
    expect(without.done.drafts!.proposed).toBe(0)
    full.release()
    expect((await ask(far, promptIds, 'model')).ids).toEqual(without.ids)
    for (let i = 0; i < 24; i++) {
      const stop = new AbortController()
      let count = 0
      const request = {
        promptIds: [...promptIds, 10 + i],
        maxTokens: 30,
        ignoreEos: true,
        signal: stop.signal,
      }
      for await (const event of far.generate({ ...request, drafts: 'model' })) {
        if (event.type !== 'token') continue
        // Stopped by its signal, left by its reader, or finished, each with a draft under way.
        if (++count === 6 + (i % 8) && i % 3 === 0) stop.abort()
        if (count === 6 + (i % 8) && i % 3 === 1) break
      }
      expect(draftSpan.kvTokensFree).toBe(room)
    }
    await far.close()
  })
})

describe('DraftModel.follow', () => {
  it('guesses what the model itself would say, whatever was confirmed, contradicted or left behind before', async () => {
    const own = await loadDraftModel({ model, target: model, engine, kvTokens: 256 })
    const local = await createClient({ model, tokenizer, engine, backend: { kind: 'local', kvTokens: 512 } })
    const random = seededRandom(3)
    for (const sampling of [{}, { temperature: 0.9, topP: 0.9, repetitionPenalty: 1.1, seed: 9 }]) {
      const text = prompt('Tell me a story.')
      const promptIds = [...text]
      const drafter = own.follow({ promptIds, sampling, maxTokens: 200, ends: new Set() })
      for (let round = 0; round < 12; round++) {
        const count = 1 + random(5)
        const made = [...(await drafter.make(count))]
        // Noise goes by position, and this penalty counts prompt and answer alike.
        const { ids } = await ask(local, text, false, sampling, count)
        expect(made).toEqual(ids)
        // In the middle of its computing the text goes on: some guesses right, then perhaps something else.
        drafter.prepare?.(count + 4)
        if (round % 2 === 0) await new Promise((resolve) => setTimeout(resolve, random(3)))
        for (const id of [
          ...made.slice(0, random(count + 1)),
          ...(round % 3 === 0 ? [] : [10 + random(500)]),
        ]) {
          drafter.append(id)
          text.push(id)
        }
        expect(drafter.outlook()).toMatchObject({ kind: 5, most: 200 - text.length })
      }
      await drafter.close?.()
      expect(drafter.outlook()).toBeUndefined()
    }
    await local.close()
    await own.close()
  })

  it('guesses nothing behind an end of the answer, its room, or its context', async () => {
    const promptIds = prompt('Hello!')
    const ids = [...(await draftOf(promptIds, 99, []).make(40))]
    expect(ids).toHaveLength(40)
    const end = ids.indexOf(ids[4]!)
    expect(await draftOf(promptIds, 99, [ids[4]!]).make(40)).toEqual(ids.slice(0, end + 1))
    expect(await draftOf(promptIds, promptIds.length + 3, []).make(40)).toEqual(ids.slice(0, 3))
    for (const drafter of followed.splice(0)) await drafter.close?.()
    expect(draftSpan.kvTokensFree).toBe(512)
  })

  const followed: ReturnType<DraftModel['follow']>[] = []
  function draftOf(promptIds: readonly number[], maxTokens: number, ends: readonly number[]) {
    const drafter = draft.follow({ promptIds, sampling: {}, maxTokens, ends: new Set(ends) })
    followed.push(drafter)
    return drafter
  }
})

describe('loadDraftModel', () => {
  const changed = (change: (files: TokenizerFiles) => TokenizerFiles): Model => ({
    ...model,
    name: 'other',
    tokenizerFiles: async () => change(structuredClone((await model.tokenizerFiles())!)),
  })
  const refusal = async (other: Model) => {
    const error = await loadDraftModel({ model: other, target: model, engine }).catch(
      (thrown: unknown) => thrown,
    )
    expect(error).toMatchObject({ code: 'bad_config', field: 'draft' })
    return (error as Error).message
  }
  const inner = (files: TokenizerFiles) =>
    files.tokenizer['model'] as { vocab: Record<string, number>; merges: unknown[] }

  it('refuses another tokenizer and names what differs', async () => {
    const swapped = changed((files) => {
      const { vocab } = inner(files)
      const [a, b] = Object.keys(vocab).filter((piece) => vocab[piece] === 300 || vocab[piece] === 301)
      ;[vocab[a!], vocab[b!]] = [vocab[b!]!, vocab[a!]!]
      return files
    })
    expect(await refusal(swapped)).toMatch(
      /^other can't draft for storyteller: token 300 is ".+" there and ".+" here/,
    )
    const fewerMerges = changed((files) => {
      inner(files).merges.pop()
      return files
    })
    expect(await refusal(fewerMerges)).toMatch(/merge \d+ is ".+" there and nothing here/)
    const plainEnd = changed((files) => {
      for (const token of files.tokenizer['added_tokens'] as { special: boolean }[]) token.special = false
      return { ...files, config: {} }
    })
    expect(await refusal(plainEnd)).toMatch(/is special there and not here/)
  })

  it('takes merges written as pairs or as text, and a vocabulary with filler', async () => {
    const same = changed((files) => {
      const { vocab, merges } = inner(files)
      vocab['[PAD2048]'] = 2048
      merges.forEach(
        (merge, i) => (merges[i] = Array.isArray(merge) ? merge.join(' ') : String(merge).split(' ')),
      )
      return files
    })
    await (await loadDraftModel({ model: same, target: model, engine })).close()
  })

  it.skipIf(!existsSync(join(SHARED, 'stories260K')))('refuses a model of another family', async () => {
    const other = await openModelArgument(join(SHARED, 'stories260K/stories260K.gguf'))
    expect(await refusal(other)).toMatch(/can't draft for storyteller: token \d+ is/)
    await other.close()
  })
})
