import { blake2b } from '@noble/hashes/blake2.js'
import { ChoraleError } from '../../errors.ts'
import type { LedgerCall, LedgerSigner, SignerPayload } from '../ledger.ts'
import { concat, fromHex, toHex } from '../hex.ts'
import type { RuntimeCodec } from './runtime-codec.ts'
import { typeOf } from './runtime-types.ts'
import { encodeScale } from './scale-encode.ts'

/** When and as which a transaction is to be valid. */
export interface ExtrinsicTerms {
  readonly nonce: number
  readonly genesisHash: string
  /** Block from which on the transaction is valid for `ERA_BLOCKS`. */
  readonly birth: { readonly number: number; readonly hash: string }
}

/** A transaction ready to send. */
export interface SignedExtrinsic {
  readonly hex: string
  readonly hash: string
  readonly nonce: number
  /** Last block that may hold it. */
  readonly until: number
}

/** How many blocks a transaction stays valid: what is not included by then never will be. A power of two. */
export const ERA_BLOCKS = 64
/** Longer payloads are signed by their Blake2-256, as every Substrate chain asks. */
const MAX_PLAIN_PAYLOAD = 256
/** Place of each kind in `MultiSignature`. */
const MULTI_SIGNATURE = { ed25519: 0, sr25519: 1, ecdsa: 2 } as const

/** SCALE of a call by the metadata's names. @throws `not_supported` for an unknown call, `bad_request` for its arguments. */
export function encodeCall(codec: RuntimeCodec, { pallet, call, args }: LedgerCall): Uint8Array {
  const found = codec.pallets.get(pallet)
  const type = found?.calls === undefined ? undefined : typeOf(codec.types, found.calls)
  const variant = type?.kind === 'enum' ? type.variants.find(({ name }) => name === call) : undefined
  if (found?.calls === undefined || variant === undefined) {
    throw new ChoraleError('not_supported', `this chain has no call ${pallet}.${call}`)
  }
  const value = variant.fields.length === 0 ? call : { type: call, value: args }
  const [only] = variant.fields
  if (variant.fields.length === 0 && Object.keys(args).length > 0) {
    throw new ChoraleError('bad_request', `${pallet}.${call} takes no arguments`)
  }
  if (only !== undefined && only.name === undefined) {
    throw new ChoraleError('not_supported', `${pallet}.${call} has unnamed arguments`)
  }
  return concat(
    Uint8Array.of(found.index),
    encodeScale(codec.types, codec.accounts, found.calls, value, pallet),
  )
}

/**
 * Signs a call. A signer with `signPayload` (a wallet) is asked that way, others sign the payload's bytes.
 * @throws `bad_request` when the signer's kind does not fit the chain's accounts.
 */
export async function signExtrinsic(
  codec: RuntimeCodec,
  call: Uint8Array,
  signer: LedgerSigner,
  terms: ExtrinsicTerms,
): Promise<SignedExtrinsic> {
  assertFits(codec, signer)
  const { extrinsic, payload } = prepare(codec, call, signer.address, terms)
  const signature =
    signer.signPayload === undefined
      ? await signBytes(signer, payload.toU8a())
      : await signer.signPayload(payload.json())
  const bytes = extrinsic.addSignature(signature)
  return {
    hex: toHex(bytes),
    hash: toHex(blake2b(bytes, { dkLen: 32 })),
    nonce: terms.nonce,
    until: terms.birth.number + ERA_BLOCKS,
  }
}

/** The transaction with a signature of the right length that signs nothing: for asking its fee. */
export function fakeExtrinsic(
  codec: RuntimeCodec,
  call: Uint8Array,
  address: string,
  terms: ExtrinsicTerms,
): Uint8Array {
  return prepare(codec, call, address, terms).extrinsic.fake()
}

function prepare(codec: RuntimeCodec, call: Uint8Array, address: string, terms: ExtrinsicTerms) {
  const { api } = codec
  const { registry } = api
  const method = registry.createType('Call', call)
  const extrinsic = registry.createType('Extrinsic', { method }, { version: 4 })
  const era = registry.createType('ExtrinsicEra', { current: terms.birth.number, period: ERA_BLOCKS })
  const options = {
    address,
    blockHash: terms.birth.hash,
    blockNumber: registry.createType('BlockNumber', terms.birth.number),
    era,
    genesisHash: terms.genesisHash,
    method,
    nonce: registry.createType('Compact<Index>', terms.nonce),
    runtimeVersion: api.runtimeVersion,
    signedExtensions: registry.signedExtensions,
    tip: registry.createType('Compact<Balance>', 0),
    mode: 0,
    metadataHash: null,
    version: 4,
    withSignedTransaction: false,
  }
  const signerPayload = registry.createType('SignerPayload', options)
  const json = signerPayload.toPayload()
  const payload = registry.createType('ExtrinsicPayload', json, { version: 4 })
  return {
    payload: {
      toU8a: () => payload.toU8a({ method: true }),
      json: () => json as unknown as SignerPayload,
    },
    extrinsic: {
      addSignature: (signature: Uint8Array) => extrinsic.addSignature(address, signature, json).toU8a(),
      fake: () =>
        extrinsic
          .signFake(address, {
            blockHash: terms.birth.hash,
            era,
            genesisHash: terms.genesisHash,
            nonce: terms.nonce,
            runtimeVersion: api.runtimeVersion,
          })
          .toU8a(),
    },
  }
}

async function signBytes(signer: LedgerSigner, payload: Uint8Array): Promise<Uint8Array> {
  const bytes = payload.length > MAX_PLAIN_PAYLOAD ? blake2b(payload, { dkLen: 32 }) : payload
  const signature = await signer.sign(bytes)
  return signer.kind === 'ethereum'
    ? signature
    : concat(Uint8Array.of(MULTI_SIGNATURE[signer.kind]), signature)
}

/** @throws `bad_request` with the fix when the key's kind signs for other accounts than this chain has. */
export function assertFits(codec: RuntimeCodec, signer: LedgerSigner): void {
  const ethereum = codec.accountBytes === 20
  if (ethereum === (signer.kind === 'ethereum')) return
  throw new ChoraleError(
    'bad_request',
    ethereum
      ? `this chain has 20-byte accounts: a key of kind ${signer.kind} can't sign for them, make one with --kind ethereum`
      : "this chain has 32-byte accounts: an ethereum key can't sign for them, make one with --kind sr25519",
    { field: 'signer' },
  )
}

/** The bytes of a transaction in a block as the node gives it. */
export function extrinsicHash(hex: unknown): string {
  return toHex(blake2b(fromHex(hex, 'extrinsic'), { dkLen: 32 }))
}
