import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { ChoraleError } from '../errors.ts'
import { MAX_FAULT_PROOF_BYTES } from './fault-proof.ts'

/**
 * Asking a node for a report, a manifest or a fault proof by its content address. Bytes only: a request is 32 bytes of
 * SHA-256, an answer the bytes themselves, or none when the node has not got them. Whoever asked checks the hash.
 */

/** One request and one answer a stream. */
export const CONTENT_PROTOCOL = '/chorale/content/1'

/** The largest content there is: a fault proof. */
export const MAX_CONTENT_BYTES = MAX_FAULT_PROOF_BYTES

export function encodeContentRequest(hash: string): Uint8Array {
  return hexToBytes(hash)
}

/** @returns the content address, lower-case hex. @throws `protocol` for other lengths. */
export function parseContentRequest(bytes: Uint8Array): string {
  if (bytes.length === 32) return bytesToHex(bytes)
  throw new ChoraleError('protocol', `a content request has 32 bytes, got ${bytes.length}`, { field: 'hash' })
}
