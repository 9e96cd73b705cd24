import { readFileSync } from 'node:fs'
import { Metadata, TypeRegistry } from '@polkadot/types'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { beginBlock } from '../../../../../src/ledger/devnet/block-builder.ts'
import { parseChainSpec } from '../../../../../src/ledger/devnet/chain-spec.ts'
import { patchEthereumGenesis } from '../../../../../src/ledger/devnet/dev-genesis.ts'
import { DevNode } from '../../../../../src/ledger/devnet/dev-node.ts'
import { planBlock, readTraits } from '../../../../../src/ledger/devnet/inherents.ts'
import { toHex } from '../../../../../src/ledger/hex.ts'
import { networkPallet } from '../../../../../src/ledger/devnet/native/network/network-pallet.ts'
import { ScaleReader, ScaleWriter } from '../../../../../src/ledger/devnet/native/scale-bytes.ts'
import type { RuntimeStorage, Runtime } from '../../../../../src/ledger/devnet/runtime.ts'
import { createStateStore, stateOf } from '../../../../../src/ledger/devnet/storage.ts'
import { storagePrefix } from '../../../../../src/ledger/devnet/twox.ts'
import { CODE_KEY, createWasmRuntime } from '../../../../../src/ledger/devnet/wasm-runtime.ts'
import type { LedgerValue } from '../../../../../src/ledger/ledger.ts'
import { account, peerId, text, TOKEN } from './chain.ts'
import { ERROR_CASES } from './error-cases.ts'
import { activeSubnet, coldkey, elected, hotkey, nextStep, OWNER, type Subnet } from './subnet.ts'
import {
  ALITH,
  copied,
  HAS_SPEC,
  hexBytes,
  print,
  signed,
  SPEC,
  sudoFailure,
  type Terms,
  termsOf,
} from './wasm-side.ts'

/** Where the native pallet refuses what the chain lets through. */
const STRICTER: ReadonlySet<string> = new Set(['swap_delegate_stake MaxUnlockingsReached'])

/** A call that succeeds: who makes it (root without), its name and arguments. */
type Success = readonly [who: string | undefined, call: string, args: Record<string, LedgerValue>]

/** Every `set_*` and what it takes. */
function parameterCalls(): Success[] {
  const special: Record<string, LedgerValue> = {
    set_max_subnets: 5,
    set_max_min_delegate_stake_multiplier: 3n * TOKEN,
    set_max_emergency_validator_epochs_multiplier: 3n * TOKEN,
    set_overwatch_stake_weight_factor: TOKEN,
    set_min_attestation_percentage: (TOKEN * 7n) / 10n,
    set_super_majority_attestation_ratio: (TOKEN * 9n) / 10n,
    set_min_delegate_stake_deposit: 5000n,
    set_subnet_weight_factors: { delegate_stake: TOKEN / 2n, node_count: TOKEN / 4n, net_flow: 1n },
  }
  return networkPallet({ epochBlocks: 20 })
    .calls.filter(({ name }) => name.startsWith('set_') && name !== 'set_overwatch_node_peer_id')
    .map(({ name, args }) => {
      const [type = ''] = Object.values(args)
      const u32 = type === 'u32'
      if ('min' in args)
        return [undefined, name, { min: u32 ? 5 : TOKEN / 5n, max: u32 ? 50 : (TOKEN * 2n) / 5n }]
      return [undefined, name, { value: special[name] ?? (u32 ? 7 : type === 'u64' ? 9n : TOKEN / 4n) }]
    })
}

