import { ensureFunds, ensureRate, markTransaction, withdraw } from './balances.ts'
import {
  deposit,
  donate,
  nodePool,
  type Pool,
  poolValue,
  redeem,
  sharesOf,
  subnetPool,
  transferShares,
} from './delegate-pool.ts'
import { findNode } from './node-store.ts'
import type { SwapCall } from './records.ts'
import type { Args, Handlers, NetworkState } from './state.ts'
import { queueSwap } from './swap-queue.ts'
import { unbond } from './unbonding.ts'

function addFrom(net: NetworkState, pool: Pool, who: string, amount: bigint, tooLittle: string): void {
  net.ensure(amount >= net.big('MinDelegateStakeDeposit'), tooLittle)
  ensureFunds(net, who, amount, 'NotEnoughBalanceToStake')
  ensureRate(net, who)
  withdraw(net, who, amount, 'BalanceWithdrawalError')
  net.ensure(deposit(net, pool, who, amount), 'CouldNotConvertToShares')
  markTransaction(net, who)
}

/** Takes shares out of a pool. @returns what they were worth. */
function takeOut(net: NetworkState, pool: Pool, who: string, shares: bigint): bigint {
  net.ensure(shares !== 0n, 'SharesZero')
  net.ensure(sharesOf(net, pool, who) >= shares, 'NotEnoughStakeToWithdraw')
  ensureRate(net, who)
  return redeem(net, pool, who, shares)
}

function removeTo(net: NetworkState, pool: Pool, who: string, shares: bigint, cooldown: string): bigint {
  const amount = takeOut(net, pool, who, shares)
  unbond(net, who, amount, net.num(cooldown))
  markTransaction(net, who)
  return amount
}

function donateFrom(net: NetworkState, pool: Pool, who: string, amount: bigint): void {
  net.ensure(amount >= net.big('MinDelegateStakeDeposit'), 'MinDelegateStake')
  ensureFunds(net, who, amount, 'NotEnoughBalance')
  withdraw(net, who, amount, 'BalanceWithdrawalError')
  donate(net, pool, amount)
}

/** The sender must have the shares; the chain does not check that, and hands out shares of the others. */
function transferFrom(
  net: NetworkState,
  pool: Pool,
  who: string,
  args: Args,
  shares: bigint,
  tooLittle: string,
): void {
  net.ensure(shares !== 0n, 'NotEnoughStakeToWithdraw')
  net.ensure(poolValue(net, pool, shares) >= net.big('MinDelegateStakeDeposit'), tooLittle)
  net.ensure(sharesOf(net, pool, who) >= shares, 'NotEnoughStakeToWithdraw')
  transferShares(net, pool, who, args['to_account_id'] as string, shares)
}

function toSubnet(account_id: string, to_subnet_id: number, balance: bigint): SwapCall {
  return { type: 'SwapToSubnetDelegateStake', value: { account_id, to_subnet_id, balance } }
}

function toNode(
  account_id: string,
  to_subnet_id: number,
  to_subnet_node_id: number,
  balance: bigint,
): SwapCall {
  return { type: 'SwapToNodeDelegateStake', value: { account_id, to_subnet_id, to_subnet_node_id, balance } }
}

export const subnetDelegateCalls: Handlers = {
  add_to_delegate_stake(net: NetworkState, args, who) {
    const { subnet_id, stake_to_be_added } = args as { subnet_id: number; stake_to_be_added: bigint }
    net.ensure(net.has('SubnetsData', subnet_id), 'InvalidSubnetId')
    addFrom(net, subnetPool(subnet_id), who, stake_to_be_added, 'MinDelegateStakeDepositNotReached')
    net.emit('SubnetDelegateStakeAdded', [subnet_id, who, stake_to_be_added])
  },
  swap_delegate_stake(net: NetworkState, args, who) {
    const { from_subnet_id, to_subnet_id, delegate_stake_shares_to_swap: shares } = args as SubnetSwap
    net.ensure(net.has('SubnetsData', to_subnet_id), 'InvalidSubnetId')
    const amount = takeOut(net, subnetPool(from_subnet_id), who, shares)
    queueSwap(net, who, toSubnet(who, to_subnet_id, amount))
  },
  transfer_delegate_stake(net: NetworkState, args, who) {
    const { subnet_id, to_account_id, delegate_stake_shares_to_transfer: shares } = args as SubnetTransfer
    net.ensure(who !== to_account_id, 'TransferToSelfNotAllowed')
    transferFrom(net, subnetPool(subnet_id), who, args, shares, 'MinDelegateStakeDepositNotReached')
  },
  remove_delegate_stake(net: NetworkState, args, who) {
    const { subnet_id, shares_to_be_removed } = args as { subnet_id: number; shares_to_be_removed: bigint }
    const pool = subnetPool(subnet_id)
    const amount = removeTo(net, pool, who, shares_to_be_removed, 'DelegateStakeCooldownEpochs')
    net.emit('SubnetDelegateStakeRemoved', [subnet_id, who, amount])
  },
  donate_delegate_stake(net: NetworkState, args, who) {
    const { subnet_id, amount } = args as { subnet_id: number; amount: bigint }
    net.ensure(net.has('SubnetsData', subnet_id), 'InvalidSubnetId')
    donateFrom(net, subnetPool(subnet_id), who, amount)
  },
  swap_from_subnet_to_node(net: NetworkState, args, who) {
    const { from_subnet_id, to_subnet_id, to_subnet_node_id } = args as SwapTarget
    net.ensure(findNode(net, to_subnet_id, to_subnet_node_id) !== undefined, 'InvalidSubnetNodeId')
    const shares = args['delegate_stake_shares_to_swap'] as bigint
    const amount = takeOut(net, subnetPool(from_subnet_id), who, shares)
    queueSwap(net, who, toNode(who, to_subnet_id, to_subnet_node_id, amount))
    net.emit('SubnetDelegateToNodeDelegateStakeSwapped', {
      account_id: who,
      from_subnet_id,
      to_subnet_id,
      to_subnet_node_id,
      amount,
    })
  },
}

