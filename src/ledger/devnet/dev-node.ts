import { ChoraleError, errorMessage } from '../../errors.ts'
import { type Logger, silentLogger } from '../../log.ts'
import { beginBlock, buildBlock } from './block-builder.ts'
import { BlockTimer, type BlockMode } from './block-timer.ts'
import { type Block, Chain, genesisBlock, type HeadChange } from './chain.ts'
import { type ChainLog, ChainStore } from './chain-store.ts'
import { hashBytes } from './header.ts'
import { type ExtrinsicStatus, ExtrinsicWatchers } from './extrinsic-watchers.ts'
import { planBlock, type RuntimeTraits, readTraits, stateTime } from './inherents.ts'
import { toHex } from '../hex.ts'
import { type PoolLimits, TransactionPool } from './pool.ts'
import { RpcError, stateDiscarded, unknownBlock } from './rpc-error.ts'
import { readRuntimeVersion, type RuntimeVersion } from './runtime-version.ts'
import type { Runtime } from './runtime.ts'
import { createStateStore, type StateStore, stateOf } from './storage.ts'
import { blake2b256 } from './trie-root.ts'
import { readValidity } from './validity.ts'

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

/** Largest extrinsic taken in: above every block length limit in use. */
const MAX_EXTRINSIC_BYTES = 5 * 2 ** 20
/** Blocks that one request may build. */
const MAX_BUILD = 1000
/** @polkadot/api looks a block up when it hears "in block", and forgets to say so if "finalized" comes meanwhile. */
const FINALITY_DELAY_MS = 50
/** `TransactionSource::External`. */
const EXTERNAL = 2

/** A single authority's node: a chain, a pool, a clock, and a runtime that makes blocks. */
export class DevNode {
  readonly chain: Chain
  readonly runtime: Runtime
  readonly name: string
  readonly properties: Readonly<Record<string, unknown>>
  readonly pool: TransactionPool
  readonly #options: DevNodeOptions
  readonly #logger: Logger
  readonly #store: ChainStore | undefined
  readonly #listeners = new Set<ChainListener>()
  readonly #watchers = new ExtrinsicWatchers()
  readonly #versions = new WeakMap<StateStore, RuntimeVersion>()
  #finalityLag: number
  readonly #timer = new BlockTimer(() => this.#tryBuild())
  readonly #news = new Set<ReturnType<typeof setTimeout>>()
  #traits: { readonly specVersion: number; readonly traits: RuntimeTraits } | undefined
  #clockOffset = 0
  #forks = 0
  #closed = false

  /** @throws `bad_file`, `bad_config` as the log's records say, `ledger` when the runtime cannot begin. */
  constructor(options: DevNodeOptions) {
    this.#options = options
    this.#logger = options.logger ?? silentLogger
    this.runtime = options.runtime
    this.name = options.name
    this.properties = options.properties
    this.pool = new TransactionPool(options.poolLimits)
    const state = createStateStore(options.genesis)
    this.chain = new Chain(
      genesisBlock(state, readRuntimeVersion(options.runtime, state).stateVersion),
      state,
    )
    if (options.log !== undefined) {
      this.#store = new ChainStore(options.log)
      this.#store.restore(this.chain, (at) => this.version(at).stateVersion)
    }
    this.#finalityLag = options.finalityLag ?? 0
    this.#timer.mode = options.mode ?? 'instant'
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
    return this.#finalityLag
  }

  set finalityLag(blocks: number) {
    this.#finalityLag = blocks
    this.#finalize()
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
    let version = this.#versions.get(state)
    if (version === undefined) {
      version = readRuntimeVersion(this.runtime, state)
      this.#versions.set(state, version)
    }
    return version
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
    if (extrinsic.length > MAX_EXTRINSIC_BYTES) {
      throw new RpcError(
        1001,
        `Extrinsic has invalid format: ${extrinsic.length} bytes, the limit is ${MAX_EXTRINSIC_BYTES}`,
      )
    }
    const hash = toHex(blake2b256(extrinsic))
    const number = this.chain.head.header.number
    this.pool.check(hash, extrinsic.length, number)
    const validity = this.#validate(extrinsic)
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
    if (this.pool.readyCount > 0) this.#timer.ready()
    return { hash, unwatch }
  }

  /** Takes an extrinsic out of the pool, with what depends on it. @returns their hashes */
  forget(hash: string): readonly string[] {
    const removed = this.pool.remove(hash, { block: this.chain.head.header.number })
    for (const gone of removed) this.#watchers.tell(gone, 'dropped')
    return removed
  }

