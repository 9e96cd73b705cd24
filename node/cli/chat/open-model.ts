import { createEngine } from '../../../src/engine/select.ts'
import type { EngineName } from '../../../src/engine/engine.ts'
import { ChoraleError } from '../../../src/errors.ts'
import type { Logger } from '../../../src/log.ts'
import type { Metrics } from '../../../src/metrics.ts'
import type { Model } from '../../../src/model/model.ts'
import { createClient } from '../../../src/session/client.ts'
import { assertSameTokenizer } from '../../../src/session/draft-tokenizer.ts'
import type { LanguageModel } from '../../../src/session/language-model.ts'
import type { NetworkModel } from '../../../src/session/network-models.ts'
import type { Identity } from '../../../src/swarm/identity.ts'
import type { ReceiptStore } from '../../../src/swarm/receipt-store.ts'
import { createTokenizer } from '../../../src/tokenizer/hf-tokenizer.ts'
import type { Tokenizer } from '../../../src/tokenizer/tokenizer.ts'
import { BUNDLED_MODEL } from '../../model-ports.ts'
import { joinSubnet, type Subnet, type SubnetPlace } from '../../join-subnet.ts'
import { openModelArgument } from '../../open-model-argument.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { viewSubnet } from '../../subnet-view.ts'
import { createProgress, createStyle, type Progress } from '../terminal.ts'
import { joinSwarm } from './join-swarm.ts'
import { type PrivateSwarm, startPrivateSwarm } from './private-swarm.ts'

export interface OpenToAskOptions {
  /** A MODEL argument; default: the bundled model. */
  readonly reference: string | undefined
  readonly revision?: string | undefined
  /** A MODEL argument: what guesses for it on this machine; `none` or undefined: nothing does. */
  readonly draft?: string | undefined
  /** Further MODEL arguments to ask beside it. */
  readonly others?: readonly {
    readonly reference: string
    readonly revision?: string | undefined
    readonly draft?: string | undefined
  }[]
  readonly engine: EngineName | 'auto'
  /** All blocks in this process, no network. */
  readonly local: boolean
  /** Peers that lead into the network; without them and without `local` an offline swarm is started. */
  readonly bootstrap: readonly string[] | undefined
  /** The subnet whose nodes alone are trusted with the work, and who this peer is there. */
  readonly subnet?: SubnetPlace | undefined
  readonly identity?: Identity | undefined
  /** Gives passes to pages at this peer's expense, which are to reach it at `listen`; needs the stake to sponsor. */
  readonly sponsor?: { readonly listen: readonly string[] } | undefined
  /** Keeps the receipts of the sessions; closed by the caller. */
  readonly receipts?: ReceiptStore | undefined
  /** The gate's numbers go here. */
  readonly metrics?: Metrics | undefined
  readonly signal: AbortSignal
  readonly log?: Logger
}

/** A model one can ask, with what was started for it. */
export interface OpenedModel {
  readonly languageModel: LanguageModel
  /** It, and those of `others`. */
  readonly languageModels: readonly LanguageModel[]
  /** Models that guess for the first one. */
  readonly drafts: readonly Model[]
  /** Every model of the network; undefined without one. */
  readonly networkModels: (() => Promise<readonly NetworkModel[]>) | undefined
  /** For people: which engine and why, which peers serve what. */
  readonly lines: readonly string[]
  /** Peers that lead into the network; none with `local`. */
  readonly bootstrap: readonly string[]
  /** The subnet on its ledger, where there is one. */
  readonly subnet: SubnetPlace | undefined
  /** What dashboards show of the swarm; undefined without one. */
  readonly swarmState: (() => Promise<unknown>) | undefined
  /** Frees the model and ends all that was started. */
  close(): Promise<void>
}

/**
 * Opens a model where the flags say: in this process, in a network, or in an offline swarm of its own.
 * @throws `not_found`, `bad_file`, `not_supported` without a tokenizer, `bad_config` for a draft with another one,
 * `engine`, `unreachable`, `cancelled`.
 */
export async function openModelToAsk(options: OpenToAskOptions): Promise<OpenedModel> {
  const progress = createProgress(process.stderr)
  const closers: (() => Promise<void>)[] = []
  const close = async () => {
    for (const free of closers.splice(0).reverse()) await free()
  }
  try {
    const opened = await open(options, closers, progress)
    return { ...opened, close }
  } catch (error) {
    await close()
    throw error
  } finally {
    progress.end()
  }
}

type Opened = Omit<OpenedModel, 'close'>
type Closers = (() => Promise<void>)[]

