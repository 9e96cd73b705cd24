/** A swarm and a gateway with pages inside the test's own process, so that a test sees servers' sessions at once. */

import { join } from 'node:path'
import { startGateway } from '../../node/cli/gateway.ts'
import { joinSwarm } from '../../node/cli/chat/join-swarm.ts'
import { joinNetwork, type Network } from '../../node/join-network.ts'
import { joinSubnet } from '../../node/join-subnet.ts'
import { type LocalLedger, startLocalLedger } from '../../node/local-ledger.ts'
import { createNodePlatform } from '../../node/platform.ts'
import { viewSubnet } from '../../node/subnet-view.ts'
import { createWebPages } from '../../node/web-pages.ts'
import type { EngineSpan } from '../../src/engine/engine.ts'
import { createEngine } from '../../src/engine/select.ts'
import { silentLogger } from '../../src/log.ts'
import type { BlobShelf } from '../../src/model/blob.ts'
import type { Model } from '../../src/model/model.ts'
import { createModelShelf } from '../../src/model/model-shelf.ts'
import { openModel } from '../../src/model/open-model.ts'
import { startServer, type ServingServer } from '../../src/server/server.ts'
import { createClient } from '../../src/session/client.ts'
import type { Span } from '../../src/session/span-runner.ts'
import { type BlobService, serveBlobs } from '../../src/swarm/blob-serve.ts'
import { createIdentity, type Identity } from '../../src/swarm/identity.ts'
import { uploadLimits } from '../../src/swarm/upload-limit.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import { TCP, WS } from '../swarm/loopback.ts'

const MODEL = join(import.meta.dirname, '../../models/storyteller')

/** Servers that share weights. */
export interface WeightsFromPeers {
  /** The place among the spans of one that gives wrong bytes. */
  readonly liar?: number
}

export interface WebSwarm {
  readonly url: string
  /** Its ledger, where it has one. */
  readonly ledger: LocalLedger | undefined
  readonly servers: readonly {
    readonly server: ServingServer
    readonly network: Network
    readonly blobs: BlobService | undefined
  }[]
  /** Sessions on all servers. */
  sessions(): number
  /** From now on each step of a server takes this much longer. */
  slowDown(stepMs: number): void
  close(): Promise<void>
}

/**
 * With `weights` the servers give pages the weights, and the gateway gives none.
 * With `draftsOf` the gateway offers pages draft models for it.
 * Serves the bundled model as `spans`, each by a peer of its own, and a gateway to them. With `stakedTab`, a peer id, all of
 * them are staked nodes of a dev chain, and so is that peer; at least two spans then.
 */
