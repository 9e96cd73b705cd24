/**
 * What executes a dev chain's blocks: a real runtime's wasm, or the native one in TypeScript.
 *
 * Entry names and the SCALE bytes going in and out are Substrate's runtime API (`Core_version`, `Core_initialize_block`,
 * `BlockBuilder_apply_extrinsic`, `TaggedTransactionQueue_validate_transaction`, `Metadata_metadata_at_version`, …), so
 * that the node around it (blocks, pool, trie, JSON-RPC) never knows which one runs.
 */
export interface Runtime {
  /** Entries this runtime has. */
  readonly entries: ReadonlySet<string>
  /** Runs one entry on `storage`. @throws `ledger` with the panic's message; what it wrote is the caller's to roll back. */
  call(entry: string, input: Uint8Array, storage: RuntimeStorage): Uint8Array
}

/** The chain's state as one entry sees it: writes stay in nested overlays until the caller keeps them. */
export interface RuntimeStorage {
  get(key: Uint8Array): Uint8Array | undefined
  set(key: Uint8Array, value: Uint8Array): void
  clear(key: Uint8Array): void
  /** Removes up to `limit` keys that begin with `prefix`; all without a limit. @returns how many, and whether any remain. */
  clearPrefix(prefix: Uint8Array, limit?: number): { readonly removed: number; readonly more: boolean }
  /** The next key in byte order after `key`, which need not exist. */
  nextKey(key: Uint8Array): Uint8Array | undefined
  /** Root of the base-16 Patricia-Merkle trie over all present keys. */
  root(version: 0 | 1): Uint8Array
  startTransaction(): void
  commitTransaction(): void
  rollbackTransaction(): void
}
