import { ChoraleError, errorMessage } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import type { ModelRecord, PeerMeasure } from '../../src/routing/snapshot.ts'
import type { ChainRunner } from '../../src/session/chain-span.ts'
import { createChain } from '../../src/session/chain-span.ts'
import { createDhtDirectory } from '../../src/swarm/dht-directory.ts'
import { keepPass } from '../../src/swarm/keep-pass.ts'
import { createPeer } from '../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { browserTransports } from '../../src/swarm/browser-transports.ts'
import { tabReceipts } from './answer-receipts.ts'
import { dialable } from './dialable.ts'
import { isPrivatePage } from './private-page.ts'
import { createTabPieces } from './tab-pieces.ts'
import type { PieceFetcher } from '../engine/piece-link.ts'

/** The tab in the network, with a chain through the servers of one model. */
export interface TabSwarm {
  readonly peerId: string
  readonly chain: ChainRunner
  /** Weights from servers that share them. */
  readonly pieces: PieceFetcher
  /** Round trips to connected servers, and how the connections go. */
  measures(): ReadonlyMap<string, PeerMeasure>
  close(): Promise<void>
}

/** A sponsor that is there answers in a round trip. */
const PASS_MS = 10_000

/**
 * Joins the network as a client, over WebSocket. Where peers need stake it comes with a pass.
 * @param addrs multiaddrs of peers that lead into it
 * @param staked whether the network admits peers by stake
 * @throws `unreachable`, and `refused` with the field `pass` when nobody gives one.
 */
export async function joinSwarm(
  model: ModelRecord,
  addrs: readonly string[],
  staked: boolean,
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
    receipts: tabReceipts,
    log,
  })
  const pass = await keepPass(peer, { models: [model.modelId] })
  if (staked) {
    try {
      await pass.first(PASS_MS)
    } catch (error) {
      pass.close()
      await peer.close()
      throw new ChoraleError('refused', errorMessage(error), { field: 'pass', cause: error })
    }
  }
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
    pieces: createTabPieces(peer, directory, model.modelId),
    measures: () => peer.measures(),
    close: async () => {
      pass.close()
      await directory.close()
      await peer.close()
    },
  }
}
