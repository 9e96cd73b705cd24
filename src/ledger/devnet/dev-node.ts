import { ChoraleError, errorMessage } from '../../errors.ts'
import { type Logger, silentLogger } from '../../log.ts'
import { BlockAuthor } from './block-author.ts'
import { BlockTimer, type BlockMode } from './block-timer.ts'
import { type Block, Chain, genesisBlock, type HeadChange } from './chain.ts'
import { type ChainLog, ChainStore } from './chain-store.ts'
import { ExtrinsicIntake } from './extrinsic-intake.ts'
import type { ExtrinsicStatus } from './extrinsic-watchers.ts'
import { Finality } from './finality.ts'
import { stateTime } from './inherents.ts'
import type { PoolLimits, TransactionPool } from './pool.ts'
import { RpcError, stateDiscarded, unknownBlock } from './rpc-error.ts'
import type { RuntimeVersion } from './runtime-version.ts'
import type { Runtime } from './runtime.ts'
import { createStateStore, type StateStore, stateOf } from './storage.ts'

export interface DevNodeOptions {
  readonly runtime: Runtime
  readonly genesis: Iterable<readonly [key: Uint8Array, value: Uint8Array]>
  readonly name: string
  /** As `system_properties` prints them. */
  readonly properties: Readonly<Record<string, unknown>>
  readonly mode?: BlockMode
  /** Blocks by which finality lags behind the best block; 0 = each block is final at once. */
  readonly finalityLag?: number
  /** Milliseconds between a block and the news that it is final; default 50. */
  readonly finalityDelayMs?: number
  /** Least time between two blocks' timestamps where the runtime has no slots. */
  readonly leastBlockMs?: number
  /** Keeps the chain across restarts. */
  readonly log?: ChainLog
  readonly logger?: Logger
  readonly poolLimits?: PoolLimits
  /** The clock, milliseconds since the epoch. */
  readonly now?: () => number
}

/** What those who follow the chain are told; nothing may throw. */
export interface ChainListener {
  onHead?(change: HeadChange, before: StateStore): void
  onFinalized?(blocks: readonly Block[]): void
}

/** Blocks that one request may build. */
const MAX_BUILD = 1000

/** A single authority's node: a chain, a pool, a clock, and a runtime that makes blocks. */
export class DevNode {
  readonly chain: Chain
  readonly runtime: Runtime
  readonly name: string
  readonly properties: Readonly<Record<string, unknown>>
  readonly #options: DevNodeOptions
  readonly #logger: Logger
  readonly #store: ChainStore | undefined
  readonly #listeners = new Set<ChainListener>()
  readonly #intake: ExtrinsicIntake
  readonly #author: BlockAuthor
  readonly #finality: Finality
  readonly #timer = new BlockTimer(() => this.#tryBuild())
  #forks = 0
  #closed = false

