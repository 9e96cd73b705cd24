import type { LedgerValue } from '../../../ledger.ts'
import { nodePool, poolValue, subnetPool } from './delegate-pool.ts'
import type { ColdkeyNodes } from './node-keys.ts'
import { findNode } from './node-store.ts'
import type { EmergencySet, SubnetNode } from './records.ts'
import type { NetworkState } from './state.ts'

/** `SubnetNodeInfo` of a live or queued node. */
export function nodeInfo(net: NetworkState, subnetId: number, nodeId: number): LedgerValue {
  const node = findNode(net, subnetId, nodeId)
  if (node === undefined) return undefined
  const coldkey = net.get<string>('HotkeyOwner', node.hotkey)
  return {
    subnet_id: subnetId,
    subnet_node_id: nodeId,
    coldkey,
    hotkey: node.hotkey,
    peer_info: node.peer_info,
    bootnode_peer_info: node.bootnode_peer_info,
    client_peer_info: node.client_peer_info,
    delegate_account: node.delegate_account,
    identity: net.get('ColdkeyIdentity', coldkey),
    classification: node.classification,
    delegate_reward_rate: node.delegate_reward_rate,
    last_delegate_reward_rate_update: node.last_delegate_reward_rate_update,
    unique: node.unique,
    non_unique: node.non_unique,
    stake_balance: net.big('AccountSubnetStake', node.hotkey, subnetId),
    total_node_delegate_stake_shares: net.big('TotalNodeDelegateStakeShares', subnetId, nodeId),
    node_delegate_stake_balance: net.big('TotalNodeDelegateStakeBalance', subnetId, nodeId),
    coldkey_reputation: net.get('ColdkeyReputation', coldkey),
    subnet_node_reputation: net.big('SubnetNodeReputation', subnetId, nodeId),
    node_slot_index: net.get('NodeSlotIndex', subnetId, nodeId),
    consecutive_idle_epochs: net.num('SubnetNodeIdleConsecutiveEpochs', subnetId, nodeId),
    consecutive_included_epochs: net.num('SubnetNodeConsecutiveIncludedEpochs', subnetId, nodeId),
  }
}

/** Infos of those of the nodes that exist. */
export function nodeInfos(net: NetworkState, subnetId: number, nodeIds: readonly number[]): LedgerValue[] {
  return nodeIds.map((id) => nodeInfo(net, subnetId, id)).filter((info) => info !== undefined)
}

/** All nodes of a subnet, live and queued. */
export function subnetNodeInfos(net: NetworkState, subnetId: number): LedgerValue[] {
  return nodeInfos(
    net,
    subnetId,
    net.entries<number>('HotkeySubnetNodeId', subnetId).map(({ value }) => value),
  )
}

/** Those who may be elected and attest: the emergency set, or the election slots. */
export function attestorInfos(net: NetworkState, subnetId: number): LedgerValue[] {
  const emergency = net.get<EmergencySet | undefined>('EmergencySubnetNodeElectionData', subnetId)
  const ids = emergency?.subnet_node_ids ?? net.get<readonly number[]>('SubnetNodeElectionSlots', subnetId)
  return nodeInfos(net, subnetId, ids)
}

export function coldkeyNodeInfos(net: NetworkState, coldkey: string): LedgerValue[] {
  return net.get<readonly string[]>('ColdkeyHotkeys', coldkey).flatMap((hotkey) => {
    const subnetId = net.get<number | undefined>('HotkeySubnetId', hotkey)
    const nodeId =
      subnetId === undefined ? undefined : net.get<number | undefined>('HotkeySubnetNodeId', subnetId, hotkey)
    return subnetId === undefined || nodeId === undefined ? [] : nodeInfos(net, subnetId, [nodeId])
  })
}

/** `SubnetNodeStakeInfo` of each node of a coldkey. */
export function coldkeyStakes(net: NetworkState, coldkey: string): LedgerValue[] {
  return net.get<ColdkeyNodes>('ColdkeySubnetNodes', coldkey).flatMap(([subnet_id, nodes]) =>
    nodes.flatMap((subnet_node_id) => {
      const hotkey = net.get<string | undefined>('SubnetNodeIdHotkey', subnet_id, subnet_node_id)
      if (hotkey === undefined) return []
      return [
        { subnet_id, subnet_node_id, hotkey, balance: net.big('AccountSubnetStake', hotkey, subnet_id) },
      ]
    }),
  )
}

/** `DelegateStakeInfo` of each subnet pool that the account has, or had, shares of. */
export function delegateStakes(net: NetworkState, account: string): LedgerValue[] {
  return net.entries<bigint>('AccountSubnetDelegateStakeShares', account).map(({ keys, value: shares }) => {
    const subnet_id = keys[0] as number
    return { subnet_id, shares, balance: poolValue(net, subnetPool(subnet_id), shares) }
  })
}

/** `NodeDelegateStakeInfo` of each node pool that the account has, or had, shares of. */
export function nodeDelegateStakes(net: NetworkState, account: string): LedgerValue[] {
  return net.entries<bigint>('AccountNodeDelegateStakeShares', account).map(({ keys, value: shares }) => {
    const [subnet_id, subnet_node_id] = keys as [number, number]
    const balance = poolValue(net, nodePool(subnet_id, subnet_node_id), shares)
    return { subnet_id, subnet_node_id, shares, balance }
  })
}

/** `AllSubnetBootnodes`: the owner's, and those that nodes registered with an address. */
export function bootnodes(net: NetworkState, subnetId: number): LedgerValue {
  const ofNodes = (item: string): LedgerValue =>
    net.entries<SubnetNode>(item, subnetId).flatMap(({ value: { bootnode_peer_info: peer } }) => {
      return peer?.multiaddr === undefined ? [] : [[peer.peer_id, peer.multiaddr]]
    })
  return {
    subnet_bootnodes: net.get('SubnetBootnodes', subnetId),
    node_bootnodes: ofNodes('SubnetNodesData'),
    registered_bootnodes: ofNodes('RegisteredSubnetNodesData'),
  }
}
