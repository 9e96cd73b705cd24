import { secp256k1 } from '@noble/curves/secp256k1.js'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { describe, expect, it } from 'vitest'
import { createNativeChain, type NativeChain } from '../../../../src/ledger/devnet/native/native-chain.ts'
import { createNativeLedger } from '../../../../src/ledger/devnet/native/native-ledger.ts'
import { createNativeRuntime } from '../../../../src/ledger/devnet/native/runtime.ts'
import { toHex } from '../../../../src/ledger/hex.ts'
import type { Ledger, LedgerBlock, LedgerCall, LedgerSigner } from '../../../../src/ledger/ledger.ts'

const UNIT = 10n ** 18n

/** A signer whose secret is `seed` repeated. */
function signer(seed: number): LedgerSigner {
  const secret = new Uint8Array(32).fill(seed)
  const key = secp256k1.getPublicKey(secret, false)
  return {
    address: toHex(keccak_256(key.subarray(1)).subarray(12)),
    kind: 'ethereum',
    sign: async (payload) => {
      const signature = secp256k1.sign(keccak_256(payload), secret, { prehash: false, format: 'recovered' })
      // @noble puts the recovery bit first, the chain wants it last.
      return Uint8Array.of(...signature.subarray(1), signature[0] ?? 0)
    },
  }
}

const alice = signer(1)
const bob = signer(2)
const carol = signer(3)
const native = createNativeRuntime({
  endowed: { [alice.address]: 1_000_000n * UNIT, [bob.address]: 1000n * UNIT },
  sudo: alice.address,
})

const newChain = (): NativeChain => createNativeChain(native, 6000, 1_700_000_000_000)
const transfer = (dest: string, value: bigint): LedgerCall => ({
  pallet: 'Balances',
  call: 'transfer_keep_alive',
  args: { dest, value },
})

/** A ledger on a chain of its own. */
function open(): { chain: NativeChain; ledger: Ledger } {
  const chain = newChain()
  return { chain, ledger: createNativeLedger(chain) }
}

