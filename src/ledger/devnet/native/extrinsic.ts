import { blake2b } from '@noble/hashes/blake2.js'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import { ChoraleError } from '../../../errors.ts'
import type { LedgerValue } from '../../ledger.ts'
import { recoverSecp256k1 } from '../host-crypto.ts'
import { MAX_BLOCK_LENGTH } from './block-limits.ts'
import { readEra, type Era, writeEra } from './era.ts'
import { concat, sizedFromHex, toHex } from '../../hex.ts'
import { ScaleReader, ScaleWriter } from './scale-bytes.ts'
import type { TypeTable } from './type-table.ts'

const SIGNED = 0x84
const BARE = 0x04

/** Longest payload that is signed as it is; longer ones by their blake2-256. As in Substrate. */
const MAX_PAYLOAD = 256

/** Good signatures remembered: a transaction is checked by the pool and again in its block. Bounds the memory this takes. */
const MAX_KNOWN = 4096
const known = new Set<string>()

/** What a signer adds to a call. */
export interface Extra {
  readonly era: Era
  readonly nonce: number
  readonly tip: bigint
}

/** An extrinsic taken apart. */
export interface Extrinsic {
  /** A `RuntimeCall`. */
  readonly call: LedgerValue
  readonly callBytes: Uint8Array
  /** Length on chain, prefix included. */
  readonly length: number
  /** Undefined for what the block's author adds. */
  readonly signed:
    | {
        readonly account: string
        readonly signature: Uint8Array
        readonly extra: Extra
        readonly extraBytes: Uint8Array
      }
    | undefined
}

/** What every signature covers beside call and extra. Hashes are `0x…`. */
export interface SigningContext {
  readonly specVersion: number
  readonly transactionVersion: number
  readonly genesisHash: string
  /** Hash of the era's first block; the genesis' for immortal ones. */
  readonly birthHash: string
}

/** Reads one extrinsic (version 4, address AccountId20) without its length prefix. @throws `ledger` */
export function decodeExtrinsic(table: TypeTable, body: Uint8Array): Extrinsic {
  const length = withLength(body).length
  if (length > MAX_BLOCK_LENGTH)
    throw new ChoraleError('ledger', `an extrinsic of ${length} bytes exceeds ${MAX_BLOCK_LENGTH}`)
  const reader = new ScaleReader(body)
  const version = reader.small(1, false)
  if (version !== SIGNED && version !== BARE)
    throw new ChoraleError('ledger', `extrinsic version 0x${version.toString(16)}, 0x84 and 0x04 are known`)
  const signed = version === SIGNED ? readSigned(reader) : undefined
  const start = reader.offset
  const call = table.codec('RuntimeCall').decode(reader)
  reader.end('the call')
  return { call, callBytes: body.slice(start), length, signed }
}

function readSigned(reader: ScaleReader): NonNullable<Extrinsic['signed']> {
  const account = toHex(reader.take(20))
  const signature = reader.take(65)
  const start = reader.offset
  const era = readEra(reader)
  const nonce = reader.compact()
  const tip = reader.compact()
  if (nonce >= 1n << 32n || tip >= 1n << 128n)
    throw new ChoraleError('ledger', `nonce ${nonce} or tip ${tip} is too large`)
  const extraBytes = reader.bytes.slice(start, reader.offset)
  return { account, signature, extra: { era, nonce: Number(nonce), tip }, extraBytes }
}

/** CheckMortality, CheckNonce, ChargeTransactionPayment; the other signed extensions have no bytes. */
export function encodeExtra(extra: Extra): Uint8Array {
  const writer = new ScaleWriter()
  writeEra(extra.era, writer)
  writer.compact(extra.nonce)
  writer.compact(extra.tip)
  return writer.finish()
}

/** The bytes that are signed. */
export function signingPayload(
  callBytes: Uint8Array,
  extraBytes: Uint8Array,
  context: SigningContext,
): Uint8Array {
  const additional = new ScaleWriter()
  additional.small(context.specVersion, 4)
  additional.small(context.transactionVersion, 4)
  for (const hash of [context.genesisHash, context.birthHash])
    additional.bytes(sizedFromHex(hash, 32) ?? new Uint8Array(32))
  const payload = concat(callBytes, extraBytes, additional.finish())
  return payload.length > MAX_PAYLOAD ? blake2b(payload, { dkLen: 32 }) : payload
}

/** A signed extrinsic without its length prefix. `signature`: r, s, v over keccak-256 of `signingPayload`. */
export function encodeSigned(
  callBytes: Uint8Array,
  account: string,
  signature: Uint8Array,
  extraBytes: Uint8Array,
): Uint8Array {
  const address = sizedFromHex(account, 20)
  if (address === undefined || signature.length !== 65)
    throw new ChoraleError(
      'bad_request',
      `${account} with a signature of ${signature.length} bytes; 20 and 65 bytes are needed`,
    )
  return concat(Uint8Array.of(SIGNED), address, signature, extraBytes, callBytes)
}

/** An extrinsic that the block's author adds, without its length prefix. */
export function encodeBare(callBytes: Uint8Array): Uint8Array {
  return concat(Uint8Array.of(BARE), callBytes)
}

/** An extrinsic as it stands in a block: length and body. */
export function withLength(body: Uint8Array): Uint8Array {
  const writer = new ScaleWriter()
  writer.compact(body.length)
  writer.bytes(body)
  return writer.finish()
}

/**
 * Whether an account's key made a signature (r, s, v) over keccak-256 of `payload`. High s is taken, as Substrate does: a
 * second signature for the same payload has the same nonce and changes nothing.
 */
export function isSignedBy(payload: Uint8Array, signature: Uint8Array, account: string): boolean {
  const hash = keccak_256(payload)
  const name = signatureName(hash, signature, account)
  if (known.has(name)) return true
  const key = recoverSecp256k1(signature, hash, false)
  if (typeof key === 'number' || toHex(keccak_256(key).subarray(12)) !== account) return false
  remember(name)
  return true
}

/** Takes somebody's word for a signature: for simulations, where checking costs more than all else. */
export function trustSignature(payload: Uint8Array, signature: Uint8Array, account: string): void {
  remember(signatureName(keccak_256(payload), signature, account))
}

function signatureName(hash: Uint8Array, signature: Uint8Array, account: string): string {
  return bytesToHex(hash) + bytesToHex(signature) + account
}

function remember(name: string): void {
  if (known.size >= MAX_KNOWN) known.clear()
  known.add(name)
}
