import { plus } from './fixed-point.ts'
import { ensureFunds, ensureRate, markTransaction, withdraw } from './balances.ts'
import { isElected } from './election.ts'
import { subnetEpoch } from './epochs.ts'
import { withoutValue } from './ordered-map.ts'
import type { SubnetNode } from './records.ts'
import type { Handlers, NetworkState } from './state.ts'
import { forgetRemovedSubnets } from './node-keys.ts'
import { unbond } from './unbonding.ts'

export function increaseStake(net: NetworkState, hotkey: string, subnetId: number, amount: bigint): void {
  net.grow('AccountSubnetStake', [hotkey, subnetId], amount)
  net.grow('TotalSubnetStake', [subnetId], amount)
  net.grow('TotalStake', [], amount)
}

/** The amount is at most the stake. */
export function decreaseStake(net: NetworkState, hotkey: string, subnetId: number, amount: bigint): void {
  net.shrink('AccountSubnetStake', [hotkey, subnetId], amount)
  net.shrink('TotalSubnetStake', [subnetId], amount)
  net.shrink('TotalStake', [], amount)
}

/** Moves a hotkey's stake in a subnet to another hotkey. */
export function moveStake(net: NetworkState, from: string, to: string, subnetId: number): void {
  const stake = net.big('AccountSubnetStake', from, subnetId)
  net.drop('AccountSubnetStake', from, subnetId)
  net.grow('AccountSubnetStake', [to, subnetId], stake)
}

/** Stakes from the coldkey's balance; the whole must be within the subnet's range. */
export function addStake(
  net: NetworkState,
  coldkey: string,
  subnetId: number,
  hotkey: string,
  amount: bigint,
): void {
  net.ensure(amount !== 0n, 'InvalidAmount')
  const stake = plus(net.big('AccountSubnetStake', hotkey, subnetId), amount)
  net.ensure(stake >= net.big('SubnetMinStakeBalance', subnetId), 'MinStakeNotReached')
  net.ensure(stake <= net.big('SubnetMaxStakeBalance', subnetId), 'MaxStakeReached')
  ensureFunds(net, coldkey, amount, 'NotEnoughBalanceToStake')
  ensureRate(net, coldkey)
  withdraw(net, coldkey, amount, 'BalanceWithdrawalError')
  increaseStake(net, hotkey, subnetId, amount)
  markTransaction(net, coldkey)
  net.emit('StakeAdded', [subnetId, coldkey, hotkey, amount])
}

function removeStake(
  net: NetworkState,
  coldkey: string,
  subnetId: number,
  hotkey: string,
  amount: bigint,
): void {
  const isNode = net.has('HotkeySubnetNodeId', subnetId, hotkey)
  if (isNode) {
    const nodeId = net.num('HotkeySubnetNodeId', subnetId, hotkey)
    const epoch = subnetEpoch(net, subnetId)
    net.ensure(!isElected(net, subnetId, nodeId, epoch), 'ElectedValidatorCannotUnstake')
    const node = net.find<SubnetNode>('SubnetNodesData', subnetId, nodeId)
    const held = net.num('MinActiveNodeStakeEpochs')
    net.ensure(
      node === undefined || node.classification.start_epoch + held <= epoch,
      'MinActiveNodeStakeEpochs',
    )
  }
  const stake = net.big('AccountSubnetStake', hotkey, subnetId)
  net.ensure(amount > 0n, 'AmountZero')
  net.ensure(stake >= amount, 'NotEnoughStakeToWithdraw')
  if (isNode) net.ensure(stake - amount >= net.big('SubnetMinStakeBalance', subnetId), 'MinStakeNotReached')
  ensureRate(net, coldkey)
  net.guardExit(subnetId, hotkey)
  decreaseStake(net, hotkey, subnetId, amount)
  if (!isNode && amount === stake) releaseHotkey(net, coldkey, hotkey)
  unbond(net, coldkey, amount, net.num('StakeCooldownEpochs'))
  markTransaction(net, coldkey)
  net.emit('StakeRemoved', [subnetId, coldkey, hotkey, amount])
}

/**
 * Forgets a hotkey that has nothing left. The chain also does so while the hotkey has stake or a node in another subnet,
 * which strands both; here it keeps its owner until then.
 */
function releaseHotkey(net: NetworkState, coldkey: string, hotkey: string): void {
  const home = net.find<number>('HotkeySubnetId', hotkey)
  if (home !== undefined && net.has('HotkeySubnetNodeId', home, hotkey)) return
  if (net.entries<bigint>('AccountSubnetStake', hotkey).some(({ value }) => value !== 0n)) return
  net.drop('HotkeySubnetId', hotkey)
  net.put('ColdkeyHotkeys', [coldkey], withoutValue(net.get<string[]>('ColdkeyHotkeys', coldkey), hotkey))
  net.drop('HotkeyOwner', hotkey)
  forgetRemovedSubnets(net, coldkey)
}

export const stakeCalls: Handlers = {
  add_stake(net: NetworkState, args, who) {
    const { subnet_id, hotkey, stake_to_be_added } = args as AddStake
    net.ensure(net.has('SubnetsData', subnet_id), 'InvalidSubnetId')
    net.ensure(net.get('HotkeyOwner', hotkey) === who, 'NotKeyOwner')
    addStake(net, who, subnet_id, hotkey, stake_to_be_added)
  },
  remove_stake(net: NetworkState, args, who) {
    const { subnet_id, hotkey, stake_to_be_removed } = args as RemoveStake
    net.ensure(net.get('HotkeyOwner', hotkey) === who, 'NotKeyOwner')
    removeStake(net, who, subnet_id, hotkey, stake_to_be_removed)
  },
}

type AddStake = { readonly subnet_id: number; readonly hotkey: string; readonly stake_to_be_added: bigint }
type RemoveStake = {
  readonly subnet_id: number
  readonly hotkey: string
  readonly stake_to_be_removed: bigint
}
