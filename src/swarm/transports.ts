import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import type { Libp2pOptions } from 'libp2p'
import { relayTransport } from './relay.ts'
import { wholeWrites } from './whole-writes.ts'

/** How a peer reaches others. Browsers have WebSocket only. */
export type TransportFactory = NonNullable<Libp2pOptions['transports']>[number]

/** TCP and WebSocket: for Node and Deno. TCP comes first because it costs a third less a message. */
export function headlessTransports(): TransportFactory[] {
  return [
    // Keep-alive finds a machine that vanished without a word; libp2p's own inactivity limit would cut idle peers.
    wholeWrites(tcp({ dialOpts: { keepAlive: true, keepAliveInitialDelay: 30_000, noDelay: true } })),
    wholeWrites(webSockets()),
    // Browser tabs that serve are behind relays.
    relayTransport(),
  ]
}
