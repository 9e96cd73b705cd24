import { subnetEpoch } from './epochs.ts'
import { hasKey, type OrderedMap } from './ordered-map.ts'
import { PEER_ITEMS } from './peer-infos.ts'
import { classOfRank, hasClass, type SubnetNode } from './records.ts'
import type { NetworkState } from './state.ts'

/**
 * Whether a peer id (ASCII of its text) may take part in a subnet: it is the main, bootnode or client peer of a node of at
 * least the class and stake (the subnet's minimum without one), an overwatch node's peer, or one of the subnet's bootnodes.
 * Queued nodes count only for class 0.
 */
export function proofOfStake(
  net: NetworkState,
  subnetId: number,
  peerId: Uint8Array,
  minClass: number,
  minStake: bigint | undefined,
): boolean {
  const least = classOfRank(minClass)
  if (least === undefined || !net.has('SubnetsData', subnetId)) return false
  const stake = minStake ?? net.big('SubnetMinStakeBalance', subnetId)
  const epoch = subnetEpoch(net, subnetId)
  const isStaked = Object.values(PEER_ITEMS).some((item) => {
    const nodeId = net.find<number>(item, subnetId, peerId)
    if (nodeId === undefined) return false
    const node =
      net.find<SubnetNode>('SubnetNodesData', subnetId, nodeId) ??
      (minClass === 0 ? net.find<SubnetNode>('RegisteredSubnetNodesData', subnetId, nodeId) : undefined)
    return (
      node !== undefined &&
      hasClass(node, least, epoch) &&
      net.big('AccountSubnetStake', node.hotkey, subnetId) >= stake
    )
  })
  return (
    isStaked ||
    net.has('PeerIdOverwatchNodeId', subnetId, peerId) ||
    hasKey(net.get<OrderedMap<Uint8Array, Uint8Array>>('SubnetBootnodes', subnetId), peerId)
  )
}
