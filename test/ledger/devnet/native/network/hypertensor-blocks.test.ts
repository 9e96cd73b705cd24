import { readFileSync } from 'node:fs'
import { Metadata, TypeRegistry } from '@polkadot/types'
import { describe, expect, it } from 'vitest'
import { parseChainSpec } from '../../../../../src/ledger/devnet/chain-spec.ts'
import { patchEthereumGenesis } from '../../../../../src/ledger/devnet/dev-genesis.ts'
import { DevNode } from '../../../../../src/ledger/devnet/dev-node.ts'
import { DispatchFailure } from '../../../../../src/ledger/devnet/native/dispatch-error.ts'
import { toHex } from '../../../../../src/ledger/hex.ts'
import type { SubnetNode } from '../../../../../src/ledger/devnet/native/network/records.ts'
import { ScaleReader } from '../../../../../src/ledger/devnet/native/scale-bytes.ts'
import { createStateStore } from '../../../../../src/ledger/devnet/storage.ts'
import { storagePrefix } from '../../../../../src/ledger/devnet/twox.ts'
import { CODE_KEY, createWasmRuntime } from '../../../../../src/ledger/devnet/wasm-runtime.ts'
import type { LedgerValue } from '../../../../../src/ledger/ledger.ts'
import { multiaddr, peerId, TestChain, text, TOKEN } from './chain.ts'
import { nodeArgs, subnetData } from './subnet.ts'
import {
  HAS_SPEC,
  hexBytes,
  person,
  type Person,
  print,
  signed,
  SPEC,
  type Terms,
  termsOf,
} from './wasm-side.ts'

const peerOf = (node: number): Record<string, LedgerValue> => ({
  peer_id: peerId(300 + node),
  multiaddr: undefined,
})

type Call = readonly [who: Person, call: string, args: Record<string, LedgerValue>]

/** Hypertensor's own runtime and the native one, block by block with the same calls. */
class Pair {
  readonly native: TestChain
  readonly wasm: DevNode
  /** Events and failures seen, by name. */
  readonly counts = new Map<string, number>()
  readonly #registry = new TypeRegistry()
  readonly #nonces = new Map<string, number>()
  readonly #terms: Terms

  constructor(people: readonly Person[]) {
    const endowed = Object.fromEntries(people.map(({ address }) => [address, 10_000n * TOKEN]))
    this.native = new TestChain({ endowed })
    const spec = parseChainSpec(readFileSync(SPEC, 'utf8'))
    const { types } = this.native.state
    const accounts = people.map(({ address }) => {
      const key = this.native.state.key('System.Account', this.native.state.item('System.Account'), [address])
      return [key, this.native.state.storage.get(key) ?? new Uint8Array()] as const
    })
    const genesis = [...patchEthereumGenesis(spec.genesis), ...accounts]
    const code = createStateStore(genesis).get(CODE_KEY) ?? new Uint8Array()
    this.wasm = new DevNode({
      runtime: createWasmRuntime(code),
      genesis,
      name: spec.name,
      properties: spec.properties,
      finalityDelayMs: 1,
    })
    this.#terms = termsOf(this.wasm)
    const metadata = new ScaleReader(this.wasm.call('Metadata_metadata', new Uint8Array()))
    this.#registry.setMetadata(
      new Metadata(this.#registry, toHex(metadata.take(metadata.count(1))) as `0x${string}`),
    )
    expect(types.table.codec('RuntimeCall')).toBeDefined()
    this.wasm.build(1)
  }

  #extrinsic([who, name, args]: Call): Uint8Array {
    const { table } = this.native.state.types
    const call = table.encode('RuntimeCall', { type: 'Network', value: { type: name, value: args } })
    const nonce = this.#nonces.get(who.address) ?? 0
    this.#nonces.set(who.address, nonce + 1)
    return signed(who, call, nonce, this.#terms)
  }

