import { toHex } from '../hex.ts'
import { alreadyImported, immediatelyDropped, temporarilyBanned, tooLowPriority } from './rpc-error.ts'
import type { ValidTransaction } from './validity.ts'

/** Defends memory against floods; a full pool refuses. */
export interface PoolLimits {
  readonly count: number
  readonly bytes: number
}

export const POOL_LIMITS: PoolLimits = { count: 8192, bytes: 20 * 2 ** 20 }

/** Refused extrinsics remembered, so that resending one costs no validation. */
const MAX_BANNED = 4096
/** Blocks after which a banned extrinsic may try again. */
const BAN_BLOCKS = 30
/** Tags of included extrinsics that still satisfy later ones validated before. */
const KEPT_TAGS = 4096

/** An extrinsic that waits for a block. */
export interface PooledExtrinsic {
  readonly hash: string
  readonly bytes: Uint8Array
  readonly priority: bigint
  readonly requires: readonly string[]
  readonly provides: readonly string[]
  /** Last block in which its validity holds. */
  readonly validUntil: number
  readonly order: number
}

/** What adding one changed. */
export interface Added {
  readonly state: 'ready' | 'future'
  /** Became ready because of it. */
  readonly promoted: readonly string[]
}

/** Extrinsics by what they need and bring: ready ones form a partial order, future ones wait for tags. */
export class TransactionPool {
  readonly #limits: PoolLimits
  readonly #all = new Map<string, PooledExtrinsic>()
  /** Future extrinsics and the tags they still miss. */
  readonly #missing = new Map<string, Set<string>>()
  /** Who of the ready ones provides a tag. */
  readonly #providers = new Map<string, string>()
  /** Who requires a tag, ready or not. */
  readonly #needing = new Map<string, Set<string>>()
  readonly #included = new Set<string>()
  readonly #banned = new Map<string, number>()
  readonly #usurped: string[] = []
  #bytes = 0
  #order = 0

  constructor(limits: PoolLimits = POOL_LIMITS) {
    this.#limits = limits
  }

  get size(): number {
    return this.#all.size
  }

  get readyCount(): number {
    return this.#all.size - this.#missing.size
  }

  has(hash: string): boolean {
    return this.#all.has(hash)
  }

  /** Whether a ready extrinsic provides this tag. */
  provides(tag: Uint8Array): boolean {
    return this.#providers.has(toHex(tag))
  }

