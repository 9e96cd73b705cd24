import { blake2b } from '@noble/hashes/blake2.js'
import { ChoraleError, errorMessage, isChoraleError } from '../../../errors.ts'
import type { LedgerValue } from '../../ledger.ts'
import { createStateStore, stateOf, type StateOverlay, type StateStore } from '../storage.ts'
import { withLength } from './extrinsic.ts'
import { toHex } from '../../hex.ts'
import type { NativeRuntime } from './runtime.ts'
import { ScaleWriter } from './scale-bytes.ts'

/** Blocks whose state is kept for reads; bounds the memory of a long simulation. */
const MAX_BLOCKS = 4096
/** Transactions waiting; bounds the memory that somebody who only sends can take. */
const MAX_QUEUE = 16_384
const NO_HASH = new Uint8Array(32)

/** A block that was made. */
export interface NativeBlock {
  readonly number: number
  readonly hash: string
  readonly parentHash: string
  /** SCALE header. */
  readonly header: Uint8Array
  /** Without length prefixes. */
  readonly extrinsics: readonly Uint8Array[]
  readonly state: StateStore
}

/** What became of a transaction: the block and its place there, or the reason why it never will be in one. */
export type Outcome = { readonly block: NativeBlock; readonly index: number } | { readonly refused: string }

/** A chain of one node in this process, without pool, forks or RPC: what fast tests and simulations need. */
export interface NativeChain {
  readonly native: NativeRuntime
  readonly genesis: NativeBlock
  readonly head: NativeBlock
  /** By number or hash; undefined when unknown or forgotten. */
  block(at: number | string): NativeBlock | undefined
  /** Queues an extrinsic (without length prefix) for the next block. `done` hears what became of it. */
  send(body: Uint8Array, done: (outcome: Outcome) => void): void
  /** Makes so many blocks, the first with all that waits. @returns the last one. */
  produce(count?: number): NativeBlock
  /** Calls back for every block made, before anybody hears of its transactions; returns how to stop. */
  listen(listener: (block: NativeBlock) => void): () => void
}

