import type { LedgerValue } from '../../ledger.ts'
import { BASE_EXTRINSIC_WEIGHT, MAX_BLOCK_WEIGHT } from './block-limits.ts'
import type { PalletDefinition } from './pallet.ts'

/** Parts of a fee; a unit of weight and a byte cost one smallest unit each (`IdentityFee`). */
export interface Fee {
  readonly base: bigint
  readonly length: bigint
  readonly weight: bigint
}

/** What an extrinsic of `length` bytes costs whose call weighs `weight` picoseconds, without its tip. */
export function feeOf(length: number, weight: bigint): Fee {
  return { base: weightFee(BASE_EXTRINSIC_WEIGHT), length: BigInt(length), weight: weightFee(weight) }
}

/** All parts of a fee, without the tip. */
export function totalFee(fee: Fee): bigint {
  return fee.base + fee.length + fee.weight
}

/** What so much weight costs; never more than a whole block. */
export function weightFee(weight: bigint): bigint {
  return weight < MAX_BLOCK_WEIGHT ? weight : MAX_BLOCK_WEIGHT
}

/** `FeeDetails` as clients ask for them. */
export function feeDetails(fee: Fee, tip: bigint): LedgerValue {
  return {
    inclusion_fee: { base_fee: fee.base, len_fee: fee.length, adjusted_weight_fee: fee.weight },
    tip,
  }
}

/** Says what was paid; the executive takes it. */
export function transactionPaymentPallet(): PalletDefinition {
  return {
    name: 'TransactionPayment',
    index: 5,
    types: {
      Releases: { path: 'pallet_transaction_payment::Releases', variants: { V1Ancient: [], V2: [] } },
    },
    storage: [
      { name: 'NextFeeMultiplier', keys: [], type: 'FixedU128', default: 10n ** 18n },
      { name: 'StorageVersion', keys: [], type: 'Releases', default: 'V1Ancient' },
    ],
    calls: [],
    events: [
      {
        index: 0,
        name: 'TransactionFeePaid',
        fields: { who: 'AccountId20', actual_fee: 'u128', tip: 'u128' },
      },
    ],
    errors: [],
    constants: [{ name: 'OperationalFeeMultiplier', type: 'u8', value: 5 }],
    genesis(context) {
      context.set('NextFeeMultiplier', [], 10n ** 18n)
      context.set('StorageVersion', [], 'V2')
    },
  }
}
