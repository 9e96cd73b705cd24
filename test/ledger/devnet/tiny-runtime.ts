import { createStateStore } from '../../../src/ledger/devnet/storage.ts'
import { DevNode, type DevNodeOptions } from '../../../src/ledger/devnet/dev-node.ts'
import { decodeHeader, encodeHeader } from '../../../src/ledger/devnet/header.ts'
import { ScaleReader, ScaleWriter } from '../../../src/ledger/devnet/native/scale-bytes.ts'
import type { Runtime, RuntimeStorage } from '../../../src/ledger/devnet/runtime.ts'
import { orderedTrieRoot } from '../../../src/ledger/devnet/trie-root.ts'
import { storagePrefix } from '../../../src/ledger/devnet/twox.ts'

/**
 * A runtime of a few lines: accounts are one byte and have a nonce, extrinsics count up a number. It exists so that tests
 * of the node decide what is valid, what panics and what fills a block.
 */

const NOW = storagePrefix('Timestamp', 'Now')
const key = (name: string, ...rest: number[]) => Uint8Array.of(...new TextEncoder().encode(name), ...rest)
const HEADER = key('header')
const LIST = key('list')
const APPLIED = key('applied')
/** Extrinsics that fit into a block. */
export const TINY_BLOCK = 50

export type TinyKind = 'count' | 'panic' | 'fail in block'
const KINDS: readonly TinyKind[] = ['count', 'panic', 'fail in block']

/** An extrinsic with its length prefix. */
export function tinyExtrinsic(
  account: number,
  nonce: number,
  options: { priority?: number; kind?: TinyKind; longevity?: number } = {},
): Uint8Array {
  const { priority = 1, kind = 'count', longevity = 64 } = options
  return Uint8Array.of(5 << 2, account, nonce, priority, KINDS.indexOf(kind), longevity)
}

/** Where the count of applied extrinsics is. */
export const TINY_COUNT = key('count')

export const tinyRuntime: Runtime = {
  entries: new Set([
    'Core_version',
    'Core_initialize_block',
    'BlockBuilder_inherent_extrinsics',
    'BlockBuilder_apply_extrinsic',
    'BlockBuilder_finalize_block',
    'TaggedTransactionQueue_validate_transaction',
    'AccountNonceApi_account_nonce',
  ]),
  call(entry, input, storage) {
    switch (entry) {
      case 'Core_version':
        return version()
      case 'Core_initialize_block':
        storage.set(HEADER, input)
        storage.set(LIST, Uint8Array.of(0))
        storage.set(APPLIED, Uint8Array.of(0))
        return new Uint8Array()
      case 'BlockBuilder_inherent_extrinsics':
        // One inherent: its time, the last eight bytes of the data.
        return Uint8Array.of(1 << 2, 9 << 2, 0xff, ...input.slice(-8))
      case 'BlockBuilder_apply_extrinsic':
        return apply(input, storage)
      case 'BlockBuilder_finalize_block':
        return finalize(storage)
      case 'TaggedTransactionQueue_validate_transaction':
        return validate(input.slice(1, -32), storage)
      case 'AccountNonceApi_account_nonce':
        return Uint8Array.of(nonceOf(storage, input[0]!), 0, 0, 0)
      default:
        throw new Error(`no entry ${entry}`)
    }
  },
}

/** A node of it that makes blocks when asked. */
export function tinyNode(options: Partial<DevNodeOptions> = {}): DevNode {
  return new DevNode({
    runtime: tinyRuntime,
    genesis: createStateStore([[TINY_COUNT, Uint8Array.of(0, 0)]]).entries(),
    name: 'Tiny',
    properties: {},
    mode: 'manual',
    now: () => 1_000_000,
    ...options,
  })
}

/** Extrinsics that the state has counted. */
export function tinyCount(node: DevNode, hash?: string): number {
  const [low, high] = node.state(hash).get(TINY_COUNT)!
  return low! + 256 * high!
}

function nonceOf(storage: RuntimeStorage, account: number): number {
  return storage.get(key('nonce', account))?.[0] ?? 0
}

function validate(extrinsic: Uint8Array, storage: RuntimeStorage): Uint8Array {
  if (extrinsic.length !== 6) throw new Error('no extrinsic')
  const [, account, nonce, priority, , longevity] = extrinsic
  const now = nonceOf(storage, account!)
  if (nonce! < now) return Uint8Array.of(1, 0, 3)
  const writer = new ScaleWriter()
  const tag = (of: number) => writer.bytes(Uint8Array.of(1 << 2, 5 << 2, account!, of, 0, 0, 0))
  writer.small(0, 1)
  writer.big(BigInt(priority!), 8)
  if (nonce! > now) tag(nonce! - 1)
  else writer.compact(0)
  tag(nonce!)
  writer.big(BigInt(longevity!), 8)
  return writer.finish()
}

function apply(extrinsic: Uint8Array, storage: RuntimeStorage): Uint8Array {
  if (extrinsic[1] === 0xff) {
    storage.set(NOW, extrinsic.slice(2))
  } else {
    const [, account, nonce, , kind] = extrinsic
    const applied = storage.get(APPLIED)![0]!
    if (applied >= TINY_BLOCK) return Uint8Array.of(1, 0, 6)
    storage.startTransaction()
    storage.set(key('nonce', account!), Uint8Array.of(nonceOf(storage, account!) + 1))
    if (KINDS[kind!] === 'panic') throw new Error('the tiny runtime panicked')
    storage.commitTransaction()
    if (KINDS[kind!] === 'fail in block') return Uint8Array.of(1, 0, 1)
    if (nonceOf(storage, account!) !== nonce! + 1) return Uint8Array.of(1, 0, 3)
    storage.set(APPLIED, Uint8Array.of(applied + 1))
    const [low, high] = storage.get(TINY_COUNT)!
    storage.set(TINY_COUNT, low === 255 ? Uint8Array.of(0, high! + 1) : Uint8Array.of(low! + 1, high!))
  }
  const list = readList(storage)
  storage.set(LIST, writeList([...list, extrinsic]))
  return Uint8Array.of(0, 0)
}

function finalize(storage: RuntimeStorage): Uint8Array {
  const header = decodeHeader(storage.get(HEADER)!)
  const extrinsicsRoot = orderedTrieRoot(readList(storage), 1)
  for (const name of [HEADER, LIST, APPLIED]) storage.clear(name)
  return encodeHeader({ ...header, extrinsicsRoot, stateRoot: storage.root(1) })
}

function readList(storage: RuntimeStorage): Uint8Array[] {
  const reader = new ScaleReader(storage.get(LIST)!)
  return Array.from({ length: reader.count(1) }, () => reader.take(reader.count(1)))
}

function writeList(list: readonly Uint8Array[]): Uint8Array {
  const writer = new ScaleWriter()
  writer.compact(list.length)
  for (const entry of list) {
    writer.compact(entry.length)
    writer.bytes(entry)
  }
  return writer.finish()
}

function version(): Uint8Array {
  const writer = new ScaleWriter()
  for (const text of ['tiny', 'tiny']) {
    writer.compact(text.length)
    writer.bytes(new TextEncoder().encode(text))
  }
  for (const number of [1, 7, 0]) writer.small(number, 4)
  writer.compact(0)
  writer.small(1, 4)
  writer.small(1, 1)
  return writer.finish()
}
