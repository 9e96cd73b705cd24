import type { OrderedMap } from './ordered-map.ts'
import type { NetworkState } from './state.ts'

/** Nodes of a coldkey by subnet. */
export type ColdkeyNodes = OrderedMap<number, readonly number[]>

/** Drops subnets that no longer exist from the coldkey's nodes. */
export function forgetRemovedSubnets(net: NetworkState, coldkey: string): void {
  const nodes = net.get<ColdkeyNodes>('ColdkeySubnetNodes', coldkey)
  net.put(
    'ColdkeySubnetNodes',
    [coldkey],
    nodes.filter(([subnetId]) => net.has('SubnetsData', subnetId)),
  )
}

/** Hotkey and coldkey of a node. */
export function nodeKeys(
  net: NetworkState,
  subnetId: number,
  nodeId: number,
): { readonly hotkey: string; readonly coldkey: string } | undefined {
  const hotkey = net.get<string | undefined>('SubnetNodeIdHotkey', subnetId, nodeId)
  const coldkey = hotkey === undefined ? undefined : net.find<string>('HotkeyOwner', hotkey)
  return hotkey === undefined || coldkey === undefined ? undefined : { hotkey, coldkey }
}

/** Ends the call unless `who` is the node's coldkey or, where `hotkeyToo`, its hotkey. */
export function ensureNodeKey(
  net: NetworkState,
  subnetId: number,
  nodeId: number,
  who: string,
  hotkeyToo: boolean,
): void {
  const keys = nodeKeys(net, subnetId, nodeId)
  net.ensure(
    keys !== undefined && (who === keys.coldkey || (hotkeyToo && who === keys.hotkey)),
    'NotKeyOwner',
  )
}
