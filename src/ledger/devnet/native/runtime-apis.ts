import { ChoraleError } from '../../../errors.ts'
import type { LedgerValue } from '../../ledger.ts'
import { readAccount } from './balances-context.ts'
import {
  applyExtrinsic,
  executeBlock,
  finalizeBlock,
  initializeBlock,
  type Header,
  validateTransaction,
} from './executive.ts'
import { decodeExtrinsic, encodeBare } from './extrinsic.ts'
import type { PalletDefinition } from './pallet.ts'
import { variantOf } from './runtime-types.ts'
import type { RuntimeVersion } from './runtime-version.ts'
import type { RuntimeState } from './state.ts'
import { feeDetails, feeOf, totalFee, weightFee } from './transaction-payment.ts'
import { callWeight } from './validity.ts'

type Args = Readonly<Record<string, LedgerValue>>

/** One method of a runtime API. */
export interface ApiMethod {
  readonly args: Readonly<Record<string, string>>
  readonly result: string
  readonly run: (state: RuntimeState, args: Args) => LedgerValue
}

/** Runtime APIs by trait name. */
export type RuntimeApis = Readonly<
  Record<string, { readonly version: number; readonly methods: Readonly<Record<string, ApiMethod>> }>
>

const APPLY_RESULT = 'Result<Result<(), DispatchError>, TransactionValidityError>'
/** How far a block's clock may be ahead of a checker's; Substrate's number, milliseconds. */
const MAX_DRIFT_MS = 30_000n
const TIMESTAMP_INHERENT = new TextEncoder().encode('timstap0')

/** What the APIs tell of the runtime; known only after the APIs are. */
export interface RuntimeFacts {
  version(): RuntimeVersion
  metadata(version: number): Uint8Array | undefined
}

/** What Substrate's own traits answer, and what pallets add. */
export function runtimeApis(pallets: readonly PalletDefinition[], facts: RuntimeFacts): RuntimeApis {
  const version = (): RuntimeVersion => facts.version()
  return {
    Core: {
      version: 5,
      methods: {
        version: method({}, 'RuntimeVersion', () => version()),
        execute_block: method({ block: 'Block' }, '()', (state, { block }) => {
          const { header, extrinsics } = block as { header: Header; extrinsics: readonly Uint8Array[] }
          executeBlock(state, header, extrinsics, version())
          return []
        }),
        initialize_block: method({ header: 'Header' }, 'ExtrinsicInclusionMode', (state, { header }) => {
          initializeBlock(state, header as Header)
          return 'AllExtrinsics'
        }),
      },
    },
    Metadata: {
      version: 2,
      methods: {
        metadata: method({}, 'OpaqueMetadata', () => facts.metadata(14)),
        metadata_at_version: method({ version: 'u32' }, 'Option<OpaqueMetadata>', (_state, args) =>
          facts.metadata(args['version'] as number),
        ),
        metadata_versions: method({}, 'Vec<u32>', () => [14, 15]),
      },
    },
    BlockBuilder: {
      version: 6,
      methods: {
        apply_extrinsic: method({ extrinsic: 'UncheckedExtrinsic' }, APPLY_RESULT, (state, { extrinsic }) =>
          applyExtrinsic(state, extrinsic as Uint8Array, version()),
        ),
        finalize_block: method({}, 'Header', (state) => finalizeBlock(state)),
        inherent_extrinsics: method(
          { inherent: 'InherentData' },
          'Vec<UncheckedExtrinsic>',
          (state, { inherent }) => inherents(state, timestampOf(inherent)),
        ),
        check_inherents: method(
          { block: 'Block', data: 'InherentData' },
          'CheckInherentsResult',
          (state, { block, data }) => checkInherents(state, block, timestampOf(data)),
        ),
      },
    },
    TaggedTransactionQueue: {
      version: 3,
      methods: {
        validate_transaction: method(
          { source: 'TransactionSource', tx: 'UncheckedExtrinsic', block_hash: 'H256' },
          'Result<ValidTransaction, TransactionValidityError>',
          (state, args) =>
            validateTransaction(state, args['tx'] as Uint8Array, args['block_hash'] as string, version()),
        ),
      },
    },
    AccountNonceApi: {
      version: 1,
      methods: {
        account_nonce: method(
          { account: 'AccountId20' },
          'u32',
          (state, { account }) => readAccount(state.context('System'), account as string).nonce,
        ),
      },
    },
    TransactionPaymentApi: { version: 4, methods: PAYMENT },
    ...palletApis(pallets),
  }
}

