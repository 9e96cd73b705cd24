import { blake2b } from '@noble/hashes/blake2.js'
import { ChoraleError } from '../../../errors.ts'
import type { LedgerValue } from '../../ledger.ts'
import type { RuntimeStorage } from '../runtime.ts'
import { storagePrefix } from '../twox.ts'
import { balancesOf } from './balances-context.ts'
import { DispatchFailure } from './dispatch-error.ts'
import type { BalancesContext, Origin, PalletContext, PalletDefinition } from './pallet.ts'
import { variantOf, type RuntimeTypes, type StorageItem } from './runtime-types.ts'
import { ScaleReader, ScaleWriter } from './scale-bytes.ts'
import { concat, sizedFromHex } from '../../hex.ts'
import { HASH_LENGTH, hashKey } from './storage-keys.ts'

/** What of a block is being executed. */
export type Phase = 'Initialization' | 'Finalization' | { readonly extrinsic: number }

/** Hashed keys remembered for each item; hashing costs more than all else of a read. Bounds the memory this takes. */
const MAX_KEYS = 16_384

const keyCaches = new WeakMap<StorageItem, Map<string, Uint8Array>>()
/** Decoded values by the very bytes they were decoded from: what a rollback restores is found again, nothing can go stale. */
const valueCaches = new WeakMap<StorageItem, WeakMap<Uint8Array, LedgerValue>>()

/** One for all short writing: encoding never writes storage itself, and a writer's buffer is worth keeping. */
const scratch = new ScaleWriter()
function scratchWriter(): ScaleWriter {
  // What an encoding error left behind.
  scratch.clear()
  return scratch
}

const EVENTS_KEY = storagePrefix('System', 'Events')

/** The chain's state as pallets see it, for the time of one runtime entry. */
export class RuntimeState {
  readonly types: RuntimeTypes
  readonly storage: RuntimeStorage
  phase: Phase = 'Initialization'
  #balances: BalancesContext | undefined
  readonly #contexts = new Map<string, PalletContext>()
  /** Encoded event records that `flushEvents` has yet to write. */
  readonly #events: Uint8Array[] = []

  constructor(types: RuntimeTypes, storage: RuntimeStorage) {
    this.types = types
    this.storage = storage
  }

  get balances(): BalancesContext {
    this.#balances ??= balancesOf(this.context('Balances'), this.context('System'))
    return this.#balances
  }

  /** @param name `Pallet.Item` */
  get(name: string, keys: readonly LedgerValue[] = []): LedgerValue {
    const item = this.item(name)
    return this.#value(item, this.storage.get(this.key(name, item, keys)))
  }

  has(name: string, keys: readonly LedgerValue[] = []): boolean {
    return this.storage.get(this.key(name, this.item(name), keys)) !== undefined
  }

  /** `undefined` removes an entry that may be absent. */
  set(name: string, keys: readonly LedgerValue[], value: LedgerValue): void {
    const item = this.item(name)
    const key = this.key(name, item, keys)
    const writer = scratchWriter()
    item.codec.encode(value, writer, name)
    this.storage.set(key, writer.finish())
  }

  remove(name: string, keys: readonly LedgerValue[] = []): void {
    this.storage.clear(this.key(name, this.item(name), keys))
  }

