import { ChoraleError, errorMessage } from '../../errors.ts'
import type { Block } from './chain.ts'
import { decodeHeader, encodeHeader, hashBytes, headerHash } from './header.ts'
import { type BlockPlan, makeInherents, type RuntimeTraits, writeParachainData } from './inherents.ts'
import type { PooledExtrinsic } from './pool.ts'
import { invalidTransaction, type RpcError } from './rpc-error.ts'
import type { Runtime } from './runtime.ts'
import { type StateOverlay, type StateStore, stateOf } from './storage.ts'
import { readApplied } from './validity.ts'

/** Extrinsics offered to one block; keeps a block of a chain without weights from taking minutes. */
const MAX_EXTRINSICS = 4096
const NONE = new Uint8Array(32)

/** A block that was built, and what happened to the extrinsics offered to it. */
export interface BuiltBlock {
  readonly block: Block
  readonly state: StateStore
  readonly included: readonly PooledExtrinsic[]
  readonly refused: readonly { readonly extrinsic: PooledExtrinsic; readonly error: RpcError }[]
}

/** Begins a block on a state: what `system_dryRun` and building share. */
export function beginBlock(
  runtime: Runtime,
  parent: Block,
  state: StateStore,
  plan: BlockPlan,
  traits: RuntimeTraits,
): { readonly storage: StateOverlay; readonly inherents: readonly Uint8Array[] } {
  const storage = state.overlay()
  const number = parent.header.number + 1
  const header = encodeHeader({
    parentHash: hashBytes(parent.hash),
    number,
    stateRoot: NONE,
    extrinsicsRoot: NONE,
    digest: plan.digest,
  })
  runtime.call('Core_initialize_block', header, storage)
  const inherents = makeInherents(runtime, storage, plan, traits)
  writeParachainData(storage, traits, encodeHeader(parent.header), number)
  for (const inherent of inherents) {
    const refused = readApplied(runtime.call('BlockBuilder_apply_extrinsic', inherent, storage))
    if (refused !== undefined) {
      throw new ChoraleError('ledger', `the runtime refuses its own inherent: ${refused.error.data ?? ''}`)
    }
  }
  return { storage, inherents }
}

/** Builds a block on `parent` of as many of the extrinsics as fit, in order. @throws `ledger` when the runtime panics. */
export function buildBlock(
  runtime: Runtime,
  parent: Block,
  state: StateStore,
  plan: BlockPlan,
  traits: RuntimeTraits,
  offered: readonly PooledExtrinsic[],
): BuiltBlock {
  const { storage, inherents } = beginBlock(runtime, parent, state, plan, traits)
  const included: PooledExtrinsic[] = []
  const refused: { extrinsic: PooledExtrinsic; error: RpcError }[] = []
  for (const extrinsic of offered.slice(0, MAX_EXTRINSICS)) {
    const problem = applyExtrinsic(runtime, storage, extrinsic.bytes)
    if (problem === undefined) {
      included.push(extrinsic)
    } else if (problem.exhausts && included.length > 0) {
      break // full: the rest is for the next block
    } else {
      refused.push({ extrinsic, error: problem.error })
    }
  }
  const header = decodeHeader(runtime.call('BlockBuilder_finalize_block', new Uint8Array(), storage))
  const block = {
    hash: headerHash(encodeHeader(header)),
    header,
    extrinsics: [...inherents, ...included.map(({ bytes }) => bytes)],
  }
  return { block, state: stateOf(storage.trie), included, refused }
}

/** Applies an extrinsic; one that may not be included leaves no trace. @returns why it may not. */
function applyExtrinsic(
  runtime: Runtime,
  storage: StateOverlay,
  extrinsic: Uint8Array,
): { readonly exhausts: boolean; readonly error: RpcError } | undefined {
  storage.startTransaction()
  const { depth } = storage
  let problem
  try {
    problem = readApplied(runtime.call('BlockBuilder_apply_extrinsic', extrinsic, storage))
  } catch (error) {
    // A panic inside a call: the transactions that it left open go with it.
    problem = { exhausts: false, error: invalidTransaction(errorMessage(error)) }
  }
  while (storage.depth > depth) storage.rollbackTransaction()
  if (problem === undefined) storage.commitTransaction()
  else storage.rollbackTransaction()
  return problem
}
