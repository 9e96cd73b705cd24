import { describe, expect, it } from 'vitest'
import { DispatchFailure } from '../../../../../src/ledger/devnet/native/dispatch-error.ts'
import { networkPallet } from '../../../../../src/ledger/devnet/native/network/network-pallet.ts'
import { weightCommitment } from '../../../../../src/ledger/devnet/native/network/overwatch-nodes.ts'
import type { LedgerValue } from '../../../../../src/ledger/ledger.ts'
import { account, peerId, text, TOKEN } from './chain.ts'
import {
  activeSubnet,
  coldkey,
  elected,
  hotkey,
  nextStep,
  nodeArgs,
  OWNER,
  proposeAndAttest,
} from './subnet.ts'

describe('keys', () => {
  it('update_hotkey: node, stake and rewards go with the new name', () => {
    const subnet = activeSubnet(4)
    const { chain, id } = subnet
    nextStep(subnet)
    const next = account(0x9999)
    const all = [1, 2, 3, 4]
    proposeAndAttest(
      subnet,
      all,
      all.map((i) => [i, 1n]),
    )
    const supply = chain.supply()
    chain.call(coldkey(1), 'update_hotkey', { old_hotkey: hotkey(1), new_hotkey: next })
    expect(chain.supply()).toBe(supply)
    expect(chain.net.get('SubnetNodesData', id, 1)).toMatchObject({ hotkey: next })
    expect(chain.net.get('SubnetNodeIdHotkey', id, 1)).toBe(next)
    expect(chain.net.has('HotkeySubnetNodeId', id, hotkey(1))).toBe(false)
    expect(chain.net.get('HotkeyOwner', next)).toBe(coldkey(1))
    expect(chain.net.has('HotkeyOwner', hotkey(1))).toBe(false)
    nextStep(subnet)
    expect(chain.net.big('AccountSubnetStake', hotkey(1), id)).toBe(0n)
    expect(chain.net.big('AccountSubnetStake', next, id)).toBeGreaterThan(100n * TOKEN)
    // A queued node's record and the queue's copy change together.
    chain.call(coldkey(5), 'register_subnet_node', nodeArgs(id, 5))
    chain.call(coldkey(5), 'update_hotkey', { old_hotkey: hotkey(5), new_hotkey: account(0x8888) })
    expect(chain.net.get('SubnetNodeQueue', id)).toEqual([chain.net.get('RegisteredSubnetNodesData', id, 5)])
  })

  it('update_coldkey: unbondings, identity and nodes go with it', () => {
    const { chain, id } = activeSubnet(4)
    const names = [
      'name',
      'url',
      'image',
      'discord',
      'x',
      'telegram',
      'github',
      'hugging_face',
      'description',
      'misc',
    ]
    const identity = Object.fromEntries(names.map((name) => [name, text(name)]))
    chain.call(coldkey(1), 'register_or_update_identity', { hotkey: hotkey(1), ...identity })
    chain.call(coldkey(1), 'update_coldkey', { hotkey: hotkey(1), new_coldkey: account(0x77) })
    expect(chain.net.get('ColdkeyIdentity', account(0x77))).toEqual(identity)
    expect(chain.net.get('ColdkeyIdentityNameOwner', text('name'))).toBe(account(0x77))
    expect(chain.net.get('ColdkeySubnetNodes', account(0x77))).toEqual([[id, [1]]])
    expect(
      chain.error(coldkey(1), 'update_unique', { subnet_id: id, subnet_node_id: 1, unique: text('u') }),
    ).toBe('NotKeyOwner')
    chain.call(account(0x77), 'update_unique', { subnet_id: id, subnet_node_id: 1, unique: text('u') })
    chain.call(hotkey(1), 'update_non_unique', { subnet_id: id, subnet_node_id: 1, non_unique: text('n') })
    chain.call(account(0x77), 'remove_identity')
    expect(chain.net.has('ColdkeyIdentity', account(0x77))).toBe(false)
  })

  it('update_peer_info: the new peer is booked, the old one free again', () => {
    const { chain, id } = activeSubnet(4)
    const peer = { peer_id: peerId(500), multiaddr: undefined }
    const args = { subnet_id: id, subnet_node_id: 1, new_peer_info: peer }
    chain.call(coldkey(1), 'update_peer_info', args)
    expect(chain.net.find('PeerIdSubnetNodeId', id, peerId(1))).toBeUndefined()
    expect(chain.net.num('PeerIdSubnetNodeId', id, peerId(500))).toBe(1)
    for (const call of ['update_bootnode_peer_info', 'update_client_peer_info']) {
      expect(chain.error(coldkey(2), call, { ...args, subnet_node_id: 2 })).toBe('PeerIdExist')
      chain.call(coldkey(2), call, {
        ...args,
        subnet_node_id: 2,
        new_peer_info: { ...peer, peer_id: peerId(501) },
      })
      chain.call(coldkey(2), call, { ...args, subnet_node_id: 2, new_peer_info: undefined })
      expect(chain.net.get('SubnetNodesData', id, 2)).toMatchObject({ bootnode_peer_info: undefined })
    }
  })
})

