import { describe, expect, it } from 'vitest'
import { decodeNetworkAnswer } from '../../../../../src/ledger/devnet/native/network/runtime-apis.ts'
import { isPeerId, multiaddrError } from '../../../../../src/ledger/devnet/native/network/multiaddr-check.ts'
import { networkPallet } from '../../../../../src/ledger/devnet/native/network/network-pallet.ts'
import type { LedgerValue } from '../../../../../src/ledger/ledger.ts'
import { account, multiaddr, peerId, text, TOKEN } from './chain.ts'
import {
  activeSubnet,
  coldkey,
  DELEGATOR,
  elected,
  hotkey,
  nextStep,
  nodeArgs,
  OWNER,
  type Subnet,
  subnetEpoch,
} from './subnet.ts'

const methods = networkPallet({ epochBlocks: 20 }).runtimeApis?.['NetworkRuntimeApi'] ?? {}

function ask({ chain }: Subnet, method: string, args: Record<string, LedgerValue>): LedgerValue {
  const answer = methods[method]?.call(chain.state.context('Network'), args)
  const type = ANSWERS[method]
  return type === undefined ? answer : decodeNetworkAnswer(type, answer as Uint8Array)
}

const ANSWERS: Readonly<Record<string, string>> = {
  get_subnet_info: 'Option<SubnetInfo>',
  get_all_subnets_info: 'Vec<SubnetInfo>',
  get_subnet_node_info: 'Option<SubnetNodeInfo>',
  get_subnet_nodes_info: 'Vec<SubnetNodeInfo>',
  get_all_subnet_nodes_info: 'Vec<SubnetNodeInfo>',
  get_bootnodes: 'AllSubnetBootnodes',
  get_coldkey_subnet_nodes_info: 'Vec<SubnetNodeInfo>',
  get_coldkey_stakes: 'Vec<SubnetNodeStakeInfo>',
  get_delegate_stakes: 'Vec<DelegateStakeInfo>',
  get_node_delegate_stakes: 'Vec<NodeDelegateStakeInfo>',
  get_overwatch_commits_for_epoch_and_node: 'Vec<(u32, H256)>',
  get_overwatch_reveals_for_epoch_and_node: 'Vec<(u32, u128)>',
  get_elected_validator_info: 'Option<SubnetNodeInfo>',
  get_validators_and_attestors: 'Vec<SubnetNodeInfo>',
  get_all_overwatch_nodes_info: 'Vec<OverwatchNodeInfo>',
}

describe('proofOfStake', () => {
  const subnet = activeSubnet(4)
  const { chain, id } = subnet
  nextStep(subnet)
  chain.call(
    coldkey(5),
    'register_subnet_node',
    nodeArgs(id, 5, {
      bootnode_peer_info: { peer_id: peerId(105), multiaddr: multiaddr(105) },
      client_peer_info: { peer_id: peerId(205), multiaddr: undefined },
    }),
  )
  const proof = (peer: Uint8Array, min_class: number, min_stake?: bigint, subnet_id = id): LedgerValue =>
    ask(subnet, 'proof_of_stake', { subnet_id, peer_id: peer, min_class, min_stake })

  it('a Validator node passes every class, with the stake it has', () => {
    expect([0, 1, 2, 3].map((least) => proof(peerId(1), least))).toEqual([true, true, true, true])
    expect(proof(peerId(1), 4)).toBe(false)
    expect(proof(peerId(1), 3, 1n)).toBe(true)
    expect(proof(peerId(1), 3, 10n ** 30n)).toBe(false)
    expect(proof(peerId(1), 3, undefined, id + 1)).toBe(false)
  })

  it('a queued node counts for class 0 only, from its start epoch on, by any of its peers', () => {
    expect(proof(peerId(5), 0)).toBe(false)
    nextStep(subnet)
    for (const peer of [5, 105, 205])
      expect([0, 1].map((least) => proof(peerId(peer), least))).toEqual([true, false])
  })

  it('strangers do not pass, bootnodes of the subnet do; who unstakes below the minimum does not', () => {
    expect(proof(peerId(77), 0)).toBe(false)
    expect(proof(text('x'), 0)).toBe(false)
    expect(proof(peerId(9001), 3)).toBe(true)
    chain.net.put('AccountSubnetStake', [hotkey(4), id], 1n)
    expect(proof(peerId(4), 3)).toBe(false)
    chain.net.put('AccountSubnetStake', [hotkey(4), id], 100n * TOKEN)
  })
})

