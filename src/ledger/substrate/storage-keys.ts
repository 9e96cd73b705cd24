import { blake2b } from '@noble/hashes/blake2.js'
import { xxhashAsU8a } from '@polkadot/util-crypto/xxhash'
import { ChoraleError } from '../../errors.ts'
import type { LedgerValue } from '../ledger.ts'
import { concat } from '../hex.ts'
import type { RuntimeCodec, StorageHasher, StorageItem } from './runtime-codec.ts'
import { type ScaleReader, readScale } from './scale-decode.ts'
import { encodeScale } from './scale-encode.ts'

const text = new TextEncoder()
const prefixes = new Map<string, Uint8Array>()

/** Bytes of a hash that stand before the key itself; hashers without it can't be reversed. */
const HASH_BYTES: Readonly<Record<StorageHasher, { readonly hash: number; readonly reversible: boolean }>> = {
  Identity: { hash: 0, reversible: true },
  Twox64Concat: { hash: 8, reversible: true },
  Blake2_128Concat: { hash: 16, reversible: true },
  Twox128: { hash: 16, reversible: false },
  Twox256: { hash: 32, reversible: false },
  Blake2_128: { hash: 16, reversible: false },
  Blake2_256: { hash: 32, reversible: false },
}

/** The first 32 bytes of an item's keys. */
export function storagePrefix(item: Pick<StorageItem, 'prefix' | 'name'>): Uint8Array {
  const name = `${item.prefix}.${item.name}`
  let prefix = prefixes.get(name)
  if (prefix === undefined) {
    prefix = concat(twox(item.prefix, 128), twox(item.name, 128))
    prefixes.set(name, prefix)
  }
  return prefix
}

/**
 * The key of an entry, or of all entries below the given first keys. @throws `bad_request` for too many keys or values that
 * do not fit their types.
 */
export function storageKey(codec: RuntimeCodec, item: StorageItem, keys: readonly LedgerValue[]): Uint8Array {
  const name = `${item.pallet}.${item.name}`
  if (keys.length > item.keys.length) {
    throw new ChoraleError('bad_request', `${name} has ${item.keys.length} keys, not ${keys.length}`)
  }
  const parts = keys.map((key, i) => {
    const { hasher, type } = item.keys[i] ?? { hasher: 'Identity', type: 0 }
    return hashed(hasher, encodeScale(codec.types, codec.accounts, type, key, `key ${i} of ${name}`))
  })
  return concat(storagePrefix(item), ...parts)
}

/** The keys that a storage key holds, from `first` on. @throws `not_supported` when a hasher hides them. */
export function keysOf(
  codec: RuntimeCodec,
  item: StorageItem,
  key: Uint8Array,
  first: number,
): LedgerValue[] {
  const reader: ScaleReader = { types: codec.types, accounts: codec.accounts, bytes: key, offset: 32 }
  const values = item.keys.map(({ hasher, type }) => {
    const { hash, reversible } = HASH_BYTES[hasher]
    if (!reversible) {
      throw new ChoraleError('not_supported', `keys of ${item.pallet}.${item.name} are hidden by ${hasher}`)
    }
    reader.offset += hash
    return readScale(reader, type)
  })
  return values.slice(first)
}

function hashed(hasher: StorageHasher, key: Uint8Array): Uint8Array {
  switch (hasher) {
    case 'Identity':
      return key
    case 'Twox64Concat':
      return concat(xxhashAsU8a(key, 64), key)
    case 'Blake2_128Concat':
      return concat(blake2b(key, { dkLen: 16 }), key)
    case 'Twox128':
      return xxhashAsU8a(key, 128)
    case 'Twox256':
      return xxhashAsU8a(key, 256)
    case 'Blake2_128':
      return blake2b(key, { dkLen: 16 })
    case 'Blake2_256':
      return blake2b(key, { dkLen: 32 })
  }
}

function twox(value: string, bits: 64 | 128 | 256): Uint8Array {
  return xxhashAsU8a(text.encode(value), bits)
}
