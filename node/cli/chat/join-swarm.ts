import type { Logger } from '../../../src/log.ts'
import type { Model } from '../../../src/model/model.ts'
import type { ServerRecord } from '../../../src/routing/snapshot.ts'
import type { Backend } from '../../../src/session/client.ts'
import { createDhtDirectory } from '../../../src/swarm/dht-directory.ts'
import { createPeer } from '../../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../../src/swarm/remote-span.ts'
import { headlessTransports } from '../../../src/swarm/transports.ts'
import { VERSION } from '../../version.ts'
import { routeWords } from './answer.ts'

/** A client's place in a network: how it reaches the servers of one model. */
export interface JoinedSwarm {
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
  readonly log: Logger
}): Promise<JoinedSwarm> {
  const { model, bootstrap, log } = options
  const peer = await createPeer({
    transports: headlessTransports(),
    bootstrap,
    mode: 'client',
    privateAddresses: bootstrap.some(isPrivateAddress),
    software: `chorale/${VERSION}`,
    log: log.child('swarm'),
  })
  const directory = await createDhtDirectory(peer, { serve: false })
  const servers = async (signal?: AbortSignal) =>
    [...(await directory.servers(model.id, signal))].sort((a, b) => a.start - b.start || a.end - b.end)
  return {
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
        throughput: record.throughput,
        freeKvTokens: record.freeKvTokens,
        sessions: record.sessions,
      })),
    }),
    close: async () => {
      await directory.close()
      await peer.close()
    },
  }
}

function hopOf({ peerId, start, end, engine }: ServerRecord) {
  return { peer: peerId, start, end, engine }
}

/** Loopback and the ranges of RFC 1918, RFC 4193 and link-local: a network that is not the open internet. */
const PRIVATE_ADDRESS =
  /^\/(ip4\/(127|10|192\.168|169\.254|172\.(1[6-9]|2\d|3[01]))\.|ip6\/(::1|f[cd]|fe80)|dns[46]?\/localhost\/)/

/** Whether a multiaddr lies in this machine or a local network: only then may others' private addresses be dialled. */
function isPrivateAddress(address: string): boolean {
  return PRIVATE_ADDRESS.test(address)
}
