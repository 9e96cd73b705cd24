import { ensureLength, MAX_VECTOR } from './bounds.ts'
import { isPeerId, multiaddrError } from './multiaddr-check.ts'
import { forgetPeer } from './node-removal.ts'
import type { PeerInfo } from './records.ts'
import type { NetworkState } from './state.ts'

/** Which of a node's three peers, and the map from its peer id to the node. */
export const PEER_ITEMS = {
  peer_info: 'PeerIdSubnetNodeId',
  bootnode_peer_info: 'BootnodePeerIdSubnetNodeId',
  client_peer_info: 'ClientPeerIdSubnetNodeId',
} as const

export type PeerField = keyof typeof PEER_ITEMS

/** Whether no node and no overwatch node of the subnet uses the peer id. */
export function isPeerFree(net: NetworkState, subnetId: number, peerId: Uint8Array): boolean {
  return ![...Object.values(PEER_ITEMS), 'PeerIdOverwatchNodeId'].some((item) =>
    net.has(item, subnetId, peerId),
  )
}

/** Books a peer id and address, which nobody in the subnet may have, to a node. */
export function claimPeer(
  net: NetworkState,
  subnetId: number,
  nodeId: number,
  field: PeerField,
  peer: PeerInfo | undefined,
): void {
  if (peer === undefined) return
  net.ensure(isPeerId(peer.peer_id), 'InvalidPeerId')
  net.ensure(isPeerFree(net, subnetId, peer.peer_id), 'PeerIdExist')
  net.put(PEER_ITEMS[field], [subnetId, peer.peer_id], nodeId)
  if (peer.multiaddr === undefined) return
  ensureLength('multiaddr', peer.multiaddr, MAX_VECTOR)
  const error = multiaddrError(peer.multiaddr)
  if (error !== undefined) net.fail(error)
  net.ensure(!net.has('MultiaddrSubnetNodeId', subnetId, peer.multiaddr), 'MultiaddrExist')
  net.put('MultiaddrSubnetNodeId', [subnetId, peer.multiaddr], nodeId)
}

/** Replaces one of a node's peers. The new peer id and address must be free before the old ones are given up. */
export function replacePeer(
  net: NetworkState,
  subnetId: number,
  nodeId: number,
  field: PeerField,
  before: PeerInfo | undefined,
  after: PeerInfo | undefined,
): void {
  claimPeer(net, subnetId, nodeId, field, after)
  forgetPeer(net, PEER_ITEMS[field], subnetId, before)
}
