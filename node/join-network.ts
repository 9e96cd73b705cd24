import type { Logger } from '../src/log.ts'
import type { Metrics } from '../src/metrics.ts'
import { createDhtDirectory, type DhtDirectory } from '../src/swarm/dht-directory.ts'
import { gossip } from '../src/swarm/gossip.ts'
import type { Identity } from '../src/swarm/identity.ts'
import { errorMessage } from '../src/errors.ts'
import { keepPass, type PassKeeper } from '../src/swarm/keep-pass.ts'
import { createPeer, type Peer } from '../src/swarm/peer.ts'
import type { ReceiptStore } from '../src/swarm/receipt-store.ts'
import { relayServer } from '../src/swarm/relay.ts'
import { type PassIssuing, servePasses } from '../src/swarm/serve-passes.ts'
import type { StakeGate } from '../src/swarm/stake-gate.ts'
import { headlessTransports } from '../src/swarm/transports.ts'
import { nativeEd25519 } from './native-ed25519.ts'
import { nativeSha256 } from './native-sha256.ts'
import { VERSION } from './version.ts'

export interface JoinOptions {
  /** Peers to join through; none = the first peer of a new network. */
  readonly bootstrap: readonly string[]
  /** `server` keeps others' records and answers; `client` only asks. */
  readonly mode: 'server' | 'client'
  readonly listen?: readonly string[]
  readonly announce?: readonly string[]
  readonly identity?: Identity
  /** Who is admitted: by stake on a ledger, or by a pass. Without one everybody is. */
  readonly gate?: StakeGate
  /** Gives passes at this peer's expense to clients without stake; needs a gate and the stake to sponsor. */
  readonly sponsor?: PassIssuing
  /** Keeps the receipts of this peer's sessions. */
  readonly receipts?: ReceiptStore
  /** What this peer does is counted here. */
  readonly metrics?: Metrics
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
  const { bootstrap, mode, listen, announce, identity, gate, sponsor, receipts, metrics, log } = options
  const peer = await createPeer({
    transports: headlessTransports(),
    mode,
    bootstrap,
    // A network that is entered through a public address must not hand out addresses of somebody's living room.
    privateAddresses: bootstrap.every(isPrivateAddress),
    software: `chorale/${VERSION}`,
    sha256: nativeSha256,
    ed25519: nativeEd25519,
    log,
    // Who can be dialled helps those who can't.
    ...(mode === 'server' && { relay: relayServer() }),
    // Clients that come and go would only shake the mesh; one with stake is a gateway, and stays.
    ...((mode === 'server' || gate) && { gossip: gossip() }),
    ...(listen && { listen }),
    ...(announce && { announce }),
    ...(identity && { identity }),
    ...(gate && { gate }),
    ...(receipts && { receipts }),
    ...(metrics && { metrics }),
  })
  const passes = gate && (await servePasses(peer, { gate, ...(sponsor && { issue: sponsor }) }))
  // Who comes without stake asks for a pass where passes are given; elsewhere there is nobody to ask.
  const ownStake = gate && (await gate.resolve(peer.id, 'infer')).ok
  const keeper = mode === 'client' && ownStake !== true ? await keepPass(peer) : undefined
  if (keeper && bootstrap.length > 0) await untilAdmitted(keeper, log)
  const directory = await createDhtDirectory(peer, { serve: mode === 'server' })
  return {
    peer,
    directory,
    close: async () => {
      keeper?.close()
      await passes?.close()
      await directory.close()
      await peer.close()
    },
  }
}

/** A fresh client hears within this time whether the network wants passes. */
const LOOK_MS = 200
const LOOK_AGAIN_MS = 10
/** A sponsor that answers does so in a round trip. */
const PASS_MS = 5_000

async function untilAdmitted(keeper: PassKeeper, log: Logger): Promise<void> {
  const deadline = Date.now() + LOOK_MS
  while (!keeper.wanted && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS))
  }
  if (!keeper.wanted) return
  await keeper.first(PASS_MS).catch((error: unknown) => {
    log.warn('this network admits staked peers, and nobody gives a pass', { reason: errorMessage(error) })
  })
}

const PRIVATE_ADDRESS =
  /^\/(?:ip4\/(?:127\.|10\.|192\.168\.|169\.254\.|172\.(?:1[6-9]|2\d|3[01])\.)|ip6\/(?:::1\/|f[cd]|fe80)|dns[46]?\/localhost\/)/i

/** Whether a multiaddr leads to this machine or its local network only. */
export function isPrivateAddress(address: string): boolean {
  return PRIVATE_ADDRESS.test(address)
}
