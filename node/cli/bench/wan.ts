import { Command } from 'commander'
import { createEngine, parseEngineName } from '../../../src/engine/select.ts'
import { ChoraleError } from '../../../src/errors.ts'
import { createClient } from '../../../src/session/client.ts'
import type { LanguageModel } from '../../../src/session/language-model.ts'
import { splitEvenly } from '../../../src/session/trace.ts'
import { createTokenizer } from '../../../src/tokenizer/hf-tokenizer.ts'
import { startOfflineSwarm } from '../../offline-swarm.ts'
import { BUNDLED_MODEL } from '../../model-ports.ts'
import { openModelArgument } from '../../open-model-argument.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { catchInterrupt } from '../chat/interrupt.ts'
import { joinSwarm } from '../chat/join-swarm.ts'
import { type DelayedLinks, freePort, startDelayedLinks } from './delayed-links.ts'
import { draftArgument } from './draft-models.ts'
import { positiveFlag, roundTo } from './flags.ts'
import { type DraftsShown, measureText, prompts, type Run, type TextKind } from './wan-answers.ts'

interface WanOptions {
  model: string
  engine: string
  delays: string
  servers: string
  draft: string
  temperature: string
  tokens: string
  rounds: string
  json?: boolean
}

/** One line of `chorale bench wan --json`. */
export interface WanMeasure {
  /** Servers in the chain. */
  readonly hops: number
  /** Delay of every link, one way. */
  readonly oneWayMs: number
  /** Whether guesses of the next tokens travelled along: none, what the text holds (true), a draft model's as well. */
  readonly drafts: DraftsShown
  /** `repeats`: the answer repeats its prompt, as an edit or a summary does; `story`: it goes its own way. */
  readonly text: TextKind
  readonly tokS: number
  /** 1 ÷ (delays of a lap + its computing); computing is the same chain's lap without delays. */
  readonly boundTokS: number
  readonly ratio: number
  /** Guesses confirmed in a lap. */
  readonly acceptedPerLap: number
  /** From asking, session included, to the first token of a prompt of 300 tokens. */
  readonly firstTokenMs: number
  /** The lap's delays and the computing of a prompt of 300 tokens, without delays measured. */
  readonly firstTokenBoundMs: number
}

const KINDS: readonly TextKind[] = ['repeats', 'story']
const READY_MS = 30_000

/** `chorale bench wan`: what distance costs a chain, and what guessing ahead gives back. */
export function wanBenchCommand(): Command {
  return new Command('wan')
    .description('speed of a chain over links with a delay, with and without drafts, against the bound')
    .option('--model <model>', 'folder, .gguf file or hub name', BUNDLED_MODEL)
    .option('--engine <name>', 'auto, reference, onnx, wasm or wgsl', 'auto')
    .option('--delays <ms>', 'one-way delays to try, separated by commas; 0 comes first', '0,20,50')
    .option('--servers <n>', 'servers in the chain', '3')
    .option(
      '--draft <model>',
      'draft model: q4 (the model in 4 bits), first:N (its first N blocks), a MODEL, or none',
      'q4',
    )
    .option('--temperature <x>', 'of the answers; 0 = greedy', '0')
    .option('--tokens <n>', 'tokens of each answer', '48')
    .option('--rounds <n>', 'rounds whose median is taken', '3')
    .option('--json', 'print one JSON document')
    .action(runWanBench)
}

async function runWanBench(options: WanOptions): Promise<void> {
  const interrupt = catchInterrupt()
  try {
    const results = await measureWan(options, interrupt.signal)
    if (options.json === true) process.stdout.write(`${JSON.stringify({ results }, undefined, 1)}\n`)
    else for (const result of results) process.stdout.write(`${describe(result)}\n`)
  } catch (error) {
    if (interrupt.signal.aborted) throw new ChoraleError('cancelled', 'interrupted', { cause: error })
    throw error
  } finally {
    interrupt.release()
  }
}

async function measureWan(options: WanOptions, signal: AbortSignal): Promise<WanMeasure[]> {
  const servers = positiveFlag(options.servers, 'servers')
  const delays = options.delays.split(',').map(delayOf)
  const platform = createNodePlatform(stderrLogger('error'))
  const { engine } = await createEngine(platform, { name: parseEngineName(options.engine), threads: 1 })
  const closers: (() => Promise<void> | void)[] = [() => engine.close()]
  try {
    const model = await openModelArgument(options.model)
    closers.push(() => model.close())
    const files = await model.tokenizerFiles()
    if (files === undefined) throw new ChoraleError('not_supported', `${model.name} holds no tokenizer`)
    const tokenizer = createTokenizer(files, model.spec)
    const draft = await draftArgument(options.draft, model)
    if (draft) closers.push(() => draft.close())
    const links = startDelayedLinks()
    closers.push(() => links.close())
    const addresses = await delayedAddresses(links, servers)
    const swarm = await startOfflineSwarm({
      model: options.model,
      spans: splitEvenly(model.spec.blockCount, servers),
      engine: engine.name,
      threads: 1,
      signal,
      address: (index) => addresses[index]!,
    })
    closers.push(() => swarm.stop())
    const joined = await joinSwarm({ model, bootstrap: swarm.bootstrap, log: platform.log })
    closers.push(() => joined.close())
    const parts = { model, tokenizer, engine, backend: joined.backend, signal }
    const chain = await createClient({ ...parts, ...(draft && { draft }) })
    closers.push(() => chain.close())
    await untilReady(chain, signal)
    const temperature = temperatureOf(options.temperature)
    return await measureDelays(chain, links, {
      ...options,
      delays,
      hops: servers,
      temperature,
      hasDraft: draft !== undefined,
      signal,
    })
  } finally {
    for (const free of closers.reverse()) await free()
  }
}

