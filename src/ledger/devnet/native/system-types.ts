import type { TypeDefinition } from './pallet.ts'

const units = (...names: string[]): Record<string, readonly string[]> =>
  Object.fromEntries(names.map((name) => [name, []]))

const perClass = (type: string): TypeDefinition => ({
  path: 'frame_support::dispatch::PerDispatchClass',
  params: { T: type },
  fields: { normal: type, operational: type, mandatory: type },
})

const VALIDITY = 'sp_runtime::transaction_validity'

/** Types of Substrate that every runtime has, under their own paths: clients know them by these. */
export const SYSTEM_TYPES: Readonly<Record<string, TypeDefinition>> = {
  AccountId20: { path: 'fp_account::AccountId20', fields: ['[u8; 20]'] },
  EthereumSignature: { path: 'fp_account::EthereumSignature', fields: ['[u8; 65]'] },
  H160: { path: 'primitive_types::H160', fields: ['[u8; 20]'] },
  H256: { path: 'primitive_types::H256', fields: ['[u8; 32]'] },
  OpaquePeerId: { path: 'sp_core::OpaquePeerId', fields: ['Bytes'] },
  OpaqueMetadata: { path: 'sp_core::OpaqueMetadata', fields: ['Bytes'] },
  PalletId: { path: 'frame_support::PalletId', fields: ['[u8; 8]'] },
  FixedU128: { path: 'sp_arithmetic::fixed_point::FixedU128', fields: ['u128'] },
  Weight: {
    path: 'sp_weights::weight_v2::Weight',
    fields: { ref_time: 'Compact<u64>', proof_size: 'Compact<u64>' },
  },
  RuntimeDbWeight: { path: 'sp_weights::RuntimeDbWeight', fields: { read: 'u64', write: 'u64' } },
  RuntimeVersion: {
    path: 'sp_version::RuntimeVersion',
    fields: {
      spec_name: 'str',
      impl_name: 'str',
      authoring_version: 'u32',
      spec_version: 'u32',
      impl_version: 'u32',
      apis: 'Vec<([u8; 8], u32)>',
      transaction_version: 'u32',
      system_version: 'u8',
    },
  },
  DigestItem: {
    path: 'sp_runtime::generic::digest::DigestItem',
    variants: {
      PreRuntime: ['[u8; 4]', 'Bytes'],
      Consensus: ['[u8; 4]', 'Bytes'],
      Seal: ['[u8; 4]', 'Bytes'],
      Other: ['Bytes'],
      RuntimeEnvironmentUpdated: [],
    },
    indexes: { PreRuntime: 6, Consensus: 4, Seal: 5, Other: 0, RuntimeEnvironmentUpdated: 8 },
  },
  Digest: { path: 'sp_runtime::generic::digest::Digest', fields: { logs: 'Vec<DigestItem>' } },
  Header: {
    path: 'sp_runtime::generic::header::Header',
    params: { Number: 'u32', Hash: undefined },
    fields: {
      parent_hash: 'H256',
      number: 'Compact<u32>',
      state_root: 'H256',
      extrinsics_root: 'H256',
      digest: 'Digest',
    },
  },
  Block: {
    path: 'sp_runtime::generic::block::Block',
    params: { Header: 'Header', Extrinsic: 'UncheckedExtrinsic' },
    fields: { header: 'Header', extrinsics: 'Vec<UncheckedExtrinsic>' },
  },
  /** Its bytes after the length; `extrinsic.ts` takes them apart. */
  UncheckedExtrinsic: {
    path: 'sp_runtime::generic::unchecked_extrinsic::UncheckedExtrinsic',
    params: {
      Address: 'AccountId20',
      Call: 'RuntimeCall',
      Signature: 'EthereumSignature',
      Extra:
        '(CheckNonZeroSender, CheckSpecVersion, CheckTxVersion, CheckGenesis, CheckMortality, CheckNonce, CheckWeight, ChargeTransactionPayment)',
    },
    fields: ['Bytes'],
  },
  DispatchClass: {
    path: 'frame_support::dispatch::DispatchClass',
    variants: units('Normal', 'Operational', 'Mandatory'),
  },
  Pays: { path: 'frame_support::dispatch::Pays', variants: units('Yes', 'No') },
  DispatchEventInfo: {
    path: 'frame_system::DispatchEventInfo',
    fields: { weight: 'Weight', class: 'DispatchClass', pays_fee: 'Pays' },
  },
  PerDispatchClassWeight: perClass('Weight'),
  PerDispatchClassLimits: perClass('WeightsPerClass'),
  PerDispatchClassLength: perClass('u32'),
  WeightsPerClass: {
    path: 'frame_system::limits::WeightsPerClass',
    fields: {
      base_extrinsic: 'Weight',
      max_extrinsic: 'Option<Weight>',
      max_total: 'Option<Weight>',
      reserved: 'Option<Weight>',
    },
  },
  BlockWeights: {
    path: 'frame_system::limits::BlockWeights',
    fields: { base_block: 'Weight', max_block: 'Weight', per_class: 'PerDispatchClassLimits' },
  },
  BlockLength: { path: 'frame_system::limits::BlockLength', fields: { max: 'PerDispatchClassLength' } },
  Phase: {
    path: 'frame_system::Phase',
    variants: { ApplyExtrinsic: ['u32'], Finalization: [], Initialization: [] },
  },
  EventRecord: {
    path: 'frame_system::EventRecord',
    params: { E: 'RuntimeEvent', T: 'H256' },
    fields: { phase: 'Phase', event: 'RuntimeEvent', topics: 'Vec<H256>' },
  },
  LastRuntimeUpgradeInfo: {
    path: 'frame_system::LastRuntimeUpgradeInfo',
    fields: { spec_version: 'Compact<u32>', spec_name: 'str' },
  },
  AccountInfo: {
    path: 'frame_system::AccountInfo',
    params: { Nonce: 'u32', AccountData: 'AccountData' },
    fields: { nonce: 'u32', consumers: 'u32', providers: 'u32', sufficients: 'u32', data: 'AccountData' },
  },
  AccountData: {
    path: 'pallet_balances::types::AccountData',
    params: { Balance: 'u128' },
    fields: { free: 'u128', reserved: 'u128', frozen: 'u128', flags: 'ExtraFlags' },
  },
  ExtraFlags: { path: 'pallet_balances::types::ExtraFlags', fields: ['u128'] },
  TransactionSource: {
    path: `${VALIDITY}::TransactionSource`,
    variants: units('InBlock', 'Local', 'External'),
  },
  TransactionValidityError: {
    path: `${VALIDITY}::TransactionValidityError`,
    variants: { Invalid: ['InvalidTransaction'], Unknown: ['UnknownTransaction'] },
  },
  InvalidTransaction: {
    path: `${VALIDITY}::InvalidTransaction`,
    variants: {
      ...units('Call', 'Payment', 'Future', 'Stale', 'BadProof', 'AncientBirthBlock', 'ExhaustsResources'),
      Custom: ['u8'],
      ...units('BadMandatory', 'MandatoryValidation', 'BadSigner', 'IndeterminateImplicit', 'UnknownOrigin'),
    },
  },
  UnknownTransaction: {
    path: `${VALIDITY}::UnknownTransaction`,
    variants: { CannotLookup: [], NoUnsignedValidator: [], Custom: ['u8'] },
  },
  ValidTransaction: {
    path: `${VALIDITY}::ValidTransaction`,
    fields: {
      priority: 'u64',
      requires: 'Vec<Bytes>',
      provides: 'Vec<Bytes>',
      longevity: 'u64',
      propagate: 'bool',
    },
  },
  ExtrinsicInclusionMode: {
    path: 'sp_runtime::ExtrinsicInclusionMode',
    variants: units('AllExtrinsics', 'OnlyInherents'),
  },
  InherentData: {
    path: 'sp_inherents::InherentData',
    fields: { data: 'BTreeMap<[u8; 8], Bytes>' },
  },
  CheckInherentsResult: {
    path: 'sp_inherents::CheckInherentsResult',
    fields: { okay: 'bool', fatal_error: 'bool', errors: 'InherentData' },
  },
  RuntimeDispatchInfo: {
    path: 'pallet_transaction_payment::types::RuntimeDispatchInfo',
    params: { Balance: 'u128', Weight: 'Weight' },
    fields: { weight: 'Weight', class: 'DispatchClass', partial_fee: 'u128' },
  },
  FeeDetails: {
    path: 'pallet_transaction_payment::types::FeeDetails',
    params: { Balance: 'u128' },
    fields: { inclusion_fee: 'Option<InclusionFee>', tip: 'u128' },
  },
  InclusionFee: {
    path: 'pallet_transaction_payment::types::InclusionFee',
    params: { Balance: 'u128' },
    fields: { base_fee: 'u128', len_fee: 'u128', adjusted_weight_fee: 'u128' },
  },
}
