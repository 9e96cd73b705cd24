import { ed25519 } from '@noble/curves/ed25519.js'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { blake2b } from '@noble/hashes/blake2.js'
import type { Host, HostFunctions } from './host.ts'
import { verifySr25519 } from './sr25519.ts'

/** `EcdsaVerifyError`: r or s out of range, v out of range, no point for them. */
const BAD_RS = 0
const BAD_V = 1
const BAD_SIGNATURE = 2

/** Signature host functions (`ext_crypto_*`) that need no keystore: a dev chain has none. */
export const CRYPTO_FUNCTIONS: HostFunctions = {
  ext_crypto_ed25519_verify_version_1: checkEd25519,
  ext_crypto_sr25519_verify_version_1: checkSr25519,
  ext_crypto_sr25519_verify_version_2: checkSr25519,
  ext_crypto_ecdsa_verify_version_1: checkEcdsa,
  ext_crypto_ecdsa_verify_version_2: checkEcdsa,
  ext_crypto_ecdsa_verify_prehashed_version_1: (host, signature: number, message: number, key: number) =>
    isOfKey(host.at(signature, 65), host.at(message, 32), host.at(key, 33)) ? 1 : 0,

  // A batch is checked as it comes: what matters is that finishing it tells.
  ext_crypto_start_batch_verify_version_1: (host) => {
    host.batch = { valid: true }
  },
  ext_crypto_finish_batch_verify_version_1: (host) => {
    const valid = host.batch?.valid ?? true
    host.batch = undefined
    return valid ? 1 : 0
  },
  ext_crypto_ed25519_batch_verify_version_1: batched(checkEd25519),
  ext_crypto_sr25519_batch_verify_version_1: batched(checkSr25519),
  ext_crypto_ecdsa_batch_verify_version_1: batched(checkEcdsa),

  ext_crypto_secp256k1_ecdsa_recover_version_1: (host, signature: number, message: number) =>
    giveRecovered(host, signature, message, false),
  ext_crypto_secp256k1_ecdsa_recover_version_2: (host, signature: number, message: number) =>
    giveRecovered(host, signature, message, false),
  ext_crypto_secp256k1_ecdsa_recover_compressed_version_1: (host, signature: number, message: number) =>
    giveRecovered(host, signature, message, true),
  ext_crypto_secp256k1_ecdsa_recover_compressed_version_2: (host, signature: number, message: number) =>
    giveRecovered(host, signature, message, true),
}

/**
 * The public key that signed a 32-byte hash with `signature` = r, s, v (65 bytes; v as 0–3 or 27–30), uncompressed
 * without its first byte or compressed; an `EcdsaVerifyError` where there is none.
 */
export function recoverSecp256k1(
  signature: Uint8Array,
  hash: Uint8Array,
  compressed: boolean,
): Uint8Array | number {
  const v = signature[64] as number
  const recovery = v > 26 ? v - 27 : v
  if (recovery > 3) return BAD_V
  let parsed
  try {
    parsed = secp256k1.Signature.fromBytes(signature.subarray(0, 64), 'compact')
  } catch {
    return BAD_RS
  }
  try {
    const key = parsed.addRecoveryBit(recovery).recoverPublicKey(hash)
    return compressed ? key.toBytes(true) : key.toBytes(false).subarray(1)
  } catch {
    return BAD_SIGNATURE
  }
}

function giveRecovered(host: Host, signature: number, message: number, compressed: boolean): bigint {
  const key = recoverSecp256k1(host.at(signature, 65), host.at(message, 32), compressed)
  return host.give(typeof key === 'number' ? Uint8Array.of(1, key) : Uint8Array.of(0, ...key))
}

function checkEd25519(host: Host, signature: number, message: bigint, key: number): number {
  try {
    return ed25519.verify(host.at(signature, 64), host.bytes(message), host.at(key, 32)) ? 1 : 0
  } catch {
    return 0
  }
}

function checkSr25519(host: Host, signature: number, message: bigint, key: number): number {
  return verifySr25519(host.at(signature, 64), host.bytes(message), host.at(key, 32)) ? 1 : 0
}

function checkEcdsa(host: Host, signature: number, message: bigint, key: number): number {
  const hash = blake2b(host.bytes(message), { dkLen: 32 })
  return isOfKey(host.at(signature, 65), hash, host.at(key, 33)) ? 1 : 0
}

function isOfKey(signature: Uint8Array, hash: Uint8Array, key: Uint8Array): boolean {
  const signer = recoverSecp256k1(signature, hash, true)
  return typeof signer !== 'number' && signer.every((byte, at) => byte === key[at])
}

function batched(
  check: (host: Host, signature: number, message: bigint, key: number) => number,
): (host: Host, signature: number, message: bigint, key: number) => number {
  return (host, signature, message, key) => {
    const valid = check(host, signature, message, key)
    if (valid === 0 && host.batch !== undefined) host.batch.valid = false
    return valid
  }
}
