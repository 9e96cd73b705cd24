import { ScaleReader } from './native/scale-bytes.ts'
import { invalidTransaction, type RpcError, unknownValidity } from './rpc-error.ts'

/** What `TaggedTransactionQueue_validate_transaction` says of an extrinsic that may be included. */
export interface ValidTransaction {
  readonly priority: bigint
  readonly requires: readonly Uint8Array[]
  readonly provides: readonly Uint8Array[]
  /** Blocks from now for which this holds. */
  readonly longevity: bigint
}

/** `TransactionValidityError`: why an extrinsic may not be included. */
export interface Invalidity {
  /** Not now: the block is full. */
  readonly exhausts: boolean
  readonly error: RpcError
}

const INVALID = [
  'Transaction call is not expected',
  'Inability to pay some fees (e.g. account balance too low)',
  'Transaction will be valid in the future',
  'Transaction is outdated',
  'Transaction has a bad signature',
  'Transaction has an ancient birth block',
  'Transaction would exhaust the block limits',
  'InvalidTransaction custom error',
  'A call was labelled as mandatory, but resulted in an Error.',
  'Transaction dispatch is mandatory; transactions must not be validated.',
  'Invalid signing address',
  'The implicit data was unable to be calculated',
  'The transaction extension did not authorize any origin',
]
const UNKNOWN = ['CannotLookup', 'NoUnsignedValidator', 'Custom', 'InvalidProofOfValidity']
const EXHAUSTS_RESOURCES = 6
const CUSTOM = 7
const CUSTOM_UNKNOWN = 2

/** Reads a `TransactionValidity`. @throws `ledger` when the bytes are none. */
export function readValidity(bytes: Uint8Array): ValidTransaction | Invalidity {
  const reader = new ScaleReader(bytes)
  if (reader.small(1, false) !== 0) return readInvalidity(reader)
  const priority = reader.big(8, false)
  const requires = readTags(reader)
  const provides = readTags(reader)
  return { priority, requires, provides, longevity: reader.big(8, false) }
}

/** Reads an `ApplyExtrinsicResult`; undefined when the extrinsic is in the block, whether its dispatch succeeded or not. */
export function readApplied(bytes: Uint8Array): Invalidity | undefined {
  const reader = new ScaleReader(bytes)
  return reader.small(1, false) === 0 ? undefined : readInvalidity(reader)
}

function readInvalidity(reader: ScaleReader): Invalidity {
  const unknown = reader.small(1, false) === 1
  const kind = reader.small(1, false)
  if (unknown) {
    const name = UNKNOWN[kind] ?? `Unknown(${kind})`
    const reason = kind === CUSTOM_UNKNOWN ? `Custom(${reader.small(1, false)})` : name
    return { exhausts: false, error: unknownValidity(reason) }
  }
  const reason =
    kind === CUSTOM ? `Custom error: ${reader.small(1, false)}` : (INVALID[kind] ?? `Invalid(${kind})`)
  return { exhausts: kind === EXHAUSTS_RESOURCES, error: invalidTransaction(reason) }
}

function readTags(reader: ScaleReader): Uint8Array[] {
  return Array.from({ length: reader.count(1) }, () => reader.take(reader.count(1)))
}
