import { Keyring } from '@polkadot/keyring'
import { GenericExtrinsic, Metadata, TypeRegistry } from '@polkadot/types'
import { cryptoWaitReady } from '@polkadot/util-crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  createNativeChain,
  type NativeChain,
  type Outcome,
} from '../../../../src/ledger/devnet/native/native-chain.ts'
import { createNativeRuntime } from '../../../../src/ledger/devnet/native/runtime.ts'
import { RuntimeState } from '../../../../src/ledger/devnet/native/state.ts'
import { toHex } from '../../../../src/ledger/hex.ts'
import { withLength } from '../../../../src/ledger/devnet/native/extrinsic.ts'

/** Public keys and secrets of every Ethereum-style Substrate dev chain. */
const ALITH = '0xf24ff3a9cf04c71dbc94d0b566f7a27b94566cac'
const ALITH_SECRET = '0x5fb92d6e98884f76de468fa3f6278f8807c48bebc13595d45af5bdc4da702133'
const BALTATHAR = '0x3cd0a705a2dc65e5b1e1205896baa2be8a07c6e0'
const BALTATHAR_SECRET = '0x8075991ce870b93a8870eca0c0f91913d12f47948ca0fd25b49c6fa7cdbeee8b'
const UNIT = 10n ** 18n

const native = createNativeRuntime({
  pallets: [],
  endowed: { [ALITH]: 1000n * UNIT, [BALTATHAR]: 10n * UNIT },
  sudo: ALITH,
})
const registry = new TypeRegistry()
const keyring = new Keyring({ type: 'ethereum' })
const alith = keyring.addFromUri(ALITH_SECRET)
const baltathar = keyring.addFromUri(BALTATHAR_SECRET)

const newChain = (): NativeChain => createNativeChain(native, 6000, 1_700_000_000_000)
const stateOf = (chain: NativeChain): RuntimeState =>
  new RuntimeState(native.types, chain.head.state.overlay())
const free = (chain: NativeChain, account: string): bigint => stateOf(chain).balances.free(account)

function metadata(version: number): Metadata {
  const input = Uint8Array.of(version, 0, 0, 0)
  const out = native.runtime.call('Metadata_metadata_at_version', input, newChain().head.state.overlay())
  const bytes = native.types.table.decode('Option<OpaqueMetadata>', out) as Uint8Array
  return new Metadata(registry, bytes)
}

beforeAll(async () => {
  await cryptoWaitReady()
  registry.setMetadata(metadata(15))
})

interface Terms {
  readonly nonce?: number
  readonly tip?: bigint
  readonly genesisHash?: string
  readonly blockHash?: string
  readonly era?: unknown
  readonly specVersion?: number
}

/** Signs a call with @polkadot's own code. @returns the extrinsic without its length. */
function sign(chain: NativeChain, pair: typeof alith, call: unknown, terms: Terms = {}): Uint8Array {
  const extrinsic = new GenericExtrinsic(registry, call as never, { version: 4 })
  extrinsic.sign(pair, {
    genesisHash: terms.genesisHash ?? chain.genesis.hash,
    blockHash: terms.blockHash ?? chain.genesis.hash,
    nonce: terms.nonce ?? 0,
    runtimeVersion: { specVersion: terms.specVersion ?? 1, transactionVersion: 1 },
    tip: terms.tip ?? 0n,
    ...(terms.era === undefined ? {} : { era: terms.era as never }),
  } as never)
  const bytes = extrinsic.toU8a()
  return bytes.slice(bytes.length - extrinsic.encodedLength + withoutLength(bytes))
}

const withoutLength = (bytes: Uint8Array): number => [1, 2, 4][(bytes[0] ?? 0) & 3] ?? 0

const transfer = (dest: string, value: bigint, name = 'transferKeepAlive'): unknown =>
  registry.createType('Call', {
    callIndex: name === 'transferKeepAlive' ? [4, 3] : [4, 0],
    args: { dest, value },
  })

