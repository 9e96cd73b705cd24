import { beginBlock, buildBlock, type BuiltBlock } from './block-builder.ts'
import type { Block } from './chain.ts'
import { type BlockPlan, planBlock, type RuntimeTraits, readTraits } from './inherents.ts'
import type { PooledExtrinsic } from './pool.ts'
import { readRuntimeVersion, type RuntimeVersion } from './runtime-version.ts'
import type { Runtime } from './runtime.ts'
import type { StateStore } from './storage.ts'

/** The single authority: it says what time it is, and makes blocks as the runtime of a state wants them. */
export class BlockAuthor {
  readonly runtime: Runtime
  readonly #now: () => number
  readonly #versions = new WeakMap<StateStore, RuntimeVersion>()
  #traits: { readonly specVersion: number; readonly traits: RuntimeTraits } | undefined
  #clockOffset = 0

  /** @param now milliseconds since the epoch */
  constructor(runtime: Runtime, now: () => number) {
    this.runtime = runtime
    this.#now = now
  }

  /** The chain's clock, milliseconds since the epoch. */
  get clock(): number {
    return this.#now() + this.#clockOffset
  }

  /** Sets the clock; the next block has this time, or follows its parent if that is later. */
  set clock(timestamp: number) {
    this.#clockOffset = timestamp - this.#now()
  }

  /** The version of the runtime on a state. */
  version(state: StateStore): RuntimeVersion {
    let version = this.#versions.get(state)
    if (version === undefined) {
      version = readRuntimeVersion(this.runtime, state)
      this.#versions.set(state, version)
    }
    return version
  }

  /**
   * Builds a block of what of `offered` fits.
   * @param everyMs least time between two blocks' timestamps where the runtime has no slots
   * @param fork tells blocks on the same parent apart
   * @throws `ledger` when the runtime panics.
   */
  build(
    parent: Block,
    state: StateStore,
    everyMs: number,
    fork: number,
    offered: readonly PooledExtrinsic[],
  ): BuiltBlock {
    const traits = this.#readTraits(state)
    return buildBlock(this.runtime, parent, state, this.#plan(state, traits, everyMs, fork), traits, offered)
  }

  /** What including an extrinsic in the next block would return, SCALE `ApplyExtrinsicResult`; nothing is kept. */
  dryRun(extrinsic: Uint8Array, parent: Block, state: StateStore, everyMs: number): Uint8Array {
    const traits = this.#readTraits(state)
    const { storage } = beginBlock(this.runtime, parent, state, this.#plan(state, traits, everyMs, 0), traits)
    return this.runtime.call('BlockBuilder_apply_extrinsic', extrinsic, storage)
  }

  #plan(state: StateStore, traits: RuntimeTraits, everyMs: number, fork: number): BlockPlan {
    return planBlock(traits, state, this.clock, everyMs, fork)
  }

  #readTraits(state: StateStore): RuntimeTraits {
    const { specVersion } = this.version(state)
    if (this.#traits?.specVersion !== specVersion) {
      this.#traits = { specVersion, traits: readTraits(this.runtime, state) }
    }
    return this.#traits.traits
  }
}