export const nodeDelegateCalls: Handlers = {
  add_to_node_delegate_stake(net: NetworkState, args, who) {
    const { subnet_id, subnet_node_id, node_delegate_stake_to_be_added: amount } = args as NodeAmount
    net.ensure(findNode(net, subnet_id, subnet_node_id) !== undefined, 'InvalidSubnetNodeId')
    const pool = nodePool(subnet_id, subnet_node_id)
    addFrom(net, pool, who, amount, 'MinNodeDelegateStakeDepositNotReached')
    net.emit('DelegateNodeStakeAdded', { account_id: who, subnet_id, subnet_node_id, amount })
  },
  swap_node_delegate_stake(net: NetworkState, args, who) {
    const { from_subnet_id, from_subnet_node_id, to_subnet_id, to_subnet_node_id } = args as SwapTarget
    net.ensure(findNode(net, to_subnet_id, to_subnet_node_id) !== undefined, 'InvalidSubnetNodeId')
    const shares = args['node_delegate_stake_shares_to_swap'] as bigint
    const amount = takeOut(net, nodePool(from_subnet_id, from_subnet_node_id), who, shares)
    queueSwap(net, who, toNode(who, to_subnet_id, to_subnet_node_id, amount))
    net.emit('DelegateNodeStakeSwapped', {
      account_id: who,
      from_subnet_id,
      from_subnet_node_id,
      to_subnet_id,
      to_subnet_node_id,
      amount,
    })
  },
  transfer_node_delegate_stake(net: NetworkState, args, who) {
    const { subnet_id, subnet_node_id, node_delegate_stake_shares_to_transfer: shares } = args as NodeTransfer
    transferFrom(net, nodePool(subnet_id, subnet_node_id), who, args, shares, 'CouldNotConvertToBalance')
  },
  remove_node_delegate_stake(net: NetworkState, args, who) {
    const { subnet_id, subnet_node_id } = args as { subnet_id: number; subnet_node_id: number }
    const shares = args['node_delegate_stake_shares_to_be_removed'] as bigint
    const pool = nodePool(subnet_id, subnet_node_id)
    const amount = removeTo(net, pool, who, shares, 'NodeDelegateStakeCooldownEpochs')
    net.emit('DelegateNodeStakeRemoved', { account_id: who, subnet_id, subnet_node_id, amount })
  },
  donate_node_delegate_stake(net: NetworkState, args, who) {
    const { subnet_id, subnet_node_id, amount } = args as {
      subnet_id: number
      subnet_node_id: number
      amount: bigint
    }
    net.ensure(net.has('SubnetNodesData', subnet_id, subnet_node_id), 'InvalidSubnetNodeId')
    donateFrom(net, nodePool(subnet_id, subnet_node_id), who, amount)
  },
  swap_from_node_to_subnet(net: NetworkState, args, who) {
    const { from_subnet_id, from_subnet_node_id, to_subnet_id } = args as SwapTarget
    net.ensure(net.has('SubnetsData', to_subnet_id), 'InvalidSubnetId')
    const shares = args['node_delegate_stake_shares_to_swap'] as bigint
    const amount = takeOut(net, nodePool(from_subnet_id, from_subnet_node_id), who, shares)
    queueSwap(net, who, toSubnet(who, to_subnet_id, amount))
    net.emit('DelegateNodeToSubnetDelegateStakeSwapped', {
      account_id: who,
      from_subnet_id,
      from_subnet_node_id,
      to_subnet_id,
      amount,
    })
  },
}

type SubnetSwap = {
  readonly from_subnet_id: number
  readonly to_subnet_id: number
  readonly delegate_stake_shares_to_swap: bigint
}
type SubnetTransfer = {
  readonly subnet_id: number
  readonly to_account_id: string
  readonly delegate_stake_shares_to_transfer: bigint
}
type NodeAmount = {
  readonly subnet_id: number
  readonly subnet_node_id: number
  readonly node_delegate_stake_to_be_added: bigint
}
type NodeTransfer = {
  readonly subnet_id: number
  readonly subnet_node_id: number
  readonly node_delegate_stake_shares_to_transfer: bigint
}
type SwapTarget = {
  readonly from_subnet_id: number
  readonly from_subnet_node_id: number
  readonly to_subnet_id: number
  readonly to_subnet_node_id: number
}
