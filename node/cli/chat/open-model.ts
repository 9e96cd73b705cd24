import { createEngine } from '../../../src/engine/select.ts'
import type { Engine, EngineName } from '../../../src/engine/engine.ts'
import { ChoraleError } from '../../../src/errors.ts'
import type { Logger } from '../../../src/log.ts'
import type { Model } from '../../../src/model/model.ts'
import { createClient, type Backend } from '../../../src/session/client.ts'
import type { LanguageModel } from '../../../src/session/language-model.ts'
import { resolveModel } from '../../../src/store/resolve-model.ts'
import { createTokenizer } from '../../../src/tokenizer/hf-tokenizer.ts'
import { BUNDLED_MODEL, createModelPorts } from '../../model-ports.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { createStyle, createProgress } from '../terminal.ts'
import { joinSwarm } from './join-swarm.ts'
import { startPrivateSwarm } from './private-swarm.ts'

export interface OpenToAskOptions {
  /** A MODEL argument; default: the bundled model. */
  readonly reference: string | undefined
  readonly revision?: string | undefined
  readonly engine: EngineName | 'auto'
  /** All blocks in this process, no network. */
  readonly local: boolean
  /** Peers that lead into the network; without them and without `local` an offline swarm is started. */
  readonly bootstrap: readonly string[] | undefined
  readonly signal: AbortSignal
  readonly log?: Logger
}

/** A model one can ask, with what was started for it. */
export interface OpenedModel {
  readonly languageModel: LanguageModel
  /** For people: which engine and why, which peers serve what. */
  readonly lines: readonly string[]
  /** What dashboards show of the swarm; undefined without one. */
  readonly swarmState: (() => Promise<unknown>) | undefined
  /** Frees the model and ends all that was started. */
  close(): Promise<void>
}

/**
 * Opens a model where the flags say: in this process, in a network, or in an offline swarm of its own.
 * @throws `not_found`, `bad_file`, `not_supported` without a tokenizer, `engine`, `unreachable`, `cancelled`.
 */
export async function openModelToAsk(options: OpenToAskOptions): Promise<OpenedModel> {
  const log = options.log ?? stderrLogger('error')
  const progress = createProgress(process.stderr)
  const closers: (() => Promise<void>)[] = []
  const close = async () => {
    progress.end()
    for (const free of closers.splice(0).reverse()) await free()
  }
  try {
    const reference = options.reference ?? BUNDLED_MODEL
    const model = await resolveModel(reference, createModelPorts(log), {
      signal: options.signal,
      revision: options.revision,
      onProgress: ({ loadedBytes, totalBytes }) => progress.update('fetching', loadedBytes, totalBytes),
    })
    closers.push(() => model.close())
    const tokenizer = await tokenizerOf(model)
    const { engine, why } = await createEngine(createNodePlatform(log), { name: options.engine })
    closers.push(() => engine.close())
    const place = await openBackend(options, { reference, model, engine, log, closers, progress })
    const languageModel = await createClient({
      model,
      tokenizer,
      engine,
      backend: place.backend,
      signal: options.signal,
      onProgress: (loaded, total) => progress.update('loading', loaded, total),
    })
    closers.push(() => languageModel.close())
    progress.end()
    const lines = [`engine ${engine.name}: ${why}`, ...place.lines]
    const swarmState = place.swarmState
    return {
      languageModel,
      lines,
      swarmState:
        swarmState && (async () => ({ ...(await swarmState()), ready: await languageModel.readiness() })),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

interface Place {
  readonly backend: Backend
  readonly lines: readonly string[]
  readonly swarmState?: () => Promise<object>
}

async function openBackend(
  options: OpenToAskOptions,
  parts: {
    readonly reference: string
    readonly model: Model
    readonly engine: Engine
    readonly log: Logger
    readonly closers: (() => Promise<void>)[]
    readonly progress: ReturnType<typeof createProgress>
  },
): Promise<Place> {
  const { model, log, closers, progress } = parts
  if (options.local) return { backend: { kind: 'local' }, lines: ['all blocks run in this process'] }
  const own = options.bootstrap === undefined
  let bootstrap = options.bootstrap ?? []
  if (own) {
    const swarm = await startPrivateSwarm({
      reference: parts.reference,
      blockCount: model.spec.blockCount,
      engine: options.engine,
      signal: options.signal,
      onReady: (ready, total) => progress.update(`starting a swarm: ${ready} of ${total} processes`, 0, 0),
    })
    closers.push(() => swarm.stop())
    bootstrap = swarm.bootstrap
  }
  const joined = await joinSwarm({ model, bootstrap, log })
  closers.push(() => joined.close())
  return { backend: joined.backend, lines: [await joined.describe(options.signal)], swarmState: joined.state }
}

/** @throws `not_supported` when the model's files hold no tokenizer. */
async function tokenizerOf(model: Model) {
  const files = await model.tokenizerFiles()
  if (files === undefined) {
    throw new ChoraleError('not_supported', `${model.name} holds no tokenizer (tokenizer.json is missing)`)
  }
  return createTokenizer(files, model.spec)
}

/** Shows what was opened on stderr. */
export function showLines(lines: readonly string[]): void {
  const style = createStyle(process.stderr)
  for (const line of lines) process.stderr.write(`${style.dim(line)}\n`)
}
