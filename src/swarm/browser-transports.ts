import { webRTC } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { relayTransport } from './relay.ts'
import { wholeWrites } from './whole-writes.ts'
import type { TransportFactory } from './transports.ts'

/** Browsers' SCTP waits a round trip for every few larger messages on far links; small ones flow. */
const MESSAGE_BYTES = 4 * 1024

export interface BrowserTransportOptions {
  /** STUN and TURN servers for tabs behind different NATs; none by default: they are third parties. */
  readonly iceServers?: readonly RTCIceServer[]
}

/**
 * WebSocket to servers, WebRTC to other tabs (a relay carries the first words), and the relay alone where both fail: for
 * browsers. In a file of its own so that pages carry no TCP.
 */
export function browserTransports({ iceServers = [] }: BrowserTransportOptions = {}): TransportFactory[] {
  return [
    wholeWrites(webSockets()),
    webRTC({
      rtcConfiguration: { iceServers: [...iceServers] },
      dataChannel: { maxMessageSize: MESSAGE_BYTES },
    }),
    relayTransport(),
  ]
}
