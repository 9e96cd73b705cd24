import type { LedgerValue } from '../../ledger.ts'

/**
 * A native pallet: what its metadata says, as data, and what its calls and hooks do, as functions of a context.
 *
 * Types are written as Rust prints them (`u32`, `Option<u128>`, `Vec<SubnetNodeConsensusData>`, `BTreeMap<u32, u128>`,
 * `AccountId20`, `Bytes`) and looked up in the runtime's type table; the same text yields codec and metadata. Values are
 * `LedgerValue`s.
 */
export interface PalletDefinition {
  readonly name: string
  readonly index: number
  /** Structs and enums this pallet adds to the type table: name → its path in metadata and its fields or variants. */
  readonly types: Readonly<Record<string, TypeDefinition>>
  readonly storage: readonly StorageDefinition[]
  readonly calls: readonly CallDefinition[]
  readonly events: readonly EventDefinition[]
  /** In index order. */
  readonly errors: readonly string[]
  readonly constants: readonly { readonly name: string; readonly type: string; readonly value: LedgerValue }[]
  /** First thing in a block, and what it does at genesis. */
  readonly onInitialize?: (context: PalletContext) => void
  readonly onFinalize?: (context: PalletContext) => void
  readonly genesis?: (context: PalletContext) => void
  /** Runtime APIs this pallet answers, by trait name: `NetworkRuntimeApi` → `get_subnet_info` → … */
  readonly runtimeApis?: Readonly<Record<string, Readonly<Record<string, RuntimeApiMethod>>>>
}

/** One method of a runtime API; it only reads. Its entry is `Trait_method`. */
export interface RuntimeApiMethod {
  /** Argument names and types, in order. */
  readonly args: Readonly<Record<string, string>>
  readonly result: string
  readonly call: (context: PalletContext, args: Readonly<Record<string, LedgerValue>>) => LedgerValue
}

interface TypePath {
  readonly path: string
  /** Generic parameters as metadata names them; undefined for one without a type. */
  readonly params?: Readonly<Record<string, string | undefined>>
}

/** A struct of the type table. */
export interface StructDefinition extends TypePath {
  /** Named fields, or types alone; a struct of one unnamed field has the value of that field. */
  readonly fields: Readonly<Record<string, string>> | readonly string[]
}

/** An enum of the type table. */
export interface EnumDefinition extends TypePath {
  /** Variant name → its fields: none, unnamed, or named. Index = position, unless `indexes` says otherwise. */
  readonly variants: Readonly<Record<string, readonly string[] | Readonly<Record<string, string>>>>
  readonly indexes?: Readonly<Record<string, number>>
}

/** A named type, under the path that metadata gives it. */
export type TypeDefinition = StructDefinition | EnumDefinition

/** How a map's key becomes part of the storage key; the key itself stays readable. */
export type StorageHasher = 'Identity' | 'Blake2_128Concat' | 'Twox64Concat'

/** A plain value or a map of a pallet. */
export interface StorageDefinition {
  readonly name: string
  /** Hashers and types of a map's keys; empty for a plain value. */
  readonly keys: readonly { readonly hasher: StorageHasher; readonly type: string }[]
  readonly type: string
  /** What an absent entry reads as; without it, it reads as undefined (`Optional` in metadata). */
  readonly default?: LedgerValue
}

/** A call of a pallet. */
export interface CallDefinition {
  readonly index: number
  readonly name: string
  readonly args: Readonly<Record<string, string>>
  /** Runs inside a storage transaction: throwing rolls everything back. */
  readonly dispatch: (
    context: PalletContext,
    origin: Origin,
    args: Readonly<Record<string, LedgerValue>>,
  ) => void
  /** Gives the fee back after success. */
  readonly freeOnSuccess?: boolean
  /** Picoseconds of computing that the fee is taken for; none without it, as in Hypertensor's Network pallet. */
  readonly weight?: bigint
  /** Written by the block's author, never signed. */
  readonly inherent?: boolean
}

/** An event of a pallet. */
export interface EventDefinition {
  readonly index: number
  readonly name: string
  /** Named fields, or types alone for unnamed ones. */
  readonly fields: Readonly<Record<string, string>> | readonly string[]
}

/** Who calls: a signed account in lower-case `0x…`, or root (sudo). */
export type Origin = { readonly signed: string } | 'root'

/** What a pallet's code may touch. Deterministic: no clock, no randomness but `random`. */
export interface PalletContext {
  readonly block: number
  /** Milliseconds since the epoch, from the block's timestamp inherent. */
  readonly now: number
  /** Reads an entry of this or another pallet (`Pallet.Item`), with its default. */
  get(item: string, ...keys: LedgerValue[]): LedgerValue
  has(item: string, ...keys: LedgerValue[]): boolean
  set(item: string, keys: readonly LedgerValue[], value: LedgerValue): void
  remove(item: string, ...keys: LedgerValue[]): void
  /** Entries of a map below the given first keys, in storage order: the remaining keys and the value. */
  entries(
    item: string,
    ...keys: LedgerValue[]
  ): readonly { readonly keys: readonly LedgerValue[]; readonly value: LedgerValue }[]
  removeAll(item: string, ...keys: LedgerValue[]): void
  emit(event: string, fields: Readonly<Record<string, LedgerValue>> | readonly LedgerValue[]): void
  /** Ends the call with this pallet's error. */
  fail(error: string): never
  /** 32 bytes that nobody chose: hash of the parent block, `subject` and the call's place. A dev chain's randomness. */
  random(subject: string): Uint8Array
  readonly balances: BalancesContext
}

/** Money, kept by the balances pallet; supply is accounted to the last unit. */
export interface BalancesContext {
  free(account: string): bigint
  /** Total issuance. */
  issuance(): bigint
  /** Mints into an account, creating it. */
  deposit(account: string, amount: bigint): void
  /** Burns from an account. @returns false and nothing changes when it has too little (the existential deposit must remain). */
  withdraw(account: string, amount: bigint): boolean
  transfer(from: string, to: string, amount: bigint): boolean
}
