import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { EngineName } from '../../../src/engine/engine.ts'
import { createEngine } from '../../../src/engine/select.ts'
import { ChoraleError, errorMessage } from '../../../src/errors.ts'
import { createClient } from '../../../src/session/client.ts'
import type { LanguageModel } from '../../../src/session/language-model.ts'
import type { Directory } from '../../../src/session/directory.ts'
import type { RouteHop, Span } from '../../../src/session/span-runner.ts'
import { splitEvenly } from '../../../src/session/trace.ts'
import { createTokenizer } from '../../../src/tokenizer/hf-tokenizer.ts'
import { startOfflineSwarm } from '../../offline-swarm.ts'
import { BUNDLED_MODEL } from '../../model-ports.ts'
import { openModelArgument } from '../../open-model-argument.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { joinSwarm } from '../chat/join-swarm.ts'
import { freePort } from '../bench/delayed-links.ts'
import { startGateway } from '../gateway.ts'
import { createWebPages } from '../../web-pages.ts'
import { startFaultyProxy } from './faulty-proxy.ts'
import { type FaultKind, processVictim, type Victim } from './faults.ts'
import { openServingTabs } from './tabs.ts'
import { watchOutgoingSockets } from './outgoing-sockets.ts'
import { seededRandom } from '../../seeded-random.ts'

export interface ChaosOptions {
  readonly reference?: string
  readonly answers: number
  /** Tokens of each answer. */
  readonly tokens: number
  readonly seed: number
  readonly engine: EngineName | 'auto'
  /** Blocks in the middle are served by tabs of a headless Chromium, which are closed, and whose relay is restarted. */
  readonly browser: boolean
  /** Servers are also told to serve other blocks. */
  readonly rebalance: boolean
  readonly signal: AbortSignal
  readonly onProgress: (line: string) => void
}

/** What `chorale chaos --json` prints. Times are milliseconds from a server's last sign of life to its replacement. */
export interface ChaosReport {
  readonly model: string
  readonly answers: number
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>
  readonly equal: number
  readonly failed: number
  /** Servers replaced; a fault after the last use of a server needs none. */
  readonly failovers: number
  readonly recoveryMs: { readonly p50: number; readonly p95: number; readonly max: number }
}

const SPANS = 3
const REPLICAS = 2
const READY_MS = 60_000
const KINDS: readonly FaultKind[] = ['kill', 'stall', 'cut', 'half-open', 'slow', 'corrupt']

/** The conversations that are answered again and again, greedy and sampled. */
const PROMPTS = [
  { text: 'Tell me a story about a brave cat.', temperature: 0 },
  { text: 'Who are you?', temperature: 0.8 },
  { text: 'Tell me a story about a fox and a bear.', temperature: 1 },
  { text: 'What do you like?', temperature: 0 },
]

