import { contains, withoutValue, withValue } from './ordered-map.ts'
import type { SubnetNode } from './records.ts'
import { moveStake } from './stake.ts'
import type { Handlers, NetworkState } from './state.ts'
import { changeNode, findNode } from './node-store.ts'
import { moveOverwatchStake } from './overwatch-stake.ts'

function updateColdkey(net: NetworkState, hotkey: string, from: string, to: string): void {
  net.ensure(hotkey !== to, 'ColdkeyMatchesHotkey')
  net.ensure(net.find('HotkeyOwner', hotkey) === from, 'NotKeyOwner')
  net.put('HotkeyOwner', [hotkey], to)
  for (const item of ['StakeUnbondingLedger', 'ColdkeyHotkeys']) net.swap(item, [from], [to])
  const identity = net.find<{ readonly name: Uint8Array }>('ColdkeyIdentity', from)
  if (identity !== undefined) {
    net.swap('ColdkeyIdentity', [from], [to])
    net.put('ColdkeyIdentityNameOwner', [identity.name], to)
  }
  for (const item of ['ColdkeyReputation', 'ColdkeySubnetNodes']) net.swap(item, [from], [to])
  net.emit('UpdateColdkey', { coldkey: from, new_coldkey: to })
}

function updateHotkey(net: NetworkState, coldkey: string, from: string, to: string): void {
  net.ensure(coldkey !== to, 'ColdkeyMatchesHotkey')
  net.ensure(net.find('HotkeyOwner', from) === coldkey, 'NotKeyOwner')
  net.ensure(!net.has('HotkeyOwner', to), 'HotkeyHasOwner')
  const home = net.find<number>('HotkeySubnetId', from)
  if (home !== undefined) net.guardExit(home, from)
  const hotkeys = net.get<readonly string[]>('ColdkeyHotkeys', coldkey)
  net.ensure(!contains(hotkeys, to), 'HotkeyAlreadyRegisteredToColdkey')
  net.ensure(contains(hotkeys, from), 'OldHotkeyNotRegistered')
  net.put('ColdkeyHotkeys', [coldkey], withValue(withoutValue(hotkeys, from), to))
  net.swap('HotkeyOwner', [from], [to])
  moveOverwatchNode(net, from, to)
  moveOverwatchStake(net, from, to)
  moveNode(net, coldkey, from, to)
  for (const { keys, value } of net.entries<bigint>('AccountSubnetStake', from)) {
    if (value !== 0n) moveStake(net, from, to, keys[0] as number)
  }
  net.emit('UpdateHotkey', { hotkey: from, new_hotkey: to })
}

function moveOverwatchNode(net: NetworkState, from: string, to: string): void {
  const id = net.get<number | undefined>('HotkeyOverwatchNodeId', from)
  if (id === undefined) return
  net.drop('HotkeyOverwatchNodeId', from)
  net.put('OverwatchNodeIdHotkey', [id], to)
  net.put('HotkeyOverwatchNodeId', [to], id)
  net.put('OverwatchNodes', [id], { id, hotkey: to })
}

function moveNode(net: NetworkState, coldkey: string, from: string, to: string): void {
  const subnetId = net.get<number | undefined>('HotkeySubnetId', from)
  if (subnetId === undefined) return
  net.drop('HotkeySubnetId', from)
  net.put('HotkeySubnetId', [to], subnetId)
  const nodeId = net.get<number | undefined>('HotkeySubnetNodeId', subnetId, from)
  if (nodeId === undefined) return
  net.put('SubnetNodeIdHotkey', [subnetId, nodeId], to)
  changeNode(net, subnetId, nodeId, (node): SubnetNode => ({ ...node, hotkey: to }))
  net.swap('HotkeySubnetNodeId', [subnetId, from], [subnetId, to])
  const account = findNode(net, subnetId, nodeId)?.delegate_account?.account_id
  net.ensure(account === undefined || account !== to, 'DelegateAccountCannotBeHotkey')
  net.ensure(account === undefined || account !== coldkey, 'DelegateAccountCannotBeColdkey')
}

export const keyCalls: Handlers = {
  update_coldkey(net: NetworkState, args, who) {
    const { hotkey, new_coldkey } = args as { hotkey: string; new_coldkey: string }
    updateColdkey(net, hotkey, who, new_coldkey)
  },
  update_hotkey(net: NetworkState, args, who) {
    const { old_hotkey, new_hotkey } = args as { old_hotkey: string; new_hotkey: string }
    updateHotkey(net, who, old_hotkey, new_hotkey)
  },
}
