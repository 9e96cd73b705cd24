import type { LedgerValue } from '../../../ledger.ts'
import { ONE, plus } from './fixed-point.ts'
import { removeOverwatchNode } from './overwatch-nodes.ts'
import { removeNode } from './node-removal.ts'
import type { Handlers, NetworkState } from './state.ts'
import { removeSubnet } from './subnet-removal.ts'

const value = (args: Readonly<Record<string, LedgerValue>>, name: string): number => args[name] as number

/** Pausing everything, and removing what the council votes out; root only. */
export const collectiveCalls: Handlers = {
  pause(net: NetworkState) {
    net.put('TxPause', [], true)
    net.emit('SetTxPause', [])
  },
  unpause(net: NetworkState) {
    net.put('TxPause', [], false)
    net.emit('SetTxUnpause', [])
  },
  collective_remove_subnet(net: NetworkState, args) {
    removeSubnet(net, value(args, 'subnet_id'), 'Council')
  },
  collective_remove_subnet_node(net: NetworkState, args) {
    const ids = [value(args, 'subnet_id'), value(args, 'subnet_node_id')] as const
    net.emit('CollectiveRemoveSubnetNode', ids)
    removeNode(net, ...ids)
  },
  collective_remove_overwatch_node(net: NetworkState, args) {
    const id = value(args, 'overwatch_node_id')
    removeOverwatchNode(net, id)
    net.emit('CollectiveRemoveOverwatchNode', [id])
  },
  collective_set_coldkey_overwatch_node_eligibility(net: NetworkState, args) {
    const { coldkey, value: banned } = args as { coldkey: string; value: boolean }
    net.put('OverwatchNodeBlacklist', [coldkey], banned)
    net.emit('OverwatchNodeBlacklist', [coldkey, banned])
  },
  set_subnet_weight_factors(net: NetworkState, args) {
    const factors = args['value'] as Record<'delegate_stake' | 'node_count' | 'net_flow', bigint>
    const sum = plus(plus(factors.delegate_stake, factors.node_count), factors.net_flow)
    net.ensure(sum <= ONE, 'InvalidPercent')
    net.put('SubnetWeightFactors', [], factors)
    net.emit('SetSubnetWeightFactors', [factors])
  },
  set_maximum_hooks_weight(net: NetworkState, args) {
    const percentage = value(args, 'value')
    net.ensure(percentage > 0 && percentage <= 100, 'InvalidPerbillPercent')
    net.put('MaximumHooksWeightV2', [], hooksWeight(percentage))
    net.emit('SetMaximumHooksWeight', [percentage])
  },
}

/** Computing time of a block, in picoseconds. */
const BLOCK_REF_TIME = 2_000_000_000_000n
const U64_MAX = (1n << 64n) - 1n

/** So many percent of a block's weight. Kept as a parameter only: hooks here are not metered. */
export function hooksWeight(percentage: number): { readonly ref_time: bigint; readonly proof_size: bigint } {
  const part = (whole: bigint): bigint => (whole * BigInt(percentage)) / 100n
  return { ref_time: part(BLOCK_REF_TIME), proof_size: part(U64_MAX) }
}
