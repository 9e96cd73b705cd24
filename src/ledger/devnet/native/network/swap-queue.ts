import { deposit, donate, nodePool, subnetPool } from './delegate-pool.ts'
import { findNode } from './node-store.ts'
import type { SwapCall, SwapItem } from './records.ts'
import type { Handlers, NetworkState } from './state.ts'

/** Longest queue; defends the block hook's time. */
export const MAX_SWAP_QUEUE = 1000

/**
 * Queues delegate stake that changes pools; it enters the new pool an epoch later and belongs to nobody's pool until then.
 * The chain lets a full queue swallow the stake; here the call ends.
 */
export function queueSwap(net: NetworkState, account: string, call: SwapCall): void {
  const order = net.get<readonly number[]>('SwapQueueOrder')
  net.ensure(order.length < MAX_SWAP_QUEUE, 'MaxUnlockingsReached')
  const id = net.num('NextSwapQueueId')
  const item: SwapItem = { id, call, queued_at_block: net.block, execute_after_blocks: net.epochBlocks }
  net.put('SwapCallQueue', [id], item)
  net.put('SwapQueueOrder', [], [...order, id])
  net.count('NextSwapQueueId', [], 1)
  net.emit('SwapCallQueued', { id, account_id: account, call })
}

/** Carries out what is due, oldest first, up to the block's limit. */
export function executeSwaps(net: NetworkState): void {
  const most = net.num('MaxSwapQueueCallsPerBlock')
  for (let executed = 0; executed < most; executed++) {
    const [first, ...rest] = net.get<readonly number[]>('SwapQueueOrder')
    const item = first === undefined ? undefined : net.get<SwapItem | undefined>('SwapCallQueue', first)
    if (item === undefined || net.block - item.queued_at_block < item.execute_after_blocks) return
    execute(net, item.call)
    net.put('SwapQueueOrder', [], rest)
    net.drop('SwapCallQueue', item.id)
  }
}

/** What is too little for one share is the pool's; the chain loses it. */
function execute(net: NetworkState, { type, value }: SwapCall): void {
  const pool =
    type === 'SwapToSubnetDelegateStake'
      ? subnetPool(value.to_subnet_id)
      : nodePool(value.to_subnet_id, value.to_subnet_node_id)
  if (!deposit(net, pool, value.account_id, value.balance)) donate(net, pool, value.balance)
}

function updateSwap(net: NetworkState, who: string, id: number, wanted: SwapCall): void {
  const item = net.get<SwapItem | undefined>('SwapCallQueue', id)
  net.ensure(item !== undefined, 'SwapCallNotFound')
  const { balance, account_id } = item.call.value
  // The chain asks only that the new call name the caller, so that anybody could take anybody's swap.
  net.ensure(wanted.value.account_id === who && account_id === who, 'NotKeyOwner')
  if (wanted.type === 'SwapToSubnetDelegateStake')
    net.ensure(net.has('SubnetsData', wanted.value.to_subnet_id), 'InvalidSubnetId')
  else
    net.ensure(
      findNode(net, wanted.value.to_subnet_id, wanted.value.to_subnet_node_id) !== undefined,
      'InvalidSubnetNodeId',
    )
  const call = { type: wanted.type, value: { ...wanted.value, balance } }
  net.put('SwapCallQueue', [id], { ...item, call })
  net.emit('SwapCallQueueUpdated', { id, account_id: who, call })
}

export const swapQueueCalls: Handlers = {
  update_swap_queue(net: NetworkState, args, who) {
    const { id, new_call } = args as { id: number; new_call: SwapCall }
    updateSwap(net, who, id, new_call)
  },
}