  /** @throws RpcError when an extrinsic with this hash is here, banned, or has no room; to be asked before validating. */
  check(hash: string, size: number, block: number): void {
    if (this.#all.has(hash)) throw alreadyImported(hash)
    const until = this.#banned.get(hash)
    if (until !== undefined && block < until) throw temporarilyBanned()
    if (this.#all.size >= this.#limits.count || this.#bytes + size > this.#limits.bytes) {
      throw immediatelyDropped()
    }
  }

  /** Takes in an extrinsic validated on top of `block`. @throws RpcError */
  add(hash: string, bytes: Uint8Array, valid: ValidTransaction, block: number): Added {
    this.check(hash, bytes.length, block)
    const last = BigInt(block) + valid.longevity
    const entry: PooledExtrinsic = {
      hash,
      bytes,
      priority: valid.priority,
      requires: valid.requires.map(toHex),
      provides: valid.provides.map(toHex),
      validUntil: last > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(last),
      order: this.#order++,
    }
    const missing = entry.requires.filter((tag) => !this.#providers.has(tag) && !this.#included.has(tag))
    if (missing.length > 0) {
      this.#keep(entry)
      this.#missing.set(hash, new Set(missing))
      return { state: 'future', promoted: [] }
    }
    this.#makeRoom(entry)
    this.#keep(entry)
    return { state: 'ready', promoted: this.#offer(entry) }
  }

  /** Ready extrinsics in the order in which to include them: what one needs comes first, then by priority, then by age. */
  ready(): PooledExtrinsic[] {
    const waiting = new Map<string, number>()
    const dependents = new Map<string, PooledExtrinsic[]>()
    const open: PooledExtrinsic[] = []
    for (const entry of this.#all.values()) {
      if (this.#missing.has(entry.hash)) continue
      let count = 0
      for (const tag of entry.requires) {
        const provider = this.#providers.get(tag)
        if (provider === undefined) continue
        count++
        const list = dependents.get(provider)
        if (list === undefined) dependents.set(provider, [entry])
        else list.push(entry)
      }
      if (count === 0) open.push(entry)
      else waiting.set(entry.hash, count)
    }
    open.sort(laterFirst)
    const sorted: PooledExtrinsic[] = []
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      sorted.push(next)
      for (const entry of dependents.get(next.hash) ?? []) {
        const left = (waiting.get(entry.hash) ?? 0) - 1
        waiting.set(entry.hash, left)
        if (left === 0) insertSorted(open, entry)
      }
    }
    return sorted
  }

  /** Everything here, in the order it came. */
  all(): PooledExtrinsic[] {
    return [...this.#all.values()].sort((a, b) => a.order - b.order)
  }

  /** Takes out an extrinsic that is in a block; its tags hold from now on. @returns what became ready. */
  include(hash: string): readonly string[] {
    const entry = this.#all.get(hash)
    if (entry === undefined) return []
    this.#drop(entry)
    for (const tag of entry.provides) {
      this.#included.delete(tag)
      this.#included.add(tag)
    }
    for (const tag of this.#included) {
      if (this.#included.size <= KEPT_TAGS) break
      this.#included.delete(tag)
    }
    return this.#satisfy(entry.provides)
  }

  /** Takes out an extrinsic and all that needed it. @returns them all; the first one is banned for a while if asked. */
  remove(hash: string, ban?: { readonly block: number }): readonly string[] {
    if (ban !== undefined) this.#ban(hash, ban.block)
    const first = this.#all.get(hash)
    if (first === undefined) return []
    const removed = [first]
    for (const entry of removed) {
      if (!this.#all.has(entry.hash)) continue
      this.#drop(entry)
      for (const tag of entry.provides) {
        if (this.#included.has(tag)) continue
        for (const other of this.#needing.get(tag) ?? [])
          removed.push(this.#all.get(other) as PooledExtrinsic)
      }
    }
    return [...new Set(removed.map((entry) => entry.hash))]
  }

  /** Those that have given way to one that pays more since this was last asked. */
  takeUsurped(): readonly string[] {
    return this.#usurped.splice(0)
  }

  /** Takes out all whose validity has ended before `block`, with what needed them. */
  expire(block: number): readonly string[] {
    return [...this.#all.values()].flatMap((entry) =>
      entry.validUntil < block ? this.remove(entry.hash) : [],
    )
  }

  /** Forgets everything but bans: after the chain has gone another way, what was known of tags is void. */
  clear(): void {
    this.#all.clear()
    this.#missing.clear()
    this.#providers.clear()
    this.#needing.clear()
    this.#included.clear()
    this.#bytes = 0
  }

  #keep(entry: PooledExtrinsic): void {
    this.#all.set(entry.hash, entry)
    this.#bytes += entry.bytes.length
    for (const tag of entry.requires) {
      const needing = this.#needing.get(tag)
      if (needing === undefined) this.#needing.set(tag, new Set([entry.hash]))
      else needing.add(entry.hash)
    }
  }

  #drop(entry: PooledExtrinsic): void {
    this.#all.delete(entry.hash)
    this.#missing.delete(entry.hash)
    this.#bytes -= entry.bytes.length
    for (const tag of entry.provides) {
      if (this.#providers.get(tag) === entry.hash) this.#providers.delete(tag)
    }
    for (const tag of entry.requires) {
      const needing = this.#needing.get(tag)
      needing?.delete(entry.hash)
      if (needing?.size === 0) this.#needing.delete(tag)
    }
  }

  /** Two ready extrinsics that provide the same tag exclude each other: the one that pays more stays. */
  #makeRoom(entry: PooledExtrinsic): void {
    const rivals = new Set<string>()
    for (const tag of entry.provides) {
      const rival = this.#providers.get(tag)
      if (rival !== undefined) rivals.add(rival)
    }
    for (const rival of rivals) {
      const { priority } = this.#all.get(rival) as PooledExtrinsic
      if (priority >= entry.priority) throw tooLowPriority(priority, entry.priority)
    }
    // Their dependents stay: the tags are provided again at once.
    for (const rival of rivals) {
      this.#drop(this.#all.get(rival) as PooledExtrinsic)
      this.#usurped.push(rival)
    }
  }

  #offer(entry: PooledExtrinsic): readonly string[] {
    for (const tag of entry.provides) this.#providers.set(tag, entry.hash)
    return this.#satisfy(entry.provides)
  }

  /** Makes ready what missed only these tags, and what misses only what that provides, and so on. */
  #satisfy(tags: readonly string[]): readonly string[] {
    const promoted: string[] = []
    const open = [...tags]
    for (const tag of open) {
      for (const hash of this.#needing.get(tag) ?? []) {
        const missing = this.#missing.get(hash)
        if (missing === undefined) continue
        missing.delete(tag)
        if (missing.size > 0) continue
        const entry = this.#all.get(hash) as PooledExtrinsic
        this.#missing.delete(hash)
        try {
          this.#makeRoom(entry)
        } catch {
          this.#drop(entry)
          this.#usurped.push(hash)
          continue
        }
        for (const provided of entry.provides) this.#providers.set(provided, hash)
        open.push(...entry.provides)
        promoted.push(hash)
      }
    }
    return promoted
  }

  #ban(hash: string, block: number): void {
    this.#banned.set(hash, block + BAN_BLOCKS)
    for (const [old, until] of this.#banned) {
      if (this.#banned.size <= MAX_BANNED && until > block) break
      this.#banned.delete(old)
    }
  }
}

/** For a list whose best is at the end. */
function laterFirst(a: PooledExtrinsic, b: PooledExtrinsic): number {
  if (a.priority !== b.priority) return a.priority < b.priority ? -1 : 1
  return b.order - a.order
}

function insertSorted(list: PooledExtrinsic[], entry: PooledExtrinsic): void {
  let low = 0
  let high = list.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (laterFirst(list[middle] as PooledExtrinsic, entry) < 0) low = middle + 1
    else high = middle
  }
  list.splice(low, 0, entry)
}
