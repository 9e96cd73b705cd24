import { ChoraleError } from '../../errors.ts'
import type { RuntimeStorage } from './runtime.ts'
import { trieRoot } from './trie-root.ts'
import {
  type Trie,
  trieEntries,
  trieGet,
  trieNextKey,
  trieRemove,
  trieRemovePrefix,
  trieSet,
} from './trie.ts'

/** Levels of `startTransaction`; a runtime has a few, so more is a loop. */
const MAX_TRANSACTIONS = 1024

/** A view of a state that can be written to; `trie` is what it has become, one pointer. */
export interface StateOverlay extends RuntimeStorage {
  readonly trie: Trie
  /** Open transactions. */
  readonly depth: number
}

/** A state as key and value pairs, which other states can be made from. */
export interface StateStore {
  readonly trie: Trie
  /** Keys present. */
  readonly size: number
  get(key: Uint8Array): Uint8Array | undefined
  entries(prefix?: Uint8Array): Iterable<readonly [key: Uint8Array, value: Uint8Array]>
  root(version: 0 | 1): Uint8Array
  /** A view for one entry of a runtime; writing to it leaves this state as it is. */
  overlay(): StateOverlay
}

/** A state of these entries, in any order; a later one of the same key wins. */
export function createStateStore(
  entries: Iterable<readonly [key: Uint8Array, value: Uint8Array]> = [],
): StateStore {
  let trie: Trie
  for (const [key, value] of entries) trie = trieSet(trie, key.slice(), value.slice())
  return stateOf(trie)
}

/** The state that a trie is. */
export function stateOf(trie: Trie): StateStore {
  return {
    trie,
    size: trie?.size ?? 0,
    get: (key) => trieGet(trie, key),
    entries: (prefix) => trieEntries(trie, prefix),
    root: (version) => trieRoot(trie, version),
    overlay: () => new Overlay(trie),
  }
}

class Overlay implements StateOverlay {
  trie: Trie
  readonly #before: Trie[] = []

  constructor(trie: Trie) {
    this.trie = trie
  }

  get depth(): number {
    return this.#before.length
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return trieGet(this.trie, key)
  }

  set(key: Uint8Array, value: Uint8Array): void {
    this.trie = trieSet(this.trie, key, value.slice())
  }

  clear(key: Uint8Array): void {
    this.trie = trieRemove(this.trie, key)
  }

  clearPrefix(prefix: Uint8Array, limit?: number): { readonly removed: number; readonly more: boolean } {
    const before = this.trie?.size ?? 0
    const cleared = trieRemovePrefix(this.trie, prefix)
    const present = before - (cleared?.size ?? 0)
    if (limit === undefined || present <= limit) {
      this.trie = cleared
      return { removed: present, more: false }
    }
    let removed = 0
    for (const [key] of trieEntries(this.trie, prefix)) {
      if (removed === limit) break
      this.trie = trieRemove(this.trie, key)
      removed++
    }
    return { removed, more: true }
  }

  nextKey(key: Uint8Array): Uint8Array | undefined {
    return trieNextKey(this.trie, key)
  }

  root(version: 0 | 1): Uint8Array {
    return trieRoot(this.trie, version)
  }

  startTransaction(): void {
    if (this.#before.length >= MAX_TRANSACTIONS) {
      throw new ChoraleError('limit', `the runtime nests more than ${MAX_TRANSACTIONS} storage transactions`)
    }
    this.#before.push(this.trie)
  }

  commitTransaction(): void {
    this.#leave('commit')
  }

  rollbackTransaction(): void {
    this.trie = this.#leave('roll back')
  }

  #leave(what: string): Trie {
    if (this.#before.length === 0) {
      throw new ChoraleError('ledger', `the runtime wants to ${what} a storage transaction, none is open`)
    }
    return this.#before.pop()
  }
}
