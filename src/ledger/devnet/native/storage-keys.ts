import { blake2b } from '@noble/hashes/blake2.js'
import { concat } from '../../hex.ts'
import { twox } from '../twox.ts'
import type { StorageHasher } from './pallet.ts'

/** Bytes that a hasher puts before the key's own. */
export const HASH_LENGTH: Readonly<Record<StorageHasher, number>> = {
  Identity: 0,
  Blake2_128Concat: 16,
  Twox64Concat: 8,
}

/** One key of a map as it stands in a storage key. */
export function hashKey(hasher: StorageHasher, encoded: Uint8Array): Uint8Array {
  if (hasher === 'Identity') return encoded
  return concat(hasher === 'Twox64Concat' ? twox(encoded, 8) : blake2b(encoded, { dkLen: 16 }), encoded)
}