describe('overwatch nodes', () => {
  it('register, commit, reveal: weights are fixed, the subnet is weighed, closeness is paid', () => {
    const subnet = activeSubnet(4)
    const { chain, id } = subnet
    const keys = [account(0x5001), account(0x5002)] as const
    keys.forEach((key, i) =>
      chain.call(coldkey(i + 1), 'register_overwatch_node', { hotkey: key, stake_to_be_added: 100n * TOKEN }),
    )
    expect(chain.net.num('TotalOverwatchNodes')).toBe(2)
    chain.call(keys[0], 'set_overwatch_node_peer_id', {
      subnet_id: id,
      overwatch_node_id: 1,
      peer_id: peerId(700),
    })
    chain.call(keys[0], 'set_overwatch_node_peer_id', {
      subnet_id: id,
      overwatch_node_id: 1,
      peer_id: peerId(701),
    })
    expect(chain.net.has('PeerIdOverwatchNodeId', id, peerId(700))).toBe(false)
    const weights = [TOKEN / 2n, TOKEN] as const
    const salt = text('salt')
    chain.goTo(Math.ceil(chain.block / 20) * 20)
    weights.forEach((weight, i) =>
      chain.call(keys[i as 0 | 1], 'commit_overwatch_subnet_weights', {
        overwatch_node_id: i + 1,
        commit_weights: [{ subnet_id: id, weight: weightCommitment(weight, salt) }],
      }),
    )
    const reveal = (weight: bigint): Record<string, LedgerValue> => ({
      overwatch_node_id: 1,
      reveals: [{ subnet_id: id, weight, salt }],
    })
    expect(chain.error(keys[0], 'reveal_overwatch_subnet_weights', reveal(weights[0]))).toBe(
      'NotRevealPeriod',
    )
    chain.goTo(chain.block + 17)
    expect(chain.error(keys[0], 'reveal_overwatch_subnet_weights', reveal(1n))).toBe('RevealMismatch')
    expect(chain.error(keys[0], 'reveal_overwatch_subnet_weights', reveal(2n * TOKEN))).toBe('InvalidWeight')
    weights.forEach((weight, i) =>
      chain.call(keys[i as 0 | 1], 'reveal_overwatch_subnet_weights', {
        ...reveal(weight),
        overwatch_node_id: i + 1,
      }),
    )
    const stake = keys.map((key) => chain.net.big('AccountOverwatchStake', key))
    const supply = chain.supply()
    const events = chain.goTo(Math.ceil(chain.block / 20) * 20 + 1)
    const paid = events
      .filter(({ name }) => name === 'OverwatchRewards')
      .map(({ data }) => data) as unknown as readonly {
      node_rewards: (readonly [number, bigint])[]
    }[]
    const amounts = (paid[0]?.node_rewards ?? []).map(([, amount]) => amount)
    // Equal stakes: the mean is 0.75, both are a quarter off.
    expect(chain.net.big('OverwatchSubnetWeights', Math.floor(chain.block / 20) - 1, id)).toBe(
      (TOKEN * 3n) / 4n,
    )
    expect(amounts).toEqual([19_025_875_190_258_751n, 19_025_875_190_258_751n])
    expect(keys.map((key, i) => chain.net.big('AccountOverwatchStake', key) - (stake[i] ?? 0n))).toEqual(
      amounts,
    )
    expect(chain.supply() - supply).toBe(amounts.reduce((sum, amount) => sum + amount, 0n))
    chain.call(keys[1], 'remove_overwatch_node', { overwatch_node_id: 2 })
    chain.call(coldkey(2), 'remove_overwatch_stake', {
      hotkey: keys[1],
      stake_to_be_removed: chain.net.big('AccountOverwatchStake', keys[1]),
    })
    expect(chain.error(OWNER, 'anyone_remove_overwatch_node', { overwatch_node_id: 1 })).toBe(
      'ColdkeyOverwatchQualified',
    )
    chain.call(undefined, 'collective_remove_overwatch_node', { overwatch_node_id: 1 })
    expect(chain.net.num('TotalOverwatchNodes')).toBe(0)
    expect(chain.net.has('PeerIdOverwatchNodeId', id, peerId(701))).toBe(false)
  })
})