/** Calls of owners, keys and councils, each on a fresh copy of the same subnet. */
function otherCalls({ chain, id }: Subnet, chosen: number): Success[] {
  const free = [1, 2, 3, 4].find((node) => node !== chosen) ?? 1
  const node = { subnet_id: id, subnet_node_id: free }
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
  const peer = { peer_id: peerId(800), multiaddr: undefined }
  expect(chain.block % 20).toBe(4)
  return [
    [coldkey(1), 'update_hotkey', { old_hotkey: hotkey(1), new_hotkey: account(0x9999) }],
    [coldkey(1), 'update_coldkey', { hotkey: hotkey(1), new_coldkey: account(0x7777) }],
    [coldkey(1), 'register_or_update_identity', { hotkey: hotkey(1), ...identity }],
    [coldkey(1), 'remove_identity', {}],
    [coldkey(free), 'remove_subnet_node', node],
    [coldkey(free), 'update_peer_info', { ...node, new_peer_info: peer }],
    [coldkey(free), 'update_client_peer_info', { ...node, new_peer_info: peer }],
    [hotkey(free), 'update_unique', { ...node, unique: text('one') }],
    [undefined, 'collective_remove_subnet_node', node],
    [undefined, 'collective_set_coldkey_overwatch_node_eligibility', { coldkey: coldkey(1), value: true }],
    [undefined, 'pause', {}],
    [OWNER, 'transfer_subnet_ownership', { subnet_id: id, new_owner: coldkey(1) }],
    [OWNER, 'owner_add_bootnode_access', { subnet_id: id, new_account: coldkey(1) }],
    [OWNER, 'owner_update_name', { subnet_id: id, value: text('another') }],
    [OWNER, 'owner_update_repo', { subnet_id: id, value: text('another') }],
    [OWNER, 'owner_update_description', { subnet_id: id, value: text('another') }],
    [OWNER, 'owner_pause_subnet', { subnet_id: id }],
    [OWNER, 'owner_revert_emergency_validator_set', { subnet_id: id }],
    [OWNER, 'update_bootnodes', { subnet_id: id, add: [], remove: [peerId(9001)] }],
    [OWNER, 'owner_update_delegate_stake_percentage', { subnet_id: id, value: (TOKEN * 11n) / 100n }],
    [OWNER, 'owner_update_queue_immunity_epochs', { subnet_id: id, value: 5 }],
    [OWNER, 'owner_update_node_burn_rate_alpha', { subnet_id: id, value: TOKEN / 3n }],
    [OWNER, 'owner_update_target_node_registrations_per_epoch', { subnet_id: id, value: 3 }],
    [OWNER, 'owner_update_min_subnet_node_reputation', { subnet_id: id, value: TOKEN / 4n }],
    [
      OWNER,
      'owner_update_subnet_node_min_weight_decrease_reputation_threshold',
      { subnet_id: id, value: TOKEN / 50n },
    ],
    ...[
      'absent_decrease',
      'validator_absent_decrease',
      'validator_non_consensus_decrease',
      'included_increase',
    ].map((name): Success => [
      OWNER,
      `owner_update_${name}_reputation_factor`,
      { subnet_id: id, value: TOKEN / 5n },
    ]),
    [coldkey(1), 'register_overwatch_node', { hotkey: account(0x6666), stake_to_be_added: 100n * TOKEN }],
  ]
}

