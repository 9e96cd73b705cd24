import type { ConnectionGater, PeerId, StreamMiddleware } from '@libp2p/interface'
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

/** Keeps a library's protocol from peers that are not admitted (yet). It runs before the protocol reads anything. */
export function admittedOnly(gate: StakeGate, place: 'dht' | 'relay'): StreamMiddleware {
  return (stream, connection, next) => {
    const verdict = gate.check(connection.remotePeer.toString(), 'connect')
    if (!verdict.ok) {
      gate.refuse(place)
      throw new ChoraleError('refused', verdict.reason)
    }
    next(stream, connection)
  }
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
