import { errorMessage } from '../../errors.ts'
import { type Logger, silentLogger } from '../../log.ts'
import { BlockAuthor } from './block-author.ts'
import { BlockTimer, type BlockMode } from './block-timer.ts'
import { type Block, Chain, genesisBlock } from './chain.ts'
import { type ChainLog, ChainStore } from './chain-store.ts'
import { type ChainListener, ChainWriter, type UndoneExtrinsics } from './chain-writer.ts'
import { ExtrinsicIntake } from './extrinsic-intake.ts'
import type { ExtrinsicStatus } from './extrinsic-watchers.ts'
import { findBlock, findState } from './find-block.ts'
import { stateTime } from './inherents.ts'
import type { PoolLimits, TransactionPool } from './pool.ts'
import { RpcError } from './rpc-error.ts'
import type { RuntimeVersion } from './runtime-version.ts'
import type { Runtime } from './runtime.ts'
import { createStateStore, type StateStore } from './storage.ts'

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
  readonly #intake: ExtrinsicIntake
  readonly #author: BlockAuthor
  readonly #writer: ChainWriter
  readonly #timer = new BlockTimer(() => this.#tryBuild())
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
    const store = options.log && new ChainStore(options.log)
    store?.restore(this.chain, (at) => this.version(at).stateVersion)
    this.#writer = new ChainWriter({
      chain: this.chain,
      author: this.#author,
      intake: this.#intake,
      store,
      finalityLag: options.finalityLag ?? 0,
      finalityDelayMs: options.finalityDelayMs,
      leastBlockMs: () => this.#leastBlockMs,
      onHead: () => this.#wakeTimer(),
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
    this.#wakeTimer()
  }

  /** Blocks by which finality lags behind the best block. */
  get finalityLag(): number {
    return this.#writer.finalityLag
  }

  set finalityLag(blocks: number) {
    this.#writer.finalityLag = blocks
  }

  /** Tells a listener of everything from now on. @returns how to stop. */
  listen(listener: ChainListener): () => void {
    return this.#writer.listen(listener)
  }

  /** Who listens now. */
  get listenerCount(): number {
    return this.#writer.listenerCount
  }

  /** A block by its hash, the best one without. @throws RpcError */
  block(hash?: string): Block {
    return findBlock(this.chain, hash)
  }

  /** The state after a block, the best one without a hash. @throws RpcError when unknown or no longer kept. */
  state(hash?: string): StateStore {
    return findState(this.chain, hash)
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
    this.#wakeTimer()
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
    for (let i = 0; i < count; i++) this.#writer.build()
    return this.chain.head
  }

  /**
   * Replaces the last `depth` blocks by a longer fork, as a network does before blocks are final.
   * @param transactions `include` puts the old blocks' extrinsics into the fork's first block, `pool` leaves them waiting,
   *   `drop` forgets them
   * @throws RpcError when that would undo final blocks.
   */
  reorg(depth: number, transactions: UndoneExtrinsics = 'include'): Block {
    return this.#writer.reorg(depth, transactions)
  }

  /** Writes to the state after the best block; undefined removes. The block's root no longer matches, its successors' do. */
  setStorage(pairs: readonly (readonly [key: Uint8Array, value: Uint8Array | undefined])[]): void {
    this.#writer.setStorage(pairs)
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
    this.#writer.close()
  }

  /** What is ready gets a block, where the mode says so. */
  #wakeTimer(): void {
    if (this.pool.readyCount > 0) this.#timer.ready()
  }

  get #leastBlockMs(): number {
    const { mode } = this
    return this.#options.leastBlockMs ?? (typeof mode === 'object' ? mode.everyMs : 1)
  }

  #tryBuild(): void {
    if (this.#closed || (this.mode === 'instant' && this.pool.readyCount === 0)) return
    try {
      this.#writer.build()
    } catch (error) {
      this.#logger.error('no block could be made', { reason: errorMessage(error) })
    }
  }
}
