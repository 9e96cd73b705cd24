import type { EngineName } from '../../../src/engine/engine.ts'
import { createEngine } from '../../../src/engine/select.ts'
import { ChoraleError, errorMessage } from '../../../src/errors.ts'
import { createClient } from '../../../src/session/client.ts'
import type { LanguageModel } from '../../../src/session/language-model.ts'
import type { RouteHop } from '../../../src/session/span-runner.ts'
import { splitEvenly } from '../../../src/session/trace.ts'
import { createTokenizer } from '../../../src/tokenizer/hf-tokenizer.ts'
import { type OfflineServer, startOfflineSwarm } from '../../offline-swarm.ts'
import { BUNDLED_MODEL } from '../../model-ports.ts'
import { openModelArgument } from '../../open-model-argument.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { joinSwarm } from '../chat/join-swarm.ts'
import { createFaults, type FaultKind, type Faults } from './faults.ts'
import { watchOutgoingSockets } from './outgoing-sockets.ts'
import { seededRandom } from '../../seeded-random.ts'

export interface ChaosOptions {
  readonly reference?: string
  readonly answers: number
  /** Tokens of each answer. */
  readonly tokens: number
  readonly seed: number
  readonly engine: EngineName | 'auto'
  readonly signal: AbortSignal
  readonly onProgress: (line: string) => void
}

/** What `chorale chaos --json` prints. Times are milliseconds from a server's last sign of life to its replacement. */
export interface ChaosReport {
  readonly model: string
  readonly answers: number
  readonly faults: Readonly<Record<FaultKind, number>>
  readonly equal: number
  readonly failed: number
  /** Servers replaced; a fault after the last use of a server needs none. */
  readonly failovers: number
  readonly recoveryMs: { readonly p50: number; readonly p95: number; readonly max: number }
}

const SPANS = 3
const REPLICAS = 2
const READY_MS = 30_000
const KINDS: readonly FaultKind[] = ['kill', 'stall', 'cut']

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
    const spans = splitEvenly(model.spec.blockCount, SPANS)
    onProgress(`starting ${spans.length} × ${REPLICAS} servers of ${model.name}, engine ${engine.name}`)
    const swarm = await startOfflineSwarm({
      model: reference,
      spans,
      replicas: REPLICAS,
      engine: engine.name,
      threads: 1,
      signal,
    })
    closers.push(() => swarm.stop())
    const joined = await joinSwarm({ model, bootstrap: swarm.bootstrap, log: platform.log })
    closers.push(() => joined.close())

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
    await untilServed(joined.backend.directory, model.id, swarm.servers, signal)
    const trial = { languageModel, servers: swarm.servers, faults: createFaults(sockets), route: () => route }
    return await runTrials(trial, options)
  } catch (error) {
    if (signal.aborted) throw new ChoraleError('cancelled', 'interrupted', { cause: error })
    throw error
  } finally {
    for (const free of closers.reverse()) await free()
  }
}

interface Trial {
  readonly languageModel: LanguageModel
  readonly servers: readonly OfflineServer[]
  readonly faults: Faults
  /** The hops of the session that was opened last. */
  readonly route: () => readonly RouteHop[]
}

async function runTrials(trial: Trial, options: ChaosOptions): Promise<ChaosReport> {
  const { languageModel, faults } = trial
  options.onProgress(`${trial.servers.length} servers are up; ${PROMPTS.length} undisturbed answers first`)
  const expected: string[] = []
  for (const index of PROMPTS.keys()) expected.push((await answer(languageModel, index, options)).ids.join())

  const random = seededRandom(options.seed)
  const counts: Record<FaultKind, number> = { kill: 0, stall: 0, cut: 0 }
  const recoveries: number[] = []
  let equal = 0
  let failed = 0
  for (let turn = 0; turn < options.answers; turn++) {
    const kind = KINDS[turn % KINDS.length]!
    const prompt = turn % PROMPTS.length
    const length = expected[prompt]!.split(',').length
    const moment = Math.floor(random() * Math.max(1, length - 1))
    const pick = random()
    // Two servers a span: the one that is not hurt must be there.
    for (const server of trial.servers) await faults.well(server)
    let heal: (() => Promise<void>) | undefined
    let outcome: string
    try {
      const { ids, recoveryMs } = await answer(languageModel, prompt, options, (token) => {
        if (token !== moment) return
        const hops = trial.route()
        const victim = serverOf(trial.servers, hops[Math.floor(pick * hops.length)]!)
        heal = faults.inject(kind, victim)
        counts[kind]++
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

function serverOf(servers: readonly OfflineServer[], hop: RouteHop): OfflineServer {
  const server = servers.find(({ peerId }) => peerId === hop.peer)
  if (!server)
    throw new ChoraleError('internal', `the route names ${hop.peer}, which is no server of this swarm`)
  return server
}

/** Waits until the directory names every server. @throws `no_chain`. */
async function untilServed(
  directory: { servers(modelId: string): Promise<readonly { peerId: string; state: string }[]> },
  modelId: string,
  servers: readonly OfflineServer[],
  signal: AbortSignal,
): Promise<void> {
  const deadline = Date.now() + READY_MS
  for (;;) {
    const online = (await directory.servers(modelId)).filter(({ state }) => state === 'online')
    if (servers.every(({ peerId }) => online.some((record) => record.peerId === peerId))) return
    if (Date.now() > deadline) {
      throw new ChoraleError(
        'no_chain',
        `the directory names ${online.length} of ${servers.length} servers after ${READY_MS} ms`,
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