  entries(
    name: string,
    first: readonly LedgerValue[],
  ): { readonly keys: readonly LedgerValue[]; readonly value: LedgerValue }[] {
    const item = this.item(name)
    const prefix = this.#prefix(name, item, first)
    const found: { keys: LedgerValue[]; value: LedgerValue }[] = []
    let key = this.storage.nextKey(prefix)
    while (key !== undefined && startsWith(key, prefix)) {
      const reader = new ScaleReader(key.subarray(prefix.length))
      const keys = item.keys.slice(first.length).map(({ hasher, codec }) => {
        reader.skip(HASH_LENGTH[hasher])
        return codec.decode(reader)
      })
      found.push({ keys, value: this.#value(item, this.storage.get(key)) })
      key = this.storage.nextKey(key)
    }
    return found
  }

  removeAll(name: string, first: readonly LedgerValue[]): void {
    this.storage.clearPrefix(this.#prefix(name, this.item(name), first))
  }

  /** Runs `work` so that nothing of it stays when it throws, events included. */
  transaction<T>(work: () => T): T {
    const events = this.#events.length
    this.storage.startTransaction()
    try {
      const result = work()
      this.storage.commitTransaction()
      return result
    } catch (error) {
      this.storage.rollbackTransaction()
      this.#events.length = events
      throw error
    }
  }

  /** Runs a decoded `RuntimeCall` in a transaction. @throws DispatchFailure */
  dispatch(origin: Origin, call: LedgerValue, inherent = false): void {
    const outer = variantOf(call)
    const inner = variantOf(outer.value)
    const definition = this.types.call(outer.type, inner.type)
    if ((definition.inherent ?? false) !== inherent) throw new DispatchFailure('BadOrigin', 'BadOrigin')
    this.transaction(() =>
      definition.dispatch(this.context(outer.type), origin, inner.value as Record<string, LedgerValue>),
    )
  }

  emit(pallet: string, event: string, fields: LedgerValue): void {
    const writer = scratchWriter()
    if (this.phase === 'Initialization') writer.small(2, 1)
    else if (this.phase === 'Finalization') writer.small(1, 1)
    else {
      writer.small(0, 1)
      writer.small(this.phase.extrinsic, 4)
    }
    this.types.table
      .codec('RuntimeEvent')
      .encode({ type: pallet, value: { type: event, value: fields } }, writer, 'event')
    writer.compact(0)
    this.#events.push(writer.finish())
  }

  /** Appends what was emitted to `System.Events`. Called once before an entry returns. */
  flushEvents(): void {
    if (this.#events.length === 0) return
    const before = this.storage.get(EVENTS_KEY)
    const reader = new ScaleReader(before ?? Uint8Array.of(0))
    const count = Number(reader.compact()) + this.#events.length
    const writer = new ScaleWriter()
    writer.compact(count)
    writer.bytes(reader.bytes.subarray(reader.offset))
    for (const event of this.#events) writer.bytes(event)
    this.storage.set(EVENTS_KEY, writer.finish())
    this.set('System.EventCount', [], count)
    this.#events.length = 0
  }

  /** 32 bytes from the parent's hash, the block's number, the place in the block and `subject`. */
  random(subject: string): Uint8Array {
    const place = new ScaleWriter()
    place.bytes(sizedFromHex(this.get('System.ParentHash') as string, 32) ?? new Uint8Array())
    place.small(this.get('System.Number') as number, 4)
    place.small(typeof this.phase === 'string' ? 0xffff_ffff : this.phase.extrinsic, 4)
    place.bytes(new TextEncoder().encode(subject))
    return blake2b(place.finish(), { dkLen: 32 })
  }

  /** What a pallet's code is given. */
  context(name: string): PalletContext {
    let context = this.#contexts.get(name)
    if (context === undefined) {
      context = palletContext(this, this.types.pallet(name))
      this.#contexts.set(name, context)
    }
    return context
  }

  item(name: string): StorageItem {
    const item = this.types.items.get(name)
    if (item === undefined) throw new ChoraleError('internal', `no storage item ${name}`)
    return item
  }

  /** The storage key of an entry. */
  key(name: string, item: StorageItem, keys: readonly LedgerValue[]): Uint8Array {
    if (keys.length !== item.keys.length)
      throw new ChoraleError('internal', `${name} has ${item.keys.length} keys, ${keys.length} given`)
    return keys.length === 0 ? item.prefix : this.#prefix(name, item, keys)
  }

  #prefix(name: string, item: StorageItem, keys: readonly LedgerValue[]): Uint8Array {
    const text = keys.every((key) => typeof key !== 'object') ? keys.join('|') : undefined
    let cache = keyCaches.get(item)
    if (cache === undefined || cache.size > MAX_KEYS) {
      cache = new Map()
      keyCaches.set(item, cache)
    }
    const known = text === undefined ? undefined : cache.get(text)
    if (known !== undefined) return known
    const parts = keys.map((key, index) => {
      const { hasher, codec } = item.keys[index] ?? wrongKeys(name)
      const writer = scratchWriter()
      codec.encode(key, writer, `${name} key ${index}`)
      return hashKey(hasher, writer.finish())
    })
    const prefix = concat(item.prefix, ...parts)
    if (text !== undefined) cache.set(text, prefix)
    return prefix
  }

  #value(item: StorageItem, bytes: Uint8Array | undefined): LedgerValue {
    if (bytes === undefined) return item.definition.default
    let cache = valueCaches.get(item)
    if (cache === undefined) {
      cache = new WeakMap()
      valueCaches.set(item, cache)
    }
    let value = cache.get(bytes)
    if (value === undefined) {
      value = item.codec.decode(new ScaleReader(bytes))
      cache.set(bytes, value)
    }
    return value
  }
}

function wrongKeys(name: string): never {
  throw new ChoraleError('internal', `${name}: more keys than the item has`)
}

function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  return bytes.length >= prefix.length && prefix.every((byte, index) => bytes[index] === byte)
}

const states = new WeakMap<PalletContext, RuntimeState>()

function stateOf(context: PalletContext): RuntimeState {
  const state = states.get(context)
  if (state === undefined) throw new ChoraleError('internal', 'a pallet context of another runtime')
  return state
}

/** Runs a decoded `RuntimeCall` in a transaction: what sudo and batches do. @throws DispatchFailure */
export function dispatchCall(context: PalletContext, origin: Origin, call: LedgerValue): void {
  stateOf(context).dispatch(origin, call)
}

/** The system pallet's context, for what the balances pallet does to accounts. */
export function systemOf(context: PalletContext): PalletContext {
  return stateOf(context).context('System')
}

function palletContext(state: RuntimeState, pallet: PalletDefinition): PalletContext {
  const full = (item: string): string => (item.includes('.') ? item : `${pallet.name}.${item}`)
  const context: PalletContext = {
    get block() {
      return state.get('System.Number') as number
    },
    get now() {
      return Number(state.get('Timestamp.Now'))
    },
    get balances() {
      return state.balances
    },
    get: (item, ...keys) => state.get(full(item), keys),
    has: (item, ...keys) => state.has(full(item), keys),
    set: (item, keys, value) => state.set(full(item), keys, value),
    remove: (item, ...keys) => state.remove(full(item), keys),
    entries: (item, ...keys) => state.entries(full(item), keys),
    removeAll: (item, ...keys) => state.removeAll(full(item), keys),
    emit: (event, fields) => state.emit(pallet.name, event, eventValue(fields)),
    fail(error) {
      const index = pallet.errors.indexOf(error)
      if (index < 0) throw new ChoraleError('internal', `pallet ${pallet.name} has no error ${error}`)
      const value = { index: pallet.index, error: Uint8Array.of(index, 0, 0, 0) }
      throw new DispatchFailure({ type: 'Module', value }, `${pallet.name}.${error}`)
    },
    random: (subject) => state.random(subject),
  }
  states.set(context, state)
  return context
}

/** A single unnamed field stands for itself in a variant. */
function eventValue(fields: Readonly<Record<string, LedgerValue>> | readonly LedgerValue[]): LedgerValue {
  return Array.isArray(fields) && fields.length === 1 ? (fields as readonly LedgerValue[])[0] : fields
}
