import type { ConnectionGater, PeerId, StreamHandler, StreamHandlerOptions } from '@libp2p/interface'
import type { PeerInfoMapper } from '@libp2p/kad-dht'
import { ChoraleError } from '../errors.ts'
import type { StakeGate } from './stake-gate.ts'

/**
 * Who may connect, before a single byte of ours is read: libp2p asks after the handshake that proves the other's key.
 * A peer that asks to come in without stake may wait a little for its pass (`StakeGate.pending`); until it is admitted it
 * can say who it is and show a pass, and nothing else.
 */
export function stakeGater(gate: StakeGate): ConnectionGater {
  const deny = (place: 'connect' | 'dial' | 'relay'): true => {
    gate.refuse(place)
    return true
  }
  const admitted = async (peerId: string, action: 'connect' | 'relay'): Promise<boolean> =>
    gate.check(peerId, action).ok || (await gate.resolve(peerId, action)).ok
  const denyOutbound = async (peer: PeerId): Promise<boolean> =>
    (await admitted(peer.toString(), 'connect')) ? false : deny('dial')
  return {
    denyDialPeer: denyOutbound,
    denyOutboundEncryptedConnection: denyOutbound,
    denyInboundEncryptedConnection: async (peer) => {
      const id = peer.toString()
      if (await admitted(id, 'connect')) return false
      return gate.pending.enter(id) === undefined ? false : deny('connect')
    },
    denyInboundRelayReservation: async (source) =>
      (await admitted(source.toString(), 'relay')) ? false : deny('relay'),
    denyOutboundRelayedConnection: async (source, destination) =>
      gate.check(source.toString(), 'connect').ok && (await admitted(destination.toString(), 'relay'))
        ? false
        : deny('relay'),
    // Who comes through the relay is asked again, with its own key, by `denyInboundEncryptedConnection`.
    denyInboundRelayedConnection: async (relay) =>
      (await admitted(relay.toString(), 'connect')) ? false : deny('relay'),
  }
}

/** Where a libp2p service says which protocols it answers. */
interface Registrar {
  handle(protocol: string, handler: StreamHandler, options?: StreamHandlerOptions): Promise<void>
}

/** What a libp2p service is made from. */
export interface Components {
  readonly registrar: Registrar
}

/**
 * Keeps the protocols of one of the library's services from peers that are not admitted (yet): their streams are cut
 * before the service reads anything. libp2p's own middleware is not used: version 3.3.11 adds the handler to the list of
 * middleware with each stream, so the second stream is handled twice.
 */
export function admittedOnly<C extends Components, Service>(
  gate: StakeGate,
  place: 'dht' | 'relay' | 'gossip',
  make: (components: C) => Service,
): (components: C) => Service {
  return (components) => make(withRegistrar(components, gatedRegistrar(components.registrar, gate, place)))
}

/** The same components with another registrar. They are a proxy themselves, so they can't be copied. */
function withRegistrar<C extends Components>(components: C, registrar: Registrar): C {
  return new Proxy(components, {
    get: (target, name) => (name === 'registrar' ? registrar : Reflect.get(target, name)),
  })
}

function gatedRegistrar(registrar: Registrar, gate: StakeGate, place: 'dht' | 'relay' | 'gossip'): Registrar {
  const handle: Registrar['handle'] = async (protocol, handler, options) => {
    const admitting: StreamHandler = (stream, connection) => {
      const verdict = gate.check(connection.remotePeer.toString(), 'connect')
      if (verdict.ok) return handler(stream, connection)
      gate.refuse(place)
      stream.abort(new ChoraleError('refused', verdict.reason))
    }
    await registrar.handle(protocol, admitting, options)
  }
  return new Proxy(registrar, {
    get: (target, name) => {
      if (name === 'handle') return handle
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

/** Keeps peers out of the DHT that may not publish: without addresses they enter no table and no answer. */
export function stakedPeersOnly(gate: StakeGate, mapper: PeerInfoMapper): PeerInfoMapper {
  return (peer) => {
    const id = peer.id.toString()
    if (gate.staked(id, 'directory').ok) return mapper(peer)
    gate.refuse('dht')
    // Bootnodes are no nodes of the set: when the ledger knows this one, the next time finds it admitted.
    void gate.resolve(id, 'directory')
    return { ...peer, multiaddrs: [] }
  }
}
