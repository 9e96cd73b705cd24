import { bytesToHex, concatBytes, hexToBytes } from '@noble/hashes/utils.js'
import { ChoraleError } from '../errors.ts'

/** Bytes as `0x` and lower-case digits, as JSON-RPC of Substrate nodes writes them. */
export function toHex(bytes: Uint8Array): string {
  return `0x${bytesToHex(bytes)}`
}

/** Bytes of `0x…` text, upper or lower case, that a node sent. @throws `ledger` naming `what` when it is something else. */
export function fromHex(value: unknown, what: string): Uint8Array {
  if (typeof value !== 'string' || !/^0x(?:[0-9a-fA-F]{2})*$/.test(value)) {
    throw new ChoraleError(
      'ledger',
      `the node sent ${what} that is no 0x-hex: ${String(value).slice(0, 80)}`,
      {
        field: what,
      },
    )
  }
  return hexToBytes(value.slice(2))
}

/** `size` bytes of `0x…` text, upper or lower case; undefined when it is something else. */
export function sizedFromHex(text: string, size: number): Uint8Array | undefined {
  if (text.length !== 2 + 2 * size || !/^0x[0-9a-fA-F]*$/.test(text)) return undefined
  return hexToBytes(text.slice(2))
}

/** Bytes one after the other. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return concatBytes(...parts)
}
