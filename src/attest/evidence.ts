import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'

/** Signs with this peer's own key. */
export type SignBytes = (bytes: Uint8Array) => Uint8Array | Promise<Uint8Array>

/** Content address of anything published: SHA-256 in lower-case hex. */
export function contentHash(bytes: Uint8Array): string {
  return bytesToHex(sha256(bytes))
}

/** Whether two byte strings are the same. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i])
}
