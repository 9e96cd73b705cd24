import { webSockets } from '@libp2p/websockets'
import type { TransportFactory } from './transports.ts'

/** WebSocket only: for browsers. In a file of its own so that pages carry no TCP. */
export function browserTransports(): TransportFactory[] {
  return [webSockets()]
}
