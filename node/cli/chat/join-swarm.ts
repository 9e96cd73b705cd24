import type { Logger } from '../../../src/log.ts'
import type { Metrics } from '../../../src/metrics.ts'
import type { Model } from '../../../src/model/model.ts'
import type { ServerRecord } from '../../../src/routing/snapshot.ts'
import type { Backend } from '../../../src/session/client.ts'
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
  /** One line: which peers serve which blocks now. */
  describe(signal: AbortSignal): Promise<string>
  /** The model and its servers, for dashboards. */
  readonly state: () => Promise<{ model: string; blocks: number; servers: readonly object[] }>
  close(): Promise<void>
}

/**
 * Joins a network as a client of `model`.
 * @throws `unreachable` when none of the bootstrap peers answers, `bad_config` for an unreadable address.
 */
export async function joinSwarm(options: {
  readonly model: Model
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
  const { model, log, ...join } = options
  const { peer, directory, close } = await joinNetwork({ ...join, mode: 'client', log: log.child('swarm') })
  const servers = async (signal?: AbortSignal) =>
    [...(await directory.servers(model.id, signal))].sort((a, b) => a.start - b.start || a.end - b.end)
  return {
    peerId: peer.id,
    addrs: join.listen ? peer.addrs() : [],
    backend: {
      kind: 'chain',
      directory,
      connect: (server) => connectRemoteSpan(peer, server, { hiddenSize: model.spec.hiddenSize }),
      measures: () => peer.measures(),
      // Clients that read the same records should not all choose the same servers.
      seed: () => crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
      routing: { spread: 0.1 },
      log: log.child('chain'),
    },
    describe: async (signal) => {
      const found = await servers(signal)
      return found.length === 0
        ? `nobody serves ${model.id} yet`
        : `blocks of ${model.name}: ${routeWords(found.map(hopOf))}`
    },
    state: async () => ({
      model: model.id,
      blocks: model.spec.blockCount,
      servers: (await servers()).map((record) => ({
        ...hopOf(record),
        state: record.state,
        // Pages dial servers themselves.
        addrs: record.addrs,
        version: record.version,
        throughput: record.throughput,
        freeKvTokens: record.freeKvTokens,
        sessions: record.sessions,
      })),
    }),
    close,
  }
}

function hopOf({ peerId, start, end, engine }: ServerRecord) {
  return { peer: peerId, start, end, engine }
}