  /** One block on both with these calls. @returns differences: of events, of storage. */
  block(...calls: readonly Call[]): string[] {
    for (const call of calls) this.wasm.submit(this.#extrinsic(call))
    this.wasm.build(1)
    const hooks = this.native.next()
    const events = [...hooks]
    this.#copyElection()
    const failures = calls.map(([who, name, args]) => {
      try {
        events.push(...this.native.call(who.address, name, args))
        return ''
      } catch (error) {
        if (!(error instanceof DispatchFailure)) throw error
        return error.message
      }
    })
    for (const { pallet, name } of events)
      if (pallet === 'Network') this.counts.set(name, (this.counts.get(name) ?? 0) + 1)
    for (const failure of failures) this.counts.set(failure, (this.counts.get(failure) ?? 0) + 1)
    const block = `block ${this.native.block} ${calls.map(([, name]) => name).join(' ')}`
    const own = events
      .filter(({ pallet }) => pallet === 'Network')
      .map(({ pallet, name, data }) =>
        toHex(
          this.native.state.types.table.encode('RuntimeEvent', {
            type: pallet,
            value: { type: name, value: data },
          }),
        ),
      )
    const theirs = this.#wasmEvents()
    const told = (event: string | undefined): string =>
      event === undefined
        ? 'nothing'
        : print(this.native.state.types.table.decode('RuntimeEvent', hexBytes(event)))
    const differences: string[] = []
    const refused = this.#wasmFailures()
    if (failures.join() !== refused.join())
      differences.push(`${block}: ends with '${failures.join()}', on the chain '${refused.join()}'`)
    for (let i = 0; i < Math.max(own.length, theirs.length); i++)
      if (own[i] !== theirs[i])
        differences.push(`${block}: event ${told(own[i])}, the chain ${told(theirs[i])}`)
    // Blocks without calls change storage at an epoch's first blocks and at the slot.
    if (calls.length === 0 && this.native.block % 20 > 4) return differences
    return [...differences, ...this.#storageDifferences(block)]
  }

  /** Blocks without calls up to `block`. */
  goTo(block: number): string[] {
    const differences: string[] = []
    while (this.native.block < block) differences.push(...this.block())
    return differences
  }

  /** How the block's calls ended: `Network.<error>`, or nothing. */
  #wasmFailures(): string[] {
    const failures: string[] = []
    for (const { event } of this.#records()) {
      if (event.section !== 'system') continue
      if (event.method === 'ExtrinsicSuccess') failures.push('')
      if (event.method !== 'ExtrinsicFailed') continue
      const [error] = event.data as readonly [{ isModule: boolean; asModule: { error: Uint8Array } }]
      const index = error.isModule ? (error.asModule.error[0] ?? 0) : -1
      failures.push(`Network.${this.native.state.types.pallet('Network').errors[index] ?? 'no module error'}`)
    }
    // The first one is the block's timestamp.
    return failures.slice(1)
  }

  #records(): readonly {
    readonly event: { section: string; method: string; data: unknown; toU8a(): Uint8Array }
  }[] {
    const bytes = this.wasm.chain.headState.get(storagePrefix('System', 'Events')) ?? Uint8Array.of(0)
    return [...(this.#registry.createType('Vec<EventRecord>', bytes) as unknown as Iterable<never>)]
  }

  #wasmEvents(): string[] {
    return this.#records()
      .filter(({ event }) => event.section === 'network')
      .map(({ event }) => toHex(event.toU8a()))
  }

  /** Randomness differs: whom the chain elected is elected here too. */
  #copyElection(): void {
    const prefix = storagePrefix('Network', 'SubnetElectedValidator')
    for (const [key, value] of this.wasm.chain.headState.entries(prefix))
      this.native.state.storage.set(key, value)
  }

