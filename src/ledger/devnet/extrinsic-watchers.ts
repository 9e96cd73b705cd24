import type { Block } from './chain.ts'
import { toHex } from '../hex.ts'
import { blake2b256 } from './trie-root.ts'

/** How an extrinsic fares, as JSON-RPC says it. */
export type ExtrinsicStatus =
  | 'future'
  | 'ready'
  | 'invalid'
  | 'dropped'
  | { readonly inBlock: string }
  | { readonly retracted: string }
  | { readonly finalized: string }
  | { readonly usurped: string }

type Watch = (status: ExtrinsicStatus) => void

/** Who wants to hear of which extrinsic. */
export class ExtrinsicWatchers {
  readonly #watchers = new Map<string, Set<Watch>>()

  /** Tells `watch` of the extrinsic until it is final or lost. @returns how to stop earlier */
  add(hash: string, watch: Watch): () => void {
    const watchers = this.#watchers.get(hash) ?? new Set()
    this.#watchers.set(hash, watchers)
    watchers.add(watch)
    return () => {
      watchers.delete(watch)
      if (watchers.size === 0 && this.#watchers.get(hash) === watchers) this.#watchers.delete(hash)
    }
  }

  tell(hash: string, status: ExtrinsicStatus): void {
    const watchers = this.#watchers.get(hash)
    if (watchers === undefined) return
    for (const watch of watchers) watch(status)
    if (isLast(status)) this.#watchers.delete(hash)
  }

  /** Tells of each extrinsic of a block. */
  tellBlock(block: Block, status: ExtrinsicStatus): void {
    if (this.#watchers.size === 0) return
    for (const extrinsic of block.extrinsics) this.tell(toHex(blake2b256(extrinsic)), status)
  }

  clear(): void {
    this.#watchers.clear()
  }
}

function isLast(status: ExtrinsicStatus): boolean {
  if (typeof status === 'string') return status === 'invalid' || status === 'dropped'
  return 'finalized' in status || 'usurped' in status
}