const PRICED = { uxt: 'UncheckedExtrinsic', len: 'u32' }

const PAYMENT: Readonly<Record<string, ApiMethod>> = {
  query_info: method(PRICED, 'RuntimeDispatchInfo', (state, args) => {
    const { signed, weight, fee } = priced(state, args)
    return {
      weight: { ref_time: weight, proof_size: 0n },
      class: signed === undefined ? 'Mandatory' : 'Normal',
      partial_fee: signed === undefined ? 0n : totalFee(fee),
    }
  }),
  query_fee_details: method(PRICED, 'FeeDetails', (state, args) => {
    const { signed, fee } = priced(state, args)
    return signed === undefined ? { inclusion_fee: undefined, tip: 0n } : feeDetails(fee, signed.extra.tip)
  }),
  query_weight_to_fee: method({ weight: 'Weight' }, 'u128', (_state, { weight }) =>
    weightFee((weight as { ref_time: bigint }).ref_time),
  ),
  query_length_to_fee: method({ length: 'u32' }, 'u128', (_state, { length }) => BigInt(length as number)),
}

function priced(
  state: RuntimeState,
  args: Args,
): Pick<ReturnType<typeof decodeExtrinsic>, 'signed'> & { weight: bigint; fee: ReturnType<typeof feeOf> } {
  const { signed, call } = decodeExtrinsic(state.types.table, args['uxt'] as Uint8Array)
  const weight = callWeight(state.types, call)
  return { signed, weight, fee: feeOf(args['len'] as number, weight) }
}

function method(
  args: Readonly<Record<string, string>>,
  result: string,
  run: (state: RuntimeState, args: Args) => LedgerValue,
): ApiMethod {
  return { args, result, run }
}

/** What pallets answer; several may share a trait. */
function palletApis(pallets: readonly PalletDefinition[]): RuntimeApis {
  const apis: Record<string, { version: number; methods: Record<string, ApiMethod> }> = {}
  for (const pallet of pallets) {
    for (const [api, methods] of Object.entries(pallet.runtimeApis ?? {})) {
      const known = (apis[api] ??= { version: 1, methods: {} })
      for (const [name, { args, result, call }] of Object.entries(methods))
        known.methods[name] = method(args, result, (state, values) =>
          call(state.context(pallet.name), values),
        )
    }
  }
  return apis
}

function timestampOf(inherent: LedgerValue): bigint {
  // A struct of one named field is a record; its map a list of [identifier, bytes].
  const { data } = inherent as { data: readonly (readonly [Uint8Array, Uint8Array])[] }
  const entry = data.find(([name]) => name.every((byte, index) => byte === TIMESTAMP_INHERENT[index]))
  if (entry === undefined || entry[1].length !== 8)
    throw new ChoraleError('ledger', 'inherent data lacks a timestamp (timstap0, u64)')
  return new DataView(entry[1].buffer, entry[1].byteOffset).getBigUint64(0, true)
}

/** The block's own extrinsics: its time, never earlier than the chain allows. */
function inherents(state: RuntimeState, now: bigint): LedgerValue {
  const before = state.get('Timestamp.Now') as bigint
  const least = before === 0n ? 0n : before + minimumPeriod(state)
  const call = { type: 'Timestamp', value: { type: 'set', value: { now: now > least ? now : least } } }
  return [encodeBare(state.types.table.encode('RuntimeCall', call))]
}

function minimumPeriod(state: RuntimeState): bigint {
  const constant = state.types.pallet('Timestamp').constants.find(({ name }) => name === 'MinimumPeriod')
  return (constant?.value as bigint | undefined) ?? 1n
}

function checkInherents(state: RuntimeState, block: LedgerValue, now: bigint): LedgerValue {
  const { extrinsics } = block as { extrinsics: readonly Uint8Array[] }
  const errors: [Uint8Array, Uint8Array][] = []
  for (const body of extrinsics) {
    const { call, signed } = decodeExtrinsic(state.types.table, body)
    const outer = variantOf(call)
    if (signed !== undefined || outer.type !== 'Timestamp') continue
    const { value } = variantOf(outer.value)
    const time = (value as { now: bigint }).now
    // InherentError: 0 = too early, 1 = too far in the future.
    if (time > now + MAX_DRIFT_MS) errors.push([TIMESTAMP_INHERENT, Uint8Array.of(1)])
  }
  return { okay: errors.length === 0, fatal_error: errors.length > 0, errors: { data: errors } }
}
