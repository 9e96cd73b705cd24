import type { LedgerValue } from '../../../ledger.ts'
import type { PalletContext } from '../pallet.ts'
import { less, plus, U32_MAX } from './fixed-point.ts'

/** Arguments of a call, decoded. */
export type Args = Readonly<Record<string, LedgerValue>>

/** What a call does. `who` is the signer; `''` for calls that only root may make. */
export type Handler = (net: NetworkState, args: Args, who: string) => void

/** Handlers by call name. */
export type Handlers = Readonly<Record<string, Handler>>

/** Asked before a node leaves by its owner's wish, takes stake out or changes its hotkey; throws when it may not. */
export type ExitGuard = (context: PalletContext, subnetId: number, hotkey: string) => void

/** Slots of an epoch that belong to the chain itself; a subnet's slot is at least this. */
export const DESIGNATED_SLOTS = 3
/** Blocks of a year of 6-second blocks. */
const BLOCKS_PER_YEAR = 5_256_000
/** Account of the treasury pallet, `modlpy/trsry` padded to 20 bytes. */
export const TREASURY = '0x6d6f646c70792f74727372790000000000000000'

/** The pallet's storage, events and errors by short name, with the arithmetic that storage counters need. */
export class NetworkState {
  readonly context: PalletContext
  /** Blocks of an epoch. */
  readonly epochBlocks: number

  readonly #guard: ExitGuard | undefined

  constructor(context: PalletContext, epochBlocks: number, guard?: ExitGuard) {
    this.context = context
    this.epochBlocks = epochBlocks
    this.#guard = guard
  }

  /** Ends the call while the node behind a hotkey has to stay, stake and all. */
  guardExit(subnetId: number, hotkey: string): void {
    this.#guard?.(this.context, subnetId, hotkey)
  }

  get block(): number {
    return this.context.block
  }

  get epoch(): number {
    return Math.floor(this.block / this.epochBlocks)
  }

  get epochsPerYear(): number {
    return epochsPerYear(this.epochBlocks)
  }

  /** An entry with its default; the caller names its type, which the storage listing fixes. */
  // oxlint-disable-next-line no-unnecessary-type-parameters -- the caller names what the listing fixes; codecs check it
  get<T>(item: string, ...keys: LedgerValue[]): T {
    return this.context.get(`Network.${item}`, ...keys) as T
  }

  /** A `u32` entry. */
  num(item: string, ...keys: LedgerValue[]): number {
    return this.get<number>(item, ...keys)
  }

  /** A `u64`, `u128` or `i128` entry. */
  big(item: string, ...keys: LedgerValue[]): bigint {
    return this.get<bigint>(item, ...keys)
  }

  /** An entry only if it is present, whatever its default. */
  // oxlint-disable-next-line no-unnecessary-type-parameters -- the caller names what the listing fixes; codecs check it
  find<T>(item: string, ...keys: LedgerValue[]): T | undefined {
    return this.has(item, ...keys) ? this.get<T>(item, ...keys) : undefined
  }

  has(item: string, ...keys: LedgerValue[]): boolean {
    return this.context.has(`Network.${item}`, ...keys)
  }

  put(item: string, keys: readonly LedgerValue[], value: LedgerValue): void {
    this.context.set(`Network.${item}`, keys, value)
  }

  drop(item: string, ...keys: LedgerValue[]): void {
    this.context.remove(`Network.${item}`, ...keys)
  }

  /** Removes every entry below the given first keys. */
  dropAll(item: string, ...keys: LedgerValue[]): void {
    this.context.removeAll(`Network.${item}`, ...keys)
  }

  /** Entries below the given first keys, in storage order: the remaining keys and the value. */
  // oxlint-disable-next-line no-unnecessary-type-parameters -- the caller names what the listing fixes; codecs check it
  entries<T>(
    item: string,
    ...keys: LedgerValue[]
  ): readonly { readonly keys: readonly LedgerValue[]; readonly value: T }[] {
    return this.context.entries(`Network.${item}`, ...keys) as readonly {
      readonly keys: readonly LedgerValue[]
      readonly value: T
    }[]
  }

  /** Exchanges two entries, absence included. */
  swap(item: string, from: readonly LedgerValue[], to: readonly LedgerValue[]): void {
    const a = this.find<LedgerValue>(item, ...from)
    const b = this.find<LedgerValue>(item, ...to)
    if (b === undefined) this.drop(item, ...from)
    else this.put(item, from, b)
    if (a === undefined) this.drop(item, ...to)
    else this.put(item, to, a)
  }

  /** Adds to a `u128`, saturating. */
  grow(item: string, keys: readonly LedgerValue[], amount: bigint): void {
    this.put(item, keys, plus(this.big(item, ...keys), amount))
  }

  /** Subtracts from a `u128`, not below 0. */
  shrink(item: string, keys: readonly LedgerValue[], amount: bigint): void {
    this.put(item, keys, less(this.big(item, ...keys), amount))
  }

  /** Adds to a `u32`, within its range. @returns the new value. */
  count(item: string, keys: readonly LedgerValue[], delta: number): number {
    const value = Math.min(U32_MAX, Math.max(0, this.num(item, ...keys) + delta))
    this.put(item, keys, value)
    return value
  }

  emit(event: string, fields: Readonly<Record<string, LedgerValue>> | readonly LedgerValue[]): void {
    this.context.emit(event, fields)
  }

  fail(error: string): never {
    return this.context.fail(error)
  }

  /** Ends the call with `error` unless the condition holds. */
  ensure(condition: boolean, error: string): asserts condition {
    if (!condition) this.fail(error)
  }
}

/** Epochs of a year of 6-second blocks. */
export function epochsPerYear(epochBlocks: number): number {
  return Math.floor(BLOCKS_PER_YEAR / epochBlocks)
}