/**
 * Asks `answers` times and hurts one server during each answer.
 * @throws `cancelled`, and what keeps the swarm from starting. Answers that fail are counted, not thrown.
 */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { signal, onProgress } = options
  const reference = options.reference ?? BUNDLED_MODEL
  const platform = createNodePlatform(stderrLogger('warn'))
  const sockets = watchOutgoingSockets()
  const closers: (() => Promise<void>)[] = [async () => sockets.close()]
  try {
    const model = await openModelArgument(reference)
    closers.push(() => model.close())
    const files = await model.tokenizerFiles()
    if (files === undefined) throw new ChoraleError('not_supported', `${model.name} holds no tokenizer`)
    const { engine } = await createEngine(platform, { name: options.engine, threads: 1 })
    closers.push(() => engine.close())
    if (options.browser && engine.name !== 'wasm') {
      throw new ChoraleError(
        'bad_config',
        `--browser: tabs compute with wasm here, and answers of ${engine.name} may differ in a token; use --engine wasm`,
        { field: 'engine' },
      )
    }
    const spans = splitEvenly(model.spec.blockCount, SPANS)
    const forTabs = options.browser ? spans.splice(1, 1)[0] : undefined
    onProgress(`starting ${spans.length} × ${REPLICAS} servers of ${model.name}, engine ${engine.name}`)
    const links = await faultyLinks(spans.length * REPLICAS)
    closers.push(async () => links.forEach(({ proxy }) => proxy.close()))
    const folder = await mkdtemp(join(tmpdir(), 'chorale-chaos-'))
    closers.push(() => rm(folder, { recursive: true, force: true }))
    const [tcp, ws] = [await freePort(), await freePort()]
    const listen = [`/ip4/127.0.0.1/tcp/${tcp}`, `/ip4/127.0.0.1/tcp/${ws}/ws`]
    const swarm = await startOfflineSwarm({
      model: reference,
      spans,
      replicas: REPLICAS,
      engine: engine.name,
      threads: 1,
      // The address stays the same when it is restarted: tabs come back to it.
      bootstrapArgs: ['--listen', ...listen, '--identity', join(folder, 'bootstrap.key')],
      address: (index) => ({
        listen: [`/ip4/127.0.0.1/tcp/${links[index]!.port}`, '/ip4/127.0.0.1/tcp/0/ws'],
        announce: `/ip4/127.0.0.1/tcp/${links[index]!.proxy.port}`,
      }),
      ...(options.rebalance && { serveArgs: ['--control', '--drain', '5'] }),
      signal,
    })
    closers.push(() => swarm.stop())
    const joined = await joinSwarm({ model, bootstrap: swarm.bootstrap, log: platform.log })
    closers.push(() => joined.close())
    const { directory } = joined.backend

    let route: readonly RouteHop[] = []
    const languageModel = await createClient({
      model,
      tokenizer: createTokenizer(files, model.spec),
      engine,
      signal,
      backend: {
        ...joined.backend,
        // Sessions start on both replicas in turn.
        seed: countUp(),
        onEvent: (event) => {
          if (event.type === 'opened') route = event.route
        },
      },
    })
    closers.push(() => languageModel.close())
    const atWork = (peerId: string, span?: Span) =>
      untilServed(directory, model.id, [{ peerId, ...span }], signal)
    const victims: Victim[] = swarm.servers.map((server, index) =>
      processVictim(server, {
        sockets,
        proxy: links[index]!.proxy,
        ...(options.rebalance && { elsewhere: spans.find(({ start }) => start !== server.start) ?? server }),
        atHome: (peerId) => atWork(peerId, server),
      }),
    )
    await untilServed(directory, model.id, victims, signal)
    if (forTabs !== undefined) {
      onProgress(`opening ${REPLICAS} tabs for blocks ${forTabs.start}:${forTabs.end}`)
      const gateway = await startGateway({
        models: () => [languageModel],
        port: 0,
        pages: createWebPages(),
        swarmState: async () => ({
          ...(await joined.state()),
          ...(await languageModel.readiness()),
          bootstrap: swarm.bootstrap,
        }),
      })
      closers.push(() => gateway.close(0))
      const tabs = await openServingTabs({
        url: `${gateway.url}/`,
        span: forTabs,
        count: REPLICAS,
        restartRelay: () => swarm.restartBootstrap(),
        atWork,
      })
      closers.push(() => tabs.close())
      victims.push(...tabs.victims)
    }
    return await runTrials({ languageModel, victims, route: () => route }, options)
  } catch (error) {
    if (signal.aborted) throw new ChoraleError('cancelled', 'interrupted', { cause: error })
    throw error
  } finally {
    for (const free of closers.reverse()) await free()
  }
}

interface Trial {
  readonly languageModel: LanguageModel
  readonly victims: readonly Victim[]
  /** The hops of the session that was opened last. */
  readonly route: () => readonly RouteHop[]
}

