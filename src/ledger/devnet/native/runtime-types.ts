import { ChoraleError } from '../../../errors.ts'
import type { LedgerValue } from '../../ledger.ts'
import { DISPATCH_ERROR_TYPES } from './dispatch-error.ts'
import { EXTENSION_TYPES } from './extension-types.ts'
import type {
  CallDefinition,
  PalletDefinition,
  StorageDefinition,
  StorageHasher,
  TypeDefinition,
} from './pallet.ts'
import { storagePrefix } from '../twox.ts'
import { SYSTEM_TYPES } from './system-types.ts'
import { TypeTable, type Codec } from './type-table.ts'

/** One storage item, ready for use. */
export interface StorageItem {
  readonly definition: StorageDefinition
  readonly prefix: Uint8Array
  readonly keys: readonly { readonly hasher: StorageHasher; readonly codec: Codec }[]
  readonly codec: Codec
}

/** A runtime's pallets with everything looked up by name. */
export interface RuntimeTypes {
  readonly pallets: readonly PalletDefinition[]
  readonly table: TypeTable
  /** By `Pallet.Item`. */
  readonly items: ReadonlyMap<string, StorageItem>
  pallet(name: string): PalletDefinition
  call(pallet: string, call: string): CallDefinition
}

/** @throws `internal` when two pallets have one index or name, or a type is unknown. */
export function runtimeTypes(pallets: readonly PalletDefinition[]): RuntimeTypes {
  const byName = new Map<string, PalletDefinition>()
  const indexes = new Set<number>()
  const table = new TypeTable()
  table.add(DISPATCH_ERROR_TYPES)
  table.add(SYSTEM_TYPES)
  table.add(EXTENSION_TYPES)
  const outer = { Call: outerEnum('Call'), Event: outerEnum('Event'), Error: outerEnum('Error') }
  for (const pallet of pallets) {
    if (byName.has(pallet.name) || indexes.has(pallet.index))
      throw new ChoraleError('internal', `two pallets are named ${pallet.name} or have index ${pallet.index}`)
    byName.set(pallet.name, pallet)
    indexes.add(pallet.index)
    table.add(pallet.types)
    const crate = crateName(pallet.name)
    if (pallet.calls.length > 0) {
      table.add({ [`${pallet.name}Call`]: indexedEnum(`${crate}::pallet::Call`, pallet.calls, 'args') })
      outer.Call.add(pallet)
    }
    if (pallet.events.length > 0) {
      table.add({ [`${pallet.name}Event`]: indexedEnum(`${crate}::pallet::Event`, pallet.events, 'fields') })
      outer.Event.add(pallet)
    }
    if (pallet.errors.length > 0) {
      const variants = Object.fromEntries(pallet.errors.map((error) => [error, []]))
      table.add({ [`${pallet.name}Error`]: { path: `${crate}::pallet::Error`, variants } })
      outer.Error.add(pallet)
    }
  }
  table.add({
    RuntimeCall: outer.Call.definition,
    RuntimeEvent: outer.Event.definition,
    RuntimeError: outer.Error.definition,
  })
  const items = new Map<string, StorageItem>()
  for (const pallet of pallets) {
    for (const definition of pallet.storage)
      items.set(`${pallet.name}.${definition.name}`, {
        definition,
        prefix: storagePrefix(pallet.name, definition.name),
        keys: definition.keys.map(({ hasher, type }) => ({ hasher, codec: table.codec(type) })),
        codec: table.codec(definition.type),
      })
  }
  const calls = new Map(
    pallets.flatMap((pallet) => pallet.calls.map((call) => [`${pallet.name}.${call.name}`, call] as const)),
  )
  return {
    pallets,
    table,
    items,
    pallet: (name) => byName.get(name) ?? unknown('pallet', name),
    call: (pallet, call) => calls.get(`${pallet}.${call}`) ?? unknown('call', `${pallet}.${call}`),
  }
}

function unknown(what: string, name: string): never {
  throw new ChoraleError('bad_request', `this runtime has no ${what} ${name}`)
}

/** `TransactionPayment` → `pallet_transaction_payment`. */
export function crateName(pallet: string): string {
  if (pallet === 'System') return 'frame_system'
  return `pallet${pallet.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`
}

function indexedEnum<K extends string>(
  path: string,
  entries: readonly ({ readonly name: string; readonly index: number } & {
    readonly [key in K]: readonly string[] | Readonly<Record<string, string>>
  })[],
  fields: K,
): TypeDefinition {
  return {
    path,
    variants: Object.fromEntries(entries.map((entry) => [entry.name, entry[fields]])),
    indexes: Object.fromEntries(entries.map((entry) => [entry.name, entry.index])),
  }
}

function outerEnum(kind: 'Call' | 'Event' | 'Error'): {
  readonly definition: TypeDefinition
  add(pallet: PalletDefinition): void
} {
  const variants: Record<string, readonly string[]> = {}
  const indexes: Record<string, number> = {}
  return {
    definition: { path: `chorale_runtime::Runtime${kind}`, variants, indexes },
    add({ name, index }) {
      variants[name] = [`${name}${kind}`]
      indexes[name] = index
    },
  }
}

/** A decoded variant: its name, and its value or an empty record. */
export function variantOf(value: LedgerValue): { readonly type: string; readonly value: LedgerValue } {
  if (typeof value === 'string') return { type: value, value: {} }
  const { type, value: inner } = value as { type: string; value?: LedgerValue }
  return { type, value: inner ?? {} }
}
