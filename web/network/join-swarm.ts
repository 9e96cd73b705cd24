import { ChoraleError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import type { ModelRecord, PeerMeasure } from '../../src/routing/snapshot.ts'
import type { ChainRunner } from '../../src/session/chain-span.ts'
import { createChain } from '../../src/session/chain-span.ts'
import { createDhtDirectory } from '../../src/swarm/dht-directory.ts'
import { createPeer } from '../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { browserTransports } from '../../src/swarm/browser-transports.ts'
import { dialable } from './dialable.ts'
import { isPrivatePage } from './private-page.ts'

/** The tab in the network, with a chain through the servers of one model. */
export interface TabSwarm {
  readonly peerId: string
  readonly chain: ChainRunner
  /** Round trips to connected servers, and how the connections go. */
  measures(): ReadonlyMap<string, PeerMeasure>
  close(): Promise<void>
}

/**
 * Joins the network as a client, over WebSocket.
 * @param addrs multiaddrs of peers that lead into it
 * @throws `unreachable`.
 */
export async function joinSwarm(
  model: ModelRecord,
  addrs: readonly string[],
  log: Logger,
): Promise<TabSwarm> {
  const bootstrap = dialable(addrs, location.protocol === 'https:')
  if (bootstrap.length === 0) {
    throw new ChoraleError('unreachable', 'the gateway knows no peer that a page can reach', {
      field: 'bootstrap',
    })
  }
  const peer = await createPeer({
    transports: browserTransports(),
    mode: 'client',
    bootstrap,
    // A page of this machine or its local network may dial what lies there.
    privateAddresses: isPrivatePage(),
    software: 'chorale-web',
    log,
  })
  const directory = await createDhtDirectory(peer, { serve: false })
  const chain = createChain({
    model,
    directory,
    connect: (server) => connectRemoteSpan(peer, server, { hiddenSize: model.hiddenSize }),
    measures: () => peer.measures(),
    // Clients that read the same records should not all choose the same servers.
    seed: () => crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
    routing: { spread: 0.1 },
    log,
  })
  return {
    peerId: peer.id,
    chain,
    measures: () => peer.measures(),
    close: async () => {
      await directory.close()
      await peer.close()
    },
  }
}