/** Sends one extrinsic and makes a block of it. */
function include(chain: NativeChain, body: Uint8Array): Outcome {
  let outcome: Outcome | undefined
  chain.send(body, (heard) => {
    outcome = heard
  })
  chain.produce()
  return outcome ?? { refused: 'waits' }
}

const eventNames = (chain: NativeChain, extrinsic: number): string[] =>
  (
    stateOf(chain).get('System.Events') as {
      phase: unknown
      event: { type: string; value: { type: string } }
    }[]
  )
    .filter(({ phase }) => (phase as { value?: number }).value === extrinsic)
    .map(({ event }) => `${event.type}.${event.value.type}`)

/** What the pool would say of an extrinsic on the chain's head. */
function validate(chain: NativeChain, body: Uint8Array): unknown {
  const { table } = native.types
  const input = Uint8Array.of(2, ...withLength(body), ...table.encode('H256', chain.head.hash))
  const storage = chain.head.state.overlay()
  const before = storage.trie
  const out = native.runtime.call('TaggedTransactionQueue_validate_transaction', input, storage)
  expect(storage.trie).toBe(before)
  return table.decode('Result<ValidTransaction, TransactionValidityError>', out)
}

describe('Metadata', () => {
  it.each([14, 15])('V%i decodes in @polkadot/types with all pallets at their indexes', (version) => {
    const found = metadata(version)
    expect(found.version).toBe(version)
    const { pallets } = found.asLatest
    expect(
      Object.fromEntries(pallets.map((pallet) => [pallet.name.toString(), pallet.index.toNumber()])),
    ).toEqual({
      System: 0,
      Timestamp: 1,
      Balances: 4,
      TransactionPayment: 5,
      Sudo: 6,
      Utility: 15,
    })
  })

  it('describes the runtime APIs in V15', () => {
    const names = metadata(15).asV15.apis.map((api) => api.name.toString())
    expect(names).toEqual([
      'Core',
      'Metadata',
      'BlockBuilder',
      'TaggedTransactionQueue',
      'AccountNonceApi',
      'TransactionPaymentApi',
    ])
  })

  it('says nothing of other versions', () => {
    for (const version of [0, 13, 16, 255]) {
      const out = native.runtime.call(
        'Metadata_metadata_at_version',
        Uint8Array.of(version, 0, 0, 0),
        newChain().head.state.overlay(),
      )
      expect(out).toEqual(Uint8Array.of(0))
    }
  })

  it('agrees with the state: accounts and constants decode with the names clients use', () => {
    const chain = newChain()
    const account = registry.createType(
      'AccountInfo',
      native.types.table.encode('AccountInfo', stateOf(chain).get('System.Account', [ALITH])),
    ) as unknown as { data: { free: { toBigInt(): bigint } } }
    expect(account.data.free.toBigInt()).toBe(1000n * UNIT)
  })

  it('Core_version names the APIs by the hashes that Substrate gives them', () => {
    const out = native.runtime.call('Core_version', new Uint8Array(), newChain().head.state.overlay())
    const { apis } = native.types.table.decode('RuntimeVersion', out) as { apis: [Uint8Array, number][] }
    const hashes = apis.map(([hash, version]) => `${toHex(hash)} ${version}`)
    expect(hashes.slice(0, 4)).toEqual([
      '0xdf6acb689907609b 5',
      '0x37e397fc7c91f5e4 2',
      '0x40fe3ad401f8959a 6',
      '0xd2bc9897eed08f15 3',
    ])
    expect(hashes).toContain('0xbc9d89904f5b923f 1')
    expect(hashes).toContain('0x37c8bb1350a9a2a8 4')
  })
})

