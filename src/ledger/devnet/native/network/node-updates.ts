import { ensureLength, MAX_VECTOR } from './bounds.ts'
import { atMost, less, ONE } from './fixed-point.ts'
import { ensureDelegateAccount } from './nodes.ts'
import { ensureNodeKey } from './node-keys.ts'
import { changeNode, findNode } from './node-store.ts'
import { type PeerField, replacePeer } from './peer-infos.ts'
import type { PeerInfo, SubnetNode } from './records.ts'
import type { Args, Handler, Handlers, NetworkState } from './state.ts'
import { unbond } from './unbonding.ts'

type NodeArgs = { readonly subnet_id: number; readonly subnet_node_id: number }

function existing(net: NetworkState, { subnet_id, subnet_node_id }: NodeArgs): SubnetNode {
  const node = findNode(net, subnet_id, subnet_node_id)
  net.ensure(node !== undefined, 'InvalidSubnetNodeId')
  return node
}

/** Only the coldkey changes peers, rates and accounts; the unique parameters may be changed by the hotkey too. */
function authorised(net: NetworkState, args: Args, who: string, hotkeyToo = false): NodeArgs {
  const { subnet_id, subnet_node_id } = args as NodeArgs
  ensureNodeKey(net, subnet_id, subnet_node_id, who, hotkeyToo)
  return { subnet_id, subnet_node_id }
}

function peerUpdate(field: PeerField, event: string): Handler {
  return (net: NetworkState, args, who) => {
    const id = authorised(net, args, who)
    const peer = args['new_peer_info'] as PeerInfo | undefined
    const before = existing(net, id)[field]
    replacePeer(net, id.subnet_id, id.subnet_node_id, field, before, peer)
    changeNode(net, id.subnet_id, id.subnet_node_id, (node) => ({ ...node, [field]: peer }))
    net.emit(event, { ...id, [field]: peer })
  }
}

function updateRewardRate(net: NetworkState, id: NodeArgs, rate: bigint): void {
  net.ensure(rate <= atMost(net.big('MaxDelegateStakePercentage'), ONE), 'InvalidDelegateRewardRate')
  const node = existing(net, id)
  const period = net.num('NodeRewardRateUpdatePeriod')
  net.ensure(net.block - node.last_delegate_reward_rate_update >= period, 'MaxRewardRateUpdates')
  net.ensure(rate !== node.delegate_reward_rate, 'NoDelegateRewardRateChange')
  const fall = less(node.delegate_reward_rate, rate)
  net.ensure(fall <= net.big('MaxRewardRateDecrease'), 'SurpassesMaxRewardRateDecrease')
  changeNode(net, id.subnet_id, id.subnet_node_id, (before) => ({
    ...before,
    delegate_reward_rate: rate,
    last_delegate_reward_rate_update: net.block,
  }))
  net.emit('SubnetNodeUpdateDelegateRewardRate', { ...id, delegate_reward_rate: rate })
}

function updateDelegateAccount(
  net: NetworkState,
  id: NodeArgs,
  account: string | undefined,
  rate: bigint | undefined,
): void {
  const node = existing(net, id)
  net.ensure(account !== undefined || rate !== undefined, 'InvalidDelegateAccountParameters')
  const account_id = account ?? node.delegate_account?.account_id
  net.ensure(account_id !== undefined, 'DelegateAccountIdIsNone')
  const share = rate ?? node.delegate_account?.rate
  net.ensure(share !== undefined, 'DelegateAccountRateIsNone')
  const delegate_account = { account_id, rate: share }
  ensureDelegateAccount(net, delegate_account, node.hotkey, net.get('HotkeyOwner', node.hotkey))
  changeNode(net, id.subnet_id, id.subnet_node_id, (before) => ({ ...before, delegate_account }))
  net.emit('SubnetNodeUpdateDelegateAccount', { ...id, delegate_account })
}

function updateUnique(net: NetworkState, id: NodeArgs, unique: Uint8Array | undefined): void {
  ensureLength('unique', unique, MAX_VECTOR)
  const { subnet_id, subnet_node_id } = id
  const before = existing(net, id).unique
  if (before !== undefined) net.drop('UniqueParamSubnetNodeId', subnet_id, before)
  if (unique !== undefined) {
    const owner = net.find<number>('UniqueParamSubnetNodeId', subnet_id, unique)
    net.ensure(owner === undefined || owner === subnet_node_id, 'UniqueParameterTaken')
    net.put('UniqueParamSubnetNodeId', [subnet_id, unique], subnet_node_id)
  }
  changeNode(net, subnet_id, subnet_node_id, (node) => ({ ...node, unique }))
  net.emit('SubnetNodeUpdateUnique', { ...id, unique })
}

export const nodeUpdateCalls: Handlers = {
  update_peer_info: peerUpdate('peer_info', 'SubnetNodeUpdatePeerInfo'),
  update_bootnode_peer_info: peerUpdate('bootnode_peer_info', 'SubnetNodeUpdateBootnodePeerInfo'),
  update_client_peer_info: peerUpdate('client_peer_info', 'SubnetNodeUpdateClientPeerInfo'),
  update_node_delegate_reward_rate(net: NetworkState, args, who) {
    updateRewardRate(net, authorised(net, args, who), args['new_delegate_reward_rate'] as bigint)
  },
  update_delegate_account(net: NetworkState, args, who) {
    const { delegate_account_id, delegate_rate } = args as {
      delegate_account_id: string | undefined
      delegate_rate: bigint | undefined
    }
    updateDelegateAccount(net, authorised(net, args, who), delegate_account_id, delegate_rate)
  },
  update_unique(net: NetworkState, args, who) {
    updateUnique(net, authorised(net, args, who, true), args['unique'] as Uint8Array | undefined)
  },
  update_non_unique(net: NetworkState, args, who) {
    const id = authorised(net, args, who, true)
    const non_unique = args['non_unique'] as Uint8Array | undefined
    ensureLength('non_unique', non_unique, MAX_VECTOR)
    existing(net, id)
    changeNode(net, id.subnet_id, id.subnet_node_id, (node) => ({ ...node, non_unique }))
    net.emit('SubnetNodeUpdateNonUnique', { ...id, non_unique })
  },
  transfer_delegate_account(net: NetworkState, args, who) {
    const { subnet_id, subnet_node_id } = args as NodeArgs
    const current = existing(net, { subnet_id, subnet_node_id }).delegate_account
    net.ensure(current !== undefined, 'NoDelegateAccountSet')
    net.ensure(current.account_id === who, 'NotDelegateAccountOwner')
    const next = args['delegate_account_id'] as string
    updateDelegateAccount(net, { subnet_id, subnet_node_id }, next, current.rate)
  },
  remove_delegate_balance(net: NetworkState, args, who) {
    const amount = args['amount_to_remove'] as bigint
    net.ensure(amount > 0n, 'AmountZero')
    net.ensure(net.big('AccountDelegateStake', who) >= amount, 'NotEnoughStakeToWithdraw')
    net.shrink('AccountDelegateStake', [who], amount)
    net.shrink('TotalAccountDelegateStake', [], amount)
    unbond(net, who, amount, net.num('StakeCooldownEpochs'))
    net.emit('DelegateBalanceRemoved', { account_id: who, amount })
  },
}
