import { ChoraleError } from '../../errors.ts'
import type { BlockAuthor } from './block-author.ts'
import type { Block, Chain, HeadChange } from './chain.ts'
import type { ChainStore } from './chain-store.ts'
import type { ExtrinsicIntake } from './extrinsic-intake.ts'
import { Finality } from './finality.ts'
import { findBlock, findState } from './find-block.ts'
import { RpcError } from './rpc-error.ts'
import { type StateStore, stateOf } from './storage.ts'

/** What those who follow the chain are told; nothing may throw. */
export interface ChainListener {
  onHead?(change: HeadChange, before: StateStore): void
  onFinalized?(blocks: readonly Block[]): void
}

/** What writing a chain takes. */
export interface ChainWriterParts {
  readonly chain: Chain
  readonly author: BlockAuthor
  readonly intake: ExtrinsicIntake
  /** Keeps the chain across restarts. */
  readonly store: ChainStore | undefined
  readonly finalityLag: number
  readonly finalityDelayMs: number | undefined
  /** Least time between two blocks' timestamps where the runtime has no slots. */
  readonly leastBlockMs: () => number
  /** Called when all were told of a new best block. */
  readonly onHead: () => void
}

/** What becomes of the extrinsics of undone blocks: in the fork's first block, waiting in the pool, forgotten. */
export type UndoneExtrinsics = 'include' | 'pool' | 'drop'

/** Changes the chain: new blocks, forks, final blocks, patched states; tells listeners and watchers, keeps the log. */
export class ChainWriter {
  readonly #parts: ChainWriterParts
  readonly #finality: Finality
  readonly #listeners = new Set<ChainListener>()
  #forks = 0
  #closed = false

  constructor(parts: ChainWriterParts) {
    this.#parts = parts
    const { chain, intake, finalityLag, finalityDelayMs } = parts
    this.#finality = new Finality(chain, finalityLag, finalityDelayMs, (final) => {
      this.#notify((listener) => listener.onFinalized?.(final))
      for (const block of final) intake.tellBlock(block, { finalized: block.hash })
    })
  }

  /** Blocks by which finality lags behind the best block. */
  get finalityLag(): number {
    return this.#finality.lag
  }

  set finalityLag(blocks: number) {
    this.#finality.lag = blocks
    this.#finality.advance()
    this.#parts.store?.head(this.#parts.chain)
  }

  /** Tells a listener of everything from now on. @returns how to stop. */
  listen(listener: ChainListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Who listens now. */
  get listenerCount(): number {
    return this.#listeners.size
  }

  /** Makes a block of what is ready on the best one. @throws `ledger` when the runtime panics, or after `close`. */
  build(): void {
    const { chain } = this.#parts
    const before = chain.headState
    this.#enact(this.#extend(chain.head, 0), before)
  }

  /** Replaces the last `depth` blocks by a longer fork. @throws RpcError when that would undo final blocks. */
  reorg(depth: number, transactions: UndoneExtrinsics): Block {
    const { chain, intake } = this.#parts
    const { head, finalized } = chain
    const fork = head.header.number - depth
    if (depth < 1 || fork < finalized.header.number) {
      throw new RpcError(
        -32602,
        `Invalid params: depth ${depth} at block ${head.header.number}, block ${finalized.header.number} is final`,
      )
    }
    const retracted: Block[] = []
    for (let number = head.header.number; number > fork; number--) {
      retracted.push(findBlock(chain, chain.hashAt(number)))
    }
    const waiting = intake.pool.all().map(({ bytes }) => bytes)
    const undone = retracted.toReversed().flatMap(({ extrinsics }) => extrinsics)
    let parent = findBlock(chain, chain.hashAt(fork))
    intake.pool.clear()
    for (const block of retracted) intake.tellBlock(block, { retracted: block.hash })
    if (transactions === 'include') intake.refill(undone, parent)
    this.#forks++
    const before = chain.headState
    for (let i = 0; i <= depth; i++) parent = this.#extend(parent, this.#forks)
    this.#enact(parent, before)
    intake.refill(transactions === 'pool' ? [...undone, ...waiting] : waiting, parent)
    return parent
  }

  /** Writes to the state after the best block; undefined removes. The block's root no longer matches, its successors' do. */
  setStorage(pairs: readonly (readonly [key: Uint8Array, value: Uint8Array | undefined])[]): void {
    const { chain, store } = this.#parts
    const { head, headState } = chain
    const overlay = headState.overlay()
    for (const [key, value] of pairs) {
      if (value === undefined) overlay.clear(key)
      else overlay.set(key, value)
    }
    chain.replaceState(head.hash, stateOf(overlay.trie))
    store?.patch(head.hash, headState.trie, overlay.trie)
    this.#notify((listener) => listener.onHead?.({ retracted: [], enacted: [] }, headState))
  }

  /** No blocks and no news from now on; writes down where the chain is. */
  close(): void {
    this.#closed = true
    this.#finality.stop()
    this.#listeners.clear()
    this.#parts.intake.close()
    this.#parts.store?.close()
  }

  /** Adds a block to the tree; the pool's extrinsics that it took, or that proved wrong, leave the pool. */
  #extend(parent: Block, fork: number): Block {
    if (this.#closed) throw new ChoraleError('ledger', 'the dev chain is closed')
    const { chain, author, intake, leastBlockMs } = this.#parts
    const state = findState(chain, parent.hash)
    const built = author.build(parent, state, leastBlockMs(), fork, intake.pool.ready())
    chain.add(built.block, built.state)
    intake.settle(built)
    return built.block
  }

  #enact(head: Block, before: StateStore): void {
    const { chain, intake, store } = this.#parts
    const change = chain.setHead(head.hash)
    for (const block of change.enacted) store?.block(chain, block)
    for (const block of change.enacted) intake.tellBlock(block, { inBlock: block.hash })
    this.#notify((listener) => listener.onHead?.(change, before))
    this.#finality.advance()
    store?.head(chain)
    this.#parts.onHead()
  }

  #notify(tell: (listener: ChainListener) => void): void {
    for (const listener of this.#listeners) tell(listener)
  }
}