/** Where each server listens, and the delayed port that it tells others. */
async function delayedAddresses(links: DelayedLinks, count: number) {
  const addresses: { listen: string[]; announce: string }[] = []
  for (let i = 0; i < count; i++) {
    const port = await freePort()
    const announced = await links.open(port)
    addresses.push({ listen: [`/ip4/127.0.0.1/tcp/${port}`], announce: `/ip4/127.0.0.1/tcp/${announced}` })
  }
  return addresses
}

interface Plan extends Pick<WanOptions, 'tokens' | 'rounds'> {
  readonly delays: readonly number[]
  readonly hops: number
  readonly temperature: number
  readonly hasDraft: boolean
  readonly signal: AbortSignal
}

async function measureDelays(chain: LanguageModel, links: DelayedLinks, plan: Plan): Promise<WanMeasure[]> {
  const results: WanMeasure[] = []
  /** What computing takes: a lap and a prompt without delays. */
  const near = new Map<TextKind, Run>()
  const expected = new Map<TextKind, string>()
  const promptIds = await prompts(chain, plan.signal)
  for (const [index, oneWayMs] of [0, ...plan.delays.filter((delay) => delay > 0)].entries()) {
    links.delay(oneWayMs)
    for (const text of KINDS) {
      // The first round ever opens connections and warms up.
      const runs = await measureText(
        chain,
        { ...plan, text, promptIds: promptIds[text], warm: index === 0 },
        expected,
      )
      if (!near.has(text)) near.set(text, runs.get(false)!)
      const { lapMs, firstMs } = near.get(text)!
      // Client → first server → … → last server → client.
      const delays = (plan.hops + 1) * oneWayMs
      const bound = 1_000 / (delays + lapMs)
      for (const [drafts, run] of runs) {
        const result: WanMeasure = {
          hops: plan.hops,
          oneWayMs,
          drafts,
          text,
          tokS: roundTo(run.tokS, 2),
          boundTokS: roundTo(bound, 2),
          ratio: roundTo(run.tokS / bound, 3),
          acceptedPerLap: roundTo(run.acceptedPerLap, 2),
          firstTokenMs: roundTo(run.firstMs, 1),
          firstTokenBoundMs: roundTo(delays + firstMs, 1),
        }
        results.push(result)
        process.stderr.write(`${describe(result)}\n`)
      }
    }
  }
  return results
}

const READY_POLL_MS = 100

/** Waits until the directory knows servers for every block. @throws `no_chain`. */
async function untilReady(chain: LanguageModel, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + READY_MS
  while (!(await chain.readiness()).ready) {
    if (Date.now() > deadline) throw new ChoraleError('no_chain', 'the servers did not find each other')
    signal.throwIfAborted()
    await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS))
  }
}

function delayOf(text: string): number {
  const delay = Number(text)
  if (delay >= 0 && delay <= 10_000) return delay
  throw new ChoraleError('bad_config', `--delays ${JSON.stringify(text)}: give milliseconds like 0,20,50`, {
    field: 'delays',
  })
}

function temperatureOf(text: string): number {
  const temperature = Number(text)
  if (temperature >= 0 && temperature <= 100) return temperature
  throw new ChoraleError('bad_config', `--temperature ${JSON.stringify(text)}: give a number from 0 to 100`, {
    field: 'temperature',
  })
}

const WORDS: ReadonlyMap<DraftsShown, string> = new Map<DraftsShown, string>([
  [false, ''],
  [true, ', drafts'],
  ['model', ', drafts of a model too'],
])

function describe(result: WanMeasure): string {
  const { hops, oneWayMs, drafts, text, tokS, boundTokS, ratio, acceptedPerLap, firstTokenMs } = result
  const guessed = drafts ? `, ${acceptedPerLap} guesses right a lap` : ''
  return `${hops} servers, ${oneWayMs} ms one way, ${text}${WORDS.get(drafts)}: ${tokS} tok/s, bound ${boundTokS}, ratio ${ratio}${guessed}, first token ${firstTokenMs} ms of ${result.firstTokenBoundMs}`
}
