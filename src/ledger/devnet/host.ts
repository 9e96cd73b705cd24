import { ChoraleError } from '../../errors.ts'
import type { RuntimeStorage } from './runtime.ts'
import type { WasmAllocator } from './wasm-allocator.ts'

/**
 * What a runtime's imports may use while one of its entries runs. Spans are `pointer | length << 32` in one i64, as
 * Substrate's runtime interface passes bytes. Views on memory are valid until the next allocation.
 */
export interface Host {
  readonly storage: RuntimeStorage
  /** The bytes of a span. @throws `ledger` outside memory. */
  bytes(span: bigint): Uint8Array
  at(pointer: number, length: number): Uint8Array
  /** Copies bytes into the runtime's memory. @returns their span. */
  give(bytes: Uint8Array): bigint
  /** Copies bytes into the runtime's memory. @returns their address. */
  place(bytes: Uint8Array): number
  readonly allocator: WasmAllocator
  /** Level 1 error … 5 trace, as the runtime counts. */
  log(level: number, target: string, message: string): void
  /** The encoded `RuntimeVersion` of some other runtime's code. */
  versionOf(code: Uint8Array): Uint8Array
  /** Signatures checked between `start_batch_verify` and `finish_batch_verify`; undefined outside. */
  batch: { valid: boolean } | undefined
}

/** One import: the host, then i32 as numbers and i64 as bigints; returns the same, or nothing. */
export type HostFunction = (host: Host, ...args: never[]) => number | bigint | void

export type HostFunctions = Readonly<Record<string, HostFunction>>

/** The import that says what is missing where this host has no such function. */
export function unavailable(name: string): HostFunction {
  return () => {
    throw new ChoraleError('not_supported', `the runtime calls ${name}, which this dev chain does not have`)
  }
}