it('any arguments: 20,000 random calls end or fail by name, and never break the pallet', () => {
  const subnet = activeSubnet(4)
  const { chain, id } = subnet
  nextStep(subnet)
  expect(elected(subnet)).toBeTypeOf('number')
  let seed = 11
  const random = (below: number): number => {
    seed = (seed * 48_271) % 2_147_483_647
    return seed % below
  }
  const accounts = [OWNER, coldkey(1), coldkey(2), hotkey(1), hotkey(2), account(9)]
  const { types } = chain.state
  const value = (type: string, name: string): LedgerValue => {
    if (type.startsWith('Option<')) return random(2) === 0 ? undefined : value(type.slice(7, -1), name)
    if (/^(Vec|BTreeSet)</.test(type))
      return Array.from({ length: random(3) }, () => value(type.slice(type.indexOf('<') + 1, -1), name))
    if (type.startsWith('BTreeMap<')) {
      const [key = '', of = ''] = type.slice(9, -1).split(', ')
      return Array.from({ length: random(3) }, () => [value(key, name), value(of, name)])
    }
    if (type === 'bool') return random(2) === 0
    if (type === 'u32') return name.includes('subnet_id') ? id : [0, 1, 2, 3, 50, 0xffff_ffff][random(6)]
    if (/^u(64|128)$/.test(type)) return [0n, 1n, 1000n, TOKEN, 2n * TOKEN, (1n << 64n) - 1n][random(6)]
    if (type === 'AccountId20') return accounts[random(accounts.length)]
    if (type === 'H256') return `0x${'ab'.repeat(32)}`
    if (type === 'Bytes') return new Uint8Array(random(40))
    if (type === 'OpaquePeerId') return random(2) === 0 ? peerId(random(8)) : new Uint8Array(random(40))
    const { definition } = types.table.definition(type)
    if ('fields' in definition)
      return Object.fromEntries(
        Object.entries(definition.fields).map(([field, of]) => [field, value(of, field)]),
      )
    const [variant = '', of = {}] = Object.entries(definition.variants)[random(2)] ?? []
    return {
      type: variant,
      value: Object.fromEntries(Object.entries(of).map(([field, inner]) => [field, value(inner, field)])),
    }
  }
  const calls = networkPallet({ epochBlocks: 20 }).calls.filter(
    ({ name }) => !/^(set_|pause|collective_remove)/.test(name),
  )
  let ended = 0
  for (let i = 0; i < 20_000; i++) {
    const call = calls[random(calls.length)]
    if (call === undefined) continue
    const args = Object.fromEntries(
      Object.entries(call.args).map(([name, type]) => [name, value(type, name)]),
    )
    try {
      chain.state.dispatch(
        { signed: accounts[random(accounts.length)] ?? OWNER },
        {
          type: 'Network',
          value: { type: call.name, value: args },
        },
      )
      ended++
    } catch (error) {
      if (!(error instanceof DispatchFailure)) throw error
    }
    if (i % 500 === 0) chain.next()
  }
  expect(ended).toBeGreaterThan(200)
})