  /** What including an extrinsic in the next block would return, SCALE `ApplyExtrinsicResult`; nothing is kept. */
  dryRun(extrinsic: Uint8Array, at?: string): Uint8Array {
    const block = this.block(at)
    const state = this.state(at)
    const traits = this.#readTraits(state)
    const { storage } = beginBlock(this.runtime, block, state, this.#plan(state, traits), traits)
    return this.runtime.call('BlockBuilder_apply_extrinsic', extrinsic, storage)
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
    for (const block of retracted) this.#watchers.tellBlock(block, { retracted: block.hash })
    if (transactions === 'include') this.#refill(undone, parent)
    this.#forks++
    const before = this.chain.headState
    for (let i = 0; i <= depth; i++) parent = this.#extend(parent, false).block
    this.#enact(parent, before)
    this.#refill(transactions === 'pool' ? [...undone, ...waiting] : waiting, parent)
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
    this.#clockOffset = timestamp - this.#now()
    return timestamp
  }

  /** The chain's clock. */
  get clock(): number {
    return this.#now() + this.#clockOffset
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
    for (const timer of this.#news) clearTimeout(timer)
    this.#listeners.clear()
    this.#watchers.clear()
    this.#store?.close()
  }

  #buildOne(): void {
    const before = this.chain.headState
    const { block } = this.#extend(this.chain.head, true)
    this.#enact(block, before)
  }

  /** Adds a block to the tree; the pool's extrinsics that it took, or that proved wrong, leave the pool. */
  #extend(parent: Block, onHead: boolean): { readonly block: Block } {
    if (this.#closed) throw new ChoraleError('ledger', 'the dev chain is closed')
    const state = this.state(parent.hash)
    const traits = this.#readTraits(state)
    const plan = this.#plan(state, traits, onHead ? 0 : this.#forks)
    const built = buildBlock(this.runtime, parent, state, plan, traits, this.pool.ready())
    const { number } = built.block.header
    this.chain.add(built.block, built.state)
    for (const { extrinsic, error } of built.refused) {
      this.#logger.debug('extrinsic refused while building', {
        hash: extrinsic.hash,
        reason: error.data ?? error.message,
      })
      const [first, ...others] = this.pool.remove(extrinsic.hash, { block: number })
      if (first !== undefined) this.#watchers.tell(first, 'invalid')
      for (const other of others) this.#watchers.tell(other, 'dropped')
    }
    for (const { hash } of built.included) {
      for (const promoted of this.pool.include(hash)) this.#watchers.tell(promoted, 'ready')
    }
    for (const hash of this.pool.expire(number)) this.#watchers.tell(hash, 'dropped')
    this.#tellUsurped()
    return built
  }

  #enact(head: Block, before: StateStore): void {
    const change = this.chain.setHead(head.hash)
    for (const block of change.enacted) this.#store?.block(this.chain, block)
    for (const block of change.enacted) this.#watchers.tellBlock(block, { inBlock: block.hash })
    this.#notify((listener) => listener.onHead?.(change, before))
    this.#finalize()
    this.#store?.head(this.chain)
    if (this.pool.readyCount > 0) this.#timer.ready()
  }

  #finalize(): void {
    const final = this.chain.finalize(this.chain.head.header.number - this.#finalityLag)
    if (final.length === 0) return
    const timer = setTimeout(() => {
      this.#news.delete(timer)
      this.#notify((listener) => listener.onFinalized?.(final))
      for (const block of final) this.#watchers.tellBlock(block, { finalized: block.hash })
    }, this.#options.finalityDelayMs ?? FINALITY_DELAY_MS)
    this.#news.add(timer)
  }

  #refill(extrinsics: readonly Uint8Array[], at: Block): void {
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

  #validate(extrinsic: Uint8Array, at: Block = this.chain.head): ReturnType<typeof readValidity> {
    const input = new Uint8Array(1 + extrinsic.length + 32)
    input[0] = EXTERNAL
    input.set(extrinsic, 1)
    input.set(hashBytes(at.hash), 1 + extrinsic.length)
    try {
      return readValidity(this.call('TaggedTransactionQueue_validate_transaction', input, at.hash))
    } catch (error) {
      // A runtime panics on bytes that are no extrinsic.
      throw new RpcError(1002, `Verification Error: Runtime error: ${errorMessage(error)}`)
    }
  }

  #plan(state: StateStore, traits: RuntimeTraits, fork = 0): ReturnType<typeof planBlock> {
    const { mode } = this
    const every = typeof mode === 'object' ? mode.everyMs : 1
    return planBlock(traits, state, this.clock, this.#options.leastBlockMs ?? every, fork)
  }

  #readTraits(state: StateStore): RuntimeTraits {
    const { specVersion } = this.version(state)
    if (this.#traits?.specVersion !== specVersion) {
      this.#traits = { specVersion, traits: readTraits(this.runtime, state) }
    }
    return this.#traits.traits
  }

  #now(): number {
    return (this.#options.now ?? Date.now)()
  }

  #tryBuild(): void {
    if (this.#closed || (this.mode === 'instant' && this.pool.readyCount === 0)) return
    try {
      this.#buildOne()
    } catch (error) {
      this.#logger.error('no block could be made', { reason: errorMessage(error) })
    }
  }

  #tellUsurped(by = ''): void {
    for (const hash of this.pool.takeUsurped())
      this.#watchers.tell(hash, by === '' ? 'dropped' : { usurped: by })
  }

  #notify(tell: (listener: ChainListener) => void): void {
    for (const listener of this.#listeners) tell(listener)
  }
}
