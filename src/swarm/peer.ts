import type { CircuitRelayService } from '@libp2p/circuit-relay-v2'
import type { GossipSub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import type { PeerId, Stream, StreamHandler } from '@libp2p/interface'
import { kadDHT, type KadDHT, passthroughMapper, removePrivateAddressesMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { yamux } from '@libp2p/yamux'
import { createLibp2p, type Libp2p } from 'libp2p'
import { ChoraleError, errorMessage } from '../errors.ts'
import { type Logger, silentLogger } from '../log.ts'
import { createMetrics, type Metrics } from '../metrics.ts'
import { attestTopic, KAD_PROTOCOL, RECORDS_TOPIC } from '../protocol/ids.ts'
import type { PeerMeasure } from '../routing/snapshot.ts'
import { startBootstrapLoop } from './bootstrap-loop.ts'
import { admittedOnly, type Components, stakedPeersOnly, stakeGater } from './connection-gates.ts'
import {
  connectionPath,
  connectTo,
  dialStream,
  openConnection,
  type OpenStreamOptions,
} from './dial-stream.ts'
import type { Ed25519 } from './ed25519.ts'
import { createIdentity, type Identity, webEd25519 } from './identity.ts'
import type { Gossip, GossipFactory } from './gossip.ts'
import { lazyNegotiation } from './lazy-negotiation.ts'
import { parseAddr } from './multiaddrs.ts'
import { type Digest, digestOf } from './digest.ts'
import { rareWindowUpdates } from './rare-window-updates.ts'
import type { ReceiptStore } from './receipt-store.ts'
import type { RelayService } from './relay.ts'
import type { StakeGate } from './stake-gate.ts'
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
  /** Who is admitted; without one everybody is. The caller closes it after the peer. */
  readonly gate?: StakeGate
  /**
   * Takes part in gossip (`gossip()`): news of servers, and with a gate the epoch reports of its subnet. For servers; a
   * tab asks directory peers instead.
   */
  readonly gossip?: GossipFactory
  /** Keeps the receipts of this peer's sessions, those it gives as a server and those it gets as a client. */
  readonly receipts?: ReceiptStore
  /** SHA-256 of the platform, where it has a quick one that answers at once; receipts hash every step. */
  readonly sha256?: (bytes: Uint8Array) => Uint8Array
  /** Signs and checks receipts (default: WebCrypto's, on another thread). */
  readonly ed25519?: Ed25519
  /** What this peer does is counted here. */
  readonly metrics?: Metrics
  /** How long to look for a first bootstrap peer, in milliseconds (default: 8000 for a server, 3000 for a client). */
  readonly bootstrapTimeoutMs?: number
}

/** This process in the network. */
export interface Peer {
  readonly id: string
  readonly identity: Identity
  readonly software: string
  readonly log: Logger
  readonly gate: StakeGate | undefined
  readonly gossip: Gossip | undefined
  readonly receipts: ReceiptStore | undefined
  /** SHA-256; `bytes` may change once it returned. */
  readonly digest: Digest
  /** Of receipts. */
  readonly ed25519: Ed25519
  readonly metrics: Metrics
  /** The signed pass that this peer shows where it has no stake; see `keepPass`. */
  pass: Uint8Array | undefined
  /** Whether it joined a network through bootstrap peers; false for the first peer of a new one. */
  readonly joined: boolean
  /** Multiaddrs others may dial, each ending in /p2p/ID. */
  addrs(): string[]
  /**
   * Opens a stream, over an existing connection where there is one.
   * @throws `unreachable`, `timeout`, `not_supported`, `cancelled`, and `refused` for a peer that the gate does not admit.
   */
  openStream(
    peerId: string,
    addrs: readonly string[],
    protocol: string,
    options: OpenStreamOptions,
  ): Promise<Stream>
  /** Connects to a peer, so that gossip reaches it. @throws `unreachable`, and `refused` as `openStream` does. */
  connect(peerId: string, addrs: readonly string[], timeoutMs: number): Promise<void>
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
  const { gate } = options
  const metrics = options.metrics ?? createMetrics()
  const node = await start(options, identity, software)
  const ungate = gate ? watchGate(node, gate, log) : undefined
  const bootstrapLoop = startBootstrapLoop(node, bootstrap, log)
  try {
    await bootstrapLoop.first(options.bootstrapTimeoutMs ?? (options.mode === 'server' ? 8_000 : 3_000))
  } catch (error) {
    bootstrapLoop.stop()
    ungate?.()
    await node.stop()
    throw error
  }
  let pass: Uint8Array | undefined
  const admitted = async (peerId: string): Promise<void> => {
    if (!gate || gate.check(peerId, 'connect').ok) return
    const verdict = await gate.resolve(peerId, 'connect')
    if (verdict.ok) return
    gate.refuse('dial')
    throw new ChoraleError('refused', `peer ${peerId} is not admitted: ${verdict.reason}`)
  }
  return {
    id: identity.peerId,
    identity,
    software,
    log,
    gate,
    gossip:
      node.services.gossip &&
      options.gossip?.wrap(node.services.gossip, topicsOf(options), { gate, log, metrics }),
    receipts: options.receipts,
    digest: options.sha256 ?? digestOf,
    ed25519: options.ed25519 ?? webEd25519,
    metrics,
    get pass() {
      return pass
    },
    set pass(value) {
      pass = value
    },
    joined: bootstrap.length > 0,
    addrs: () => node.getMultiaddrs().map(String),
    openStream: async (peerId, addrs, protocol, open) => {
      await admitted(peerId)
      return await dialStream(node, peerId, addrs, protocol, open)
    },
    connect: async (peerId, addrs, timeoutMs) => {
      await admitted(peerId)
      await connectTo(node, peerId, addrs, timeoutMs)
    },
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
      ungate?.()
      await node.stop()
    },
  }
}

