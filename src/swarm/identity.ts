import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey, Ed25519PublicKey } from '@libp2p/interface'
import { peerIdFromPrivateKey, peerIdFromString } from '@libp2p/peer-id'
import { ChoraleError } from '../errors.ts'
import { type Ed25519, signEd25519, verifyEd25519, verifyKnown } from './ed25519.ts'
import {
  type Announcement,
  encodeRecordBody,
  encodeSignedRecord,
  parseSignedRecord,
  recordSignedBytes,
} from '../protocol/records.ts'

/** A peer's ed25519 key. The peer id contains the public key, so a signature is checked with the id alone. */
export interface Identity {
  readonly peerId: string
  readonly privateKey: Ed25519PrivateKey
}

/** A new identity, or the one of a 32-byte secret seed. @throws `bad_config` for a seed of another length. */
export async function createIdentity(seed?: Uint8Array): Promise<Identity> {
  if (seed !== undefined && seed.length !== 32) {
    throw new ChoraleError('bad_config', `an identity seed has 32 bytes, got ${seed.length}`)
  }
  const privateKey =
    seed === undefined ? await generateKeyPair('Ed25519') : await generateKeyPairFromSeed('Ed25519', seed)
  return { peerId: peerIdFromPrivateKey(privateKey).toString(), privateKey }
}

/** A server record signed by its own peer. @throws `bad_request` when it names another peer, `limit` when it is too long. */
export async function signRecord(identity: Identity, announcement: Announcement): Promise<Uint8Array> {
  if (announcement.record.peerId !== identity.peerId) {
    throw new ChoraleError(
      'bad_request',
      `peer ${identity.peerId} can't sign a record of ${announcement.record.peerId}`,
    )
  }
  const body = encodeRecordBody(announcement)
  return encodeSignedRecord(body, await signBytes(identity, recordSignedBytes(body)))
}

/**
 * Reads a record, checks its bounds and times, and that the key inside its peer id signed it.
 * NOT checked: that the peer really serves what it says; OPEN will tell.
 * @throws `protocol`.
 */
export async function verifyRecord(bytes: Uint8Array, now: number): Promise<Announcement> {
  const { record, model, signature, signedBytes } = parseSignedRecord(bytes, now)
  if (!(await verifySignature(record.peerId, signedBytes, signature))) {
    throw new ChoraleError('protocol', `the record of ${record.peerId} is not signed by that peer`, {
      field: 'signature',
    })
  }
  return { record, model }
}

/** Signs bytes, which begin with the context of what they are (`protocol/ids.ts`): natively where the platform can. */
export async function signBytes(identity: Identity, bytes: Uint8Array): Promise<Uint8Array> {
  return await signEd25519(identity.privateKey, bytes)
}

/** The 32-byte ed25519 key inside a peer id; undefined for other kinds of keys, and ids spelled another way. */
export function publicKeyOf(peerId: string): Uint8Array | undefined {
  return ed25519Of(peerId)?.raw
}

function ed25519Of(peerId: string): Ed25519PublicKey | undefined {
  try {
    const id = peerIdFromString(peerId)
    // Spelled another way the same id would count as a second peer.
    return id.type === 'Ed25519' && id.toString() === peerId ? id.publicKey : undefined
  } catch {
    return undefined
  }
}

/** Whether the ed25519 key inside a peer id signed these bytes. False for other kinds of keys and unreadable ids. */
export async function verifySignature(
  peerId: string,
  bytes: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  try {
    const known = verifyKnown(peerId, bytes, signature)
    if (known) return await known
    const key = ed25519Of(peerId)
    return key !== undefined && (await verifyEd25519(peerId, key, bytes, signature))
  } catch {
    return false
  }
}

/** Signatures through WebCrypto where it knows the curve. */
export const webEd25519: Ed25519 = { sign: signBytes, verify: verifySignature }
