import type { Logger } from '../../../src/log.ts'
import type { Span } from '../../../src/session/span-runner.ts'
import type { WeightsProgress } from '../../../src/server/peer-weights.ts'
import type { Network } from '../../join-network.ts'
import { createModelPorts } from '../../model-ports.ts'
import type { Progress } from '../terminal.ts'
import type { WantedSpan } from './held-models.ts'
import { openPeerFiles, type PeerFiles, type Sharing, type WeightsWish } from './peer-files.ts'

export interface FromPeersOptions {
  readonly network: Network
  readonly sharing: Sharing
  readonly log: Logger
  readonly progress: Progress
  readonly signal: AbortSignal
  readonly say: (line: string) => void
  readonly tell: (event: object) => void
}

/** Opens the models whose weights come from peers, by their place on the command line. @throws as `openPeerFiles`. */
export async function openFromPeers(
  wanted: readonly WantedSpan[],
  wishes: readonly WeightsWish[],
  options: FromPeersOptions,
): Promise<readonly (PeerFiles | undefined)[]> {
  const opened: (PeerFiles | undefined)[] = []
  for (const [i, { reference, revision }] of wanted.entries()) {
    opened.push(
      wishes[i]?.fromPeers === true ? await openOne(reference, revision, wishes[i], options) : undefined,
    )
  }
  return opened
}

async function openOne(
  reference: string,
  revision: string | undefined,
  { pinned }: WeightsWish,
  { log, network, progress, say, sharing, signal, tell }: FromPeersOptions,
): Promise<PeerFiles> {
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
    ...found,
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