describe('NetworkRuntimeApi', () => {
  const subnet = activeSubnet(4)
  const { chain, id } = subnet
  nextStep(subnet)

  it('infos of subnet and nodes decode and say what storage says', () => {
    expect(ask(subnet, 'get_subnet_info', { subnet_id: id })).toMatchObject({
      id,
      friendly_id: 1,
      owner: OWNER,
      state: 'Active',
      total_nodes: 4,
      total_electable_nodes: 4,
      slot_index: 3,
      reputation: chain.net.big('SubnetReputation', id),
    })
    expect(ask(subnet, 'get_subnet_info', { subnet_id: 1 })).toBeUndefined()
    expect(ask(subnet, 'get_all_subnets_info', {})).toHaveLength(1)
    expect(ask(subnet, 'get_subnet_node_info', { subnet_id: id, subnet_node_id: 2 })).toMatchObject({
      coldkey: coldkey(2),
      hotkey: hotkey(2),
      peer_info: { peer_id: peerId(2), multiaddr: multiaddr(2) },
      classification: { node_class: 'Validator', start_epoch: 0 },
      stake_balance: 100n * TOKEN,
      node_slot_index: 1,
    })
    for (const method of ['get_subnet_nodes_info', 'get_validators_and_attestors'])
      expect(ask(subnet, method, { subnet_id: id })).toHaveLength(4)
    expect(ask(subnet, 'get_all_subnet_nodes_info', {})).toHaveLength(4)
    const epoch = subnetEpoch(subnet)
    expect(ask(subnet, 'get_elected_validator_info', { subnet_id: id, subnet_epoch: epoch })).toMatchObject({
      subnet_node_id: elected(subnet),
    })
    expect(ask(subnet, 'get_elected_validator_info', { subnet_id: id, subnet_epoch: 999 })).toBeUndefined()
  })

  it('stakes of accounts', () => {
    const all = 1000n * TOKEN
    expect(ask(subnet, 'get_coldkey_stakes', { coldkey: coldkey(1) })).toEqual([
      { subnet_id: id, subnet_node_id: 1, hotkey: hotkey(1), balance: 100n * TOKEN },
    ])
    expect(ask(subnet, 'get_coldkey_subnet_nodes_info', { coldkey: coldkey(1) })).toHaveLength(1)
    expect(ask(subnet, 'get_delegate_stakes', { account_id: DELEGATOR })).toEqual([
      { subnet_id: id, shares: all, balance: (all * (all + 1n)) / (all + 1010n) },
    ])
    chain.call(DELEGATOR, 'add_to_node_delegate_stake', {
      subnet_id: id,
      subnet_node_id: 1,
      node_delegate_stake_to_be_added: TOKEN,
    })
    expect(ask(subnet, 'get_node_delegate_stakes', { account_id: DELEGATOR })).toMatchObject([
      { subnet_id: id, subnet_node_id: 1, shares: TOKEN },
    ])
    expect(ask(subnet, 'get_bootnodes', { subnet_id: id })).toEqual({
      subnet_bootnodes: [[peerId(9001), multiaddr(9001)]],
      node_bootnodes: [],
      registered_bootnodes: [],
    })
  })

  it('every method answers, also about nothing', () => {
    for (const [name, { args, result }] of Object.entries(methods)) {
      const nothing: Record<string, LedgerValue> = Object.fromEntries(
        Object.entries(args).map(([arg, type]) => [
          arg,
          type === 'Bytes'
            ? text('')
            : type === 'AccountId20'
              ? account(9)
              : type.startsWith('Option')
                ? undefined
                : 0,
        ]),
      )
      const answer = methods[name]?.call(chain.state.context('Network'), nothing)
      expect(answer, name).toEqual(result === 'bool' ? false : expect.any(Uint8Array))
    }
  })
})

describe('peer ids and multiaddrs', () => {
  it('isPeerId: by length and first characters', () => {
    expect(isPeerId(peerId(1))).toBe(true)
    expect(isPeerId(text(`Qm${'a'.repeat(44)}`))).toBe(true)
    expect(isPeerId(text(`Qx${'a'.repeat(44)}`))).toBe(false)
    expect(isPeerId(text('1'.repeat(31)))).toBe(false)
    expect(isPeerId(text('1'.repeat(129)))).toBe(false)
    for (const prefix of 'fbzm') expect(isPeerId(text(prefix.repeat(40)))).toBe(true)
  })

  it('multiaddrError: last protocol p2p, lengths within', () => {
    expect(multiaddrError(multiaddr(1))).toBeUndefined()
    expect(multiaddrError(new Uint8Array())).toBe('MultiaddrInvalidProtocol')
    expect(multiaddrError(Uint8Array.of(4, 127, 0, 0, 1))).toBe('MultiaddrInvalidProtocol')
    expect(multiaddrError(Uint8Array.of(4, 127, 0, 0))).toBe('MultiaddrTruncated')
    expect(multiaddrError(Uint8Array.of(0xff))).toBe('MultiaddrInvalidVarint')
    expect(multiaddrError(new Uint8Array(12).fill(0xff))).toBe('MultiaddrInvalidVarint')
    expect(multiaddrError(Uint8Array.of(0xa5, 3, 9, 1))).toBe('MultiaddrTruncated')
    // ws has no payload; an ip6 with a name before it.
    expect(multiaddrError(Uint8Array.of(54, 1, 97, 6, 0, 1, 0xdd, 3, 0xa5, 3, 1, 2))).toBeUndefined()
  })

  it('multiaddrError: 10^5 random byte strings give an error name or none, never an exception', () => {
    let seed = 3
    const names = new Set<string | undefined>()
    for (let i = 0; i < 100_000; i++) {
      const bytes = new Uint8Array(i % 24)
      for (let at = 0; at < bytes.length; at++) {
        seed = (seed * 48_271) % 2_147_483_647
        const common = [4, 6, 54, 0xa5, 3, 1, 0, 2, 0xdd]
        bytes[at] = seed % 3 === 0 ? seed & 255 : (common[seed % common.length] ?? 0)
      }
      names.add(multiaddrError(bytes))
    }
    expect(names).toEqual(
      new Set([undefined, 'MultiaddrInvalidVarint', 'MultiaddrInvalidProtocol', 'MultiaddrTruncated']),
    )
  })
})