describe('apply_extrinsic', () => {
  it("includes a transfer that @polkadot's ethereum keyring signed, with the events of a Substrate chain", () => {
    const chain = newChain()
    const issued = stateOf(chain).balances.issuance()
    const outcome = include(chain, sign(chain, alith, transfer(BALTATHAR, 5n * UNIT)))
    expect(outcome).toMatchObject({ index: 1 })
    expect(free(chain, BALTATHAR)).toBe(15n * UNIT)
    expect(eventNames(chain, 0)).toEqual(['System.ExtrinsicSuccess'])
    expect(eventNames(chain, 1)).toEqual([
      'Balances.Withdraw',
      'Balances.Transfer',
      'Balances.Deposit',
      'TransactionPayment.TransactionFeePaid',
      'System.ExtrinsicSuccess',
    ])
    const paid = 995n * UNIT - free(chain, ALITH)
    expect(paid).toBeGreaterThan(0n)
    expect(stateOf(chain).balances.issuance()).toBe(issued - paid)
    expect(stateOf(chain).get('System.Account', [ALITH])).toMatchObject({ nonce: 1 })
  })

  it('takes what query_info said, and the tip', () => {
    const chain = newChain()
    const body = sign(chain, alith, transfer(BALTATHAR, 1n), { tip: 12_345n })
    const { table } = native.types
    const length = withLength(body).length
    const input = Uint8Array.of(...withLength(body), ...table.encode('u32', length))
    const info = table.decode(
      'RuntimeDispatchInfo',
      native.runtime.call('TransactionPaymentApi_query_info', input, chain.head.state.overlay()),
    ) as { partial_fee: bigint }
    include(chain, body)
    expect(1000n * UNIT - 1n - free(chain, ALITH)).toBe(info.partial_fee + 12_345n)
  })

  it('signs payloads above 256 bytes by their hash', () => {
    const chain = newChain()
    const remark = registry.createType('Call', { callIndex: [0, 7], args: { remark: new Uint8Array(1000) } })
    expect(include(chain, sign(chain, alith, remark))).toMatchObject({ index: 1 })
    expect(eventNames(chain, 1)).toContain('System.Remarked')
  })

  it('a failed call takes the fee, rolls back and names its error', () => {
    const chain = newChain()
    include(chain, sign(chain, alith, transfer(BALTATHAR, 2000n * UNIT)))
    expect(eventNames(chain, 1)).toEqual([
      'Balances.Withdraw',
      'Balances.Deposit',
      'TransactionPayment.TransactionFeePaid',
      'System.ExtrinsicFailed',
    ])
    const record = (stateOf(chain).get('System.Events') as { event: { value: { value: unknown } } }[]).at(-1)
    expect(record?.event.value.value).toMatchObject({
      dispatch_error: { type: 'Arithmetic', value: 'Underflow' },
    })
    expect(free(chain, BALTATHAR)).toBe(10n * UNIT)
  })

  it('transfers that would break the existential deposit fail or end the account', () => {
    const chain = newChain()
    const poor = `0x${'11'.repeat(20)}`
    include(chain, sign(chain, alith, transfer(poor, 499n)))
    expect(eventNames(chain, 1)).toContain('System.ExtrinsicFailed')
    include(chain, sign(chain, alith, transfer(poor, 500n), { nonce: 1 }))
    expect(eventNames(chain, 1)).toEqual([
      'Balances.Withdraw',
      'System.NewAccount',
      'Balances.Endowed',
      'Balances.Transfer',
      'Balances.Deposit',
      'TransactionPayment.TransactionFeePaid',
      'System.ExtrinsicSuccess',
    ])
    const all = registry.createType('Call', { callIndex: [4, 4], args: { dest: ALITH, keep_alive: false } })
    include(chain, sign(chain, baltathar, all))
    expect(free(chain, BALTATHAR)).toBe(0n)
    expect(eventNames(chain, 1)).toContain('System.KilledAccount')
    expect(stateOf(chain).has('System.Account', [BALTATHAR])).toBe(false)
  })

  it('sudo calls as root, free for the key and refused to others', () => {
    const chain = newChain()
    const poor = `0x${'22'.repeat(20)}`
    const call = registry.createType('Call', {
      callIndex: [6, 0],
      args: { call: { callIndex: [4, 8], args: { who: poor, new_free: 777n } } },
    })
    const before = free(chain, ALITH)
    include(chain, sign(chain, alith, call))
    expect(free(chain, poor)).toBe(777n)
    expect(free(chain, ALITH)).toBe(before)
    expect(eventNames(chain, 1)).toContain('Sudo.Sudid')
    include(chain, sign(chain, baltathar, call))
    expect(eventNames(chain, 1)).toContain('System.ExtrinsicFailed')
  })

  it('batch keeps what came before a failure, batch_all nothing', () => {
    const chain = newChain()
    const calls = [transfer(BALTATHAR, 1n), transfer(BALTATHAR, 5000n * UNIT), transfer(BALTATHAR, 1n)]
    include(chain, sign(chain, alith, registry.createType('Call', { callIndex: [15, 0], args: { calls } })))
    expect(free(chain, BALTATHAR)).toBe(10n * UNIT + 1n)
    expect(eventNames(chain, 1)).toContain('Utility.BatchInterrupted')
    include(
      chain,
      sign(chain, alith, registry.createType('Call', { callIndex: [15, 2], args: { calls } }), { nonce: 1 }),
    )
    expect(free(chain, BALTATHAR)).toBe(10n * UNIT + 1n)
    expect(eventNames(chain, 1)).toContain('System.ExtrinsicFailed')
  })

  it('refuses what Substrate refuses, by the same names', () => {
    const chain = newChain()
    const call = transfer(BALTATHAR, 1n)
    const good = sign(chain, alith, call)
    const tampered = good.slice()
    tampered[tampered.length - 5] = 9
    expect(include(chain, tampered)).toEqual({ refused: 'BadProof' })
    expect(include(chain, sign(chain, alith, call, { genesisHash: `0x${'ab'.repeat(32)}` }))).toEqual({
      refused: 'BadProof',
    })
    expect(include(chain, sign(chain, alith, call, { specVersion: 2 }))).toEqual({ refused: 'BadProof' })
    expect(include(chain, sign(chain, alith, call, { nonce: 1 }))).toEqual({ refused: 'Future' })
    expect(include(chain, good)).toMatchObject({ index: 1 })
    expect(include(chain, good)).toEqual({ refused: 'Stale' })
    const stranger = keyring.addFromUri(`0x${'77'.repeat(32)}`)
    expect(include(chain, sign(chain, stranger, call))).toEqual({ refused: 'Payment' })
  })

  it('takes a signature with high s, as Substrate does, once', () => {
    const chain = newChain()
    const low = sign(chain, alith, transfer(BALTATHAR, 1n))
    const high = low.slice()
    const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n
    const s = BigInt(toHex(low.subarray(53, 85)))
    const flipped = (order - s).toString(16).padStart(64, '0')
    high.set(
      Array.from({ length: 32 }, (_, index) => Number.parseInt(flipped.slice(2 * index, 2 * index + 2), 16)),
      53,
    )
    high[85] = (low[85] ?? 0) ^ 1
    expect(include(chain, high)).toMatchObject({ index: 1 })
    expect(include(chain, low)).toEqual({ refused: 'Stale' })
  })

  it('mortal transactions live for their era', () => {
    const chain = newChain()
    chain.produce(10)
    const era = (block: number, period: number) =>
      registry.createType('ExtrinsicEra', { current: block, period })
    const call = transfer(BALTATHAR, 1n)
    const at = (block: number): string => chain.block(block)?.hash ?? ''
    const mortal = sign(chain, alith, call, { era: era(10, 16), blockHash: at(10) })
    const next = sign(chain, alith, call, { era: era(10, 16), blockHash: at(10), nonce: 1 })
    expect(include(chain, mortal)).toMatchObject({ index: 1 })
    chain.produce(15)
    expect(include(chain, next)).toEqual({ refused: 'BadProof' })
    chain.produce(300)
    // Seen from here the era of 512 blocks began at block 3, whose hash is forgotten.
    const ancient = sign(chain, alith, call, { era: era(3, 512), blockHash: at(3), nonce: 1 })
    expect(include(chain, ancient)).toEqual({ refused: 'AncientBirthBlock' })
  })

  it('inherents are not for users: signed or sent to the pool', () => {
    const chain = newChain()
    const set = registry.createType('Call', { callIndex: [1, 0], args: { now: 1_900_000_000_000 } })
    const sudo = registry.createType('Call', { callIndex: [6, 0], args: { call: set } })
    for (const call of [set, sudo]) {
      expect(include(chain, sign(chain, alith, call))).toEqual({ refused: 'BadMandatory' })
      expect(validate(chain, sign(chain, alith, call))).toMatchObject({
        value: { value: 'MandatoryValidation' },
      })
    }
    const bare = Uint8Array.of(4, ...(set as { toU8a(): Uint8Array }).toU8a())
    expect(validate(chain, bare)).toEqual({
      type: 'Err',
      value: { type: 'Invalid', value: 'MandatoryValidation' },
    })
    const other = Uint8Array.of(4, ...(transfer(BALTATHAR, 1n) as { toU8a(): Uint8Array }).toU8a())
    expect(validate(chain, other)).toEqual({
      type: 'Err',
      value: { type: 'Unknown', value: 'NoUnsignedValidator' },
    })
  })
})

