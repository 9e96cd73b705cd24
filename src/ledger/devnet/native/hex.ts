import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'

/** `0x` and lower-case digits. */
export function toHex(bytes: Uint8Array): string {
  return `0x${bytesToHex(bytes)}`
}

/** Bytes of `0x…` text, upper or lower case; undefined when it is not `size` bytes of hex. */
export function fromHex(text: string, size: number): Uint8Array | undefined {
  if (text.length !== 2 + 2 * size || !/^0x[0-9a-fA-F]*$/.test(text)) return undefined
  return hexToBytes(text.slice(2))
}