async function runTrials(trial: Trial, options: ChaosOptions): Promise<ChaosReport> {
  const { languageModel, victims } = trial
  options.onProgress(`${victims.length} servers are up; ${PROMPTS.length} undisturbed answers first`)
  const expected: string[] = []
  for (const index of PROMPTS.keys()) expected.push((await answer(languageModel, index, options)).ids.join())

  const random = seededRandom(options.seed)
  const kinds: readonly FaultKind[] = [
    ...KINDS,
    ...(options.rebalance ? (['move'] as const) : []),
    ...(options.browser ? (['tab-close', 'relay-restart'] as const) : []),
  ]
  const counts: Partial<Record<FaultKind, number>> = Object.fromEntries(kinds.map((kind) => [kind, 0]))
  const recoveries: number[] = []
  let equal = 0
  let failed = 0
  for (let turn = 0; turn < options.answers; turn++) {
    const kind = kinds[turn % kinds.length]!
    const prompt = turn % PROMPTS.length
    const length = expected[prompt]!.split(',').length
    const moment = Math.floor(random() * Math.max(1, length - 1))
    const pick = random()
    // Two servers a span: the one that is not hurt must be there.
    for (const victim of victims) await victim.well()
    let heal: (() => Promise<void>) | undefined
    let outcome: string
    try {
      const { ids, recoveryMs } = await answer(languageModel, prompt, options, (token) => {
        if (token !== moment) return
        const able = victimsOf(victims, trial.route()).filter((victim) => victim.kinds.has(kind))
        heal = able[Math.floor(pick * able.length)]!.hurt(kind)
        counts[kind] = (counts[kind] ?? 0) + 1
      })
      recoveries.push(...recoveryMs)
      const same = ids.join() === expected[prompt]
      if (same) equal++
      outcome = `${same ? 'equal' : 'DIFFERENT'}, recovered in ${recoveryMs.map(Math.round).join(', ') || '–'} ms`
    } catch (error) {
      if (options.signal.aborted) throw error
      failed++
      outcome = `FAILED: ${errorMessage(error)}`
    }
    options.onProgress(`${turn + 1}/${options.answers} ${kind} at token ${moment}: ${outcome}`)
    void heal?.().catch((error: unknown) => {
      if (!options.signal.aborted) options.onProgress(`restart failed: ${errorMessage(error)}`)
    })
  }
  recoveries.sort((a, b) => a - b)
  const quantile = (share: number) =>
    Math.round(recoveries[Math.min(recoveries.length - 1, Math.floor(share * recoveries.length))] ?? 0)
  return {
    model: languageModel.model.name,
    answers: options.answers,
    faults: counts,
    equal,
    failed,
    failovers: recoveries.length,
    recoveryMs: { p50: quantile(0.5), p95: quantile(0.95), max: quantile(1) },
  }
}

/** One answer. @param onToken called after each token with its index. */
async function answer(
  languageModel: LanguageModel,
  prompt: number,
  { tokens, signal }: ChaosOptions,
  onToken?: (index: number) => void,
): Promise<{ ids: number[]; recoveryMs: number[] }> {
  const { tokenizer } = languageModel
  const { text, temperature } = PROMPTS[prompt]!
  const promptIds = tokenizer.hasChatTemplate
    ? tokenizer.encodeChat([{ role: 'user', content: text }], { addGenerationPrompt: true })
    : tokenizer.encode(text)
  const ids: number[] = []
  const recoveryMs: number[] = []
  const sampling = { temperature, seed: prompt }
  const request = { promptIds, maxTokens: tokens, ignoreEos: true, sampling, signal }
  for await (const event of languageModel.generate(request)) {
    if (event.type === 'token') {
      ids.push(event.token.id)
      onToken?.(ids.length - 1)
    } else if (event.type === 'failover') {
      recoveryMs.push(event.recoveryMs)
    } else if (event.finishReason === 'cancelled') {
      throw new ChoraleError('cancelled', 'interrupted')
    }
  }
  return { ids, recoveryMs }
}

/** Servers of a route, each with the port that its bytes go through. */
async function faultyLinks(count: number) {
  return await Promise.all(
    Array.from({ length: count }, async () => {
      const port = await freePort()
      return { port, proxy: await startFaultyProxy(port) }
    }),
  )
}

function victimsOf(victims: readonly Victim[], route: readonly RouteHop[]): readonly Victim[] {
  return route.map((hop) => {
    const victim = victims.find(({ peerId }) => peerId === hop.peer)
    if (victim) return victim
    throw new ChoraleError('internal', `the route names ${hop.peer}, which is no server of this swarm`)
  })
}

/** Waits until the directory names every server online, at its span where one is given. @throws `no_chain`. */
async function untilServed(
  directory: Directory,
  modelId: string,
  servers: readonly ({ readonly peerId: string } & Partial<Span>)[],
  signal: AbortSignal,
): Promise<void> {
  const deadline = Date.now() + READY_MS
  for (;;) {
    const online = (await directory.servers(modelId)).filter(({ state }) => state === 'online')
    const there = servers.filter(({ peerId, start }) =>
      online.some((record) => record.peerId === peerId && (start ?? record.start) === record.start),
    )
    if (there.length === servers.length) return
    if (Date.now() > deadline) {
      throw new ChoraleError(
        'no_chain',
        `the directory names ${there.length} of ${servers.length} servers after ${READY_MS} ms`,
      )
    }
    signal.throwIfAborted()
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

function countUp(): () => number {
  let next = 0
  return () => next++
}