describe('validate_transaction', () => {
  it('names tags of the nonce, and nothing stays written', () => {
    const chain = newChain()
    const tag = (nonce: number): Uint8Array =>
      Uint8Array.of(...native.types.table.encode('AccountId20', ALITH), nonce, 0, 0, 0)
    expect(validate(chain, sign(chain, alith, transfer(BALTATHAR, 1n)))).toMatchObject({
      type: 'Ok',
      value: { requires: [], provides: [tag(0)], longevity: 2n ** 64n - 1n, propagate: true },
    })
    expect(validate(chain, sign(chain, alith, transfer(BALTATHAR, 1n), { nonce: 3 }))).toMatchObject({
      type: 'Ok',
      value: { requires: [tag(2)], provides: [tag(3)] },
    })
  })

  it('a tip raises the priority', () => {
    const chain = newChain()
    const priority = (tip: bigint): bigint =>
      (
        validate(chain, sign(chain, alith, transfer(BALTATHAR, 1n), { tip })) as {
          value: { priority: bigint }
        }
      ).value.priority
    expect(priority(1n)).toBeGreaterThan(priority(0n))
  })
})

describe('Core_execute_block', () => {
  it('accepts what was built and refuses any change to it', () => {
    const chain = newChain()
    include(chain, sign(chain, alith, transfer(BALTATHAR, 1n)))
    const { head } = chain
    const { table } = native.types
    const encode = (extrinsics: readonly Uint8Array[], header = head.header): Uint8Array =>
      Uint8Array.of(...header, ...table.encode('Vec<UncheckedExtrinsic>', extrinsics))
    const run = (block: Uint8Array): Uint8Array =>
      native.runtime.call('Core_execute_block', block, chain.genesis.state.overlay())
    expect(run(encode(head.extrinsics))).toHaveLength(0)
    expect(() => run(encode(head.extrinsics.slice(0, 1)))).toThrow(/extrinsics_root/)
    const header = table.decode('Header', head.header) as Record<string, never>
    const forged = table.encode('Header', { ...header, state_root: `0x${'00'.repeat(32)}` })
    expect(() => run(encode(head.extrinsics, forged))).toThrow(/state_root/)
    expect(() => run(encode([], head.header))).toThrow(/Timestamp must be updated/)
  })
})

