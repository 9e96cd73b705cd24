import { withdraw } from './balances.ts'
import { ensureLength, MAX_VECTOR } from './bounds.ts'
import { addToElection, isElected } from './election.ts'
import { subnetEpoch } from './epochs.ts'
import { ONE } from './fixed-point.ts'
import { makeLive } from './node-classes.ts'
import { ensureNodeKey, forgetRemovedSubnets, type ColdkeyNodes } from './node-keys.ts'
import { removeNode } from './node-removal.ts'
import { contains, lookUp, type OrderedMap, withEntry, withValue } from './ordered-map.ts'
import { claimPeer } from './peer-infos.ts'
import { burnAmount } from './queue.ts'
import type { DelegateAccount, PeerInfo, SubnetData, SubnetNode } from './records.ts'
import { addStake } from './stake.ts'
import type { Handlers, NetworkState } from './state.ts'
import { registrationPhase } from './subnet-rules.ts'

type Registration = {
  readonly subnet_id: number
  readonly hotkey: string
  readonly peer_info: PeerInfo
  readonly bootnode_peer_info: PeerInfo | undefined
  readonly client_peer_info: PeerInfo | undefined
  readonly delegate_reward_rate: bigint
  readonly stake_to_be_added: bigint
  readonly unique: Uint8Array | undefined
  readonly non_unique: Uint8Array | undefined
  readonly delegate_account: DelegateAccount | undefined
  readonly max_burn_amount: bigint
}

function registerNode(net: NetworkState, coldkey: string, wish: Registration): void {
  const { subnet_id: subnetId, hotkey } = wish
  const subnet = checkRegistrant(net, coldkey, wish)
  const nodeId = net.count('TotalSubnetNodeUids', [subnetId], 1)
  claimPeer(net, subnetId, nodeId, 'peer_info', wish.peer_info)
  claimPeer(net, subnetId, nodeId, 'bootnode_peer_info', wish.bootnode_peer_info)
  claimPeer(net, subnetId, nodeId, 'client_peer_info', wish.client_peer_info)
  ensureLength('unique', wish.unique, MAX_VECTOR)
  ensureLength('non_unique', wish.non_unique, MAX_VECTOR)
  if (wish.unique !== undefined) {
    net.ensure(!net.has('UniqueParamSubnetNodeId', subnetId, wish.unique), 'SubnetNodeUniqueParamTaken')
    net.put('UniqueParamSubnetNodeId', [subnetId, wish.unique], nodeId)
  }
  if (wish.delegate_account !== undefined) ensureDelegateAccount(net, wish.delegate_account, hotkey, coldkey)
  net.ensure(net.big('AccountSubnetStake', hotkey, subnetId) === 0n, 'MustUnstakeToRegister')
  const hotkeys = net.get<readonly string[]>('ColdkeyHotkeys', coldkey)
  net.ensure(!contains(hotkeys, hotkey), 'HotkeyAlreadyRegisteredToColdkey')
  net.ensure(wish.delegate_reward_rate <= ONE, 'InvalidDelegateRewardRate')
  const burn = burnAmount(net, subnetId)
  net.ensure(burn <= wish.max_burn_amount, 'MaxBurnAmountExceeded')
  withdraw(net, coldkey, burn, 'BalanceBurnError')
  net.count('NodeRegistrationsThisEpoch', [subnetId], 1)
  addStake(net, coldkey, subnetId, hotkey, wish.stake_to_be_added)
  bookKeys(net, coldkey, hotkeys, wish, nodeId)
  net.count('TotalSubnetNodes', [subnetId], 1)
  net.count('TotalNodes', [], 1)
  const epoch = subnetEpoch(net, subnetId)
  const node: SubnetNode = {
    id: nodeId,
    hotkey,
    peer_info: wish.peer_info,
    bootnode_peer_info: wish.bootnode_peer_info,
    client_peer_info: wish.client_peer_info,
    classification: { node_class: 'Registered', start_epoch: epoch + 1 },
    delegate_reward_rate: wish.delegate_reward_rate,
    last_delegate_reward_rate_update: wish.delegate_reward_rate > 0n ? net.block : 0,
    unique: wish.unique,
    non_unique: wish.non_unique,
    delegate_account: wish.delegate_account,
  }
  if (subnet.state === 'Registered') enterAtOnce(net, coldkey, subnetId, node, epoch)
  else enqueue(net, coldkey, subnetId, node)
}