describe.skipIf(!HAS_SPEC)("calls of the native Network pallet beside Hypertensor's own", () => {
  let subnet: Subnet
  let runtime: Runtime
  let wasm: DevNode
  let terms: Terms
  const registry = new TypeRegistry()

  beforeAll(() => {
    subnet = activeSubnet(4)
    nextStep(subnet)
    // A block whose hooks do nothing, on either.
    subnet.chain.next()
    const spec = parseChainSpec(readFileSync(SPEC, 'utf8'))
    const genesis = patchEthereumGenesis(spec.genesis)
    runtime = createWasmRuntime(createStateStore(genesis).get(CODE_KEY) ?? new Uint8Array())
    const { name, properties } = spec
    wasm = new DevNode({ runtime, genesis, name, properties })
    terms = termsOf(wasm)
    wasm.build(subnet.chain.block - 1)
    const metadata = new ScaleReader(wasm.call('Metadata_metadata', new Uint8Array()))
    registry.setMetadata(new Metadata(registry, toHex(metadata.take(metadata.count(1))) as `0x${string}`))
  })

  afterAll(() => wasm.close())

  /** The call on the wasm runtime, on the native chain's present state. @returns the state after it, and its error. */
  function onWasm(
    who: string | undefined,
    call: string,
    args: Record<string, LedgerValue>,
  ): { readonly storage: RuntimeStorage; readonly failure: number | undefined } {
    const { chain } = subnet
    const overlay = wasm.chain.headState.overlay()
    overlay.clearPrefix(storagePrefix('Network', '').slice(0, 16))
    for (const [key, value] of copied(chain)) overlay.set(key, value)
    // What is root's here is the council's there: Alith is all of it.
    overlay.set(storagePrefix('Collective', 'Members'), Uint8Array.of(4, ...hexBytes(ALITH.address)))
    const state = stateOf(overlay.trie)
    const traits = readTraits(runtime, wasm.chain.headState)
    const plan = planBlock(traits, state, 0, 6000)
    const { storage } = beginBlock(runtime, wasm.chain.head, state, plan, traits)
    const inner = { type: 'Network', value: { type: call, value: args } }
    const { table } = chain.state.types
    const encoded =
      who === undefined
        ? byCouncil(registry, table.encode('RuntimeCall', inner))
        : table.encode('RuntimeCall', {
            type: 'Sudo',
            value: { type: 'sudo_as', value: { who, call: inner } },
          })
    runtime.call('BlockBuilder_apply_extrinsic', signed(ALITH, encoded, 0, terms), storage)
    return { storage, failure: sudoFailure(registry, storage.get(storagePrefix('System', 'Events'))) }
  }

  it('every error of the life-cycle calls is the chain’s own', { timeout: 120_000 }, () => {
    const { chain } = subnet
    const { errors } = chain.state.types.pallet('Network')
    const wrong: string[] = []
    let compared = 0
    for (const [error, who, call, args, before] of ERROR_CASES) {
      if (error === 'Other' || who(subnet) === undefined || STRICTER.has(`${call} ${error}`)) continue
      const failure = chain.scratch(() => {
        before?.(subnet)
        return onWasm(who(subnet), call, args(subnet)).failure
      })
      const told = failure === undefined ? 'no error' : (errors[failure] ?? 'BadOrigin')
      compared++
      if (told !== error) wrong.push(`${call}: ${error}, on the chain ${told}`)
    }
    expect(wrong).toEqual([])
    process.stdout.write(`${compared} errors equal\n`)
  })

  it('calls that succeed leave the same storage and events', { timeout: 120_000 }, () => {
    const { chain } = subnet
    const { table } = chain.state.types
    const wrong: string[] = []
    const all = [...parameterCalls(), ...otherCalls(subnet, elected(subnet) ?? 0)]
    for (const [who, call, args] of all) {
      const { storage, failure } = onWasm(who, call, args)
      if (failure !== undefined) {
        wrong.push(`${call}: the chain refuses it: ${chain.state.types.pallet('Network').errors[failure]}`)
        continue
      }
      const theirs = [
        ...(registry.createType(
          'Vec<EventRecord>',
          storage.get(storagePrefix('System', 'Events')),
        ) as unknown as Iterable<{
          event: { section: string; toU8a(): Uint8Array }
        }>),
      ]
        .filter(({ event }) => event.section === 'network')
        .map(({ event }) => toHex(event.toU8a()))
      chain.scratch(() => {
        const own = chain
          .call(who, call, args)
          .filter(({ pallet }) => pallet === 'Network')
          .map(({ pallet, name, data }) =>
            toHex(table.encode('RuntimeEvent', { type: pallet, value: { type: name, value: data } })),
          )
        if (own.join() !== theirs.join())
          wrong.push(
            `${call}: events ${own.map((event) => print(table.decode('RuntimeEvent', hexBytes(event)))).join()}, on the chain ${theirs
              .map((event) => print(table.decode('RuntimeEvent', hexBytes(event))))
              .join()}`,
          )
        wrong.push(...storageDifferences(subnet, storage).map((difference) => `${call}: ${difference}`))
      })
    }
    expect(wrong).toEqual([])
    process.stdout.write(`${all.length} calls equal\n`)
  })
})

/** `Collective.propose` with a threshold of one, which executes the call at once. */
function byCouncil(registry: TypeRegistry, call: Uint8Array): Uint8Array {
  const { pallets } = registry.metadata
  const index = [...pallets].find(({ name }) => String(name) === 'Collective')?.index.toNumber() ?? 0
  const writer = new ScaleWriter()
  writer.small(index, 1)
  writer.small(2, 1)
  writer.compact(1)
  writer.bytes(call)
  writer.compact(call.length)
  return writer.finish()
}

/** Entries of the Network pallet that read differently. */
function storageDifferences({ chain }: Subnet, theirs: RuntimeStorage): string[] {
  const differences: string[] = []
  for (const [name, { prefix, codec, definition }] of chain.state.types.items) {
    if (!name.startsWith('Network.')) continue
    const read = (storage: RuntimeStorage): Map<string, string> => {
      const found = new Map<string, string>()
      const start = toHex(prefix)
      const put = (key: Uint8Array): void => {
        const value = storage.get(key)
        if (value !== undefined) found.set(toHex(key), print(codec.decode(new ScaleReader(value))))
      }
      put(prefix)
      for (let key = storage.nextKey(prefix); key !== undefined; key = storage.nextKey(key)) {
        if (!toHex(key).startsWith(start)) break
        put(key)
      }
      return found
    }
    const [a, b] = [read(chain.state.storage), read(theirs)]
    const absent = print(definition.default)
    for (const key of new Set([...a.keys(), ...b.keys()]))
      if ((a.get(key) ?? absent) !== (b.get(key) ?? absent))
        differences.push(`${name} ${key.slice(-16)} is ${a.get(key)}, on the chain ${b.get(key)}`)
  }
  return differences
}
