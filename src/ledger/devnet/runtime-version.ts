import { toHex } from '../hex.ts'
import { ScaleReader } from './native/scale-bytes.ts'
import type { Runtime } from './runtime.ts'
import type { StateStore } from './storage.ts'

/** `RuntimeVersion` as JSON-RPC prints it. */
export interface RuntimeVersion {
  readonly specName: string
  readonly implName: string
  readonly authoringVersion: number
  readonly specVersion: number
  readonly implVersion: number
  /** Id of each runtime API, BLAKE2b-64 of its name, and its version. */
  readonly apis: readonly (readonly [id: string, version: number])[]
  readonly transactionVersion: number
  /** Layout of the state trie. */
  readonly stateVersion: 0 | 1
}

/** What the runtime in force on a state says of itself. */
export function readRuntimeVersion(runtime: Runtime, state: StateStore): RuntimeVersion {
  return decodeRuntimeVersion(runtime.call('Core_version', new Uint8Array(), state.overlay()))
}

/** Reads an encoded `RuntimeVersion`; fields that older runtimes lack have their old meaning. */
export function decodeRuntimeVersion(bytes: Uint8Array): RuntimeVersion {
  const reader = new ScaleReader(bytes)
  const text = () => new TextDecoder().decode(reader.take(reader.count(1)))
  const specName = text()
  const implName = text()
  const authoringVersion = reader.small(4, false)
  const specVersion = reader.small(4, false)
  const implVersion = reader.small(4, false)
  const apis = Array.from(
    { length: reader.count(12) },
    () => [toHex(reader.take(8)), reader.small(4, false)] as const,
  )
  const transactionVersion = reader.remaining >= 4 ? reader.small(4, false) : 1
  const stateVersion = reader.remaining >= 1 && reader.small(1, false) !== 0 ? 1 : 0
  return {
    specName,
    implName,
    authoringVersion,
    specVersion,
    implVersion,
    apis,
    transactionVersion,
    stateVersion,
  }
}
