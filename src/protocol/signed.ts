import { ChoraleError } from '../errors.ts'
import { decodeCborMap, encodeCbor } from './cbor.ts'
import { bytesField } from './fields.ts'

/**
 * Something signed as it travels: a CBOR map { body, signature }. The signature covers a context and the body's bytes
 * as received, so fields that a reader does not know are ignored and still signed, and a signature for one purpose
 * is worth nothing for another. `swarm/identity.ts` signs and verifies; here are bytes only.
 */
export interface Signed {
  readonly body: Uint8Array
  readonly signature: Uint8Array
}

/** Length of an ed25519 signature. */
export const SIGNATURE_BYTES = 64

/** What is signed for `body`. */
export function signedBytes(context: string, body: Uint8Array): Uint8Array {
  const prefix = new TextEncoder().encode(context)
  const bytes = new Uint8Array(prefix.length + body.length)
  bytes.set(prefix)
  bytes.set(body, prefix.length)
  return bytes
}

/** The envelope. @throws `limit` when it is longer than `maxBytes`; `what` names it. */
export function encodeSigned({ body, signature }: Signed, what: string, maxBytes: number): Uint8Array {
  const bytes = encodeCbor({ body, signature })
  if (bytes.length > maxBytes) {
    throw new ChoraleError('limit', `${what} of ${bytes.length} bytes (at most ${maxBytes})`)
  }
  return bytes
}

/** Opens the envelope. NOT checked: the signature, and what the body says. @throws `protocol`. */
export function parseSigned(bytes: Uint8Array, what: string, maxBytes: number): Signed {
  if (bytes.length > maxBytes) {
    throw new ChoraleError('protocol', `${what} of ${bytes.length} bytes (at most ${maxBytes})`)
  }
  const map = decodeCborMap(bytes, what)
  return {
    body: bytesField(map, 'body', 1, maxBytes),
    signature: bytesField(map, 'signature', SIGNATURE_BYTES, SIGNATURE_BYTES),
  }
}
