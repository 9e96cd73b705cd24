import type { Logger } from '../src/log.ts'
import { createDhtDirectory, type DhtDirectory } from '../src/swarm/dht-directory.ts'
import type { Identity } from '../src/swarm/identity.ts'
import { createPeer, type Peer } from '../src/swarm/peer.ts'
import { relayServer } from '../src/swarm/relay.ts'
import { headlessTransports } from '../src/swarm/transports.ts'
import { VERSION } from './version.ts'

export interface JoinOptions {
  /** Peers to join through; none = the first peer of a new network. */
  readonly bootstrap: readonly string[]
  /** `server` keeps others' records and answers; `client` only asks. */
  readonly mode: 'server' | 'client'
  readonly listen?: readonly string[]
  readonly announce?: readonly string[]
  readonly identity?: Identity
  readonly log: Logger
}

/** This process in the network, with the directory of who serves what. */
export interface Network {
  readonly peer: Peer
  readonly directory: DhtDirectory
  close(): Promise<void>
}

/** Starts a peer over TCP and WebSocket and its directory. @throws `unreachable`, `bad_config`. */
export async function joinNetwork(options: JoinOptions): Promise<Network> {
  const { bootstrap, mode, listen, announce, identity, log } = options
  const peer = await createPeer({
    transports: headlessTransports(),
    mode,
    bootstrap,
    // A network that is entered through a public address must not hand out addresses of somebody's living room.
    privateAddresses: bootstrap.every(isPrivateAddress),
    software: `chorale/${VERSION}`,
    log,
    // Who can be dialled helps those who can't.
    ...(mode === 'server' && { relay: relayServer() }),
    ...(listen && { listen }),
    ...(announce && { announce }),
    ...(identity && { identity }),
  })
  const directory = await createDhtDirectory(peer, { serve: mode === 'server' })
  return {
    peer,
    directory,
    close: async () => {
      await directory.close()
      await peer.close()
    },
  }
}

const PRIVATE_ADDRESS =
  /^\/(?:ip4\/(?:127\.|10\.|192\.168\.|169\.254\.|172\.(?:1[6-9]|2\d|3[01])\.)|ip6\/(?:::1\/|f[cd]|fe80)|dns[46]?\/localhost\/)/i

/** Whether a multiaddr leads to this machine or its local network only. */
export function isPrivateAddress(address: string): boolean {
  return PRIVATE_ADDRESS.test(address)
}
