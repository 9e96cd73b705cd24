import { plus } from './fixed-point.ts'
import { ensureFunds, withdraw } from './balances.ts'
import type { Handlers, NetworkState } from './state.ts'
import { unbond } from './unbonding.ts'

export function increaseOverwatchStake(net: NetworkState, hotkey: string, amount: bigint): void {
  net.grow('AccountOverwatchStake', [hotkey], amount)
  net.grow('TotalOverwatchStake', [], amount)
}

/** Moves a hotkey's overwatch stake to another hotkey. */
export function moveOverwatchStake(net: NetworkState, from: string, to: string): void {
  const stake = net.big('AccountOverwatchStake', from)
  if (stake === 0n) return
  net.drop('AccountOverwatchStake', from)
  net.grow('AccountOverwatchStake', [to], stake)
}

/** Stakes from the coldkey's balance; the whole must reach the least overwatch stake. */
export function addOverwatchStake(net: NetworkState, coldkey: string, hotkey: string, amount: bigint): void {
  const stake = plus(net.big('AccountOverwatchStake', hotkey), amount)
  net.ensure(stake >= net.big('OverwatchMinStakeBalance'), 'MinStakeNotReached')
  ensureFunds(net, coldkey, amount, 'NotEnoughBalanceToStake')
  withdraw(net, coldkey, amount, 'BalanceWithdrawalError')
  increaseOverwatchStake(net, hotkey, amount)
}

export const overwatchStakeCalls: Handlers = {
  add_to_overwatch_stake(net: NetworkState, args, who) {
    const { overwatch_node_id, hotkey, stake_to_be_added } = args as {
      overwatch_node_id: number
      hotkey: string
      stake_to_be_added: bigint
    }
    net.ensure(net.has('OverwatchNodes', overwatch_node_id), 'InvalidSubnetId')
    net.ensure(net.get('HotkeyOwner', hotkey) === who, 'NotKeyOwner')
    addOverwatchStake(net, who, hotkey, stake_to_be_added)
  },
  remove_overwatch_stake(net: NetworkState, args, who) {
    const { hotkey, stake_to_be_removed: amount } = args as { hotkey: string; stake_to_be_removed: bigint }
    net.ensure(net.get('HotkeyOwner', hotkey) === who, 'NotKeyOwner')
    net.ensure(amount > 0n, 'AmountZero')
    const stake = net.big('AccountOverwatchStake', hotkey)
    net.ensure(stake >= amount, 'NotEnoughStakeToWithdraw')
    if (net.has('HotkeyOverwatchNodeId', hotkey))
      net.ensure(stake - amount >= net.big('OverwatchMinStakeBalance'), 'MinStakeNotReached')
    net.shrink('AccountOverwatchStake', [hotkey], amount)
    net.shrink('TotalOverwatchStake', [], amount)
    unbond(net, who, amount, net.num('StakeCooldownEpochs'))
  },
}
