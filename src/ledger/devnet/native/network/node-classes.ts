import { changeNode } from './node-store.ts'
import { classOfRank, classRank, type Reputation, type SubnetNode } from './records.ts'
import type { NetworkState } from './state.ts'

/** Moves a live node to the next class from `startEpoch` on. @returns false when it is gone. */
export function graduate(net: NetworkState, subnetId: number, nodeId: number, startEpoch: number): boolean {
  const node = net.find<SubnetNode>('SubnetNodesData', subnetId, nodeId)
  if (node === undefined) return false
  const current = node.classification.node_class
  const classification = {
    node_class: classOfRank(classRank(current) + 1) ?? current,
    start_epoch: startEpoch,
  }
  changeNode(net, subnetId, nodeId, (before) => ({ ...before, classification }))
  net.emit('NodeClassGraduation', { subnet_id: subnetId, subnet_node_id: nodeId, classification })
  return true
}

/** Makes a registered node live in a class from `startEpoch` on; the caller has made room for it. */
export function makeLive(
  net: NetworkState,
  subnetId: number,
  node: SubnetNode,
  nodeClass: 'Idle' | 'Validator',
  startEpoch: number,
): void {
  net.drop('RegisteredSubnetNodesData', subnetId, node.id)
  net.put('SubnetNodesData', [subnetId, node.id], {
    ...node,
    classification: { node_class: nodeClass, start_epoch: startEpoch },
  })
  net.count('TotalActiveSubnetNodes', [subnetId], 1)
  net.count('TotalActiveNodes', [], 1)
  const coldkey = net.get<string>('HotkeyOwner', node.hotkey)
  const reputation = net.get<Reputation>('ColdkeyReputation', coldkey)
  net.put('ColdkeyReputation', [coldkey], {
    ...reputation,
    lifetime_node_count: reputation.lifetime_node_count + 1,
    total_active_nodes: reputation.total_active_nodes + 1,
  })
  net.emit('SubnetNodeActivated', { subnet_id: subnetId, subnet_node_id: node.id })
}
