import { blake2b } from '@noble/hashes/blake2.js'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { encodeAddress } from '@polkadot/util-crypto/address'
import { base64Decode } from '@polkadot/util-crypto/base64'
import { ed25519PairFromSeed, ed25519Sign } from '@polkadot/util-crypto/ed25519'
import { hdEthereum } from '@polkadot/util-crypto/hd'
import { jsonDecryptData } from '@polkadot/util-crypto/json'
import { keyExtractPath, keyFromPath } from '@polkadot/util-crypto/key'
import {
  mnemonicGenerate,
  mnemonicToLegacySeed,
  mnemonicToMiniSecret,
  mnemonicValidate,
} from '@polkadot/util-crypto/mnemonic'
import { secp256k1Expand, secp256k1PairFromSeed, secp256k1Sign } from '@polkadot/util-crypto/secp256k1'
import { sr25519PairFromSeed, sr25519Sign, sr25519Verify } from '@polkadot/util-crypto/sr25519'
import { ChoraleError, errorMessage } from '../../errors.ts'
import type { KeyKind } from '../keys/key-file.ts'
import type { LedgerSigner } from '../ledger.ts'
import { concat, toHex } from '../hex.ts'
import { isRecord } from './json-rpc.ts'

/** A key in the open: what a key file holds encrypted. */
export interface LedgerKey {
  readonly kind: KeyKind
  /** `ethereum`, `ecdsa`, `ed25519`: 32 bytes; `sr25519`: secret (64) and public key (32). */
  readonly secret: Uint8Array
  /** 0x-hex in lower case for `ethereum`, SS58 of prefix 42 for others. */
  readonly address: string
}

/** Where wallets keep their first Ethereum account. BIP-44. */
export const ETHEREUM_PATH = "m/44'/60'/0'/0/0"
const SS58_ANY = 42
const SEED_BYTES = 32
const SR25519_SECRET = 64
/** PKCS #8 as polkadot-js writes it: a header, the secret, a divider, the public key. */
const PKCS8_HEADER = '0x3053020101300506032b657004220420'
const PKCS8_DIVIDER = '0xa123032100'

/** Twelve or 24 new words, BIP-39. */
export function newMnemonic(words: 12 | 24 = 12): string {
  return mnemonicGenerate(words, undefined, true)
}

/**
 * The key of a mnemonic: at a BIP-32 path for `ethereum` (default `ETHEREUM_PATH`), at a Substrate path (`//hard/soft`,
 * default none) for others. @throws `bad_request` for words or paths that are none.
 */
export function keyFromMnemonic(mnemonic: string, kind: KeyKind, path?: string): LedgerKey {
  const words = mnemonic.trim().toLowerCase().split(/\s+/).join(' ')
  if (!mnemonicValidate(words, undefined, true)) {
    throw new ChoraleError(
      'bad_request',
      'these words are no BIP-39 mnemonic: 12 to 24 English words, the last one a checksum',
      { field: 'mnemonic' },
    )
  }
  try {
    if (kind === 'ethereum') {
      const { secretKey } = hdEthereum(mnemonicToLegacySeed(words, '', true, 64), path ?? ETHEREUM_PATH)
      return keyFromSecret(secretKey, 'ethereum')
    }
    return keyFromSeed(mnemonicToMiniSecret(words, '', undefined, true), kind, path)
  } catch (error) {
    throw new ChoraleError('bad_request', `no key at path ${path ?? ''}: ${errorMessage(error)}`, {
      cause: error,
      field: 'path',
    })
  }
}

/** The key of a 32-byte seed (`ethereum`: the private key itself). @throws `bad_request`. */
export function keyFromSeed(seed: Uint8Array, kind: KeyKind, path?: string): LedgerKey {
  if (seed.length !== SEED_BYTES) {
    throw new ChoraleError('bad_request', `a seed has ${SEED_BYTES} bytes, this one ${seed.length}`, {
      field: 'seed',
    })
  }
  if (kind === 'ethereum') {
    if (path !== undefined) {
      throw new ChoraleError('bad_request', 'an ethereum seed is the key itself: it has no path', {
        field: 'path',
      })
    }
    return keyFromSecret(seed, kind)
  }
  const { path: junctions } = keyExtractPath(path ?? '')
  const root =
    kind === 'sr25519'
      ? sr25519PairFromSeed(seed)
      : kind === 'ed25519'
        ? ed25519PairFromSeed(seed, true)
        : secp256k1PairFromSeed(seed, true)
  const pair = junctions.length === 0 ? root : keyFromPath(root, junctions, kind)
  if (kind === 'sr25519') return keyFromSecret(concat(pair.secretKey, pair.publicKey), kind)
  return keyFromSecret(pair.secretKey.slice(0, SEED_BYTES), kind)
}

