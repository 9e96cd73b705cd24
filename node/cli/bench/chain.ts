import { Command } from 'commander'
import { createEngine, parseEngineName, ENGINE_CHOICES } from '../../../src/engine/select.ts'
import { ChoraleError, errorMessage } from '../../../src/errors.ts'
import { createClient } from '../../../src/session/client.ts'
import type { LanguageModel } from '../../../src/session/language-model.ts'
import { splitEvenly } from '../../../src/session/trace.ts'
import { createTokenizer } from '../../../src/tokenizer/hf-tokenizer.ts'
import { startOfflineSwarm } from '../../offline-swarm.ts'
import { openModelArgument } from '../../open-model-argument.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { catchInterrupt } from '../chat/interrupt.ts'
import { joinSwarm } from '../chat/join-swarm.ts'
import { collectModel, median, positiveFlag, roundTo } from './flags.ts'
import { benchModels } from './models.ts'

interface ChainOptions {
  model: string[]
  engine: string
  threads: string
  rounds: string
  tokens: string
  servers: string
  json?: boolean
}

/** One model's speed on one machine, alone and over server processes on loopback. */
export interface ChainMeasure {
  readonly model: string
  readonly engine: string
  readonly threads: number
  readonly servers: number
  /** Medians of decode speed, tokens per second. */
  readonly localTokS: number
  readonly chainTokS: number
  readonly ratio: number
}

const PROMPT_TOKENS = 16

/** `chorale bench chain`: what the network costs a model that one machine could hold. */
export function chainBenchCommand(): Command {
  return (
    new Command('chain')
      .description('decode speed over server processes on loopback, against one process with the same engine')
      .option('--model <model>', 'model to measure; repeatable', collectModel, [])
      // Float32 on every machine, so that ratios of different machines and releases compare.
      .option('--engine <name>', ENGINE_CHOICES, 'onnx')
      .option('--threads <n>', 'CPU threads of the local process and of each server', '1')
      .option('--servers <n>', 'server processes', '3')
      .option('--rounds <n>', 'alternating rounds whose median is taken', '5')
      .option('--tokens <n>', 'tokens a round', '48')
      .option('--json', 'print one JSON document')
      .action(runChainBench)
  )
}

async function runChainBench(options: ChainOptions): Promise<void> {
  const results: ChainMeasure[] = []
  const failed: { readonly model: string; readonly error: string }[] = []
  const interrupt = catchInterrupt()
  try {
    for (const model of await benchModels(options.model)) {
      interrupt.signal.throwIfAborted()
      try {
        const result = await measure(model, options, interrupt.signal)
        results.push(result)
        process.stderr.write(`${describe(result)}\n`)
      } catch (error) {
        if (interrupt.signal.aborted) throw new ChoraleError('cancelled', 'interrupted', { cause: error })
        failed.push({ model, error: errorMessage(error) })
        process.stderr.write(`${model}: ${errorMessage(error)}\n`)
      }
    }
  } finally {
    interrupt.release()
  }
  if (options.json === true) process.stdout.write(`${JSON.stringify({ results, failed }, undefined, 1)}\n`)
  else for (const result of results) process.stdout.write(`${describe(result)}\n`)
  if (failed.length > 0 || results.length === 0) process.exitCode = 1
}

async function measure(reference: string, options: ChainOptions, signal: AbortSignal): Promise<ChainMeasure> {
  const platform = createNodePlatform(stderrLogger('warn'))
  const threads = positiveFlag(options.threads, 'threads')
  const { engine } = await createEngine(platform, { name: parseEngineName(options.engine), threads })
  const closers: (() => Promise<void>)[] = [() => engine.close()]
  try {
    const model = await openModelArgument(reference)
    closers.push(() => model.close())
    const files = await model.tokenizerFiles()
    if (files === undefined) throw new ChoraleError('not_supported', `${model.name} holds no tokenizer`)
    const tokenizer = createTokenizer(files, model.spec)
    const local = await createClient({ model, tokenizer, engine, backend: { kind: 'local', kvTokens: 512 } })
    closers.push(() => local.close())

    const servers = positiveFlag(options.servers, 'servers')
    const swarm = await startOfflineSwarm({
      model: reference,
      spans: splitEvenly(model.spec.blockCount, servers),
      engine: engine.name,
      threads,
      signal,
      onLine: (who, line) => platform.log.debug(line, { who }),
    })
    closers.push(() => swarm.stop())
    const joined = await joinSwarm({ model, bootstrap: swarm.bootstrap, log: platform.log })
    closers.push(() => joined.close())
    const chain = await createClient({ model, tokenizer, engine, backend: joined.backend, signal })
    closers.push(() => chain.close())
    await untilReady(chain, signal)

    const speeds = await alternate(local, chain, options, signal)
    const [localTokS, chainTokS] = [median(speeds.local), median(speeds.chain)]
    const ratio = roundTo(chainTokS / localTokS, 3)
    const name = model.name
    return { model: name, engine: engine.name, threads, servers, localTokS, chainTokS, ratio }
  } finally {
    for (const free of closers.reverse()) await free()
  }
}

/** Local, chain, local, chain: what else the machine does meets both alike. The first round of each only warms up. */
async function alternate(
  local: LanguageModel,
  chain: LanguageModel,
  options: ChainOptions,
  signal: AbortSignal,
): Promise<{ local: number[]; chain: number[] }> {
  const tokens = positiveFlag(options.tokens, 'tokens')
  const speeds = { local: [] as number[], chain: [] as number[] }
  for (let turn = 0; turn <= positiveFlag(options.rounds, 'rounds'); turn++) {
    const here = await decodeSpeed(local, tokens, signal)
    const there = await decodeSpeed(chain, tokens, signal)
    if (here.ids.join() !== there.ids.join()) {
      throw new ChoraleError('internal', `${local.model.name}: the chain's tokens differ from the local ones`)
    }
    if (turn === 0) continue
    speeds.local.push(here.tokS)
    speeds.chain.push(there.tokS)
  }
  return speeds
}

async function decodeSpeed(languageModel: LanguageModel, tokens: number, signal: AbortSignal) {
  const { vocabSize } = languageModel.model.spec
  const promptIds = Array.from({ length: PROMPT_TOKENS }, (_, index) => (index * 97 + 11) % vocabSize)
  const ids: number[] = []
  // Guesses would hide what the network costs.
  const request = { promptIds, maxTokens: tokens + 1, ignoreEos: true, drafts: false, signal }
  for await (const event of languageModel.generate(request)) {
    if (event.type === 'token') ids.push(event.token.id)
    if (event.type !== 'done') continue
    if (event.finishReason === 'cancelled') throw new ChoraleError('cancelled', 'interrupted')
    return { ids, tokS: roundTo(tokens / (event.timings.decodeMs / 1000), 2) }
  }
  throw new ChoraleError('internal', 'an answer ended without its last event')
}

const READY_MS = 30_000

/** Waits until the directory knows servers for every block. @throws `no_chain`. */
async function untilReady(languageModel: LanguageModel, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + READY_MS
  while (!(await languageModel.readiness()).ready) {
    if (Date.now() > deadline) throw new ChoraleError('no_chain', 'the servers did not find each other')
    signal.throwIfAborted()
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

function describe(result: ChainMeasure): string {
  const { model, engine, threads, servers, localTokS, chainTokS, ratio } = result
  return `${model} ${engine} ×${threads}: local ${localTokS} tok/s, over ${servers} servers ${chainTokS} tok/s, ratio ${ratio}`
}
