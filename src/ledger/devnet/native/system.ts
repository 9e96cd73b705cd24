import { blake2b } from '@noble/hashes/blake2.js'
import type { LedgerValue } from '../../ledger.ts'
import { NO_ACCOUNT } from './balances-context.ts'
import { BLOCK_HASH_COUNT, BLOCK_LENGTH, BLOCK_WEIGHTS, DB_WEIGHT } from './block-limits.ts'
import { ensureSigned } from './dispatch-error.ts'
import { toHex } from '../../hex.ts'
import type { PalletDefinition, StorageDefinition } from './pallet.ts'

/** Of a short remark. */
const REMARK_WEIGHT = 23_614_716n
const ZERO_HASH = `0x${'00'.repeat(32)}`
/** What Substrate puts where genesis has no parent. */
const GENESIS_PARENT = `0x${'45'.repeat(32)}`

const plain = (name: string, type: string, value?: LedgerValue): StorageDefinition =>
  value === undefined ? { name, keys: [], type } : { name, keys: [], type, default: value }
const NO_WEIGHT = { ref_time: 0n, proof_size: 0n }

/** Accounts, the block being executed, events. `version` is what `Core_version` says. */
export function systemPallet(version: Readonly<Record<string, LedgerValue>>): PalletDefinition {
  return {
    name: 'System',
    index: 0,
    types: {},
    storage: [
      {
        name: 'Account',
        keys: [{ hasher: 'Blake2_128Concat', type: 'AccountId20' }],
        type: 'AccountInfo',
        default: NO_ACCOUNT,
      },
      plain('ExtrinsicCount', 'u32'),
      plain('InherentsApplied', 'bool', false),
      plain('BlockWeight', 'PerDispatchClassWeight', {
        normal: NO_WEIGHT,
        operational: NO_WEIGHT,
        mandatory: NO_WEIGHT,
      }),
      plain('AllExtrinsicsLen', 'u32'),
      {
        name: 'BlockHash',
        keys: [{ hasher: 'Twox64Concat', type: 'u32' }],
        type: 'H256',
        default: ZERO_HASH,
      },
      {
        name: 'ExtrinsicData',
        keys: [{ hasher: 'Twox64Concat', type: 'u32' }],
        type: 'Bytes',
        default: new Uint8Array(),
      },
      plain('Number', 'u32', 0),
      plain('ParentHash', 'H256', ZERO_HASH),
      plain('Digest', 'Digest', { logs: [] }),
      plain('Events', 'Vec<EventRecord>', []),
      plain('EventCount', 'u32', 0),
      {
        name: 'EventTopics',
        keys: [{ hasher: 'Blake2_128Concat', type: 'H256' }],
        type: 'Vec<(u32, u32)>',
        default: [],
      },
      plain('LastRuntimeUpgrade', 'LastRuntimeUpgradeInfo'),
      plain('UpgradedToU32RefCount', 'bool', false),
      plain('UpgradedToTripleRefCount', 'bool', false),
      plain('ExecutionPhase', 'Phase'),
    ],
    calls: [
      { index: 0, name: 'remark', args: { remark: 'Bytes' }, weight: REMARK_WEIGHT, dispatch: () => {} },
      {
        index: 7,
        name: 'remark_with_event',
        args: { remark: 'Bytes' },
        weight: REMARK_WEIGHT,
        dispatch(context, origin, args) {
          const hash = toHex(blake2b(args['remark'] as Uint8Array, { dkLen: 32 }))
          context.emit('Remarked', { sender: ensureSigned(origin), hash })
        },
      },
    ],
    events: [
      { index: 0, name: 'ExtrinsicSuccess', fields: { dispatch_info: 'DispatchEventInfo' } },
      {
        index: 1,
        name: 'ExtrinsicFailed',
        fields: { dispatch_error: 'DispatchError', dispatch_info: 'DispatchEventInfo' },
      },
      { index: 2, name: 'CodeUpdated', fields: {} },
      { index: 3, name: 'NewAccount', fields: { account: 'AccountId20' } },
      { index: 4, name: 'KilledAccount', fields: { account: 'AccountId20' } },
      { index: 5, name: 'Remarked', fields: { sender: 'AccountId20', hash: 'H256' } },
    ],
    errors: [
      'InvalidSpecName',
      'SpecVersionNeedsToIncrease',
      'FailedToExtractRuntimeVersion',
      'NonDefaultComposite',
      'NonZeroRefCount',
      'CallFiltered',
      'MultiBlockMigrationsOngoing',
      'NothingAuthorized',
      'Unauthorized',
    ],
    constants: [
      { name: 'BlockWeights', type: 'BlockWeights', value: BLOCK_WEIGHTS },
      { name: 'BlockLength', type: 'BlockLength', value: BLOCK_LENGTH },
      { name: 'BlockHashCount', type: 'u32', value: BLOCK_HASH_COUNT },
      { name: 'DbWeight', type: 'RuntimeDbWeight', value: DB_WEIGHT },
      { name: 'Version', type: 'RuntimeVersion', value: version },
      { name: 'SS58Prefix', type: 'u16', value: 42 },
    ],
    genesis(context) {
      context.set('BlockHash', [0], GENESIS_PARENT)
      context.set('ParentHash', [], GENESIS_PARENT)
      context.set('LastRuntimeUpgrade', [], {
        spec_version: version['spec_version'],
        spec_name: version['spec_name'],
      })
      context.set('UpgradedToU32RefCount', [], true)
      context.set('UpgradedToTripleRefCount', [], true)
    },
  }
}
