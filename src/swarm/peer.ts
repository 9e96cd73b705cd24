import { identify } from '@libp2p/identify'
import type { Connection, PeerId, Stream, StreamHandler } from '@libp2p/interface'
import { kadDHT, type KadDHT, passthroughMapper, removePrivateAddressesMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { yamux } from '@libp2p/yamux'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { ChoraleError, errorMessage } from '../errors.ts'
import { type Logger, silentLogger } from '../log.ts'
import { KAD_PROTOCOL } from '../protocol/ids.ts'
import type { PeerMeasure } from '../routing/snapshot.ts'
import { createIdentity, type Identity } from './identity.ts'
import type { RelayService } from './relay.ts'
import type { TransportFactory } from './transports.ts'

export interface PeerOptions {
  readonly transports: readonly TransportFactory[]
  /** Multiaddrs to listen on; none = this peer only dials. */
  readonly listen?: readonly string[]
  /** Multiaddrs to tell others instead of those it listens on (behind a proxy or a forwarded port). */
  readonly announce?: readonly string[]
  /** Peers to join the network through, with or without /p2p/ID. */
  readonly bootstrap?: readonly string[]
  /** `server` stores others' records and answers DHT queries; `client` only asks. */
  readonly mode: 'server' | 'client'
  /** Let private and loopback addresses into the DHT: offline swarms and local networks. */
  readonly privateAddresses?: boolean
  readonly identity?: Identity
  /** Told to others, e.g. `chorale/0.1.0`. */
  readonly software?: string
  readonly log?: Logger
  /** Relays connections to peers that can't be dialled (`relayServer()`); for peers that others can dial. */
  readonly relay?: RelayService
  /** How long to look for a first bootstrap peer, in milliseconds (default: 8000 for a server, 3000 for a client). */
  readonly bootstrapTimeoutMs?: number
}

export interface OpenStreamOptions {
  readonly signal?: AbortSignal
  /** Dial, handshakes and protocol negotiation together. */
  readonly timeoutMs: number
}

/** This process in the network. */
export interface Peer {
  readonly id: string
  readonly identity: Identity
  readonly software: string
  readonly log: Logger
  /** Whether it joined a network through bootstrap peers; false for the first peer of a new one. */
  readonly joined: boolean
  /** Multiaddrs others may dial, each ending in /p2p/ID. */
  addrs(): string[]
  /** Opens a stream, over an existing connection where there is one. @throws `unreachable`, `timeout`, `not_supported`, `cancelled`. */
  openStream(
    peerId: string,
    addrs: readonly string[],
    protocol: string,
    options: OpenStreamOptions,
  ): Promise<Stream>
  /** Answers a protocol. `maxStreams` bounds the open streams of one connection. */
  handle(protocol: string, handler: StreamHandler, maxStreams: number): Promise<void>
  unhandle(protocol: string): Promise<void>
  /** Connected peers that answer `protocol`, kept up to date; call the returned function to stop watching. */
  watch(protocol: string, onChange: (peers: ReadonlySet<string>) => void): Promise<() => void>
  /** Peers nearest to `key` in the DHT, as they are found. Ends at the signal without an error. */
  closestPeers(key: Uint8Array, signal: AbortSignal): AsyncGenerator<string, void, void>
  /** Round trips to connected peers, as far as they were measured; a connection is measured every ten seconds. */
  measures(): ReadonlyMap<string, PeerMeasure>
  close(): Promise<void>
}

const MIB = 1024 * 1024

/** A paused reader must never overflow its buffer, or the stream is reset: window < read buffer. */
const STREAM_OPTIONS = {
  maxStreamWindowSize: 2 * MIB,
  maxReadBufferLength: 8 * MIB,
  // One whole frame may wait here; senders wait for `drain` before the next.
  maxWriteBufferLength: 24 * MIB,
}

const BOOTSTRAP_RETRY_MS = 500
const BOOTSTRAP_CHECK_MS = 5_000

/**
 * Starts a libp2p peer: noise, yamux, own Kademlia table.
 * @throws `unreachable` when bootstrap addresses were given and none answers, `bad_config` for an unreadable
 * address or a port in use.
 */
export async function createPeer(options: PeerOptions): Promise<Peer> {
  const log = options.log ?? silentLogger
  const software = options.software ?? 'chorale'
  const identity = options.identity ?? (await createIdentity())
  const bootstrap = (options.bootstrap ?? []).map((text) => parseAddr(text, 'bootstrap'))
  const node = await start(options, identity, software)
  const bootstrapLoop = startBootstrapLoop(node, bootstrap, log)
  try {
    await bootstrapLoop.first(options.bootstrapTimeoutMs ?? (options.mode === 'server' ? 8_000 : 3_000))
  } catch (error) {
    bootstrapLoop.stop()
    await node.stop()
    throw error
  }
  return {
    id: identity.peerId,
    identity,
    software,
    log,
    joined: bootstrap.length > 0,
    addrs: () => node.getMultiaddrs().map(String),
    openStream: (peerId, addrs, protocol, open) => openStream(node, peerId, addrs, protocol, open),
    handle: async (protocol, handler, maxStreams) => {
      await node.handle(protocol, handler, { maxInboundStreams: maxStreams })
    },
    unhandle: async (protocol) => {
      await node.unhandle(protocol)
    },
    watch: (protocol, onChange) => watch(node, protocol, onChange),
    closestPeers: (key, signal) => closestPeers(node.services.dht, key, signal),
    measures: () => {
      const all = node.getConnections().map(({ remotePeer }) => remotePeer)
      return new Map(
        all.flatMap((id) => {
          const connection = openConnection(node, id)
          const known = { rttMs: connection?.rtt, ...(connection && { path: connectionPath(connection) }) }
          return connection ? [[id.toString(), known]] : []
        }),
      )
    },
    close: async () => {
      bootstrapLoop.stop()
      await node.stop()
    },
  }
}

type Node = Libp2p<{ dht: KadDHT }>

async function start(options: PeerOptions, identity: Identity, software: string): Promise<Node> {
  const listen = [...(options.listen ?? [])]
  for (const text of [...listen, ...(options.announce ?? [])]) parseAddr(text, 'listen')
  try {
    return await createLibp2p({
      privateKey: identity.privateKey,
      nodeInfo: { name: 'chorale', version: software },
      addresses: { listen, announce: [...(options.announce ?? [])] },
      transports: [...options.transports],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux({ streamOptions: STREAM_OPTIONS })],
      connectionManager: {
        maxConnections: 1000,
        // Default 5 a second and address: a gateway, several clients behind one NAT and every test pass that.
        inboundConnectionThreshold: 100,
        maxIncomingPendingConnections: 100,
      },
      // A server that computes a long prefill answers no ping for a while and must not be cut off for it.
      connectionMonitor: { abortConnectionOnPingFailure: false },
      ...(options.privateAddresses === true ? { connectionGater: { denyDialMultiaddr: () => false } } : {}),
      services: {
        ...(options.relay && { relay: options.relay }),
        identify: identify(),
        ping: ping(),
        dht: kadDHT({
          protocol: KAD_PROTOCOL,
          clientMode: options.mode === 'client',
          peerInfoMapper:
            options.privateAddresses === true ? passthroughMapper : removePrivateAddressesMapper,
          allowQueryWithZeroPeers: true,
          // No values and no validators: records live in `/chorale/directory/1`, so a PUT_VALUE is refused.
          validators: {},
          selectors: {},
        }),
      },
    }).then(async (node) => {
      if (options.mode === 'server') await node.services.dht.setMode('server')
      return node
    })
  } catch (error) {
    throw new ChoraleError(
      'bad_config',
      `can't listen on ${listen.join(', ')}: ${errorMessage(error)} (is the port in use?)`,
      { cause: error, field: 'listen' },
    )
  }
}

