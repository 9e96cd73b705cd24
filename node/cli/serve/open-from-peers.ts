import { errorCode, errorMessage } from '../../../src/errors.ts'
import type { Logger } from '../../../src/log.ts'
import type { Model } from '../../../src/model/model.ts'
import type { Span } from '../../../src/session/span-runner.ts'
import type { WeightsProgress } from '../../../src/server/peer-weights.ts'
import { type ModelPorts, resolveModel } from '../../../src/store/resolve-model.ts'
import type { Network } from '../../join-network.ts'
import { createModelPorts } from '../../model-ports.ts'
import type { Progress } from '../terminal.ts'
import type { WantedSpan } from './held-models.ts'
import {
  hasFiles,
  isWhole,
  openPeerFiles,
  type PeerFiles,
  type Sharing,
  type WeightsWish,
} from './peer-files.ts'

export interface FromPeersOptions {
  readonly network: Network
  readonly sharing: Sharing
  readonly log: Logger
  readonly progress: Progress
  readonly signal: AbortSignal
  readonly say: (line: string) => void
  readonly tell: (event: object) => void
}

/** A model, and what brings its weights here before they are loaded. */
export interface FoundWeights {
  readonly model: Model
  fetchSpan(span: Span, signal?: AbortSignal): Promise<void>
  close(): Promise<void>
}

/**
 * Opens the models whose weights come from peers, by their place on the command line. Where no peer shares one, and its
 * name leads to files too, those are taken.
 * @throws as `openPeerFiles`.
 */
export async function openFromPeers(
  wanted: readonly WantedSpan[],
  wishes: readonly WeightsWish[],
  options: FromPeersOptions,
): Promise<readonly (FoundWeights | undefined)[]> {
  const opened: (FoundWeights | undefined)[] = []
  for (const [i, { reference, revision }] of wanted.entries()) {
    const wish = wishes[i]
    if (wish?.fromPeers !== true) {
      opened.push(undefined)
      continue
    }
    try {
      opened.push(await openOne(reference, revision, wish, options))
    } catch (error) {
      const ports = createModelPorts(options.log)
      if (errorCode(error) !== 'not_found' || !(await hasFiles(reference, ports))) throw error
      options.say(`${errorMessage(error)}; taking the files that ${reference} names`)
      opened.push(await openFiles(reference, revision, ports, options))
    }
  }
  return opened
}

async function openFiles(
  reference: string,
  revision: string | undefined,
  ports: ModelPorts,
  { progress, sharing, signal }: FromPeersOptions,
): Promise<FoundWeights> {
  const model = await resolveModel(reference, ports, {
    revision,
    signal,
    onProgress: ({ loadedBytes, totalBytes }) => progress.update('fetching', loadedBytes, totalBytes),
  })
  return {
    model,
    fetchSpan: async (span) => sharing.shareFiles(model, await isWhole(reference, ports), span),
    close: () => model.close(),
  }
}

async function openOne(
  reference: string,
  revision: string | undefined,
  { pinned }: WeightsWish,
  { log, network, progress, say, sharing, signal, tell }: FromPeersOptions,
): Promise<FoundWeights> {
  let last: WeightsProgress | undefined
  let said = ''
  const found = await openPeerFiles({
    reference,
    revision,
    pinned,
    network,
    ports: createModelPorts(log),
    signal,
    log,
    onWaiting: (what) => {
      if (what !== said) say(`waiting: ${what}`)
      said = what
    },
    onProgress: (now) => {
      last = now
      progress.update(`fetching from ${now.peers.size} peers`, now.loadedBytes, now.totalBytes)
    },
  })
  const { manifest, model } = found
  sharing.shareStore(model.id, manifest.hash, found.store)
  tell({ event: 'manifest', modelId: model.id, ...manifest })
  say(`weights of ${model.id} as manifest ${manifest.hash} names them (${reasonOf(manifest)})`)
  return {
    model,
    close: async () => {
      await found.close()
      await found.store.close()
    },
    fetchSpan: async (span, abort) => {
      last = undefined
      await found.fetchSpan(span, abort)
      if (last === undefined) return
      const { cachedBytes, fallbackBytes, peers, totalBytes } = last
      tell({
        event: 'fetched',
        span,
        totalBytes,
        cachedBytes,
        fallbackBytes,
        peers: Object.fromEntries(peers),
      })
      say(fetchedLine(span, last))
    },
  }
}

function reasonOf({ against, votes, why }: PeerFiles['manifest']): string {
  const servers = `${votes} of ${votes + against} servers go by it`
  switch (why) {
    case 'pinned':
      return `named by --manifest; ${servers}`
    case 'used':
      return `as before; ${servers}`
    case 'agreed':
      return `${servers}; --manifest makes sure`
  }
}

function fetchedLine({ start, end }: Span, progress: WeightsProgress): string {
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`
  const { cachedBytes, fallbackBytes, peers, totalBytes } = progress
  const fetched = [...peers.values()].reduce((sum, bytes) => sum + bytes, 0)
  return (
    `blocks ${start}:${end}: ${megabytes(totalBytes)}, ${megabytes(fetched)} of them from ${peers.size} peers` +
    (cachedBytes > 0 ? `, ${megabytes(cachedBytes)} were here` : '') +
    (fallbackBytes > 0 ? `, ${megabytes(fallbackBytes)} from the model's own files` : '')
  )
}
