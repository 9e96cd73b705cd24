import type { Ed25519PrivateKey, Ed25519PublicKey } from '@libp2p/interface'
import type { Identity } from './identity.ts'

/** Signatures of receipts, which are made while tokens are: a platform may have a cheaper way than WebCrypto. */
export interface Ed25519 {
  sign(identity: Identity, bytes: Uint8Array): Uint8Array | Promise<Uint8Array>
  /** As `verifySignature`: false for other kinds of keys and unreadable ids. */
  verify(peerId: string, bytes: Uint8Array, signature: Uint8Array): boolean | Promise<boolean>
}

/**
 * ed25519 through the platform's WebCrypto where it knows the curve (Node, Deno, and browsers of the last years): twice
 * as quick as libp2p's own way, and off the main thread. Elsewhere libp2p's.
 */

/** Public keys kept imported: those of the peers that this one talks to. */
const MAX_KEYS = 1024
/** How a bare seed is wrapped (RFC 8410). */
const PKCS8_PREFIX = Uint8Array.of(48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32)
const ED25519 = { name: 'Ed25519' }

const signers = new WeakMap<Ed25519PrivateKey, Promise<CryptoKey | undefined>>()
/** The newest keys last; a promise while the platform imports one. */
const verifiers = new Map<string, CryptoKey | Promise<CryptoKey | undefined>>()

/** Signs bytes. */
export async function signEd25519(key: Ed25519PrivateKey, bytes: Uint8Array): Promise<Uint8Array> {
  let signer = signers.get(key)
  if (signer === undefined) {
    const wrapped = Uint8Array.of(...PKCS8_PREFIX, ...key.raw.subarray(0, 32))
    signer = quietly(crypto.subtle.importKey('pkcs8', wrapped, ED25519, false, ['sign']))
    signers.set(key, signer)
  }
  const imported = await signer
  if (imported === undefined) return new Uint8Array(await key.sign(bytes))
  return new Uint8Array(await crypto.subtle.sign(ED25519, imported, plain(bytes)))
}

/** `verifyEd25519` of a key that was imported before under this name; undefined for others, and where that failed. */
export function verifyKnown(
  name: string,
  bytes: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> | undefined {
  const key = verifiers.get(name)
  if (key === undefined || key instanceof Promise) return undefined
  return crypto.subtle.verify(ED25519, key, plain(signature), plain(bytes))
}

/** Whether `signature` over `bytes` is of this key, which `name` names once and for all. */
export async function verifyEd25519(
  name: string,
  key: Ed25519PublicKey,
  bytes: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  let verifier = verifiers.get(name)
  if (verifier === undefined) {
    if (verifiers.size >= MAX_KEYS) for (const oldest of verifiers.keys()) if (verifiers.delete(oldest)) break
    const importing = quietly(crypto.subtle.importKey('raw', plain(key.raw), ED25519, true, ['verify']))
    verifier = importing
    verifiers.set(name, importing)
    void importing.then((imported) => {
      if (imported && verifiers.get(name) === importing) verifiers.set(name, imported)
      return undefined
    })
  }
  const imported = await verifier
  if (imported === undefined) return await key.verify(bytes, signature)
  return await crypto.subtle.verify(ED25519, imported, plain(signature), plain(bytes))
}

/** Undefined where the platform does not know the curve. */
async function quietly(work: Promise<CryptoKey>): Promise<CryptoKey | undefined> {
  return await work.catch(() => undefined)
}

/** WebCrypto takes no shared memory. */
function plain(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : bytes.slice()
}