/** The key of what a key file holds. @throws `bad_file` when it is no secret of that kind. */
export function keyFromSecret(secret: Uint8Array, kind: KeyKind): LedgerKey {
  const wanted = kind === 'sr25519' ? SR25519_SECRET + 32 : SEED_BYTES
  if (secret.length !== wanted) {
    throw new ChoraleError(
      'bad_file',
      `a secret of kind ${kind} has ${wanted} bytes, this one ${secret.length}`,
    )
  }
  try {
    return { kind, secret, address: addressOf(kind, publicKey(secret, kind)) }
  } catch (error) {
    throw new ChoraleError('bad_file', `no secret of kind ${kind}: ${errorMessage(error)}`, { cause: error })
  }
}

/**
 * A key exported by polkadot-js and its extensions (PKCS #8 inside JSON, scrypt of at most their own cost).
 * @throws `bad_file` for other files, `refused` for a wrong password.
 */
export function keyFromPolkadotJson(json: string, password: string): LedgerKey {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (error) {
    throw new ChoraleError('bad_file', 'the exported key is no JSON', { cause: error })
  }
  const { encoded, encoding } = isRecord(value) ? value : {}
  const { content, type } = isRecord(encoding) ? encoding : {}
  const kind = Array.isArray(content) && content[0] === 'pkcs8' ? kindOf(content[1]) : undefined
  const steps = (Array.isArray(type) ? type : [type]).filter(
    (step): step is 'none' | 'scrypt' | 'xsalsa20-poly1305' =>
      step === 'none' || step === 'scrypt' || step === 'xsalsa20-poly1305',
  )
  if (typeof encoded !== 'string' || kind === undefined) {
    throw new ChoraleError('bad_file', 'the JSON is no key exported by polkadot-js (encoding pkcs8)')
  }
  let plain: Uint8Array
  try {
    plain = jsonDecryptData(base64Decode(encoded), password, steps)
  } catch (error) {
    throw new ChoraleError('refused', 'wrong password for the exported key', {
      cause: error,
      field: 'password',
    })
  }
  const length = toHex(plain.subarray(16 + SR25519_SECRET, 21 + SR25519_SECRET)) === PKCS8_DIVIDER ? 64 : 32
  const divider = toHex(plain.subarray(16 + length, 21 + length))
  if (toHex(plain.subarray(0, 16)) !== PKCS8_HEADER || divider !== PKCS8_DIVIDER) {
    throw new ChoraleError('bad_file', 'the exported key does not hold what it says')
  }
  const secret = plain.slice(16, 16 + length)
  if (kind !== 'sr25519') return keyFromSecret(secret.slice(0, SEED_BYTES), kind)
  if (length === SEED_BYTES) return keyFromSeed(secret, kind)
  return keyFromSecret(concat(secret, plain.subarray(21 + length, 53 + length)), kind)
}

/** Signs with a key in memory. */
export function signerOf(key: LedgerKey): LedgerSigner {
  return {
    address: key.address,
    kind: key.kind,
    sign: async (payload) => {
      const { secret } = key
      switch (key.kind) {
        case 'ethereum':
          return secp256k1Sign(payload, { secretKey: secret }, 'keccak', true)
        case 'ecdsa':
          return secp256k1Sign(payload, { secretKey: secret }, 'blake2', true)
        case 'ed25519':
          return ed25519Sign(payload, ed25519PairFromSeed(secret, true), true)
        case 'sr25519':
          return sr25519Sign(payload, {
            secretKey: secret.subarray(0, SR25519_SECRET),
            publicKey: secret.subarray(SR25519_SECRET),
          })
      }
    },
  }
}

function publicKey(secret: Uint8Array, kind: KeyKind): Uint8Array {
  if (kind === 'ed25519') return ed25519PairFromSeed(secret, true).publicKey
  if (kind !== 'sr25519') return secp256k1PairFromSeed(secret, true).publicKey
  const pair = { secretKey: secret.subarray(0, SR25519_SECRET), publicKey: secret.subarray(SR25519_SECRET) }
  // The halves come from a file: a public key that does not fit would sign for an account nobody owns.
  const probe = new Uint8Array(1)
  if (!sr25519Verify(probe, sr25519Sign(probe, pair), pair.publicKey))
    throw new Error('its halves do not fit')
  return pair.publicKey
}

function addressOf(kind: KeyKind, key: Uint8Array): string {
  if (kind === 'ethereum') return toHex(keccak_256(secp256k1Expand(key, true)).subarray(-20))
  if (kind === 'ecdsa') return encodeAddress(blake2b(key, { dkLen: 32 }), SS58_ANY)
  return encodeAddress(key, SS58_ANY)
}

function kindOf(value: unknown): KeyKind | undefined {
  return (['ethereum', 'sr25519', 'ed25519', 'ecdsa'] as const).find((kind) => kind === value)
}
