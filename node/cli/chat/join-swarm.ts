import type { Logger } from '../../../src/log.ts'
import type { Metrics } from '../../../src/metrics.ts'
import type { Model } from '../../../src/model/model.ts'
import type { ServerRecord } from '../../../src/routing/snapshot.ts'
import type { Backend } from '../../../src/session/client.ts'
import { modelRecordOf } from '../../../src/session/model-record.ts'
import {
  type ModelSummary,
  type NetworkModel,
  summarize,
  watchNetworkModels,
} from '../../../src/session/network-models.ts'
import type { Identity } from '../../../src/swarm/identity.ts'
import type { ReceiptStore } from '../../../src/swarm/receipt-store.ts'
import { connectRemoteSpan } from '../../../src/swarm/remote-span.ts'
import type { PassIssuing } from '../../../src/swarm/serve-passes.ts'
import type { StakeGate } from '../../../src/swarm/stake-gate.ts'
import { joinNetwork } from '../../join-network.ts'
import { routeWords } from './answer.ts'

/** A client's place in a network: how it reaches the servers of one model. */
export interface JoinedSwarm {
  readonly peerId: string
  /** Where it listens; nowhere unless it was told to. */
  readonly addrs: readonly string[]
  /** Sampled routes: each session may take another of the nearly equal ones. */
  readonly backend: Extract<Backend, { kind: 'chain' }>
  /** The same for another model. */
  backendOf(model: Model): Extract<Backend, { kind: 'chain' }>
  /** Every model of the network, those of this client first; asked for again at most every five seconds. */
  readonly models: () => Promise<readonly NetworkModel[]>
  /** One line: which peers serve which blocks now. */
  describe(signal: AbortSignal): Promise<string>
  /** The model and its servers, and all models of the network, for dashboards. */
  readonly state: () => Promise<SwarmState>
  close(): Promise<void>
}

/** What `GET /api/v1/state` says of the network. */
export interface SwarmState {
  readonly model: string
  readonly blocks: number
  readonly servers: readonly object[]
  /** `here`: this client answers for it. `peers` serve it; those of `model` are in `servers`. */
  readonly models: readonly (ModelSummary & { readonly here: boolean; readonly peers: readonly object[] })[]
}

/**
 * Joins a network as a client of `model`, and of `others`.
 * @throws `unreachable` when none of the bootstrap peers answers, `bad_config` for an unreadable address.
 */
export async function joinSwarm(options: {
  readonly model: Model
  readonly others?: readonly Model[]
  readonly bootstrap: readonly string[]
  /** Who this client is, where a ledger knows it. */
  readonly identity?: Identity
  readonly gate?: StakeGate
  readonly sponsor?: PassIssuing
  readonly listen?: readonly string[]
  readonly receipts?: ReceiptStore
  readonly metrics?: Metrics
  readonly log: Logger
}): Promise<JoinedSwarm> {
  const { model, others = [], log, ...join } = options
  const { peer, directory, close } = await joinNetwork({ ...join, mode: 'client', log: log.child('swarm') })
  const servers = async (signal?: AbortSignal) =>
    [...(await directory.servers(model.id, signal))].sort((a, b) => a.start - b.start || a.end - b.end)
  const own = [model, ...others].map(modelRecordOf)
  const here = new Set(own.map(({ modelId }) => modelId))
  const models = watchNetworkModels(directory, { own: () => own })
  const backendOf = ({ spec }: Model): Extract<Backend, { kind: 'chain' }> => ({
    kind: 'chain',
    directory,
    connect: (server) => connectRemoteSpan(peer, server, { hiddenSize: spec.hiddenSize }),
    measures: () => peer.measures(),
    // Clients that read the same records should not all choose the same servers.
    seed: () => crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
    routing: { spread: 0.1 },
    log: log.child('chain'),
  })
  return {
    peerId: peer.id,
    addrs: join.listen ? peer.addrs() : [],
    backend: backendOf(model),
    backendOf,
    models,
    describe: async (signal) => {
      const found = await servers(signal)
      return found.length === 0
        ? `nobody serves ${model.id} yet`
        : `blocks of ${model.name}: ${routeWords(found.map(hopOf))}`
    },
    state: async () => ({
      model: model.id,
      blocks: model.spec.blockCount,
      servers: (await servers()).map(serverView),
      // A directory that fails must not hide the servers that are known.
      models: (await models().catch(() => [])).map((listed) => ({
        ...summarize(listed),
        here: here.has(listed.model.modelId),
        peers: listed.model.modelId === model.id ? [] : listed.records.map(serverView),
      })),
    }),
    close,
  }
}

function serverView(record: ServerRecord) {
  return {
    ...hopOf(record),
    state: record.state,
    // Pages dial servers themselves.
    addrs: record.addrs,
    version: record.version,
    throughput: record.throughput,
    freeKvTokens: record.freeKvTokens,
    sessions: record.sessions,
  }
}

function hopOf({ peerId, start, end, engine }: ServerRecord) {
  return { peer: peerId, start, end, engine }
}
