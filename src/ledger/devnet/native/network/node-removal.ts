import { removeFromElection } from './election.ts'
import type { ColdkeyNodes } from './node-keys.ts'
import { lookUp, withEntry, withoutKey, withoutValue } from './ordered-map.ts'
import type { EmergencySet, PeerInfo, Reputation, SubnetNode } from './records.ts'
import type { NetworkState } from './state.ts'

/** Removes a live or queued node; its stake stays its hotkey's. Nothing happens where there is none. */
export function removeNode(net: NetworkState, subnetId: number, nodeId: number): void {
  if (net.has('SubnetNodesData', subnetId, nodeId)) removeLiveNode(net, subnetId, nodeId)
  else removeQueuedNode(net, subnetId, nodeId)
}

export function removeLiveNode(net: NetworkState, subnetId: number, nodeId: number): void {
  const node = net.find<SubnetNode>('SubnetNodesData', subnetId, nodeId)
  if (node === undefined) return
  net.drop('SubnetNodesData', subnetId, nodeId)
  forgetNode(net, subnetId, node, true)
  if (node.classification.node_class === 'Validator') removeFromElection(net, subnetId, nodeId)
  net.count('TotalActiveSubnetNodes', [subnetId], -1)
  net.count('TotalActiveNodes', [], -1)
  const emergency = net.get<EmergencySet | undefined>('EmergencySubnetNodeElectionData', subnetId)
  if (emergency !== undefined)
    net.put('EmergencySubnetNodeElectionData', [subnetId], {
      ...emergency,
      subnet_node_ids: emergency.subnet_node_ids.filter((id) => id !== nodeId),
    })
}

export function removeQueuedNode(net: NetworkState, subnetId: number, nodeId: number): void {
  const node = net.find<SubnetNode>('RegisteredSubnetNodesData', subnetId, nodeId)
  if (node === undefined) return
  net.drop('RegisteredSubnetNodesData', subnetId, nodeId)
  forgetNode(net, subnetId, node, false)
  const queue = net.get<readonly SubnetNode[]>('SubnetNodeQueue', subnetId)
  net.put(
    'SubnetNodeQueue',
    [subnetId],
    queue.filter(({ id }) => id !== nodeId),
  )
}

function forgetNode(net: NetworkState, subnetId: number, node: SubnetNode, live: boolean): void {
  if (node.unique !== undefined) net.drop('UniqueParamSubnetNodeId', subnetId, node.unique)
  forgetPeer(net, 'PeerIdSubnetNodeId', subnetId, node.peer_info)
  forgetPeer(net, 'BootnodePeerIdSubnetNodeId', subnetId, node.bootnode_peer_info)
  forgetPeer(net, 'ClientPeerIdSubnetNodeId', subnetId, node.client_peer_info)
  net.drop('HotkeySubnetNodeId', subnetId, node.hotkey)
  for (const item of [
    'SubnetNodeIdHotkey',
    'SubnetNodeReputation',
    'SubnetNodeIdleConsecutiveEpochs',
    'SubnetNodeConsecutiveIncludedEpochs',
  ])
    net.drop(item, subnetId, node.id)
  const coldkey = net.get<string>('HotkeyOwner', node.hotkey)
  const owned = net.get<ColdkeyNodes>('ColdkeySubnetNodes', coldkey)
  const left = withoutValue(lookUp(owned, subnetId) ?? [], node.id)
  net.put(
    'ColdkeySubnetNodes',
    [coldkey],
    left.length === 0 ? withoutKey(owned, subnetId) : withEntry(owned, subnetId, left),
  )
  // The chain counts a queued node down too, which was never counted up.
  if (live) {
    const reputation = net.get<Reputation>('ColdkeyReputation', coldkey)
    const total_active_nodes = Math.max(0, reputation.total_active_nodes - 1)
    net.put('ColdkeyReputation', [coldkey], { ...reputation, total_active_nodes })
  }
  net.count('TotalSubnetNodes', [subnetId], -1)
  net.count('TotalNodes', [], -1)
  net.emit('SubnetNodeRemoved', { subnet_id: subnetId, subnet_node_id: node.id })
}

/** Frees a peer id and its address. */
export function forgetPeer(
  net: NetworkState,
  item: string,
  subnetId: number,
  peer: PeerInfo | undefined,
): void {
  if (peer === undefined) return
  net.drop(item, subnetId, peer.peer_id)
  if (peer.multiaddr !== undefined) net.drop('MultiaddrSubnetNodeId', subnetId, peer.multiaddr)
}
