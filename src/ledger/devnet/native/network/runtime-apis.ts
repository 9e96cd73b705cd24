import type { LedgerValue } from '../../../ledger.ts'
import type { RuntimeApiMethod } from '../pallet.ts'
import { TypeTable } from '../type-table.ts'
import {
  attestorInfos,
  bootnodes,
  coldkeyNodeInfos,
  coldkeyStakes,
  delegateStakes,
  nodeDelegateStakes,
  nodeInfo,
  subnetNodeInfos,
} from './node-info.ts'
import type { OrderedMap } from './ordered-map.ts'
import { proofOfStake } from './proof-of-stake.ts'
import type { SubnetData } from './records.ts'
import { type Args, NetworkState } from './state.ts'
import { allSubnetInfos, subnetInfo } from './subnet-info.ts'
import { NETWORK_TYPES } from './type-list.ts'

/** Codecs of the answers: most methods give SCALE bytes as `Bytes`. */
const types = new TypeTable()
types.add({
  AccountId20: { path: 'fp_account::AccountId20', fields: ['[u8; 20]'] },
  H256: { path: 'primitive_types::H256', fields: ['[u8; 32]'] },
  ...NETWORK_TYPES,
})

type Answer = (net: NetworkState, args: Args) => LedgerValue

/** `NetworkRuntimeApi`, read-only. Answers but `proof_of_stake` are SCALE bytes of the type named here. */
export function networkRuntimeApi(epochBlocks: number): Record<string, RuntimeApiMethod> {
  const method = (args: Record<string, string>, type: string, answer: Answer): RuntimeApiMethod => ({
    args,
    result: 'Bytes',
    call: (context, given) => types.encode(type, answer(new NetworkState(context, epochBlocks), given)),
  })
  const subnet = { subnet_id: 'u32' }
  const id = (args: Args, name: string): number => args[name] as number
  return {
    get_subnet_info: method(subnet, 'Option<SubnetInfo>', (net: NetworkState, args) =>
      subnetInfo(net, id(args, 'subnet_id')),
    ),
    get_all_subnets_info: method({}, 'Vec<SubnetInfo>', allSubnetInfos),
    get_subnet_node_info: method(
      { ...subnet, subnet_node_id: 'u32' },
      'Option<SubnetNodeInfo>',
      (net: NetworkState, args) => nodeInfo(net, id(args, 'subnet_id'), id(args, 'subnet_node_id')),
    ),
    get_subnet_nodes_info: method(subnet, 'Vec<SubnetNodeInfo>', (net: NetworkState, args) =>
      subnetNodeInfos(net, id(args, 'subnet_id')),
    ),
    get_all_subnet_nodes_info: method({}, 'Vec<SubnetNodeInfo>', (net) =>
      net.entries<SubnetData>('SubnetsData').flatMap(({ value }) => subnetNodeInfos(net, value.id)),
    ),
    proof_of_stake: {
      args: { ...subnet, peer_id: 'Bytes', min_class: 'u8', min_stake: 'Option<u128>' },
      result: 'bool',
      call(context, args) {
        const { subnet_id, peer_id, min_class, min_stake } = args as {
          subnet_id: number
          peer_id: Uint8Array
          min_class: number
          min_stake: bigint | undefined
        }
        return proofOfStake(new NetworkState(context, epochBlocks), subnet_id, peer_id, min_class, min_stake)
      },
    },
    get_bootnodes: method(subnet, 'AllSubnetBootnodes', (net: NetworkState, args) =>
      bootnodes(net, id(args, 'subnet_id')),
    ),
    get_coldkey_subnet_nodes_info: method(
      { coldkey: 'AccountId20' },
      'Vec<SubnetNodeInfo>',
      (net: NetworkState, args) => coldkeyNodeInfos(net, args['coldkey'] as string),
    ),
    get_coldkey_stakes: method(
      { coldkey: 'AccountId20' },
      'Vec<SubnetNodeStakeInfo>',
      (net: NetworkState, args) => coldkeyStakes(net, args['coldkey'] as string),
    ),
    get_delegate_stakes: method(
      { account_id: 'AccountId20' },
      'Vec<DelegateStakeInfo>',
      (net: NetworkState, args) => delegateStakes(net, args['account_id'] as string),
    ),
    get_node_delegate_stakes: method(
      { account_id: 'AccountId20' },
      'Vec<NodeDelegateStakeInfo>',
      (net: NetworkState, args) => nodeDelegateStakes(net, args['account_id'] as string),
    ),
    get_overwatch_commits_for_epoch_and_node: method(
      { epoch: 'u32', overwatch_node_id: 'u32' },
      'Vec<(u32, H256)>',
      (net: NetworkState, args) =>
        pairs(net, 'OverwatchCommits', id(args, 'epoch'), id(args, 'overwatch_node_id')),
    ),
    // Reveals are keyed by subnet before node; the chain reads them as if it were the other way round.
    get_overwatch_reveals_for_epoch_and_node: method(
      { epoch: 'u32', overwatch_node_id: 'u32' },
      'Vec<(u32, u128)>',
      (net: NetworkState, args) =>
        net
          .entries<bigint>('OverwatchReveals', id(args, 'epoch'))
          .filter(({ keys }) => keys[1] === id(args, 'overwatch_node_id'))
          .map(({ keys, value }) => [keys[0], value]),
    ),
    get_elected_validator_info: method(
      { ...subnet, subnet_epoch: 'u32' },
      'Option<SubnetNodeInfo>',
      (net: NetworkState, args) => {
        const subnetId = id(args, 'subnet_id')
        const elected = net.get<number | undefined>(
          'SubnetElectedValidator',
          subnetId,
          id(args, 'subnet_epoch'),
        )
        return elected === undefined ? undefined : nodeInfo(net, subnetId, elected)
      },
    ),
    get_validators_and_attestors: method(subnet, 'Vec<SubnetNodeInfo>', (net: NetworkState, args) =>
      attestorInfos(net, id(args, 'subnet_id')),
    ),
    get_all_overwatch_nodes_info: method({}, 'Vec<OverwatchNodeInfo>', (net) =>
      net.entries<OverwatchRecord>('OverwatchNodes').map(({ value }) => overwatchInfo(net, value)),
    ),
  }
}

/** A value of one of the types that the methods answer with. @throws `ledger` when the bytes are not of the type. */
export function decodeNetworkAnswer(type: string, bytes: Uint8Array): LedgerValue {
  return types.decode(type, bytes)
}

type OverwatchRecord = { readonly id: number; readonly hotkey: string }

function pairs(net: NetworkState, item: string, ...first: readonly number[]): LedgerValue {
  return net.entries<LedgerValue>(item, ...first).map(({ keys, value }) => [keys[0], value])
}

function overwatchInfo(net: NetworkState, { id, hotkey }: OverwatchRecord): LedgerValue {
  const coldkey = net.get<string>('HotkeyOwner', hotkey)
  return {
    overwatch_node_id: id,
    coldkey,
    hotkey,
    peer_ids: net.get<OrderedMap<number, Uint8Array>>('OverwatchNodeIndex', id),
    reputation: net.get('ColdkeyReputation', coldkey),
    account_overwatch_stake: net.big('AccountOverwatchStake', hotkey),
  }
}