  #storageDifferences(block: string): string[] {
    const differences: string[] = []
    for (const [name, item] of this.native.state.types.items) {
      if (!name.startsWith('Network.')) continue
      const theirs = new Map(
        [...this.wasm.chain.headState.entries(item.prefix)].map(([k, v]) => [toHex(k), v]),
      )
      const own = new Map<string, Uint8Array>()
      const { storage } = this.native.state
      const start = storage.get(item.prefix)
      if (start !== undefined) own.set(toHex(item.prefix), start)
      for (let key = storage.nextKey(item.prefix); key !== undefined; key = storage.nextKey(key)) {
        if (!toHex(key).startsWith(toHex(item.prefix))) break
        own.set(toHex(key), storage.get(key) ?? new Uint8Array())
      }
      for (const key of new Set([...own.keys(), ...theirs.keys()])) {
        const [a, b] = [own.get(key), theirs.get(key)].map((bytes) =>
          bytes === undefined ? item.definition.default : item.codec.decode(new ScaleReader(bytes)),
        )
        if (print(a) !== print(b))
          differences.push(`${block}: ${name} ${key.slice(-16)} is ${print(a)}, the chain ${print(b)}`)
      }
    }
    return differences
  }
}

describe.skipIf(!HAS_SPEC)("native Network pallet beside Hypertensor's own", () => {
  it('the same blocks give the same events and the same storage', { timeout: 240_000 }, () => {
    const [owner, delegator] = [person(1), person(2)]
    const cold = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => person(0x10 + i))
    const hot = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => person(0x30 + i))
    const pair = new Pair([owner, delegator, ...cold, ...hot])
    const { native } = pair
    const wrong: string[] = []
    const block = (...calls: readonly Call[]): void => void wrong.push(...pair.block(...calls))
    const id = 128_001
    const keys = cold.slice(1, 5).map(({ address }) => address)
    block([owner, 'register_subnet', { max_cost: TOKEN, subnet_data: subnetData(1, keys) }])
    for (let i = 1; i <= 4; i++)
      block([
        cold[i] ?? owner,
        'register_subnet_node',
        nodeArgs(id, i, {
          hotkey: hot[i]?.address ?? '',
          delegate_reward_rate: i === 2 ? TOKEN / 4n : 0n,
          unique: text(`unique ${i}`),
          delegate_account: i === 3 ? { account_id: owner.address, rate: TOKEN / 8n } : undefined,
        }),
      ])
    block([delegator, 'add_to_delegate_stake', { subnet_id: id, stake_to_be_added: 1000n * TOKEN }])
    block([
      delegator,
      'add_to_node_delegate_stake',
      { subnet_id: id, subnet_node_id: 2, node_delegate_stake_to_be_added: 70n * TOKEN },
    ])
    wrong.push(...pair.goTo(20))
    block([owner, 'activate_subnet', { subnet_id: id }])
    expect(native.net.get('SubnetsData', id)).toMatchObject({ state: 'Active' })
    for (let epoch = 0; epoch < 24; epoch++) {
      while (native.block % 20 !== 4) block()
      if (epoch === 3)
        for (const i of [5, 6]) {
          const peer = { peer_id: peerId(100 + i), multiaddr: multiaddr(100 + i) }
          block([
            cold[i] ?? owner,
            'register_subnet_node',
            nodeArgs(id, i, { hotkey: hot[i]?.address ?? '', client_peer_info: peer }),
          ])
        }
      const subnetEpoch = Math.floor((native.block + 1 - 3) / 20)
      const elected = native.net.get<number | undefined>('SubnetElectedValidator', id, subnetEpoch)
      if (elected !== undefined && epoch % 7 !== 6) {
        const nodes = native.net.entries<SubnetNode>('SubnetNodesData', id).map(({ value }) => value)
        const bad = epoch % 5 === 4
        const scored = nodes.filter(({ classification }) =>
          ['Included', 'Validator'].includes(classification.node_class),
        )
        block([
          hot[elected] ?? owner,
          'propose_attestation',
          {
            subnet_id: id,
            data: scored.map((node) => ({
              subnet_node_id: node.id,
              score: BigInt(3 + ((node.id * 7 + epoch) % 5)),
            })),
            prioritize_queue_node_id: epoch === 5 ? 6 : undefined,
            remove_queue_node_id: undefined,
            args: epoch % 2 === 0 ? text('args') : undefined,
            attest_data: undefined,
          },
        ])
        for (let i = 0; i < epoch % 4; i++) block()
        const attestors = nodes.filter(
          ({ id: node, classification }) => node !== elected && classification.node_class === 'Validator',
        )
        for (const node of bad ? attestors.slice(0, 1) : attestors.slice(epoch % 6 === 5 ? 1 : 0))
          block([hot[node.id] ?? owner, 'attest', { subnet_id: id, attest_data: undefined }])
      }
      const free = [1, 2, 3, 4].find((i) => i !== elected) ?? 1
      if (epoch === 8)
        block(
          [
            cold[free] ?? owner,
            'add_stake',
            {
              subnet_id: id,
              subnet_node_id: free,
              hotkey: hot[free]?.address ?? '',
              stake_to_be_added: 5n * TOKEN,
            },
          ],
          [delegator, 'donate_delegate_stake', { subnet_id: id, amount: 3n * TOKEN }],
        )
      if (epoch === 9) {
        block([
          cold[free] ?? owner,
          'remove_stake',
          { subnet_id: id, hotkey: hot[free]?.address ?? '', stake_to_be_removed: TOKEN / 9n },
        ])
        block([delegator, 'remove_delegate_stake', { subnet_id: id, shares_to_be_removed: 123n * TOKEN }])
        block([
          delegator,
          'swap_from_subnet_to_node',
          {
            from_subnet_id: id,
            to_subnet_id: id,
            to_subnet_node_id: 1,
            delegate_stake_shares_to_swap: 50n * TOKEN,
          },
        ])
      }
      if (epoch === 11) {
        block([delegator, 'claim_unbondings', {}])
        for (let i = 1; i <= 4; i++) block([cold[i] ?? owner, 'claim_unbondings', {}])
      }
      if (epoch === 12) {
        block([owner, 'owner_update_churn_limit', { subnet_id: id, value: 2 }])
        block([owner, 'owner_update_misc', { subnet_id: id, value: text('{"a":1}') }])
        block([owner, 'remove_delegate_balance', { amount_to_remove: 1000n }])
        block([
          cold[free] ?? owner,
          'update_unique',
          { subnet_id: id, subnet_node_id: free, unique: text('other') },
        ])
      }
      if (epoch === 20 && elected !== 4)
        block([cold[4] ?? owner, 'remove_subnet_node', { subnet_id: id, subnet_node_id: 4 }])
    }
    let seed = 9
    const random = (below: number): number => {
      seed = (seed * 48_271) % 2_147_483_647
      return seed % below
    }
    const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T
    const people = [owner, delegator, ...cold.slice(1, 7)]
    for (let i = 0; i < 260; i++) {
      const who = random(2) === 0 ? delegator : pick(people)
      const node = 1 + random(6)
      const [theirCold, theirHot] = [cold[node] ?? owner, hot[node]?.address ?? '']
      const amount = pick([0n, 999n, 1000n, 123_456_789n, TOKEN / 3n, 2n * TOKEN, 10n ** 26n])
      const shares =
        native.net.big('AccountSubnetDelegateStakeShares', who.address, id) / BigInt(1 + random(4))
      const nodeShares =
        native.net.big('AccountNodeDelegateStakeShares', who.address, id, node) / BigInt(1 + random(3))
      const stake = { subnet_id: id, hotkey: theirHot }
      const ofNode = { subnet_id: id, subnet_node_id: node }
      const swap = { from_subnet_id: id, to_subnet_id: id }
      block(
        pick<Call>([
          [theirCold, 'add_stake', { ...stake, subnet_node_id: node, stake_to_be_added: amount }],
          [theirCold, 'remove_stake', { ...stake, stake_to_be_removed: amount }],
          [theirCold, 'claim_unbondings', {}],
          [who, 'claim_unbondings', {}],
          [who, 'add_to_delegate_stake', { subnet_id: id, stake_to_be_added: amount }],
          [who, 'remove_delegate_stake', { subnet_id: id, shares_to_be_removed: shares }],
          [who, 'donate_delegate_stake', { subnet_id: id, amount }],
          [who, 'add_to_node_delegate_stake', { ...ofNode, node_delegate_stake_to_be_added: amount }],
          [
            who,
            'remove_node_delegate_stake',
            { ...ofNode, node_delegate_stake_shares_to_be_removed: nodeShares },
          ],
          [who, 'donate_node_delegate_stake', { ...ofNode, amount }],
          [who, 'swap_delegate_stake', { ...swap, delegate_stake_shares_to_swap: shares }],
          [
            who,
            'swap_node_delegate_stake',
            {
              ...swap,
              from_subnet_node_id: node,
              to_subnet_node_id: 1 + random(6),
              node_delegate_stake_shares_to_swap: nodeShares,
            },
          ],
          [
            who,
            'transfer_delegate_stake',
            { subnet_id: id, to_account_id: pick(people).address, delegate_stake_shares_to_transfer: shares },
          ],
          [
            theirCold,
            'update_node_delegate_reward_rate',
            { ...ofNode, new_delegate_reward_rate: amount % TOKEN },
          ],
          [
            theirCold,
            'update_delegate_account',
            {
              ...ofNode,
              delegate_account_id: pick([undefined, owner.address, theirHot]),
              delegate_rate: amount % TOKEN,
            },
          ],
          [
            theirCold,
            'update_bootnode_peer_info',
            { ...ofNode, new_peer_info: pick([undefined, peerOf(node)]) },
          ],
          [who, 'update_non_unique', { ...ofNode, non_unique: text('n') }],
          [owner, 'owner_update_max_registered_nodes', { subnet_id: id, value: random(80) }],
          [owner, 'owner_update_idle_classification_epochs', { subnet_id: id, value: random(4) }],
          [
            owner,
            'owner_update_absent_decrease_reputation_factor',
            { subnet_id: id, value: (TOKEN * BigInt(random(80))) / 100n },
          ],
          [owner, 'owner_update_min_max_stake', { subnet_id: id, min: amount, max: 500n * TOKEN }],
          [hot[node] ?? owner, 'attest', { subnet_id: id, attest_data: undefined }],
          [owner, 'register_subnet', { max_cost: amount, subnet_data: subnetData(2 + random(3), keys) }],
          [pick(people), 'register_subnet_node', nodeArgs(id + 1, 20 + i, { hotkey: hot[7]?.address ?? '' })],
        ]),
      )
    }
    block([owner, 'owner_pause_subnet', { subnet_id: id }])
    wrong.push(...pair.goTo(native.block + 25))
    block([owner, 'owner_unpause_subnet', { subnet_id: id }])
    wrong.push(...pair.goTo(native.block + 45))
    expect(wrong.slice(0, 20)).toEqual([])
    const { counts } = pair
    for (const [event, least] of [
      ['SubnetRewards', 10],
      ['Slashing', 3],
      ['NodeClassGraduation', 4],
      ['NodeReputationUpdate', 40],
      ['SwapCallQueued', 8],
      ['StakeRemoved', 4],
      ['Attestation', 40],
    ] as const)
      expect(counts.get(event) ?? 0, event).toBeGreaterThanOrEqual(least)
    const failures = [...counts.keys()].filter((name) => name.startsWith('Network.'))
    process.stdout.write(
      `${native.block} blocks equal: ${counts.size - failures.length} kinds of events, ${failures.length} of errors\n`,
    )
    expect(native.net.get<number[]>('SubnetNodeElectionSlots', id).length).toBeGreaterThan(3)
    pair.wasm.close()
  })
})