/** Dials the bootstrap peers until one answers, then watches that one stays connected. */
function startBootstrapLoop(node: Node, bootstrap: readonly Multiaddr[], log: Logger) {
  const stopped = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  let lastErrors = new Map<string, string>()

  const dialAll = async (): Promise<number> => {
    const errors = new Map<string, string>()
    const dials = bootstrap.map(async (address) => {
      try {
        await node.dial(address, { signal: AbortSignal.any([stopped.signal, AbortSignal.timeout(5_000)]) })
        return 1
      } catch (error) {
        errors.set(String(address), errorMessage(error))
        return 0
      }
    })
    const reached = await Promise.all(dials)
    lastErrors = errors
    return reached.reduce<number>((sum, one) => sum + one, 0)
  }

  const watchLoop = (): void => {
    timer = setTimeout(async () => {
      if (node.getConnections().length === 0) {
        const reached = await dialAll()
        log.info('rejoining the network', { reached })
      }
      if (!stopped.signal.aborted) watchLoop()
    }, BOOTSTRAP_CHECK_MS)
  }

  return {
    /** Resolves when one bootstrap peer is connected. @throws `unreachable` after `timeoutMs`. */
    first: async (timeoutMs: number): Promise<void> => {
      if (bootstrap.length === 0) return
      const deadline = Date.now() + timeoutMs
      while ((await dialAll()) === 0) {
        if (Date.now() + BOOTSTRAP_RETRY_MS > deadline) {
          const tried = [...lastErrors].map(([address, reason]) => `${address} (${reason})`).join(', ')
          throw new ChoraleError(
            'unreachable',
            `no bootstrap peer is reachable: ${tried}. Check that it runs, its address and port, and that no firewall is between`,
            { field: 'bootstrap' },
          )
        }
        await new Promise((resolve) => setTimeout(resolve, BOOTSTRAP_RETRY_MS))
      }
      watchLoop()
    },
    stop: (): void => {
      stopped.abort()
      clearTimeout(timer)
    },
  }
}

