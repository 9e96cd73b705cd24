import type { LedgerValue } from '../../ledger.ts'
import { EXISTENTIAL_DEPOSIT, readAccount } from './balances-context.ts'
import {
  BASE_EXTRINSIC_WEIGHT,
  DEFAULT_CALL_WEIGHT,
  MAX_BLOCK_LENGTH,
  MAX_BLOCK_WEIGHT,
  MAX_NORMAL_LENGTH,
  MAX_NORMAL_WEIGHT,
} from './block-limits.ts'
import { eraBirth, eraDeath } from './era.ts'
import { isSignedBy, signingPayload, type Extrinsic } from './extrinsic.ts'
import { concat, sizedFromHex } from '../../hex.ts'
import type { RuntimeVersion } from './runtime-version.ts'
import { variantOf, type RuntimeTypes } from './runtime-types.ts'
import { ScaleWriter } from './scale-bytes.ts'
import type { RuntimeState } from './state.ts'
import { feeOf, totalFee } from './transaction-payment.ts'

/** A transaction that must not be in a block. `error` is a `TransactionValidityError`. */
export class TransactionRefusal extends Error {
  override readonly name = 'TransactionRefusal'
  readonly error: LedgerValue

  constructor(error: LedgerValue, message: string) {
    super(message)
    this.error = error
  }
}

/** Substrate's reasons (`InvalidTransaction`) that this runtime has. */
export type InvalidReason =
  | 'Call'
  | 'Payment'
  | 'Future'
  | 'Stale'
  | 'BadProof'
  | 'AncientBirthBlock'
  | 'ExhaustsResources'
  | 'BadMandatory'
  | 'MandatoryValidation'
  | 'BadSigner'

/** @throws TransactionRefusal */
export function refuse(reason: InvalidReason): never {
  throw new TransactionRefusal({ type: 'Invalid', value: reason }, reason)
}

/** @throws TransactionRefusal: no pallet takes unsigned transactions. */
export function noUnsignedValidator(): never {
  throw new TransactionRefusal({ type: 'Unknown', value: 'NoUnsignedValidator' }, 'NoUnsignedValidator')
}

type Signed = NonNullable<Extrinsic['signed']>

const ZERO_ACCOUNT = `0x${'00'.repeat(20)}`
const MOST_U64 = 2n ** 64n - 1n

/** Picoseconds a call counts for, the calls inside it included. */
export function callWeight(types: RuntimeTypes, call: LedgerValue): bigint {
  const outer = variantOf(call)
  const inner = variantOf(outer.value)
  let weight = types.call(outer.type, inner.type).weight ?? DEFAULT_CALL_WEIGHT
  if (outer.type !== 'Sudo' && outer.type !== 'Utility') return weight
  const args = inner.value as { readonly call?: LedgerValue; readonly calls?: readonly LedgerValue[] }
  for (const nested of args.calls ?? (args.call === undefined ? [] : [args.call]))
    weight += callWeight(types, nested)
  return weight
}

/** Whether a call, or the one that sudo makes of it, belongs to the block's author. */
export function isMandatory(types: RuntimeTypes, call: LedgerValue): boolean {
  const outer = variantOf(call)
  const inner = variantOf(outer.value)
  const { call: nested } = inner.value as { readonly call?: LedgerValue }
  if (outer.type === 'Sudo' && nested !== undefined) return isMandatory(types, nested)
  return types.call(outer.type, inner.type).inherent ?? false
}

/** Signature, era, genesis and versions. @throws TransactionRefusal `BadProof`, `AncientBirthBlock`, `BadSigner` */
export function checkSignature(
  state: RuntimeState,
  extrinsic: Extrinsic,
  signed: Signed,
  version: RuntimeVersion,
): void {
  const birth = eraBirth(signed.extra.era, state.get('System.Number') as number)
  if (!state.has('System.BlockHash', [birth])) refuse('AncientBirthBlock')
  const payload = signingPayload(extrinsic.callBytes, signed.extraBytes, {
    specVersion: version.spec_version,
    transactionVersion: version.transaction_version,
    genesisHash: state.get('System.BlockHash', [0]) as string,
    birthHash: state.get('System.BlockHash', [birth]) as string,
  })
  if (!isSignedBy(payload, signed.signature, signed.account)) refuse('BadProof')
  if (signed.account === ZERO_ACCOUNT) refuse('BadSigner')
}

/** Nonce, block limits and fee. `included`: for a block now, so the nonce must be the next. @throws TransactionRefusal */
export function checkSigned(
  state: RuntimeState,
  extrinsic: Extrinsic,
  signed: Signed,
  included: boolean,
): { readonly fee: bigint; readonly weight: bigint } {
  const account = readAccount(state.context('System'), signed.account)
  const { nonce, tip } = signed.extra
  if (account.providers === 0 && account.sufficients === 0) refuse('Payment')
  if (nonce < account.nonce) refuse('Stale')
  if (included && nonce > account.nonce) refuse('Future')
  const weight = callWeight(state.types, extrinsic.call)
  checkRoom(state, extrinsic.length, weight)
  const fee = totalFee(feeOf(extrinsic.length, weight)) + tip
  if (account.data.free - fee < EXISTENTIAL_DEPOSIT) refuse('Payment')
  return { fee, weight }
}

function checkRoom(state: RuntimeState, length: number, weight: bigint): void {
  const used = state.get('System.BlockWeight') as { readonly normal: { readonly ref_time: bigint } }
  const usedLength = (state.get('System.AllExtrinsicsLen') as number | undefined) ?? 0
  if (used.normal.ref_time + weight + BASE_EXTRINSIC_WEIGHT > MAX_NORMAL_WEIGHT) refuse('ExhaustsResources')
  if (usedLength + length > MAX_NORMAL_LENGTH) refuse('ExhaustsResources')
}

/** `ValidTransaction` of a signed extrinsic that passed the checks. */
export function validTransaction(
  state: RuntimeState,
  extrinsic: Extrinsic,
  signed: Signed,
  weight: bigint,
): LedgerValue {
  const { nonce, tip, era } = signed.extra
  const account = readAccount(state.context('System'), signed.account)
  const block = state.get('System.Number') as number
  const death = eraDeath(era, block)
  // As in Substrate: a tip counts for as many transactions like this one as a block has room for.
  const bounded = weight + BASE_EXTRINSIC_WEIGHT
  const byWeight = MAX_BLOCK_WEIGHT / (bounded < 1n ? 1n : bounded)
  const byLength = BigInt(Math.floor(MAX_BLOCK_LENGTH / extrinsic.length))
  const priority = (tip + 1n) * (byWeight < byLength ? byWeight : byLength)
  return {
    priority: priority < MOST_U64 ? priority : MOST_U64,
    requires: nonce > account.nonce ? [nonceTag(signed.account, nonce - 1)] : [],
    provides: [nonceTag(signed.account, nonce)],
    longevity: death === undefined ? MOST_U64 : BigInt(death - block),
    propagate: true,
  }
}

function nonceTag(account: string, nonce: number): Uint8Array {
  const writer = new ScaleWriter()
  writer.small(nonce, 4)
  return concat(sizedFromHex(account, 20) ?? new Uint8Array(20), writer.finish())
}