describe('supply', () => {
  it('conserves to the last unit over random transfers, batches, fees and tips', () => {
    const chain = newChain()
    const accounts = [
      ALITH,
      BALTATHAR,
      ...Array.from({ length: 5 }, (_, index) => `0x${String(index).repeat(40)}`),
    ]
    let seed = 1
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
      return Math.floor((seed / 2 ** 32) * below)
    }
    const nonces = new Map([
      [alith, 0],
      [baltathar, 0],
    ])
    for (let block = 0; block < 12; block++) {
      for (let index = 0; index < 6; index++) {
        const pair = random(2) === 0 ? alith : baltathar
        const value =
          random(3) === 0 ? BigInt(random(1200)) : BigInt(random(1_000_000)) * 10n ** BigInt(random(14))
        const one = (): unknown =>
          transfer(
            accounts[random(accounts.length)] ?? ALITH,
            value,
            random(2) === 0 ? 'transferKeepAlive' : 'transfer',
          )
        const call =
          random(4) === 0
            ? registry.createType('Call', { callIndex: [15, 0], args: { calls: [one(), one()] } })
            : one()
        const nonce = nonces.get(pair) ?? 0
        chain.send(sign(chain, pair, call, { nonce, tip: BigInt(random(1000)) }), (outcome) => {
          expect(outcome).toHaveProperty('block')
        })
        nonces.set(pair, nonce + 1)
      }
      chain.produce()
      const state = stateOf(chain)
      const total = state
        .entries('System.Account', [])
        .reduce((sum, { value }) => sum + (value as { data: { free: bigint } }).data.free, 0n)
      expect(total).toBe(state.balances.issuance())
    }
  })
})

