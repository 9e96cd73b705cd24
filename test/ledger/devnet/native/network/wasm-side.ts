import { existsSync } from 'node:fs'
import { blake2b } from '@noble/hashes/blake2.js'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import type { TypeRegistry } from '@polkadot/types'
import type { DevNode } from '../../../../../src/ledger/devnet/dev-node.ts'
import { concat, sizedFromHex, toHex } from '../../../../../src/ledger/hex.ts'
import { ScaleWriter } from '../../../../../src/ledger/devnet/native/scale-bytes.ts'
import type { LedgerValue } from '../../../../../src/ledger/ledger.ts'
import type { TestChain } from './chain.ts'

/** A raw chain spec of Hypertensor, if the machine has one. */
export const SPEC = process.env['CHORALE_HYPERTENSOR_SPEC'] ?? ''
export const HAS_SPEC = existsSync(SPEC)
if (!HAS_SPEC)
  process.stdout.write(
    'skipped: the native Network pallet beside the wasm one; CHORALE_HYPERTENSOR_SPEC names no raw chain spec\n',
  )

/** Somebody who signs: secret = 32 times the byte. */
export interface Person {
  readonly address: string
  readonly secret: Uint8Array
}

export function person(byte: number): Person {
  const secret = new Uint8Array(32).fill(byte)
  const key = secp256k1.getPublicKey(secret, false)
  return { secret, address: toHex(keccak_256(key.subarray(1)).subarray(12)) }
}

/** What every signature covers beside the call. */
export interface Terms {
  readonly versions: Uint8Array
  readonly genesisHash: Uint8Array
}

/** Before the first block. */
export function termsOf(node: DevNode): Terms {
  const { specVersion, transactionVersion } = node.version()
  const versions = new ScaleWriter()
  versions.small(specVersion, 4)
  versions.small(transactionVersion, 4)
  return { versions: versions.finish(), genesisHash: hexBytes(node.chain.head.hash) }
}

/** An immortal extrinsic without a tip, its length in front. */
export function signed(
  who: Person,
  call: Uint8Array,
  nonce: number,
  { versions, genesisHash }: Terms,
): Uint8Array {
  const extra = new ScaleWriter()
  extra.small(0, 1)
  extra.compact(nonce)
  extra.compact(0)
  const extraBytes = extra.finish()
  const payload = concat(call, extraBytes, versions, genesisHash, genesisHash)
  const digest = keccak_256(payload.length > 256 ? blake2b(payload, { dkLen: 32 }) : payload)
  const signature = secp256k1.sign(digest, who.secret, { prehash: false, format: 'recovered' })
  // @noble puts the recovery bit first, the chain wants it last.
  const last = Uint8Array.of(...signature.subarray(1), signature[0] ?? 0)
  const body = concat(Uint8Array.of(0x84), hexBytes(who.address), last, extraBytes, call)
  const writer = new ScaleWriter()
  writer.compact(body.length)
  return concat(writer.finish(), body)
}

/** The native chain's storage that decides how a Network call ends. */
export function copied({ state }: TestChain): (readonly [Uint8Array, Uint8Array])[] {
  const entries: (readonly [Uint8Array, Uint8Array])[] = []
  for (const [name, { prefix }] of state.types.items) {
    if (!name.startsWith('Network.') && name !== 'System.Account') continue
    const plain = state.storage.get(prefix)
    if (plain !== undefined) entries.push([prefix, plain])
    const start = toHex(prefix)
    for (let key = state.storage.nextKey(prefix); key !== undefined; key = state.storage.nextKey(key)) {
      if (!toHex(key).startsWith(start)) break
      entries.push([key, state.storage.get(key) ?? new Uint8Array()])
    }
  }
  return entries
}

/** Index of the error that a call of sudo or of the council ended with; -1 when it was none of a pallet's, undefined when it succeeded. */
export function sudoFailure(registry: TypeRegistry, events: Uint8Array | undefined): number | undefined {
  const records = registry.createType('Vec<EventRecord>', events ?? Uint8Array.of(0)) as unknown as Iterable<{
    event: { section: string; method: string; data: readonly unknown[] }
  }>
  const result = [...records]
    .filter(({ event }) => event.section === 'sudo' || event.method === 'Executed')
    .map(({ event }) => event.data.at(-1))
    .at(0)
  const outcome = result as {
    isErr: boolean
    asErr: { isModule: boolean; asModule: { error: Uint8Array } }
  }
  if (!outcome.isErr) return undefined
  return outcome.asErr.isModule ? (outcome.asErr.asModule.error[0] ?? 0) : -1
}

/** Alith, sudo of the dev chain; everybody knows the key. */
export const ALITH: Person = {
  address: '0xf24ff3a9cf04c71dbc94d0b566f7a27b94566cac',
  secret: hexBytes('0x5fb92d6e98884f76de468fa3f6278f8807c48bebc13595d45af5bdc4da702133'),
}

export function print(value: LedgerValue): string {
  return (
    JSON.stringify(value, (_key, part: unknown) =>
      typeof part === 'bigint' ? String(part) : part instanceof Uint8Array ? bytesToHex(part) : part,
    ) ?? 'nothing'
  )
}

export function hexBytes(hex: string): Uint8Array {
  return sizedFromHex(hex, (hex.length - 2) / 2) ?? new Uint8Array()
}
