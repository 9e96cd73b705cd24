import { Command } from 'commander'
import { createEngine, parseEngineName, ENGINE_CHOICES } from '../../../src/engine/select.ts'
import { ChoraleError } from '../../../src/errors.ts'
import type { Model } from '../../../src/model/model.ts'
import { blockRoles } from '../../../src/model/weights.ts'
import { createClient } from '../../../src/session/client.ts'
import type { LanguageModel } from '../../../src/session/language-model.ts'
import { blockSize } from '../../../src/tensor/weight.ts'
import { createTokenizer } from '../../../src/tokenizer/hf-tokenizer.ts'
import { openModelArgument } from '../../open-model-argument.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { activationBitsFlag, collectModel, median, positiveFlag, roundTo } from './flags.ts'
import { benchModels } from './models.ts'

interface BatchOptions {
  model: string[]
  engine: string
  threads?: string
  activationBits: string[]
  sessions: string
  tokens: string
  rounds: string
  seconds: string
  json?: boolean
}

/** Many answers at once against one, on the same engine. */
interface BatchMeasure {
  readonly model: string
  readonly engine: string
  readonly threads: number
  /** To which the wasm engine rounds activations before they meet quantised weights. */
  readonly activationBits?: 8 | 15
  readonly sessions: number
  /** Tokens per second of one answer alone, and of all answers together. */
  readonly soloTokS: number
  readonly aggregateTokS: number
  readonly ratio: number
  /** Every session's tokens are those it gives alone. */
  readonly tokensEqual: boolean
}

const PROMPT_TOKENS = 16

/** `chorale bench batch`: what a server gains by computing many sessions together. */
export function batchBenchCommand(): Command {
  return new Command('batch')
    .description('decode speed of many answers at once, against one alone, on the same engine')
    .option('--model <model>', 'model to measure; repeatable', collectModel, [])
    .option('--engine <name>', ENGINE_CHOICES, 'auto')
    .option('--threads <n>', 'CPU threads of the engine')
    .option(
      '--activation-bits <bits...>',
      'wasm: measure with activations of 15 bits (the default engine), 8, or both',
      ['15', '8'],
    )
    .option('--sessions <n>', 'answers at once', '16')
    .option('--tokens <n>', 'tokens of each answer', '32')
    .option('--rounds <n>', 'fewest rounds whose median is taken', '3')
    .option('--seconds <n>', 'time to go on with rounds: those of small models are short and noisy', '5')
    .option('--json', 'print one JSON document')
    .action(runBatchBench)
}

async function runBatchBench(options: BatchOptions): Promise<void> {
  const results: BatchMeasure[] = []
  const bits = options.activationBits.map(activationBitsFlag)
  for (const model of await benchModels(options.model)) {
    for (const [i, activationBits] of bits.entries()) {
      const result = await measure(model, options, activationBits)
      // Engines that round nothing are measured once.
      if (i > 0 && result.activationBits === undefined) break
      results.push(result)
      process.stderr.write(`${describe(result)}\n`)
    }
  }
  if (options.json === true) process.stdout.write(`${JSON.stringify({ results }, undefined, 1)}\n`)
  else for (const result of results) process.stdout.write(`${describe(result)}\n`)
  if (!results.every((result) => result.tokensEqual)) process.exitCode = 1
}