describe('bad input', () => {
  it('100,000 mutated extrinsics are refused or panic as ledger errors, and none moves money', () => {
    const chain = newChain()
    const good = sign(chain, alith, transfer(BALTATHAR, 1n))
    const { table } = native.types
    chain.produce()
    const header = { ...(table.decode('Header', chain.head.header) as object), number: 2 } as never
    let seed = 7
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
      return Math.floor((seed / 2 ** 32) * below)
    }
    const storage = chain.head.state.overlay()
    native.runtime.call('Core_initialize_block', table.encode('Header', header), storage)
    const before = storage.trie
    for (let round = 0; round < 100_000; round++) {
      let body = good.slice()
      // Mutating the signature alone costs a recovery each: most rounds change the rest.
      const from = round % 500 === 0 ? 21 : 86
      for (let edit = random(3); edit >= 0; edit--) body[from + random(body.length - from)] = random(256)
      if (round % 3 === 0) body = body.slice(0, random(body.length))
      if (round % 7 === 0) body = Uint8Array.from({ length: random(200) }, () => random(256))
      if (toHex(body) === toHex(good)) continue
      // What would pass the decoder is only recovered in every 500th round, for time.
      try {
        if (round % 500 !== 0) table.decode('RuntimeCall', body.subarray(Math.min(90, body.length)))
        else {
          const out = native.runtime.call('BlockBuilder_apply_extrinsic', withLength(body), storage)
          expect(out[0]).toBe(1)
        }
      } catch (error) {
        expect(error).toMatchObject({ code: 'ledger' })
        while (storage.depth > 0) storage.rollbackTransaction()
      }
      expect(storage.trie).toBe(before)
    }
  })

  it('unknown entries and left-over argument bytes are errors', () => {
    const storage = newChain().head.state.overlay()
    expect(() => native.runtime.call('Core_nothing', new Uint8Array(), storage)).toThrow(/no entry/)
    expect(() => native.runtime.call('Core_version', Uint8Array.of(1), storage)).toThrow(/bytes after/)
    expect(() => native.runtime.call('BlockBuilder_finalize_block', new Uint8Array(), storage)).toThrow(
      /initialize/,
    )
  })

  it('bad options are named', () => {
    expect(() => createNativeRuntime({ endowed: { '0x12': 1n } })).toThrow(/endowed/)
    expect(() => createNativeRuntime({ sudo: 'alice' })).toThrow(/sudo/)
    expect(() => createNativeRuntime({ blockMs: 0 })).toThrow(/blockMs/)
  })
})