async function open(options: OpenToAskOptions, closers: Closers, progress: Progress): Promise<Opened> {
  const { reference = BUNDLED_MODEL, signal, log = stderrLogger('error') } = options
  const asked: AskedModel[] = []
  for (const one of [{ ...options, reference }, ...(options.others ?? [])]) {
    asked.push(await openWithTokenizer(one.reference, { ...one, signal }, closers))
  }
  const [{ model }, ...others] = asked as [AskedModel, ...AskedModel[]]
  const { engine, why } = await createEngine(createNodePlatform(log), { name: options.engine })
  closers.push(() => engine.close())
  const own =
    options.local || options.bootstrap !== undefined
      ? undefined
      : await ownSwarm(options, model, closers, progress)
  const bootstrap = own?.bootstrap ?? options.bootstrap ?? []
  const place = own?.subnet ?? options.subnet
  const { metrics, receipts, sponsor } = options
  const subnet = place && (await joinSubnet(place, { log, ...(metrics && { metrics }) }))
  if (subnet) closers.push(() => subnet.close())
  const identity = own?.client ?? options.identity
  const joined = options.local
    ? undefined
    : await joinSwarm({
        model,
        others: others.map((other) => other.model),
        bootstrap,
        log,
        ...(identity && { identity }),
        ...(subnet && { gate: subnet.gate }),
        ...(receipts && { receipts }),
        ...(metrics && { metrics }),
        ...(sponsor && { sponsor: {}, listen: sponsor.listen }),
      })
  if (joined !== undefined) closers.push(() => joined.close())
  if (joined && subnet && sponsor) assertSponsor(subnet, joined.peerId)
  // Pages that need a pass ask for it where it is given.
  const entrances = [...bootstrap, ...(joined?.addrs ?? [])]
  const languageModels: LanguageModel[] = []
  for (const one of asked) {
    const client = await createClient({
      ...one,
      engine,
      log,
      backend: joined?.backendOf(one.model) ?? { kind: 'local' },
      signal,
      onProgress: (loaded, total) => progress.update('loading', loaded, total),
    })
    closers.push(() => client.close())
    languageModels.push(client)
  }
  const drafts = asked.slice(0, 1).flatMap(({ draft }) => draft ?? [])
  const [languageModel] = languageModels as [LanguageModel, ...LanguageModel[]]
  const who = joined === undefined ? 'all blocks run in this process' : await joined.describe(signal)
  return {
    languageModel,
    languageModels,
    drafts,
    networkModels: joined?.models,
    lines: [
      `engine ${engine.name}: ${why}`,
      ...drafts.map((draft) => `draft model ${draft.name}: guesses ahead in this process`),
      who,
    ],
    bootstrap,
    subnet: place,
    swarmState:
      joined &&
      (async () => ({
        ...(await joined.state()),
        ...(await languageModel.readiness()),
        bootstrap: entrances,
        drafts: drafts.map((draft) => draft.id),
        ...(subnet && { subnet: await viewSubnet(subnet).catch(() => undefined) }),
      })),
  }
}

interface AskedModel {
  readonly model: Model
  readonly tokenizer: Tokenizer
  readonly draft?: Model
}

/** @throws `not_supported` without a tokenizer, `bad_config` for a draft with another one, and as `openModelArgument`. */
async function openWithTokenizer(
  reference: string,
  options: {
    readonly revision?: string | undefined
    readonly draft?: string | undefined
    readonly signal: AbortSignal
  },
  closers: Closers,
): Promise<AskedModel> {
  const model = await openModelArgument(reference, options)
  closers.push(() => model.close())
  const files = await model.tokenizerFiles()
  if (files === undefined) {
    throw new ChoraleError('not_supported', `${model.name} holds no tokenizer (tokenizer.json is missing)`)
  }
  const tokenizer = createTokenizer(files, model.spec)
  if (options.draft === undefined || options.draft === 'none') return { model, tokenizer }
  const draft = await openModelArgument(options.draft, { signal: options.signal })
  closers.push(() => draft.close())
  // Before anything is started for it.
  await assertSameTokenizer(model, draft)
  return { model, tokenizer, draft }
}

/** @throws `refused` for a peer whose passes nobody would take. */
function assertSponsor({ gate, place }: Subnet, peerId: string): void {
  const verdict = gate.staked(peerId, 'sponsor')
  if (verdict.ok) return
  throw new ChoraleError(
    'refused',
    `--sponsor: ${verdict.reason}. Name it as the client peer of a node of subnet ${place.subnetId}, and keep its key with --identity`,
    { field: 'sponsor' },
  )
}

/** Starts an offline swarm that ends with this process. */
async function ownSwarm(
  options: OpenToAskOptions,
  model: Model,
  closers: Closers,
  progress: Progress,
): Promise<PrivateSwarm> {
  const swarm = await startPrivateSwarm({
    log: options.log ?? stderrLogger('error'),
    reference: options.reference ?? BUNDLED_MODEL,
    revision: options.revision,
    blockCount: model.spec.blockCount,
    engine: options.engine,
    signal: options.signal,
    onReady: (ready, total) => progress.update(`starting a swarm: ${ready} of ${total} processes`, 0, 0),
  })
  progress.end()
  closers.push(() => swarm.stop())
  return swarm
}

/** Shows what was opened on stderr. */
export function showLines(lines: readonly string[]): void {
  const style = createStyle(process.stderr)
  for (const line of lines) process.stderr.write(`${style.dim(line)}\n`)
}
