import { ChoraleError } from '../../errors.ts'
import { encodeHeader, type Header, headerHash } from './header.ts'
import { toHex } from '../hex.ts'
import type { StateStore } from './storage.ts'
import { orderedTrieRoot } from './trie-root.ts'
import type { Trie } from './trie.ts'

/** Blocks below the best one whose state is kept, so that a forgotten dev chain does not fill memory. */
export const KEPT_STATES = 256
/** Blocks whose headers and extrinsics are kept, below the best one. */
export const KEPT_BLOCKS = 50_000

/** A block of the dev chain. */
export interface Block {
  readonly hash: string
  readonly header: Header
  readonly extrinsics: readonly Uint8Array[]
}

/** How the best chain has changed. */
export interface HeadChange {
  /** Blocks that are no longer of it, the old head first. */
  readonly retracted: readonly Block[]
  /** Blocks that are of it now, the new head last. */
  readonly enacted: readonly Block[]
}

/** The tree of blocks with their states: the best chain, the final part of it, and forks not yet final. */
export class Chain {
  readonly genesis: Block
  readonly #blocks = new Map<string, Block>()
  readonly #states = new Map<string, StateStore>()
  /** Hashes of the best chain by number. */
  readonly #best = new Map<number, string>()
  #head: Block
  #finalized: Block

  constructor(genesis: Block, state: StateStore) {
    this.genesis = genesis
    this.#head = genesis
    this.#finalized = genesis
    this.add(genesis, state)
    this.#best.set(0, genesis.hash)
  }

  get head(): Block {
    return this.#head
  }

  get finalized(): Block {
    return this.#finalized
  }

  block(hash: string): Block | undefined {
    return this.#blocks.get(hash)
  }

  /** State after a block; undefined where it is no longer kept. */
  state(hash: string): StateStore | undefined {
    return this.#states.get(hash)
  }

  /** State after the best block. */
  get headState(): StateStore {
    return this.#states.get(this.#head.hash) as StateStore
  }

  get headTrie(): Trie {
    return this.headState.trie
  }

  /** Hash of the best chain's block with this number. */
  hashAt(number: number): string | undefined {
    return this.#best.get(number)
  }

  /** Takes in a block without making it the best one. */
  add(block: Block, state: StateStore | undefined): void {
    this.#blocks.set(block.hash, block)
    if (state !== undefined) this.#states.set(block.hash, state)
  }

  /** Puts another state after a block, as `dev_setStorage` does. */
  replaceState(hash: string, state: StateStore): void {
    this.#states.set(hash, state)
  }

  /** Makes a block the best one. @throws `ledger` when that would undo a final block. */
  setHead(hash: string): HeadChange {
    const enacted: Block[] = []
    let block = this.#need(hash)
    while (this.#best.get(block.header.number) !== block.hash) {
      enacted.unshift(block)
      const parent = this.parent(block)
      if (parent === undefined) break // its ancestors are older than what is kept
      block = parent
    }
    if (block.header.number < this.#finalized.header.number && enacted.length > 0) {
      throw new ChoraleError(
        'ledger',
        `block ${hash} forks off at ${block.header.number}, block ${this.#finalized.header.number} is final`,
      )
    }
    const retracted: Block[] = []
    const fork = enacted[0] === undefined ? this.#need(hash).header.number : block.header.number
    for (let number = this.#head.header.number; number > fork; number--) {
      retracted.push(this.#need(this.#best.get(number) as string))
      this.#best.delete(number)
    }
    for (const entry of enacted) this.#best.set(entry.header.number, entry.hash)
    this.#head = this.#need(hash)
    return { retracted, enacted }
  }

  /** Makes a block of the best chain and all before it final. @returns the newly final ones in order. */
  finalize(number: number): readonly Block[] {
    const fresh: Block[] = []
    for (let at = this.#finalized.header.number + 1; at <= number; at++) {
      const hash = this.#best.get(at)
      if (hash === undefined) break
      fresh.push(this.#need(hash))
    }
    this.#finalized = fresh.at(-1) ?? this.#finalized
    if (fresh.length > 0) this.#prune()
    return fresh
  }

  /** Starts the final part here, with a block whose ancestors need not be known: for a chain read from disk. */
  anchor(block: Block, state: StateStore): void {
    this.add(block, state)
    this.#best.set(block.header.number, block.hash)
    this.#head = block
    this.#finalized = block
  }

  /** Puts an old block, whose state is gone, where the best chain has it. */
  addHistory(block: Block): void {
    this.add(block, undefined)
    this.#best.set(block.header.number, block.hash)
  }

  parent(block: Block): Block | undefined {
    return block.header.number === 0 ? undefined : this.#blocks.get(toHex(block.header.parentHash))
  }

  /** Every block kept, in the order it came. */
  blocks(): IterableIterator<Block> {
    return this.#blocks.values()
  }

  #need(hash: string): Block {
    const block = this.#blocks.get(hash)
    if (block === undefined) throw new ChoraleError('ledger', `no block ${hash}`)
    return block
  }

  #prune(): void {
    const oldest = Math.min(this.#finalized.header.number, this.#head.header.number - KEPT_STATES)
    for (const hash of this.#states.keys()) {
      const { number } = this.#need(hash).header
      // Insertion order is nearly number order; genesis stays, tests and late clients ask for it.
      if (number >= oldest) break
      if (number > 0) this.#states.delete(hash)
    }
    for (const block of this.#blocks.values()) {
      const { number } = block.header
      if (number >= this.#head.header.number - KEPT_BLOCKS) break
      if (number === 0) continue
      this.#blocks.delete(block.hash)
      if (this.#best.get(number) === block.hash) this.#best.delete(number)
    }
  }
}

/** Block 0 of a state: no parent, no extrinsics. @param stateVersion layout of the state's trie */
export function genesisBlock(state: StateStore, stateVersion: 0 | 1): Block {
  const header = {
    parentHash: new Uint8Array(32),
    number: 0,
    stateRoot: state.root(stateVersion),
    extrinsicsRoot: orderedTrieRoot([], stateVersion),
    digest: [],
  }
  return { hash: headerHash(encodeHeader(header)), header, extrinsics: [] }
}