describe('createNativeLedger', () => {
  it('says what chain it is', () => {
    const { chain, ledger } = open()
    expect(ledger.info).toEqual({
      chain: 'Chorale devnet',
      genesisHash: chain.genesis.hash,
      tokenSymbol: 'TENSOR',
      tokenDecimals: 18,
      accounts: 'ethereum',
      blockMs: 6000,
      epochBlocks: 20,
      disputes: true,
    })
  })

  it('submit includes the call and answers with its own events', async () => {
    const { ledger } = open()
    const fee = await ledger.fee(transfer(carol.address, 5n * UNIT), alice)
    const sent = await ledger.submit(transfer(carol.address, 5n * UNIT), alice)
    expect(sent).toMatchObject({ blockNumber: 1, blockHash: (await ledger.head()).hash })
    expect(sent.events.map(({ pallet, name }) => `${pallet}.${name}`)).toEqual([
      'Balances.Withdraw',
      'System.NewAccount',
      'Balances.Endowed',
      'Balances.Transfer',
      'Balances.Deposit',
      'TransactionPayment.TransactionFeePaid',
      'System.ExtrinsicSuccess',
    ])
    expect(await ledger.balance(carol.address)).toBe(5n * UNIT)
    expect(await ledger.balance(alice.address)).toBe(1_000_000n * UNIT - 5n * UNIT - fee)
  })

  it('numbers calls of one account that are sent at once, also through two ledgers', async () => {
    const { chain, ledger } = open()
    const other = createNativeLedger(chain)
    const sent = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        (index % 2 === 0 ? ledger : other).submit(transfer(carol.address, UNIT), alice),
      ),
    )
    expect(new Set(sent.map(({ extrinsicHash }) => extrinsicHash)).size).toBe(20)
    expect(await ledger.balance(carol.address)).toBe(20n * UNIT)
  })

  it('rejects with the name of the error', async () => {
    const { ledger } = open()
    const failed = { code: 'ledger' }
    await expect(ledger.submit(transfer(alice.address, 2000n * UNIT), bob)).rejects.toMatchObject({
      ...failed,
      message: expect.stringContaining('Token.FundsUnavailable') as string,
    })
    const none = { pallet: 'Network', call: 'activate_subnet', args: { subnet_id: 7 } }
    await expect(ledger.submit(none, bob)).rejects.toThrow(/Network\.InvalidSubnetId|Network\.NotSubnetOwner/)
    const sudo = (call: string, args: Record<string, string | bigint>): LedgerCall => ({
      pallet: 'Sudo',
      call: 'sudo',
      args: { call: { type: 'Balances', value: { type: call, value: args } } },
    })
    await expect(
      ledger.submit(sudo('transfer_keep_alive', { dest: bob.address, value: 1n }), alice),
    ).rejects.toThrow(/BadOrigin/)
    await expect(
      ledger.submit(sudo('force_set_balance', { who: carol.address, new_free: UNIT }), alice),
    ).resolves.toBeDefined()
    expect(await ledger.balance(carol.address)).toBe(UNIT)
    await expect(ledger.submit(transfer(alice.address, UNIT), signer(9))).rejects.toThrow(/Payment/)
    await expect(ledger.submit({ pallet: 'Network', call: 'fly', args: {} }, bob)).rejects.toMatchObject({
      code: 'not_supported',
    })
    await expect(ledger.submit(transfer('nobody', UNIT), bob)).rejects.toMatchObject({ code: 'bad_request' })
  })

  it('tells watchers every block in order, and reads old blocks', async () => {
    const { chain, ledger } = open()
    const seen: LedgerBlock[] = []
    const stop = ledger.watch((block) => seen.push(block))
    await ledger.submit(transfer(carol.address, UNIT), alice)
    const before = (await ledger.head()).hash
    await ledger.submit(transfer(carol.address, UNIT), alice)
    chain.produce(3)
    stop()
    chain.produce(1)
    expect(seen.map(({ number }) => number)).toEqual([1, 2, 3, 4, 5])
    expect(seen.every((block, index) => index === 0 || block.parentHash === seen[index - 1]?.hash)).toBe(true)
    const moved = seen[0]?.events.find(({ name }) => name === 'Transfer')
    expect(moved).toEqual({
      pallet: 'Balances',
      name: 'Transfer',
      extrinsic: 1,
      data: { from: alice.address, to: carol.address, amount: UNIT },
    })
    expect(await ledger.balance(carol.address, before)).toBe(UNIT)
    expect(await ledger.balance(carol.address)).toBe(2n * UNIT)
    expect(await ledger.balance(carol.address, ledger.info.genesisHash)).toBe(0n)
    await expect(ledger.balance(carol.address, `0x${'00'.repeat(32)}`)).rejects.toMatchObject({
      code: 'ledger',
    })
  })

  it('reads storage by name, and names what the chain does not keep', async () => {
    const { ledger } = open()
    expect(await ledger.storage('System', 'Account', [alice.address])).toMatchObject({
      data: { free: 1_000_000n * UNIT },
    })
    expect(await ledger.storage('Network', 'SubnetsData', [1])).toBeUndefined()
    expect(await ledger.subnets()).toEqual([])
    expect(await ledger.subnet(1)).toBeUndefined()
    expect(await ledger.proofOfStake(1, 'nobody', 'Idle')).toBe(false)
    await expect(ledger.storage('Network', 'Nothing', [])).rejects.toMatchObject({ code: 'not_supported' })
    await expect(ledger.storage('System', 'Account', [])).rejects.toMatchObject({ code: 'bad_request' })
  })

  it('close and abort end waiting', async () => {
    const chain = newChain()
    const ledger = createNativeLedger(chain, { instant: false })
    const abort = new AbortController()
    const sent = ledger.submit(transfer(carol.address, UNIT), alice, { signal: abort.signal })
    abort.abort()
    await expect(sent).rejects.toMatchObject({ code: 'cancelled' })
    await ledger.close()
    await expect(ledger.head()).rejects.toMatchObject({ code: 'cancelled' })
  })

  it('trustSigners takes any signature, for calls of this ledger only', async () => {
    const chain = newChain()
    const lazy: LedgerSigner = { ...alice, sign: async () => new Uint8Array(65) }
    const trusting = createNativeLedger(chain, { trustSigners: true })
    await expect(trusting.submit(transfer(carol.address, UNIT), lazy)).resolves.toBeDefined()
    await expect(createNativeLedger(chain).submit(transfer(carol.address, UNIT), lazy)).rejects.toThrow(
      /BadProof/,
    )
  })

  it('is deterministic: the same calls make the same hashes', async () => {
    const hashes = await Promise.all(
      [0, 1].map(async () => {
        const { chain, ledger } = open()
        await ledger.submit(transfer(carol.address, UNIT), alice)
        return chain.produce(25).hash
      }),
    )
    expect(hashes[0]).toBe(hashes[1])
  })
})
