import type { NodeClass } from '../../../ledger.ts'
import { hasClass, type SubnetNode } from './records.ts'
import type { NetworkState } from './state.ts'

/** A node that is live, or waits in the queue. */
export function findNode(net: NetworkState, subnetId: number, nodeId: number): SubnetNode | undefined {
  return (
    net.find<SubnetNode>('SubnetNodesData', subnetId, nodeId) ??
    net.find<SubnetNode>('RegisteredSubnetNodesData', subnetId, nodeId)
  )
}

/** Replaces a node's record where it stands, in the queue's copy too. @returns false when there is no such node. */
export function changeNode(
  net: NetworkState,
  subnetId: number,
  nodeId: number,
  change: (node: SubnetNode) => SubnetNode,
): boolean {
  for (const item of ['SubnetNodesData', 'RegisteredSubnetNodesData']) {
    const node = net.find<SubnetNode>(item, subnetId, nodeId)
    if (node === undefined) continue
    net.put(item, [subnetId, nodeId], change(node))
    if (item === 'RegisteredSubnetNodesData') {
      const queue = net.get<readonly SubnetNode[]>('SubnetNodeQueue', subnetId)
      net.put(
        'SubnetNodeQueue',
        [subnetId],
        queue.map((queued) => (queued.id === nodeId ? change(queued) : queued)),
      )
    }
    return true
  }
  return false
}

/** Live nodes of at least a class, in storage order. */
export function nodesOfClass(
  net: NetworkState,
  subnetId: number,
  least: NodeClass,
  subnetEpoch: number,
): SubnetNode[] {
  return net
    .entries<SubnetNode>('SubnetNodesData', subnetId)
    .map(({ value }) => value)
    .filter((node) => hasClass(node, least, subnetEpoch))
}