/** `routingTable` is public in the library and missing in its types. */
type Dht = KadDHT & { readonly routingTable: { remove(peer: PeerId): Promise<void> } }

type Node = Libp2p<{ dht: KadDHT; relay?: CircuitRelayService; gossip?: GossipSub }>

/** What there is gossip about. */
function topicsOf({ gate }: PeerOptions): readonly string[] {
  return gate ? [RECORDS_TOPIC, attestTopic(gate.subnetId)] : [RECORDS_TOPIC]
}

async function start(options: PeerOptions, identity: Identity, software: string): Promise<Node> {
  const listen = [...(options.listen ?? [])]
  const { gate } = options
  const gated = <C extends Components, S>(place: 'dht' | 'relay' | 'gossip', make: (components: C) => S) =>
    gate ? admittedOnly(gate, place, make) : make
  const mapper = options.privateAddresses === true ? passthroughMapper : removePrivateAddressesMapper
  for (const text of [...listen, ...(options.announce ?? [])]) parseAddr(text, 'listen')
  try {
    return await createLibp2p({
      privateKey: identity.privateKey,
      nodeInfo: { name: 'chorale', version: software },
      addresses: { listen, announce: [...(options.announce ?? [])] },
      transports: [...options.transports],
      connectionEncrypters: [noise()],
      streamMuxers: [lazyNegotiation(rareWindowUpdates(yamux({ streamOptions: STREAM_OPTIONS })))],
      connectionManager: {
        maxConnections: 1000,
        // Default 5 a second and address: a gateway, several clients behind one NAT and every test pass that.
        inboundConnectionThreshold: 100,
        maxIncomingPendingConnections: 100,
      },
      // A server that computes a long prefill answers no ping for a while and must not be cut off for it.
      connectionMonitor: { abortConnectionOnPingFailure: false },
      connectionGater: {
        ...(options.privateAddresses === true && { denyDialMultiaddr: () => false }),
        ...(options.gate && stakeGater(options.gate)),
      },
      services: {
        ...(options.relay && { relay: gated('relay', options.relay) }),
        ...(options.gossip && { gossip: gated('gossip', options.gossip.service(topicsOf(options), gate)) }),
        identify: identify(),
        ping: ping(),
        dht: gated(
          'dht',
          kadDHT({
            protocol: KAD_PROTOCOL,
            clientMode: options.mode === 'client',
            peerInfoMapper: options.gate ? stakedPeersOnly(options.gate, mapper) : mapper,
            allowQueryWithZeroPeers: true,
            // No values and no validators: records live in `/chorale/directory/1`, so a PUT_VALUE is refused.
            validators: {},
            selectors: {},
          }),
        ),
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

/** A peer that was told why gets this long to read it. */
const LAST_WORDS_MS = 50

/** Cuts who is no more admitted: its connections with all their streams, its place on the relay and in the DHT. */
function watchGate(node: Node, gate: StakeGate, log: Logger): () => void {
  const unwatch = gate.onRevoked((peerId, reason, lost) => {
    const id = peerIdFromString(peerId)
    if (lost.has('directory')) (node.services.dht as Dht).routingTable.remove(id).catch(() => undefined)
    if (lost.has('relay')) node.services.relay?.reservations.delete(id)
    if (!lost.has('connect')) return
    log.info('cutting a peer', { peer: peerId, reason })
    setTimeout(() => {
      // It may have been admitted again in the meantime, by a pass or by stake.
      if (gate.check(peerId, 'connect').ok) return
      for (const connection of node.getConnections(id)) connection.abort(new ChoraleError('refused', reason))
      void node.peerStore.delete(id).catch(() => undefined)
    }, LAST_WORDS_MS)
  })
  const onGone = (event: CustomEvent<PeerId>): void => gate.pending.leave(event.detail.toString())
  node.addEventListener('peer:disconnect', onGone)
  return () => {
    unwatch()
    node.removeEventListener('peer:disconnect', onGone)
  }
}

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
