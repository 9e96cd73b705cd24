import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import type { Ed25519 } from '../src/swarm/ed25519.ts'
import { type Identity, publicKeyOf } from '../src/swarm/identity.ts'

/** Public keys kept parsed: those of the peers that this one has sessions with. */
const MAX_KEYS = 1024
/** How bare keys are wrapped (RFC 8410). */
const PKCS8_PREFIX = Uint8Array.of(48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32)
const SPKI_PREFIX = Uint8Array.of(48, 42, 48, 5, 6, 3, 43, 101, 112, 3, 33, 0)

const signers = new WeakMap<Identity, KeyObject>()
/** By peer id, the newest last. */
const verifiers = new Map<string, KeyObject>()

/**
 * ed25519 by OpenSSL on the calling thread: 30 µs to sign and 85 to check. WebCrypto does the same work on another
 * thread, and handing it over and back costs up to as much again.
 */
export const nativeEd25519: Ed25519 = {
  sign: (identity, bytes) => {
    let key = signers.get(identity)
    if (key === undefined) {
      const seed = identity.privateKey.raw.subarray(0, 32)
      key = createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: 'der', type: 'pkcs8' })
      signers.set(identity, key)
    }
    return new Uint8Array(sign(null, bytes, key))
  },
  verify: (peerId, bytes, signature) => {
    let key = verifiers.get(peerId)
    if (key === undefined) {
      const raw = publicKeyOf(peerId)
      if (raw === undefined) return false
      if (verifiers.size >= MAX_KEYS)
        for (const oldest of verifiers.keys()) if (verifiers.delete(oldest)) break
      key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: 'der', type: 'spki' })
      verifiers.set(peerId, key)
    }
    return verify(null, bytes, key, signature)
  },
}
