import { ChoraleError } from '../../../errors.ts'
import type { LedgerValue } from '../../ledger.ts'
import { orderedTrieRoot } from '../trie-root.ts'
import { addIssuance, readAccount, writeFree } from './balances-context.ts'
import { BASE_EXTRINSIC_WEIGHT, BLOCK_HASH_COUNT, BLOCK_WEIGHTS } from './block-limits.ts'
import { DispatchFailure } from './dispatch-error.ts'
import { decodeExtrinsic, withLength, type Extrinsic } from './extrinsic.ts'
import { toHex } from '../../hex.ts'
import type { CallDefinition } from './pallet.ts'
import { variantOf } from './runtime-types.ts'
import type { RuntimeVersion } from './runtime-version.ts'
import type { Phase, RuntimeState } from './state.ts'
import {
  checkSignature,
  checkSigned,
  isMandatory,
  noUnsignedValidator,
  refuse,
  TransactionRefusal,
  validTransaction,
} from './validity.ts'

/** A decoded `Header`. */
export interface Header {
  readonly [field: string]: LedgerValue
  readonly parent_hash: string
  readonly number: number
  readonly state_root: string
  readonly extrinsics_root: string
  readonly digest: { readonly logs: readonly LedgerValue[] }
}

/** Begins a block: sets the system's entries, runs the pallets' `onInitialize`. */
export function initializeBlock(state: RuntimeState, header: Header): void {
  beginBlock(state, header.number, header.parent_hash, header.digest)
  state.phase = 'Initialization'
  for (const pallet of state.types.pallets) pallet.onInitialize?.(state.context(pallet.name))
  state.flushEvents()
  state.set('System.ExecutionPhase', [], { type: 'ApplyExtrinsic', value: 0 })
}

function beginBlock(state: RuntimeState, number: number, parentHash: string, digest: LedgerValue): void {
  state.set('System.ExecutionPhase', [], 'Initialization')
  state.set('System.Number', [], number)
  state.set('System.ParentHash', [], parentHash)
  state.set('System.BlockHash', [number - 1], parentHash)
  state.set('System.Digest', [], digest)
  for (const item of ['Events', 'EventCount', 'AllExtrinsicsLen']) state.remove(`System.${item}`)
  const none = { ref_time: 0n, proof_size: 0n }
  const { base_block: mandatory } = BLOCK_WEIGHTS as { readonly base_block: LedgerValue }
  state.set('System.BlockWeight', [], { normal: none, operational: none, mandatory })
}

/**
 * Executes one extrinsic. @returns `Result<Result<(), DispatchError>, TransactionValidityError>`; with the outer error
 * nothing was written. @throws `ledger` when it can't be read, or an inherent breaks the block.
 */
export function applyExtrinsic(
  state: RuntimeState,
  body: Uint8Array,
  version: RuntimeVersion,
): { readonly type: 'Ok' | 'Err'; readonly value: LedgerValue } {
  const extrinsic = decodeExtrinsic(state.types.table, body)
  const index = extrinsicIndex(state)
  state.phase = { extrinsic: index }
  try {
    const outcome = state.transaction(() => {
      state.set('System.ExtrinsicData', [index], body)
      const result =
        extrinsic.signed === undefined
          ? applyInherent(state, extrinsic)
          : applySigned(state, extrinsic, extrinsic.signed, version)
      state.set('System.ExecutionPhase', [], { type: 'ApplyExtrinsic', value: index + 1 })
      return result
    })
    state.flushEvents()
    return { type: 'Ok', value: outcome }
  } catch (error) {
    if (error instanceof TransactionRefusal) return { type: 'Err', value: error.error }
    throw error
  }
}

const DONE: LedgerValue = { type: 'Ok', value: [] }

function applyInherent(state: RuntimeState, extrinsic: Extrinsic): LedgerValue {
  if (!definitionOf(state, extrinsic.call).inherent) noUnsignedValidator()
  try {
    state.dispatch('root', extrinsic.call, true)
  } catch (error) {
    if (error instanceof DispatchFailure) refuse('BadMandatory')
    throw error
  }
  note(state, extrinsic, 0n, 'mandatory')
  const info = dispatchInfo(0n, 'Mandatory', true)
  state.emit('System', 'ExtrinsicSuccess', { dispatch_info: info })
  return DONE
}

function applySigned(
  state: RuntimeState,
  extrinsic: Extrinsic,
  signed: NonNullable<Extrinsic['signed']>,
  version: RuntimeVersion,
): LedgerValue {
  checkSignature(state, extrinsic, signed, version)
  if (isMandatory(state.types, extrinsic.call)) refuse('BadMandatory')
  const { fee, weight } = checkSigned(state, extrinsic, signed, true)
  const who = signed.account
  const system = state.context('System')
  const balances = state.context('Balances')
  const account = readAccount(system, who)
  state.set('System.Account', [who], { ...account, nonce: account.nonce + 1 })
  writeFree(balances, system, who, account.data.free - fee)
  addIssuance(balances, -fee)
  balances.emit('Withdraw', { who, amount: fee })
  const failure = attempt(state, who, extrinsic.call)
  const free = failure === undefined && definitionOf(state, extrinsic.call).freeOnSuccess === true
  const { tip } = signed.extra
  const paid = free ? tip : fee
  if (paid < fee) state.balances.deposit(who, fee - paid)
  // Substrate gives back what was not needed even when that is nothing.
  else if (state.has('System.Account', [who])) balances.emit('Deposit', { who, amount: 0n })
  state.emit('TransactionPayment', 'TransactionFeePaid', { who, actual_fee: paid, tip })
  note(state, extrinsic, weight, 'normal')
  const info = dispatchInfo(weight, 'Normal', !free)
  if (failure === undefined) {
    state.emit('System', 'ExtrinsicSuccess', { dispatch_info: info })
    return DONE
  }
  state.emit('System', 'ExtrinsicFailed', { dispatch_error: failure, dispatch_info: info })
  return { type: 'Err', value: failure }
}

