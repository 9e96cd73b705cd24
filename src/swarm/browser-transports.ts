import { webSockets } from '@libp2p/websockets'
import { relayTransport } from './relay.ts'
import { wholeWrites } from './whole-writes.ts'
import type { TransportFactory } from './transports.ts'

/** WebSocket, and through relays: for browsers. In a file of its own so that pages carry no TCP. */
export function browserTransports(): TransportFactory[] {
  return [wholeWrites(webSockets()), relayTransport()]
}
