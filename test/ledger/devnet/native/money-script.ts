import { Keyring, type ApiPromise } from '@polkadot/api'
import type { KeyringPair } from '@polkadot/keyring/types'
import type { SubmittableExtrinsic } from '@polkadot/api/types'
import { devAccount } from '../../../../src/ledger/substrate/dev-accounts.ts'
import { bytesToHex } from '@noble/hashes/utils.js'

/** Events whose fields are compared; weights and what depends on them are not. */
const COMPARED =
  /ExtrinsicFailed|Sudid|SudoAs|BatchInterrupted|ItemFailed|Transfer$|BalanceSet|Endowed|DustLost|Killed|NewAccount|Burned|KeyChanged/

type Call = SubmittableExtrinsic<'promise'>
type Calls = Readonly<Record<string, Readonly<Record<string, (...args: unknown[]) => Call>>>>

const pair = (keyring: Keyring, name: string): KeyringPair =>
  keyring.addFromUri(`0x${bytesToHex(devAccount(name).secret)}`)

/**
 * Calls of Balances, Sudo, Utility, System and Timestamp, the good and the bad, one block each. @returns one line a call:
 * its events, or why the pool refused it; runtimes that behave alike give the same lines.
 */
export async function moneyScript(api: ApiPromise): Promise<string[]> {
  const keyring = new Keyring({ type: 'ethereum' })
  const [alith, baltathar, dorothy, ethan] = ['alith', 'baltathar', 'dorothy', 'ethan'].map((name) =>
    pair(keyring, name),
  ) as [KeyringPair, KeyringPair, KeyringPair, KeyringPair]
  const { balances, sudo, utility, system, timestamp, network } = api.tx as unknown as Required<Calls>
  const tx = { ...balances, ...sudo, ...utility, ...system, ...timestamp, ...network } as Required<
    Calls[string]
  >
  const call = (name: string, ...args: unknown[]): Call => {
    const make = tx[name]
    if (make === undefined) throw new Error(`the runtime has no call ${name}`)
    return make(...args)
  }
  const [poor, empty, fresh] = ['11', '12', '13'].map((byte) => `0x${byte.repeat(20)}`)
  const [to, from] = [baltathar.address, alith.address]
  const pay = (amount: bigint): Call => call('transferKeepAlive', to, amount)
  const much = 10n ** 30n
  const steps: readonly (readonly [string, Call, KeyringPair])[] = [
    ['transfer', pay(5n), alith],
    ['below the existential deposit', call('transferKeepAlive', poor, 499), alith],
    ['a new account', call('transferAllowDeath', poor, 500), alith],
    ['nothing to nobody', call('transferAllowDeath', empty, 0), alith],
    ['nothing to somebody', call('transferAllowDeath', to, 0), alith],
    ['to oneself', call('transferAllowDeath', from, 5), alith],
    ['too much to oneself', call('transferAllowDeath', from, much), alith],
    ['more than there is', call('transferAllowDeath', to, much), alith],
    ['more than it has', call('transferAllowDeath', to, 5n * 10n ** 24n), alith],
    ['more than it has, alive', pay(5n * 10n ** 24n), alith],
    ['the most', call('transferAllowDeath', to, 2n ** 128n - 1n), alith],
    ['all, alive', call('transferAll', from, true), dorothy],
    ['all, dead', call('transferAll', from, false), ethan],
    ['burn', call('burn', 1000, true), alith],
    ['burn too much', call('burn', much, true), alith],
    ['remark', call('remarkWithEvent', '0x1234'), alith],
    ['sudo without the key', call('sudo', call('forceSetBalance', poor, 777)), baltathar],
    ['sudo', call('sudo', call('forceSetBalance', poor, 777)), alith],
    ['sudo lowers', call('sudo', call('forceSetBalance', poor, 600)), alith],
    ['sudo ends an account', call('sudo', call('forceSetBalance', poor, 400)), alith],
    ['sudo begins an account', call('sudo', call('forceSetBalance', fresh, 800)), alith],
    ['sudo of a signed call', call('sudo', pay(5n)), alith],
    ['sudo as another', call('sudoAs', to, call('transferKeepAlive', from, 5)), alith],
    ['sudo forces a transfer', call('sudo', call('forceTransfer', to, from, 5)), alith],
    ['root only', call('forceSetBalance', poor, 400), alith],
    ['batch', call('batch', [pay(5n), pay(much), pay(5n)]), alith],
    ['batch of all', call('batchAll', [pay(5n), pay(much)]), alith],
    ['good batch of all', call('batchAll', [pay(5n), pay(10n)]), alith],
    ['forced batch', call('forceBatch', [pay(much), pay(5n)]), alith],
    ['empty batch', call('batch', []), alith],
    ['time from a user', call('set', 5), alith],
    ['time from sudo', call('sudo', call('set', 5)), alith],
    ['sudo of a batch', call('sudo', call('batch', [call('forceSetBalance', poor, 900)])), alith],
    ['a Network error', call('addStake', 1, 1, to, 5), alith],
    ['another key', call('setKey', to), alith],
    ['no key', call('removeKey'), baltathar],
    ['sudo of nobody', call('sudo', call('remark', '0x00')), baltathar],
  ]
  const lines: string[] = []
  for (const [name, step, who] of steps) lines.push(`${name}: ${await outcome(step, who)}`)
  const wrong = `0x${'11'.repeat(32)}`
  const refused: readonly (readonly [string, KeyringPair, object])[] = [
    ['stale', alith, { nonce: 0 }],
    ['wrong genesis', alith, { nonce: -1, genesisHash: wrong, blockHash: wrong, era: 0 }],
    ['a stranger', keyring.addFromUri(`0x${'77'.repeat(32)}`), { nonce: 0 }],
  ]
  for (const [name, who, options] of refused) {
    const signed = await call('remark', '0x01').signAsync(who, options)
    const said = await signed.send().then(
      () => 'taken',
      (error: unknown) => (error as Error).message,
    )
    lines.push(`${name}: ${said}`)
  }
  return lines
}

/** Sends a call and waits for its block. */
function outcome(call: Call, who: KeyringPair): Promise<string> {
  return new Promise((resolve, reject) => {
    call
      .signAndSend(who, { nonce: -1 }, ({ status, events, isError }) => {
        if (isError) reject(new Error(status.type))
        if (!status.isInBlock && !status.isFinalized) return
        const told = events.map(({ event: { section, method, data } }) => {
          const fields = COMPARED.test(method) ? JSON.stringify(withoutWeight(data.toJSON())) : ''
          return `${section}.${method}${fields}`
        })
        resolve(told.join(' '))
      })
      .catch((error: unknown) => resolve((error as Error).message))
  })
}

/** Runtimes weigh calls differently. */
function withoutWeight(data: unknown): unknown {
  return Array.isArray(data)
    ? data.filter((field) => typeof field !== 'object' || field === null || !('weight' in field))
    : data
}
