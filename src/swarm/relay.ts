import { circuitRelayServer, circuitRelayTransport, RELAY_V2_HOP_CODEC } from '@libp2p/circuit-relay-v2'
import type { TransportFactory } from './transports.ts'

/** A service of a libp2p peer, made when the peer is. */
export type RelayService = ReturnType<typeof circuitRelayServer>

/** What peers ask relays in, for reservations and connections. */
export const RELAY_HOP_PROTOCOL: string = RELAY_V2_HOP_CODEC

/** Peers that may be reached through one relay at a time: each is a connection that is kept open. */
const MAX_RESERVATIONS = 128
/** Relayed connections under way at once: each holds buffers on the relay. */
const MAX_HOPS = 512

/**
 * Lets peers that nobody can dial, such as browser tabs, be reached through this one. Connections are relayed without
 * the protocol's limits of 128 KiB and two minutes: an answer is longer than that.
 */
export function relayServer(): RelayService {
  return circuitRelayServer({
    maxInboundHopStreams: MAX_HOPS,
    maxOutboundHopStreams: MAX_HOPS,
    maxOutboundStopStreams: MAX_HOPS,
    reservations: { maxReservations: MAX_RESERVATIONS, applyDefaultLimit: false },
  })
}

/**
 * Dials peers behind relays, and listens behind one where `RELAY/p2p-circuit` is among the addresses to listen on. The
 * bare `/p2p-circuit` is not for us: its search walks the DHT without a pause while the DHT is empty.
 */
export function relayTransport(): TransportFactory {
  return circuitRelayTransport({ maxInboundStopStreams: MAX_HOPS, maxOutboundStopStreams: MAX_HOPS })
}