export async function startWebSwarm(
  spans: readonly Span[],
  stakedTab?: string,
  weights?: WeightsFromPeers,
  draftsOf: (model: Model) => readonly Model[] = () => [],
): Promise<WebSwarm> {
  const closers: (() => Promise<void>)[] = []
  const pages = createWebPages()
  // A tab that opens the first page should not wait for all of them to be built.
  const built = pages.ready()
  built.catch(() => undefined)
  const [bootstrapId, clientId, ...serverIds] = await Promise.all(
    Array.from({ length: 2 + spans.length }, () => createIdentity()),
  )
  const ledger =
    stakedTab === undefined
      ? undefined
      : await startLocalLedger({
          nodes: [...serverIds.map(({ peerId }) => peerId), stakedTab].map((peerId) => ({
            peerId,
            hotkeySecret: crypto.getRandomValues(new Uint8Array(32)),
          })),
          bootnode: bootstrapId!.peerId,
          client: clientId!.peerId,
          blockMs: 500,
          log: silentLogger,
        })
  if (ledger) {
    closers.push(() => ledger.close())
    ledger.run()
  }
  /** What a peer needs to know of the ledger; each follows it by itself, as in processes of their own. */
  const admission = async (identity: Identity) => {
    if (ledger === undefined) return {}
    const subnet = await joinSubnet(ledger, { log: silentLogger })
    closers.push(() => subnet.close())
    return { identity, gate: subnet.gate, sponsor: {}, subnet }
  }
  const platform = createNodePlatform(silentLogger)
  const model = await openModel(MODEL, platform)
  const { engine } = await createEngine(platform, { name: 'onnx', threads: 1 })
  const { id: modelId, name, spec } = model
  const { blockCount, hiddenSize } = spec
  const bootstrap = await joinNetwork({
    bootstrap: [],
    mode: 'server',
    listen: [TCP, WS],
    log: silentLogger,
    ...(await admission(bootstrapId!)),
  })
  closers.push(() => bootstrap.close())
  const addrs = bootstrap.peer.addrs()
  let stepMs = 0
  const shelf = createModelShelf(model)
  const manifest = weights && (await shelf.addAll()).hash
  const servers: { server: ServingServer; network: Network; blobs: BlobService | undefined }[] = []
  for (const [i, span] of spans.entries()) {
    const network = await joinNetwork({
      bootstrap: addrs,
      mode: 'server',
      listen: [TCP, WS],
      log: silentLogger,
      ...(await admission(serverIds[i]!)),
    })
    const blobs =
      weights &&
      (await serveBlobs(network.peer, i === weights.liar ? lying(shelf) : shelf, uploadLimits(50e6)))
    const server = await startServer({
      peer: network.peer,
      directory: network.directory,
      model: { modelId, name, blockCount, hiddenSize },
      span,
      engine: engine.name,
      ...(manifest !== undefined && { weights: () => ({ blobs: true, manifest }) }),
      load: async () => {
        const loaded = await engine.loadSpan(model, { ...span, kvTokens: 4096 })
        return slowed(loaded, () => stepMs)
      },
    })
    servers.push({ server, network, blobs })
    closers.push(async () => {
      await server.stop(0)
      await network.close()
    })
  }
  const { subnet, ...admitted } = { subnet: undefined, ...(await admission(clientId!)) }
  const joined = await joinSwarm({ model, bootstrap: addrs, log: silentLogger, ...admitted })
  const files = await model.tokenizerFiles()
  const languageModel = await createClient({
    model,
    tokenizer: createTokenizer(files!, spec),
    engine,
    backend: joined.backend,
  })
  const drafts = draftsOf(model)
  const state = async () => ({
    ...(await joined.state()),
    ...(await languageModel.readiness()),
    bootstrap: addrs,
    drafts: drafts.map(({ id }) => id),
    ...(subnet && { subnet: await viewSubnet(subnet) }),
  })
  await built
  const gateway = await startGateway({
    models: () => [languageModel],
    port: 0,
    pages,
    swarmState: state,
    drafts: () => drafts,
    givesWeights: weights === undefined,
  })
  return {
    url: `${gateway.url}/`,
    ledger,
    servers,
    slowDown: (ms) => (stepMs = ms),
    sessions: () => servers.reduce((sum, { server }) => sum + server.sessions, 0),
    close: async () => {
      await gateway.close(0)
      await languageModel.close()
      await joined.close()
      for (const close of closers.reverse()) await close()
      await engine.close()
      await model.close()
    },
  }
}

/** A span whose steps take longer. */
function slowed(span: EngineSpan, stepMs: () => number): EngineSpan {
  const step = span.step.bind(span)
  return Object.defineProperty(span, 'step', {
    value: async (entries: Parameters<EngineSpan['step']>[0]) => {
      if (stepMs() > 0) await new Promise((resolve) => setTimeout(resolve, stepMs()))
      return await step(entries)
    },
  })
}

/** A shelf whose pieces are all wrong in one bit. */
function lying(shelf: BlobShelf): BlobShelf {
  return {
    ...shelf,
    piece: async (root, index) => {
      const bytes = (await shelf.piece(root, index))?.slice()
      if (bytes !== undefined) bytes[bytes.length >> 1]! ^= 1
      return bytes
    },
  }
}
