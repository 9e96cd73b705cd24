import { sha256 } from '@noble/hashes/sha2.js'

/** A SHA-256 that may answer later, of bytes that may change as soon as it returned. */
export type Digest = (bytes: Uint8Array) => Uint8Array | Promise<Uint8Array>

/** Above this the platform's own hash is quicker, although its answer takes a turn of the event loop. */
const ASYNC_BYTES = 16_384

/** SHA-256 of `bytes`, which may change once this returned. A token's hidden state takes some 10 µs. */
export function digestOf(bytes: Uint8Array): Uint8Array | Promise<Uint8Array> {
  if (bytes.length < ASYNC_BYTES) return sha256(bytes)
  // The platform copies what it hashes before it returns; shared memory it refuses.
  const own = bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : bytes.slice()
  return crypto.subtle.digest('SHA-256', own).then((digest) => new Uint8Array(digest))
}
