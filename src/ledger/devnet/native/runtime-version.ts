import { blake2b } from '@noble/hashes/blake2.js'
import type { LedgerValue } from '../../ledger.ts'

/** `sp_version::RuntimeVersion`. */
export interface RuntimeVersion {
  readonly [field: string]: LedgerValue
  readonly spec_name: string
  readonly impl_name: string
  readonly spec_version: number
  readonly transaction_version: number
}

/** Version of the native runtime with these runtime APIs, by trait name. */
export function runtimeVersion(
  apis: Readonly<Record<string, { readonly version: number }>>,
  specVersion = 1,
): RuntimeVersion {
  return {
    spec_name: 'chorale-devnet',
    impl_name: 'chorale-devnet',
    authoring_version: 1,
    spec_version: specVersion,
    impl_version: 1,
    apis: Object.entries(apis).map(([name, { version }]) => [
      blake2b(new TextEncoder().encode(name), { dkLen: 8 }),
      version,
    ]),
    transaction_version: 1,
    // 1: state in version 1 of the trie's layout, extrinsics' root in version 0.
    system_version: 1,
  }
}
