import type { TypeDefinition } from './pallet.ts'

/** A signed extension: its name, type, and what it adds to the signed bytes. */
export interface ExtensionDefinition {
  readonly name: string
  readonly type: string
  readonly additional: string
}

/** In the order in which their bytes stand. */
export const EXTENSIONS: readonly ExtensionDefinition[] = [
  { name: 'CheckNonZeroSender', type: 'CheckNonZeroSender', additional: '()' },
  { name: 'CheckSpecVersion', type: 'CheckSpecVersion', additional: 'u32' },
  { name: 'CheckTxVersion', type: 'CheckTxVersion', additional: 'u32' },
  { name: 'CheckGenesis', type: 'CheckGenesis', additional: 'H256' },
  { name: 'CheckMortality', type: 'CheckMortality', additional: 'H256' },
  { name: 'CheckNonce', type: 'CheckNonce', additional: '()' },
  { name: 'CheckWeight', type: 'CheckWeight', additional: '()' },
  { name: 'ChargeTransactionPayment', type: 'ChargeTransactionPayment', additional: '()' },
]

const extension = (path: string, fields: readonly string[]): TypeDefinition => ({
  path,
  params: { T: undefined },
  fields,
})
const SYSTEM = 'frame_system::extensions'

/** Types that only metadata speaks of; `extrinsic.ts` and `era.ts` read and write their bytes. */
export const EXTENSION_TYPES: Readonly<Record<string, TypeDefinition>> = {
  CheckNonZeroSender: extension(`${SYSTEM}::check_non_zero_sender::CheckNonZeroSender`, []),
  CheckSpecVersion: extension(`${SYSTEM}::check_spec_version::CheckSpecVersion`, []),
  CheckTxVersion: extension(`${SYSTEM}::check_tx_version::CheckTxVersion`, []),
  CheckGenesis: extension(`${SYSTEM}::check_genesis::CheckGenesis`, []),
  CheckMortality: extension(`${SYSTEM}::check_mortality::CheckMortality`, ['Era']),
  CheckNonce: extension(`${SYSTEM}::check_nonce::CheckNonce`, ['Compact<u32>']),
  CheckWeight: extension(`${SYSTEM}::check_weight::CheckWeight`, []),
  ChargeTransactionPayment: extension('pallet_transaction_payment::ChargeTransactionPayment', [
    'Compact<u128>',
  ]),
  Era: {
    path: 'sp_runtime::generic::era::Era',
    variants: Object.fromEntries(
      Array.from({ length: 256 }, (_, index) =>
        index === 0 ? ['Immortal', []] : [`Mortal${index}`, ['u8']],
      ),
    ),
  },
  Runtime: { path: 'chorale_runtime::Runtime', fields: [] },
}
