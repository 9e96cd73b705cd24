import type { MultiaddrConnection, Upgrader } from '@libp2p/interface'
import type { TransportFactory } from './transports.ts'

/** Longer messages are passed on in pieces: copying them together would cost more than the calls it saves. */
const MAX_JOINED_BYTES = 256 * 1024

/** What the connection below an upgraded one takes: one message of noise, as a list of byte arrays. */
interface ByteList extends Iterable<Uint8Array> {
  readonly byteLength: number
  subarray(): Uint8Array
}

/** The method that every libp2p connection over a socket has, and that is not in its interface. */
interface SendsData {
  sendData?: (data: ByteList) => { sentBytes: number; canSendMore: boolean }
}

/**
 * A transport whose messages reach the socket in one write.
 *
 * Noise hands over a length, a header, the ciphertext and a tag, each of which libp2p writes by itself: four system
 * calls and up to four wake-ups of the other end for one token's hidden state, or four WebSocket frames.
 */
export function wholeWrites(factory: TransportFactory): TransportFactory {
  return (components) => {
    const transport = factory(components)
    const dial = transport.dial.bind(transport)
    const createListener = transport.createListener.bind(transport)
    transport.dial = (address, options) =>
      dial(address, { ...options, upgrader: joiningUpgrader(options.upgrader) })
    transport.createListener = (options) =>
      createListener({ ...options, upgrader: joiningUpgrader(options.upgrader) })
    return transport
  }
}

function joiningUpgrader(upgrader: Upgrader): Upgrader {
  return {
    createInboundAbortSignal: (signal) => upgrader.createInboundAbortSignal(signal),
    getConnectionEncrypters: () => upgrader.getConnectionEncrypters(),
    getStreamMuxers: () => upgrader.getStreamMuxers(),
    upgradeInbound: (connection, options) => upgrader.upgradeInbound(joinWrites(connection), options),
    upgradeOutbound: (connection, options) => upgrader.upgradeOutbound(joinWrites(connection), options),
  }
}

function joinWrites(connection: MultiaddrConnection): MultiaddrConnection {
  const sender = connection as MultiaddrConnection & SendsData
  const sendData = sender.sendData?.bind(sender)
  // Another version of libp2p may have another inside: then messages go out in pieces as before.
  if (sendData === undefined) return connection
  sender.sendData = (data) => {
    if (data.byteLength > MAX_JOINED_BYTES) return sendData(data)
    const joined = data.subarray()
    return sendData(
      Object.assign([joined], { byteLength: joined.byteLength, subarray: () => joined }) as ByteList,
    )
  }
  return connection
}