  /** @throws `bad_file`, `bad_config` as the log's records say, `ledger` when the runtime cannot begin. */
  constructor(options: DevNodeOptions) {
    this.#options = options
    this.#logger = options.logger ?? silentLogger
    this.runtime = options.runtime
    this.name = options.name
    this.properties = options.properties
    this.#intake = new ExtrinsicIntake(
      (entry, input, at) => this.call(entry, input, at),
      this.#logger,
      options.poolLimits,
    )
    this.#author = new BlockAuthor(options.runtime, () => (options.now ?? Date.now)())
    const state = createStateStore(options.genesis)
    this.chain = new Chain(genesisBlock(state, this.#author.version(state).stateVersion), state)
    if (options.log !== undefined) {
      this.#store = new ChainStore(options.log)
      this.#store.restore(this.chain, (at) => this.version(at).stateVersion)
    }
    this.#finality = new Finality(this.chain, options.finalityLag ?? 0, options.finalityDelayMs, (final) => {
      this.#notify((listener) => listener.onFinalized?.(final))
      for (const block of final) this.#intake.tellBlock(block, { finalized: block.hash })
    })
    this.#timer.mode = options.mode ?? 'instant'
  }

  /** What waits for a block. */
  get pool(): TransactionPool {
    return this.#intake.pool
  }

  get mode(): BlockMode {
    return this.#timer.mode
  }

  /** Changes when blocks are made, from now on. */
  set mode(mode: BlockMode) {
    this.#timer.mode = mode
    if (this.pool.readyCount > 0) this.#timer.ready()
  }

  /** Blocks by which finality lags behind the best block. */
  get finalityLag(): number {
    return this.#finality.lag
  }

  set finalityLag(blocks: number) {
    this.#finality.lag = blocks
    this.#finality.advance()
    this.#store?.head(this.chain)
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

  /** A block by its hash, the best one without. @throws RpcError */
  block(hash?: string): Block {
    if (hash === undefined) return this.chain.head
    const block = this.chain.block(hash)
    if (block === undefined) throw unknownBlock(hash)
    return block
  }

  /** The state after a block, the best one without a hash. @throws RpcError when unknown or no longer kept. */
  state(hash?: string): StateStore {
    const block = this.block(hash)
    const state = this.chain.state(block.hash)
    if (state === undefined) throw stateDiscarded(block.hash)
    return state
  }

  /** Runs a runtime entry on the state after a block; what it writes is forgotten. */
  call(entry: string, input: Uint8Array, at?: string): Uint8Array {
    return this.runtime.call(entry, input, this.state(at).overlay())
  }

  /** The version of the runtime on a state. */
  version(state: StateStore = this.chain.headState): RuntimeVersion {
    return this.#author.version(state)
  }

  /**
   * Takes an extrinsic into the pool.
   * @param watch hears how it fares until it is final or lost
   * @returns its hash, and how to stop watching
   * @throws RpcError as Substrate's `author_submitExtrinsic`.
   */
  submit(
    extrinsic: Uint8Array,
    watch?: (status: ExtrinsicStatus) => void,
  ): { readonly hash: string; readonly unwatch: () => void } {
    const taken = this.#intake.submit(extrinsic, this.chain.head, watch)
    if (this.pool.readyCount > 0) this.#timer.ready()
    return taken
  }

  /** Takes an extrinsic out of the pool, with what depends on it. @returns their hashes */
  forget(hash: string): readonly string[] {
    return this.#intake.forget(hash, this.chain.head.header.number)
  }

  /** What including an extrinsic in the next block would return, SCALE `ApplyExtrinsicResult`; nothing is kept. */
  dryRun(extrinsic: Uint8Array, at?: string): Uint8Array {
    return this.#author.dryRun(extrinsic, this.block(at), this.state(at), this.#leastBlockMs)
  }

  /** Makes blocks of what is ready, one after another. @throws `ledger` when the runtime panics, RpcError over the limit. */
  build(count = 1): Block {
    if (count > MAX_BUILD) throw new RpcError(-32602, `Invalid params: at most ${MAX_BUILD} blocks at once`)
    for (let i = 0; i < count; i++) this.#buildOne()
    return this.chain.head
  }

  /**
   * Replaces the last `depth` blocks by a longer fork, as a network does before blocks are final.
   * @param transactions `include` puts the old blocks' extrinsics into the fork's first block, `pool` leaves them waiting,
   *   `drop` forgets them
   * @throws RpcError when that would undo final blocks.
   */
  reorg(depth: number, transactions: 'include' | 'pool' | 'drop' = 'include'): Block {
    const { head, finalized } = this.chain
    const fork = head.header.number - depth
    if (depth < 1 || fork < finalized.header.number) {
      throw new RpcError(
        -32602,
        `Invalid params: depth ${depth} at block ${head.header.number}, block ${finalized.header.number} is final`,
      )
    }
    const retracted: Block[] = []
    for (let number = head.header.number; number > fork; number--) {
      retracted.push(this.block(this.chain.hashAt(number)))
    }
    const waiting = this.pool.all().map(({ bytes }) => bytes)
    const undone = retracted.toReversed().flatMap(({ extrinsics }) => extrinsics)
    let parent = this.block(this.chain.hashAt(fork))
    this.pool.clear()
    for (const block of retracted) this.#intake.tellBlock(block, { retracted: block.hash })
    if (transactions === 'include') this.#intake.refill(undone, parent)
    this.#forks++
    const before = this.chain.headState
    for (let i = 0; i <= depth; i++) parent = this.#extend(parent, this.#forks)
    this.#enact(parent, before)
    this.#intake.refill(transactions === 'pool' ? [...undone, ...waiting] : waiting, parent)
    return parent
  }

  /** Writes to the state after the best block; undefined removes. The block's root no longer matches, its successors' do. */
  setStorage(pairs: readonly (readonly [key: Uint8Array, value: Uint8Array | undefined])[]): void {
    const { head, headState } = this.chain
    const overlay = headState.overlay()
    for (const [key, value] of pairs) {
      if (value === undefined) overlay.clear(key)
      else overlay.set(key, value)
    }
    this.chain.replaceState(head.hash, stateOf(overlay.trie))
    this.#store?.patch(head.hash, headState.trie, overlay.trie)
    this.#notify((listener) => listener.onHead?.({ retracted: [], enacted: [] }, headState))
  }

  /** Sets the chain's clock; the next block has this time, or follows its parent if that is later. @returns the time set. */
  timeTravel(timestamp: number): number {
    this.#author.clock = timestamp
    return timestamp
  }

  /** The chain's clock. */
  get clock(): number {
    return this.#author.clock
  }

  /** Time of the best block. */
  get headTime(): number {
    return stateTime(this.chain.headState)
  }

  /** Stops making blocks; writes down where the chain is. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#timer.stop()
    this.#finality.stop()
    this.#listeners.clear()
    this.#intake.close()
    this.#store?.close()
  }

  #buildOne(): void {
    const before = this.chain.headState
    this.#enact(this.#extend(this.chain.head, 0), before)
  }

  /** Adds a block to the tree; the pool's extrinsics that it took, or that proved wrong, leave the pool. */
  #extend(parent: Block, fork: number): Block {
    if (this.#closed) throw new ChoraleError('ledger', 'the dev chain is closed')
    const state = this.state(parent.hash)
    const built = this.#author.build(parent, state, this.#leastBlockMs, fork, this.pool.ready())
    this.chain.add(built.block, built.state)
    this.#intake.settle(built)
    return built.block
  }

  #enact(head: Block, before: StateStore): void {
    const change = this.chain.setHead(head.hash)
    for (const block of change.enacted) this.#store?.block(this.chain, block)
    for (const block of change.enacted) this.#intake.tellBlock(block, { inBlock: block.hash })
    this.#notify((listener) => listener.onHead?.(change, before))
    this.#finality.advance()
    this.#store?.head(this.chain)
    if (this.pool.readyCount > 0) this.#timer.ready()
  }

  get #leastBlockMs(): number {
    const { mode } = this
    return this.#options.leastBlockMs ?? (typeof mode === 'object' ? mode.everyMs : 1)
  }

  #tryBuild(): void {
    if (this.#closed || (this.mode === 'instant' && this.pool.readyCount === 0)) return
    try {
      this.#buildOne()
    } catch (error) {
      this.#logger.error('no block could be made', { reason: errorMessage(error) })
    }
  }

  #notify(tell: (listener: ChainListener) => void): void {
    for (const listener of this.#listeners) tell(listener)
  }
}
