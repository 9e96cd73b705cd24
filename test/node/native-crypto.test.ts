import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { sha256 } from '@noble/hashes/sha2.js'
import { describe, expect, it } from 'vitest'
import { nativeEd25519 } from '../../node/native-ed25519.ts'
import { nativeSha256 } from '../../node/native-sha256.ts'
import { createIdentity, publicKeyOf, webEd25519 } from '../../src/swarm/identity.ts'

const bytesOf = (length: number, seed: number) => Uint8Array.from({ length }, (_, i) => (i * 31 + seed) & 255)

describe('nativeSha256', () => {
  it('gives what the platform-neutral one gives, for any length and every byte', () => {
    for (let length = 0; length < 300; length++) {
      const bytes = bytesOf(length, length)
      expect(nativeSha256(bytes)).toEqual(sha256(bytes))
    }
    const long = bytesOf(100_000, 7)
    expect(nativeSha256(long.subarray(3, 90_001))).toEqual(sha256(long.subarray(3, 90_001)))
  })

  it('gives memory of its own: it may be kept, changed and transferred', () => {
    const [first, second] = [nativeSha256(bytesOf(10, 1)), nativeSha256(bytesOf(10, 2))]
    expect(first.buffer).not.toBe(second.buffer)
    expect(first.byteLength).toBe(first.buffer.byteLength)
  })
})

describe('nativeEd25519', () => {
  it('signs what WebCrypto signs, and each checks the other’s', async () => {
    const identity = await createIdentity(bytesOf(32, 5))
    for (const length of [0, 1, 500, 5_000]) {
      const bytes = bytesOf(length, 3)
      const native = await nativeEd25519.sign(identity, bytes)
      expect(native).toEqual(await webEd25519.sign(identity, bytes))
      for (const { verify } of [nativeEd25519, webEd25519]) {
        expect(await verify(identity.peerId, bytes, native)).toBe(true)
        expect(await verify(identity.peerId, bytesOf(length + 1, 3), native)).toBe(false)
      }
    }
  })

  it('takes no wrong signature, other key, other spelling of an id, or id of another kind of key', async () => {
    const [identity, other] = [await createIdentity(), await createIdentity()]
    const bytes = bytesOf(40, 1)
    const good = await nativeEd25519.sign(identity, bytes)
    const { peerId } = identity
    const secp256k1 = peerIdFromPrivateKey(await generateKeyPair('secp256k1')).toString()
    for (const [id, signature] of [
      [peerId, good.map((byte, i) => (i === 63 ? byte ^ 1 : byte))],
      [peerId, good.map((byte, i) => (i === 0 ? byte ^ 1 : byte))],
      [peerId, good.subarray(0, 63)],
      [peerId, new Uint8Array(0)],
      [peerId, new Uint8Array(65)],
      [other.peerId, good],
      [secp256k1, good],
      [`${peerId} `, good],
      ['', good],
      ['12D3KooWnothing', good],
    ] as const) {
      for (const { verify } of [nativeEd25519, webEd25519])
        expect(await verify(id, bytes, signature)).toBe(false)
    }
    expect(publicKeyOf(peerId)).toEqual(identity.privateKey.publicKey.raw)
    expect(publicKeyOf(secp256k1)).toBe(undefined)
  })
})