/** @param startMs time of block 1, milliseconds since the epoch; later blocks follow at `blockMs` */
export function createNativeChain(native: NativeRuntime, blockMs: number, startMs: number): NativeChain {
  const byNumber = new Map<number, NativeBlock>()
  const byHash = new Map<string, NativeBlock>()
  const queue: Waiting[] = []
  const listeners = new Set<(block: NativeBlock) => void>()

  function remember(block: NativeBlock): NativeBlock {
    byNumber.set(block.number, block)
    byHash.set(block.hash, block)
    const old = byNumber.get(block.number - MAX_BLOCKS)
    if (old !== undefined && old.number > 0) {
      byNumber.delete(old.number)
      byHash.delete(old.hash)
    }
    return block
  }

  const genesisState = createStateStore(native.genesis)
  const genesis = remember(
    sealed(native, genesisState, {
      parent_hash: toHex(NO_HASH),
      number: 0,
      state_root: toHex(genesisState.root(1)),
      // The root of no extrinsics at all.
      extrinsics_root: toHex(blake2b(Uint8Array.of(0), { dkLen: 32 })),
      digest: { logs: [] },
    }),
  )
  let head = genesis

  function make(): void {
    const offered = queue.splice(0)
    try {
      const { block, included, refused, later } = build(
        native,
        head,
        startMs + head.number * blockMs,
        offered,
      )
      queue.unshift(...later)
      head = remember(block)
      for (const listener of listeners) listener(head)
      for (const { index, done } of included) done({ block, index })
      for (const { reason, done } of refused) done({ refused: reason })
    } catch (error) {
      for (const { done } of offered) done({ refused: errorMessage(error) })
      throw error
    }
  }

  return {
    native,
    genesis,
    get head() {
      return head
    },
    block: (at) => (typeof at === 'number' ? byNumber.get(at) : byHash.get(at)),
    send(body, done) {
      if (queue.length >= MAX_QUEUE)
        throw new ChoraleError('limit', `${MAX_QUEUE} transactions wait already; produce a block first`)
      queue.push({ body, done })
    },
    produce(count = 1) {
      for (let made = 0; made < count; made++) make()
      return head
    },
    listen(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  }
}

interface Waiting {
  readonly body: Uint8Array
  readonly done: (outcome: Outcome) => void
}

/** Builds one block of as much of what is offered as fits. @throws `ledger` when the runtime panics */
function build(
  native: NativeRuntime,
  parent: NativeBlock,
  time: number,
  offered: readonly Waiting[],
): {
  readonly block: NativeBlock
  readonly included: readonly (Pick<Waiting, 'done'> & { readonly index: number })[]
  readonly refused: readonly (Pick<Waiting, 'done'> & { readonly reason: string })[]
  readonly later: readonly Waiting[]
} {
  const { runtime, types } = native
  const overlay = parent.state.overlay()
  const header = {
    parent_hash: parent.hash,
    number: parent.number + 1,
    state_root: toHex(NO_HASH),
    extrinsics_root: toHex(NO_HASH),
    digest: { logs: [] },
  }
  runtime.call('Core_initialize_block', types.table.encode('Header', header), overlay)
  const extrinsics: Uint8Array[] = []
  const inherents = runtime.call('BlockBuilder_inherent_extrinsics', inherentData(time), overlay)
  for (const body of types.table.decode('Vec<UncheckedExtrinsic>', inherents) as readonly Uint8Array[]) {
    const reason = apply(native, overlay, body)
    if (reason !== undefined) throw new ChoraleError('ledger', `the block's own extrinsic: ${reason}`)
    extrinsics.push(body)
  }
  const included: { index: number; done: Waiting['done'] }[] = []
  const refused: { reason: string; done: Waiting['done'] }[] = []
  const later: Waiting[] = []
  for (const waiting of offered) {
    const { body, done } = waiting
    const reason = apply(native, overlay, body)
    if (reason === 'ExhaustsResources') later.push(waiting)
    else if (reason === undefined) included.push({ index: extrinsics.push(body) - 1, done })
    else refused.push({ reason, done })
  }
  const finished = runtime.call('BlockBuilder_finalize_block', new Uint8Array(), overlay)
  const made = types.table.decode('Header', finished) as Readonly<Record<string, LedgerValue>>
  const block = { ...sealed(native, stateOf(overlay.trie), made), extrinsics }
  return { block, included, refused, later }
}

function sealed(
  native: NativeRuntime,
  state: StateStore,
  fields: Readonly<Record<string, LedgerValue>>,
): NativeBlock {
  const header = native.types.table.encode('Header', fields)
  return {
    number: fields['number'] as number,
    hash: toHex(blake2b(header, { dkLen: 32 })),
    parentHash: fields['parent_hash'] as string,
    header,
    extrinsics: [],
    state,
  }
}

/** Applies an extrinsic. @returns why it can't be in the block; then nothing of it stays. */
function apply(native: NativeRuntime, overlay: StateOverlay, body: Uint8Array): string | undefined {
  const { runtime, types } = native
  overlay.startTransaction()
  const { depth } = overlay
  let refused: string | undefined
  try {
    const result = types.table.decode(
      'Result<Result<(), DispatchError>, TransactionValidityError>',
      runtime.call('BlockBuilder_apply_extrinsic', withLength(body), overlay),
    ) as { readonly type: string; readonly value: { readonly value?: LedgerValue } }
    refused = result.type === 'Ok' ? undefined : textOf(result.value.value)
  } catch (error) {
    if (!isChoraleError(error)) throw error
    refused = error.message
  }
  while (overlay.depth > depth) overlay.rollbackTransaction()
  if (refused === undefined) overlay.commitTransaction()
  else overlay.rollbackTransaction()
  return refused
}

/** `InherentData` with the time. */
function inherentData(now: number): Uint8Array {
  const writer = new ScaleWriter()
  writer.compact(1)
  writer.bytes(new TextEncoder().encode('timstap0'))
  writer.compact(8)
  writer.big(BigInt(now), 8)
  return writer.finish()
}

/** Why a transaction is not valid: a variant's name, or its number where it has none. */
function textOf(reason: LedgerValue): string {
  return typeof reason === 'string' ? reason : JSON.stringify(reason)
}