async function measure(
  reference: string,
  options: BatchOptions,
  activationBits: 8 | 15,
): Promise<BatchMeasure> {
  const sessions = positiveFlag(options.sessions, 'sessions')
  const tokens = positiveFlag(options.tokens, 'tokens')
  const rounds = positiveFlag(options.rounds, 'rounds')
  const seconds = positiveFlag(options.seconds, 'seconds')
  const threads = options.threads === undefined ? undefined : positiveFlag(options.threads, 'threads')
  const model = await openModelArgument(reference)
  const { engine } = await createEngine(createNodePlatform(stderrLogger('warn')), {
    name: parseEngineName(options.engine),
    activationBits,
    ...(threads !== undefined && { threads }),
  })
  try {
    const files = await model.tokenizerFiles()
    if (files === undefined) throw new ChoraleError('not_supported', `${model.name} holds no tokenizer`)
    // Sessions take whole pages of the cache.
    const kvTokens = sessions * (PROMPT_TOKENS + tokens + 32)
    const languageModel = await createClient({
      model,
      tokenizer: createTokenizer(files, model.spec),
      engine,
      // Each round asks the same.
      backend: { kind: 'local', kvTokens, prefixCache: false },
    })
    try {
      const prompts = Array.from({ length: sessions }, (_, session) =>
        promptOf(session, model.spec.vocabSize),
      )
      const solo: number[] = []
      const together: number[] = []
      const expected = await oneByOne(languageModel, prompts, tokens)
      let tokensEqual = true
      const until = performance.now() + seconds * 1000
      for (let round = 0; round <= rounds || performance.now() < until; round++) {
        const alone = await answers(languageModel, [prompts[round % sessions] as number[]], tokens)
        const all = await answers(languageModel, prompts, tokens)
        tokensEqual &&= all.ids.every((ids, session) => ids.join() === expected[session]?.join())
        if (round === 0) continue
        solo.push(alone.tokS)
        together.push(all.tokS)
      }
      const [soloTokS, aggregateTokS] = [roundTo(median(solo), 1), roundTo(median(together), 1)]
      const ratio = roundTo(median(together) / median(solo), 2)
      const { name } = model
      return {
        model: name,
        engine: engine.name,
        threads: engine.threads,
        ...(engine.name === 'wasm' && isQuantised(model) && { activationBits }),
        sessions,
        soloTokS,
        aggregateTokS,
        ratio,
        tokensEqual,
      }
    } finally {
      await languageModel.close()
    }
  } finally {
    await engine.close()
    await model.close()
  }
}

/** The ids of every answer alone. */
async function oneByOne(
  languageModel: LanguageModel,
  prompts: readonly number[][],
  tokens: number,
): Promise<number[][]> {
  const ids: number[][] = []
  for (const prompt of prompts) ids.push(...(await answers(languageModel, [prompt], tokens)).ids)
  return ids
}

/**
 * Greedy answers at once; their tokens per second while all of them decode, from one token of the first answer to a later
 * one: between two of these every answer goes on by as many.
 */
async function answers(
  languageModel: LanguageModel,
  prompts: readonly (readonly number[])[],
  tokens: number,
): Promise<{ ids: number[][]; tokS: number }> {
  let prefilled = 0
  let counted = 0
  let isOneOver = false
  let from: { at: number; counted: number } | undefined
  let to = { at: 0, counted: 0 }
  const ids = await Promise.all(
    prompts.map(async (promptIds, session) => {
      const mine: number[] = []
      for await (const event of languageModel.generate({ promptIds, maxTokens: tokens, ignoreEos: true })) {
        if (event.type !== 'token') continue
        counted++
        if (mine.push(event.token.id) === 1) prefilled++
        if (session === 0 && prefilled === prompts.length && !isOneOver) {
          to = { at: performance.now(), counted }
          from ??= to
        }
        isOneOver ||= mine.length === tokens
      }
      return mine
    }),
  )
  if (from === undefined || from === to) {
    throw new ChoraleError(
      'bad_config',
      `${tokens} tokens are too few for ${prompts.length} answers to decode together`,
      {
        field: 'tokens',
      },
    )
  }
  return { ids, tokS: ((to.counted - from.counted) * 1000) / (to.at - from.at) }
}

/** Whether some weights of a block are in groups of 8 or 4 bits. */
function isQuantised({ spec, weights }: Model): boolean {
  return blockRoles(spec).some((role) => blockSize(weights.blockInfo(0, role).dtype) > 1)
}

/** A prompt of its own for every session, so that equal tokens can't come from a mix-up. */
function promptOf(session: number, vocabSize: number): number[] {
  return Array.from({ length: PROMPT_TOKENS }, (_, at) => (session * 131 + at * 97 + 11) % vocabSize)
}

function describe(result: BatchMeasure): string {
  const { model, engine, activationBits, sessions, soloTokS, aggregateTokS, ratio, tokensEqual } = result
  const equal = tokensEqual ? 'tokens equal' : 'TOKENS DIFFER'
  const rounded = activationBits === undefined ? '' : `, ${activationBits}-bit activations`
  return `${model} ${engine}${rounded}: ${sessions} sessions ${aggregateTokS} tok/s, one ${soloTokS} tok/s, ratio ${ratio}, ${equal}`
}