/** Dispatches a call. @returns its `DispatchError`; undefined after success. */
function attempt(state: RuntimeState, who: string, call: LedgerValue): LedgerValue {
  try {
    state.dispatch({ signed: who }, call)
    return undefined
  } catch (error) {
    if (error instanceof DispatchFailure) return error.error
    throw error
  }
}

function definitionOf(state: RuntimeState, call: LedgerValue): CallDefinition {
  const outer = variantOf(call)
  return state.types.call(outer.type, variantOf(outer.value).type)
}

/** Counts an extrinsic's weight and length for the block. */
function note(state: RuntimeState, extrinsic: Extrinsic, weight: bigint, kind: 'normal' | 'mandatory'): void {
  const used = state.get('System.BlockWeight') as Record<string, { ref_time: bigint; proof_size: bigint }>
  const before = used[kind] ?? { ref_time: 0n, proof_size: 0n }
  const refTime = before.ref_time + weight + BASE_EXTRINSIC_WEIGHT
  state.set('System.BlockWeight', [], { ...used, [kind]: { ...before, ref_time: refTime } })
  const length = (state.get('System.AllExtrinsicsLen') as number | undefined) ?? 0
  state.set('System.AllExtrinsicsLen', [], length + extrinsic.length)
}

function dispatchInfo(weight: bigint, kind: 'Normal' | 'Mandatory', pays: boolean): LedgerValue {
  return {
    weight: { ref_time: weight + BASE_EXTRINSIC_WEIGHT, proof_size: 0n },
    class: kind,
    pays_fee: pays ? 'Yes' : 'No',
  }
}

function extrinsicIndex(state: RuntimeState): number {
  const phase = state.get('System.ExecutionPhase') as { type: string; value: number } | string | undefined
  if (typeof phase !== 'object' || phase.type !== 'ApplyExtrinsic')
    throw new ChoraleError('ledger', 'no block is being executed: initialize one first')
  return phase.value
}

/** Ends a block: the pallets' `onFinalize`, roots. @returns its header. */
export function finalizeBlock(state: RuntimeState): Header {
  const count = extrinsicIndex(state)
  state.phase = 'Finalization' satisfies Phase
  for (const pallet of state.types.pallets) pallet.onFinalize?.(state.context(pallet.name))
  state.flushEvents()
  const number = state.get('System.Number') as number
  const extrinsics = Array.from({ length: count }, (_, index) => {
    const body = state.get('System.ExtrinsicData', [index]) as Uint8Array
    state.remove('System.ExtrinsicData', [index])
    return withLength(body)
  })
  state.remove('System.ExecutionPhase')
  state.remove('System.AllExtrinsicsLen')
  // The hash of block 0 stays: every signature covers it.
  const forgotten = number - BLOCK_HASH_COUNT - 1
  if (forgotten > 0) state.remove('System.BlockHash', [forgotten])
  return {
    parent_hash: state.get('System.ParentHash') as string,
    number,
    state_root: toHex(state.storage.root(1)),
    extrinsics_root: toHex(orderedTrieRoot(extrinsics, 0)),
    digest: state.get('System.Digest') as Header['digest'],
  }
}

/** Executes a whole block and compares. @throws `ledger` when anything in it is not as its header says. */
export function executeBlock(
  state: RuntimeState,
  header: Header,
  extrinsics: readonly Uint8Array[],
  version: RuntimeVersion,
): void {
  const before = state.get('System.Number') as number
  if (header.number !== before + 1)
    throw new ChoraleError('ledger', `block ${header.number} does not follow block ${before}`)
  initializeBlock(state, header)
  for (const [index, body] of extrinsics.entries()) {
    const { type } = applyExtrinsic(state, body, version)
    if (type === 'Err') throw new ChoraleError('ledger', `extrinsic ${index} may not be in the block`)
  }
  const made = finalizeBlock(state)
  for (const field of ['parent_hash', 'extrinsics_root', 'state_root'] as const) {
    if (made[field] !== header[field])
      throw new ChoraleError('ledger', `${field} is ${made[field]}, the header says ${header[field]}`)
  }
}

/**
 * Whether a transaction may enter the pool of a node whose best block is `blockHash`.
 * @returns `Result<ValidTransaction, TransactionValidityError>`; nothing stays written. @throws `ledger` when it can't be read
 */
export function validateTransaction(
  state: RuntimeState,
  body: Uint8Array,
  blockHash: string,
  version: RuntimeVersion,
): LedgerValue {
  const extrinsic = decodeExtrinsic(state.types.table, body)
  const { signed } = extrinsic
  state.storage.startTransaction()
  try {
    beginBlock(state, (state.get('System.Number') as number) + 1, blockHash, { logs: [] })
    if (signed === undefined) {
      if (isMandatory(state.types, extrinsic.call)) refuse('MandatoryValidation')
      return noUnsignedValidator()
    }
    if (isMandatory(state.types, extrinsic.call)) refuse('MandatoryValidation')
    checkSignature(state, extrinsic, signed, version)
    const { weight } = checkSigned(state, extrinsic, signed, false)
    return { type: 'Ok', value: validTransaction(state, extrinsic, signed, weight) }
  } catch (error) {
    if (error instanceof TransactionRefusal) return { type: 'Err', value: error.error }
    throw error
  } finally {
    state.storage.rollbackTransaction()
  }
}