/** The checks before anything is written: keys, the subnet's state, quotas. */
function checkRegistrant(net: NetworkState, coldkey: string, wish: Registration): SubnetData {
  const { subnet_id: subnetId, hotkey } = wish
  const subnet = net.get<SubnetData | undefined>('SubnetsData', subnetId)
  net.ensure(subnet !== undefined, 'InvalidSubnetId')
  net.ensure(coldkey !== hotkey, 'ColdkeyMatchesHotkey')
  net.ensure(subnet.state !== 'Paused', 'SubnetIsPaused')
  net.ensure(!net.has('HotkeyOwner', hotkey) && !net.has('HotkeySubnetId', hotkey), 'HotkeyHasOwner')
  net.ensure(registrationPhase(net, subnetId, subnet) !== 'enactment', 'SubnetMustBeRegisteringOrActivated')
  const whitelist = net.get<OrderedMap<string, number> | undefined>(
    'SubnetRegistrationInitialColdkeys',
    subnetId,
  )
  if (whitelist !== undefined) {
    const quota = lookUp(whitelist, coldkey)
    net.ensure(quota !== undefined, 'ColdkeyRegistrationWhitelist')
    net.ensure(registrations(net, subnetId, coldkey) < quota, 'MaxRegisteredNodes')
  }
  const queued = net.get<readonly SubnetNode[]>('SubnetNodeQueue', subnetId).length
  net.ensure(queued <= net.num('MaxRegisteredNodes', subnetId), 'MaxRegisteredNodes')
  return subnet
}

function registrations(net: NetworkState, subnetId: number, coldkey: string): number {
  return (
    lookUp(net.get<OrderedMap<string, number> | undefined>('InitialColdkeyData', subnetId) ?? [], coldkey) ??
    0
  )
}

function bookKeys(
  net: NetworkState,
  coldkey: string,
  hotkeys: readonly string[],
  { subnet_id: subnetId, hotkey }: Registration,
  nodeId: number,
): void {
  net.put('HotkeySubnetNodeId', [subnetId, hotkey], nodeId)
  net.put('SubnetNodeIdHotkey', [subnetId, nodeId], hotkey)
  net.put('HotkeySubnetId', [hotkey], subnetId)
  net.put('HotkeyOwner', [hotkey], coldkey)
  net.put('ColdkeyHotkeys', [coldkey], withValue(hotkeys, hotkey))
  const owned = net.get<ColdkeyNodes>('ColdkeySubnetNodes', coldkey)
  const nodes = withValue(lookUp(owned, subnetId) ?? [], nodeId)
  net.put('ColdkeySubnetNodes', [coldkey], withEntry(owned, subnetId, nodes))
  forgetRemovedSubnets(net, coldkey)
}

/** Nodes of a subnet that is not active yet are Validators at once. */
function enterAtOnce(
  net: NetworkState,
  coldkey: string,
  subnetId: number,
  node: SubnetNode,
  epoch: number,
): void {
  net.ensure(net.num('TotalActiveSubnetNodes', subnetId) < net.num('MaxSubnetNodes'), 'MaxRegisteredNodes')
  net.ensure(addToElection(net, subnetId, node.id), 'ElectionSlotInsertFail')
  makeLive(net, subnetId, node, 'Validator', epoch)
  const counts = net.get<OrderedMap<string, number> | undefined>('InitialColdkeyData', subnetId) ?? []
  const count = registrations(net, subnetId, coldkey) + 1
  net.put('InitialColdkeyData', [subnetId], withEntry(counts, coldkey, count))
}

function enqueue(net: NetworkState, coldkey: string, subnetId: number, node: SubnetNode): void {
  net.put('RegisteredSubnetNodesData', [subnetId, node.id], node)
  const queue = net.get<readonly SubnetNode[]>('SubnetNodeQueue', subnetId)
  net.put('SubnetNodeQueue', [subnetId], [...queue, node])
  net.emit('SubnetNodeRegistered', {
    subnet_id: subnetId,
    subnet_node_id: node.id,
    coldkey,
    hotkey: node.hotkey,
    data: node,
  })
}

/** Ends the call unless the account may take a part of a node's rewards: neither of its keys, rate 0 < r ≤ 100 %. */
export function ensureDelegateAccount(
  net: NetworkState,
  account: DelegateAccount,
  hotkey: string,
  coldkey: string,
): void {
  net.ensure(account.account_id !== hotkey, 'DelegateAccountCannotBeHotkey')
  net.ensure(account.account_id !== coldkey, 'DelegateAccountCannotBeColdkey')
  net.ensure(account.rate > 0n && account.rate <= ONE, 'InvalidDelegateAccountRate')
}

export const nodeCalls: Handlers = {
  register_subnet_node(net: NetworkState, args, who) {
    registerNode(net, who, args as Registration)
  },
  remove_subnet_node(net: NetworkState, args, who) {
    const { subnet_id, subnet_node_id } = args as { subnet_id: number; subnet_node_id: number }
    ensureNodeKey(net, subnet_id, subnet_node_id, who, true)
    const elected = isElected(net, subnet_id, subnet_node_id, subnetEpoch(net, subnet_id))
    net.ensure(!elected, 'ElectedValidatorCannotRemove')
    net.guardExit(subnet_id, net.get('SubnetNodeIdHotkey', subnet_id, subnet_node_id))
    removeNode(net, subnet_id, subnet_node_id)
  },
}