async function openStream(
  node: Node,
  peerId: string,
  addrs: readonly string[],
  protocol: string,
  { signal: callerSignal, timeoutMs }: OpenStreamOptions,
): Promise<Stream> {
  const timeout = AbortSignal.timeout(timeoutMs)
  const signal = callerSignal === undefined ? timeout : AbortSignal.any([callerSignal, timeout])
  let connection: Connection | undefined
  try {
    const id = peerIdFromString(peerId)
    connection = openConnection(node, id)
    if (connection === undefined) {
      const targets = addrs.map((text) => withPeerId(parseAddr(text, 'addrs'), peerId))
      connection = await dial(node, id, targets, { signal, timeoutMs })
    }
    return await connection.newStream(protocol, { signal, maxOutboundStreams: MAX_STREAMS_A_CONNECTION })
  } catch (error) {
    if (callerSignal?.aborted === true) {
      throw new ChoraleError('cancelled', `cancelled while connecting to ${peerId}`, { cause: error })
    }
    if (timeout.aborted) {
      // Nothing answers on it and nobody else uses it: the next attempt should dial afresh.
      if (connection !== undefined && connection.streams.length <= 1) connection.abort(new Error('no answer'))
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

/** The open connection to a peer; one of its own before one through a relay. */
function openConnection(node: Node, id: PeerId): Connection | undefined {
  const open = node.getConnections(id).filter(({ status }) => status === 'open')
  return open.find((connection) => connectionPath(connection) !== 'relay') ?? open[0]
}

/** How a connection goes. */
function connectionPath({ remoteAddr }: Connection): NonNullable<PeerMeasure['path']> {
  const names = remoteAddr.getComponents().map(({ name }) => name)
  if (names.includes('webrtc') || names.includes('webrtc-direct')) return 'webrtc'
  if (names.includes('p2p-circuit')) return 'relay'
  return names.includes('ws') || names.includes('wss') ? 'websocket' : 'tcp'
}

/** Part of the time to dial in which two tabs may find a way of their own before the relay carries everything. */
const DIRECT_PART = 0.6

/** Dials WebRTC before relays: what a relay carries is slow, and its owner's bandwidth. */
async function dial(
  node: Node,
  id: PeerId,
  targets: readonly Multiaddr[],
  { signal, timeoutMs }: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<Connection> {
  const direct = targets.filter((address) => address.getComponents().some(({ name }) => name === 'webrtc'))
  if (direct.length > 0 && (await node.isDialable(direct))) {
    const patience = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs * DIRECT_PART)])
    const connection = await node.dial(direct, { signal: patience }).catch(() => undefined)
    if (connection) return connection
    signal.throwIfAborted()
  }
  const others = targets.filter((address) => !direct.includes(address))
  return await node.dial(others.length > 0 ? others : targets.length > 0 ? [...targets] : id, { signal })
}

/** A gateway holds one stream a session on one connection to each server. */
const MAX_STREAMS_A_CONNECTION = 512

async function watch(
  node: Node,
  protocol: string,
  onChange: (peers: ReadonlySet<string>) => void,
): Promise<() => void> {
  const peers = new Set<string>()
  const id = await node.register(protocol, {
    onConnect: (peer: PeerId) => {
      peers.add(peer.toString())
      onChange(peers)
    },
    onDisconnect: (peer: PeerId) => {
      peers.delete(peer.toString())
      onChange(peers)
    },
  })
  // Those that said what they speak before this watch began are not reported again.
  for (const peer of node.getPeers()) {
    const known = await node.peerStore.get(peer).catch(() => undefined)
    if (known?.protocols.includes(protocol) === true && node.getConnections(peer).length > 0) {
      peers.add(peer.toString())
    }
  }
  if (peers.size > 0) onChange(peers)
  return () => node.unregister(id)
}

async function* closestPeers(
  dht: KadDHT,
  key: Uint8Array,
  signal: AbortSignal,
): AsyncGenerator<string, void, void> {
  try {
    for await (const event of dht.getClosestPeers(key, { signal })) {
      if (event.name === 'FINAL_PEER') yield event.peer.id.toString()
    }
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

function parseAddr(text: string, field: string): Multiaddr {
  try {
    return multiaddr(text)
  } catch (error) {
    throw new ChoraleError(
      'bad_config',
      `${JSON.stringify(text.slice(0, 200))} is no multiaddr, e.g. /ip4/127.0.0.1/tcp/4001: ${errorMessage(error)}`,
      { field },
    )
  }
}

function withPeerId(address: Multiaddr, peerId: string): Multiaddr {
  const named = address.getComponents().some((component) => component.name === 'p2p')
  return named ? address : address.encapsulate(`/p2p/${peerId}`)
}
