import { errorMessage } from '../../errors.ts'
import type { Logger } from '../../log.ts'
import { toHex } from '../hex.ts'
import type { BuiltBlock } from './block-builder.ts'
import type { Block } from './chain.ts'
import { type ExtrinsicStatus, ExtrinsicWatchers } from './extrinsic-watchers.ts'
import { hashBytes } from './header.ts'
import { type PoolLimits, TransactionPool } from './pool.ts'
import { RpcError } from './rpc-error.ts'
import { blake2b256 } from './trie-root.ts'
import { readValidity } from './validity.ts'

/** Largest extrinsic taken in: above every block length limit in use. */
const MAX_EXTRINSIC_BYTES = 5 * 2 ** 20
/** `TransactionSource::External`. */
const EXTERNAL = 2

/** Runs a runtime entry on the state after the block `at`. */
export type CallRuntime = (entry: string, input: Uint8Array, at: string) => Uint8Array

/** Takes extrinsics into the pool when the runtime says that they are valid, and tells who watches how they fare. */
export class ExtrinsicIntake {
  readonly pool: TransactionPool
  readonly #watchers = new ExtrinsicWatchers()
  readonly #call: CallRuntime
  readonly #logger: Logger

  constructor(call: CallRuntime, logger: Logger, limits?: PoolLimits) {
    this.#call = call
    this.#logger = logger
    this.pool = new TransactionPool(limits)
  }

  /**
   * Takes an extrinsic into the pool as it is valid after `head`.
   * @param watch hears how it fares until it is final or lost
   * @returns its hash, and how to stop watching
   * @throws RpcError as Substrate's `author_submitExtrinsic`.
   */
  submit(
    extrinsic: Uint8Array,
    head: Block,
    watch?: (status: ExtrinsicStatus) => void,
  ): { readonly hash: string; readonly unwatch: () => void } {
    if (extrinsic.length > MAX_EXTRINSIC_BYTES) {
      throw new RpcError(
        1001,
        `Extrinsic has invalid format: ${extrinsic.length} bytes, the limit is ${MAX_EXTRINSIC_BYTES}`,
      )
    }
    const hash = toHex(blake2b256(extrinsic))
    const { number } = head.header
    this.pool.check(hash, extrinsic.length, number)
    const validity = this.#validate(extrinsic, head)
    if ('error' in validity) {
      this.pool.remove(hash, { block: number })
      throw validity.error
    }
    const unwatch = watch === undefined ? () => undefined : this.#watchers.add(hash, watch)
    try {
      const { state, promoted } = this.pool.add(hash, extrinsic, validity, number)
      this.#watchers.tell(hash, state)
      for (const other of promoted) this.#watchers.tell(other, 'ready')
    } catch (error) {
      unwatch()
      throw error
    }
    this.#tellUsurped(hash)
    return { hash, unwatch }
  }

  /** Takes an extrinsic out of the pool, with what depends on it. @param number of the best block @returns their hashes */
  forget(hash: string, number: number): readonly string[] {
    const removed = this.pool.remove(hash, { block: number })
    for (const gone of removed) this.#watchers.tell(gone, 'dropped')
    return removed
  }

  /** What a block took, or proved wrong, leaves the pool; so does what waited too long. */
  settle({ block, included, refused }: BuiltBlock): void {
    const { number } = block.header
    for (const { extrinsic, error } of refused) {
      this.#logger.debug('extrinsic refused while building', {
        hash: extrinsic.hash,
        reason: error.data ?? error.message,
      })
      const [first, ...others] = this.pool.remove(extrinsic.hash, { block: number })
      if (first !== undefined) this.#watchers.tell(first, 'invalid')
      for (const other of others) this.#watchers.tell(other, 'dropped')
    }
    for (const { hash } of included) {
      for (const promoted of this.pool.include(hash)) this.#watchers.tell(promoted, 'ready')
    }
    for (const hash of this.pool.expire(number)) this.#watchers.tell(hash, 'dropped')
    this.#tellUsurped()
  }

  /** Puts extrinsics of undone blocks back, as far as they are valid after `at`. */
  refill(extrinsics: readonly Uint8Array[], at: Block): void {
    for (const extrinsic of extrinsics) {
      const hash = toHex(blake2b256(extrinsic))
      try {
        const validity = this.#validate(extrinsic, at)
        if ('error' in validity) throw validity.error
        const { state, promoted } = this.pool.add(hash, extrinsic, validity, at.header.number)
        this.#watchers.tell(hash, state)
        for (const other of promoted) this.#watchers.tell(other, 'ready')
      } catch {
        this.#watchers.tell(hash, 'dropped') // inherents among them, which nobody watches
      }
    }
    this.#tellUsurped()
  }

  /** Tells those who watch an extrinsic of the block. */
  tellBlock(block: Block, status: ExtrinsicStatus): void {
    this.#watchers.tellBlock(block, status)
  }

  /** Nobody is told anything from now on. */
  close(): void {
    this.#watchers.clear()
  }

  #validate(extrinsic: Uint8Array, at: Block): ReturnType<typeof readValidity> {
    const input = new Uint8Array(1 + extrinsic.length + 32)
    input[0] = EXTERNAL
    input.set(extrinsic, 1)
    input.set(hashBytes(at.hash), 1 + extrinsic.length)
    try {
      return readValidity(this.#call('TaggedTransactionQueue_validate_transaction', input, at.hash))
    } catch (error) {
      // A runtime panics on bytes that are no extrinsic.
      throw new RpcError(1002, `Verification Error: Runtime error: ${errorMessage(error)}`)
    }
  }

  #tellUsurped(by = ''): void {
    for (const hash of this.pool.takeUsurped())
      this.#watchers.tell(hash, by === '' ? 'dropped' : { usurped: by })
  }
}
