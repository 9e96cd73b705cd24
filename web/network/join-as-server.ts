import { ChoraleError, errorMessage } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import { browserTransports } from '../../src/swarm/browser-transports.ts'
import { createDhtDirectory, type DhtDirectory } from '../../src/swarm/dht-directory.ts'
import { createPeer, type Peer } from '../../src/swarm/peer.ts'
import type { Identity } from '../../src/swarm/identity.ts'
import { servePasses } from '../../src/swarm/serve-passes.ts'
import type { StakeGate } from '../../src/swarm/stake-gate.ts'
import { dialable } from './dialable.ts'
import { isPrivatePage } from './private-page.ts'

/** The tab in the network as a peer that others reach through a relay. */
export interface TabServerPeer {
  readonly peer: Peer
  readonly directory: DhtDirectory
  close(): Promise<void>
}

/** Who the tab is where peers need stake, and who it admits. */
export interface StakedTab {
  readonly identity: Identity
  readonly gate: StakeGate
}

/** Others need an address of this tab by then. */
const RESERVED_MS = 10_000
const POLL_MS = 50

/**
 * Joins the network through the first of `addrs` that relays for this tab. Without `staked` everybody is admitted.
 * @throws `unreachable` when none does.
 */
export async function joinAsServer(
  addrs: readonly string[],
  staked: StakedTab | undefined,
  log: Logger,
): Promise<TabServerPeer> {
  const relays = dialable(addrs, location.protocol === 'https:')
  let failed = 'there is none'
  for (const relay of relays) {
    try {
      const peer = await createPeer({
        transports: browserTransports(),
        mode: 'client',
        bootstrap: relays,
        // Other tabs reach this one directly once the relay brought them together.
        listen: [`${relay}/p2p-circuit`, '/webrtc'],
        privateAddresses: isPrivatePage(),
        software: 'chorale-web',
        ...(staked && { identity: staked.identity, gate: staked.gate }),
        log,
      })
      const passes = staked && (await servePasses(peer, { gate: staked.gate }))
      await untilReserved(peer)
      const directory = await createDhtDirectory(peer, { serve: false })
      return {
        peer,
        directory,
        close: async () => {
          await passes?.close()
          await directory.close()
          await peer.close()
        },
      }
    } catch (error) {
      failed = errorMessage(error)
      log.info('a relay did not take this tab', { relay, reason: failed })
    }
  }
  throw new ChoraleError('unreachable', `no relay takes this tab: ${failed}`, { field: 'relay' })
}

/** The address for other tabs comes a moment after the relay's; who is announced without it is reached by relay only. */
const DIRECT_MS = 3_000

async function untilReserved(peer: Peer): Promise<void> {
  const deadline = Date.now() + RESERVED_MS
  while (peer.addrs().length === 0) {
    if (Date.now() > deadline) {
      await peer.close()
      throw new ChoraleError('timeout', 'the relay gave no address')
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  const direct = Date.now() + DIRECT_MS
  while (!peer.addrs().some((addr) => addr.includes('/webrtc')) && Date.now() < direct) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
