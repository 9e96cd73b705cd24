import type { Connection, PeerId, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import type { Multiaddr } from '@multiformats/multiaddr'
import type { Libp2p } from 'libp2p'
import { ChoraleError, errorMessage } from '../errors.ts'
import type { PeerMeasure } from '../routing/snapshot.ts'
import type { LazyNegotiation } from './lazy-negotiation.ts'
import { parseAddr, withPeerId } from './multiaddrs.ts'

/** What of libp2p dials. */
type Dialler = Pick<Libp2p, 'dial' | 'getConnections' | 'isDialable'>

export interface OpenStreamOptions {
  readonly signal?: AbortSignal
  /** Dial, handshakes and protocol negotiation together. */
  readonly timeoutMs: number
  /** Don't wait until the peer agreed to the protocol: for peers that are known to speak it. */
  readonly lazy?: boolean
}

/** A gateway holds one stream a session on one connection to each server. */
const MAX_STREAMS_A_CONNECTION = 512

/** Opens a stream, over an existing connection where there is one. @throws `unreachable`, `timeout`, `not_supported`, `cancelled`. */
export async function dialStream(
  node: Dialler,
  peerId: string,
  addrs: readonly string[],
  protocol: string,
  { signal: callerSignal, timeoutMs, lazy }: OpenStreamOptions,
): Promise<Stream> {
  const timeout = AbortSignal.timeout(timeoutMs)
  const signal = callerSignal === undefined ? timeout : AbortSignal.any([callerSignal, timeout])
  let connection: Connection | undefined
  try {
    const id = peerIdFromString(peerId)
    connection = openConnection(node, id)
    if (connection === undefined || connectionPath(connection) === 'relay') {
      const targets = addrs.map((text) => withPeerId(parseAddr(text, 'addrs'), peerId))
      connection ??= await dial(node, id, targets, { signal, timeoutMs })
      if (connectionPath(connection) === 'relay') dialDirectly(node, connection, targets)
    }
    const options = { signal, maxOutboundStreams: MAX_STREAMS_A_CONNECTION }
    const onSilent = (): void => dropSilent(connection, 0)
    const lazily: Partial<LazyNegotiation> = lazy ? { lazy: { timeoutMs, onSilent } } : {}
    return await connection.newStream(protocol, { ...options, ...lazily })
  } catch (error) {
    if (callerSignal?.aborted === true) {
      throw new ChoraleError('cancelled', `cancelled while connecting to ${peerId}`, { cause: error })
    }
    if (timeout.aborted) {
      dropSilent(connection, 1)
      throw new ChoraleError('timeout', `peer ${peerId} did not answer within ${timeoutMs} ms`, {
        cause: error,
      })
    }
    if (error instanceof Error && error.name === 'UnsupportedProtocolError') {
      throw new ChoraleError('not_supported', `peer ${peerId} does not speak ${protocol}`, { cause: error })
    }
    throw new ChoraleError('unreachable', `peer ${peerId} is unreachable: ${errorMessage(error)}`, {
      cause: error,
    })
  }
}

/** Connects to a peer, unless there is a connection. @throws `unreachable`. */
export async function connectTo(
  node: Dialler,
  peerId: string,
  addrs: readonly string[],
  timeoutMs: number,
): Promise<void> {
  try {
    const id = peerIdFromString(peerId)
    if (openConnection(node, id)) return
    const targets = addrs.map((text) => withPeerId(parseAddr(text, 'addrs'), peerId))
    await dial(node, id, targets, { signal: AbortSignal.timeout(timeoutMs), timeoutMs })
  } catch (error) {
    throw new ChoraleError('unreachable', `peer ${peerId} is unreachable: ${errorMessage(error)}`, {
      cause: error,
    })
  }
}

/** Nothing answers on it: where nobody else uses it the next attempt should dial afresh. */
function dropSilent(connection: Connection | undefined, ownStreams: number): void {
  if (connection !== undefined && connection.streams.length <= ownStreams)
    connection.abort(new Error('no answer'))
}

/** The open connection to a peer; one of its own before one through a relay. */
export function openConnection(node: Pick<Libp2p, 'getConnections'>, id: PeerId): Connection | undefined {
  const open = node.getConnections(id).filter(({ status }) => status === 'open')
  return open.find((connection) => connectionPath(connection) !== 'relay') ?? open[0]
}

/** How a connection goes. */
export function connectionPath({ remoteAddr }: Connection): NonNullable<PeerMeasure['path']> {
  const names = remoteAddr.getComponents().map(({ name }) => name)
  if (names.includes('webrtc') || names.includes('webrtc-direct')) return 'webrtc'
  if (names.includes('p2p-circuit')) return 'relay'
  return names.includes('ws') || names.includes('wss') ? 'websocket' : 'tcp'
}

/** Part of the time to dial in which two tabs may find a way of their own before the relay carries everything. */
const DIRECT_PART = 0.6
/** Tabs on busy machines take their time to find each other. */
const LATE_MS = 30_000

/** Dials WebRTC before relays: what a relay carries is slow, and its owner's bandwidth. */
async function dial(
  node: Dialler,
  id: PeerId,
  targets: readonly Multiaddr[],
  { signal, timeoutMs }: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<Connection> {
  const direct = directOnes(targets)
  if (direct.length > 0 && (await node.isDialable(direct))) {
    const patience = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs * DIRECT_PART)])
    const connection = await node.dial(direct, { signal: patience }).catch(() => undefined)
    if (connection) return connection
    signal.throwIfAborted()
  }
  const others = targets.filter((address) => !direct.includes(address))
  return await node.dial(others.length > 0 ? others : targets.length > 0 ? [...targets] : id, { signal })
}

/** Relayed connections whose ends look for a way of their own just now. */
const looking = new WeakSet<Connection>()

/** Looks for a way past the relay while the relay carries what there is; the next streams take it. */
function dialDirectly(node: Dialler, relayed: Connection, targets: readonly Multiaddr[]): void {
  const direct = directOnes(targets)
  if (direct.length === 0 || looking.has(relayed)) return
  looking.add(relayed)
  const attempt = async (): Promise<void> => {
    if (await node.isDialable(direct)) {
      await node.dial(direct, { signal: AbortSignal.timeout(LATE_MS), force: true })
    }
  }
  attempt()
    .catch(() => undefined)
    .finally(() => looking.delete(relayed))
}

function directOnes(targets: readonly Multiaddr[]): Multiaddr[] {
  return targets.filter((address) => address.getComponents().some(({ name }) => name === 'webrtc'))
}
