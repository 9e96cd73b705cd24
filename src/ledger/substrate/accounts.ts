import { decodeAddress, encodeAddress } from '@polkadot/util-crypto/address'
import { fromHex, toHex } from '../hex.ts'
import type { AccountText } from './runtime-types.ts'

/** How a chain writes its accounts: 20 bytes as lower-case 0x-hex, 32 bytes as SS58 with the chain's prefix. */
export function accountText(ss58Format: number): AccountText {
  return {
    encode: (bytes) => (bytes.length === 20 ? toHex(bytes) : encodeAddress(bytes, ss58Format)),
    decode: (text, bytes) => {
      const raw = accountBytes(text)
      return raw?.length === bytes ? raw : undefined
    },
  }
}

/** The bytes of an account in any spelling (0x-hex of 20 or 32 bytes, SS58 of any prefix); undefined when it is none. */
export function accountBytes(text: string): Uint8Array | undefined {
  // Hex first: SS58 decoding accepts hex of any length.
  if (text.startsWith('0x')) {
    return /^0x(?:[0-9a-fA-F]{40}|[0-9a-fA-F]{64})$/.test(text) ? fromHex(text, 'account') : undefined
  }
  try {
    const raw = decodeAddress(text)
    return raw.length === 32 ? raw : undefined
  } catch {
    return undefined
  }
}
