import { blake2AsU8a, xxhashAsU8a } from '@polkadot/util-crypto'
import { expect, it } from 'vitest'
import { toHex } from '../../../../src/ledger/hex.ts'
import { hashKey } from '../../../../src/ledger/devnet/native/storage-keys.ts'

it('hashKey agrees with @polkadot/util-crypto at every length to 100', () => {
  for (let length = 0; length <= 100; length++) {
    const bytes = new Uint8Array(length).map((_, index) => index * 7 + length)
    expect(toHex(hashKey('Blake2_128Concat', bytes))).toBe(
      toHex(blake2AsU8a(bytes, 128)) + toHex(bytes).slice(2),
    )
    expect(toHex(hashKey('Twox64Concat', bytes))).toBe(toHex(xxhashAsU8a(bytes, 64)) + toHex(bytes).slice(2))
    expect(hashKey('Identity', bytes)).toEqual(bytes)
  }
})
