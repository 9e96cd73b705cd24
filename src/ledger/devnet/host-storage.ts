import type { Host, HostFunctions } from './host.ts'
import { ScaleReader, ScaleWriter } from './native/scale-bytes.ts'
import { orderedTrieRoot, trieRoot } from './trie-root.ts'
import { type Trie, trieSet } from './trie.ts'

/** Storage and trie host functions (`ext_storage_*`, `ext_trie_*`). */
export const STORAGE_FUNCTIONS: HostFunctions = {
  ext_storage_set_version_1: (host, key: bigint, value: bigint) =>
    host.storage.set(host.bytes(key), host.bytes(value)),
  ext_storage_get_version_1: (host, key: bigint) => host.give(option(host.storage.get(host.bytes(key)))),
  ext_storage_read_version_1: (host, key: bigint, out: bigint, offset: number) => {
    const value = host.storage.get(host.bytes(key))
    if (value === undefined) return host.give(Uint8Array.of(0))
    const rest = value.subarray(Math.min(offset >>> 0, value.length))
    const target = host.bytes(out)
    target.set(rest.subarray(0, target.length))
    return host.give(optionU32(rest.length))
  },
  ext_storage_clear_version_1: (host, key: bigint) => host.storage.clear(host.bytes(key)),
  ext_storage_exists_version_1: (host, key: bigint) =>
    host.storage.get(host.bytes(key)) === undefined ? 0 : 1,
  ext_storage_clear_prefix_version_1: (host, prefix: bigint) => {
    host.storage.clearPrefix(host.bytes(prefix))
  },
  ext_storage_clear_prefix_version_2: (host, prefix: bigint, limit: bigint) => {
    const { removed, more } = host.storage.clearPrefix(host.bytes(prefix), readLimit(host, limit))
    const result = optionU32(removed)
    result[0] = more ? 1 : 0
    return host.give(result)
  },
  ext_storage_append_version_1: (host, key: bigint, item: bigint) => {
    const name = host.bytes(key)
    host.storage.set(name, append(host.storage.get(name), host.bytes(item)))
  },
  ext_storage_root_version_1: (host) => host.give(host.storage.root(0)),
  ext_storage_root_version_2: (host, version: number) => host.give(host.storage.root(layout(version))),
  ext_storage_changes_root_version_1: (host, _parent: bigint) => host.give(Uint8Array.of(0)),
  ext_storage_next_key_version_1: (host, key: bigint) =>
    host.give(option(host.storage.nextKey(host.bytes(key)))),
  ext_storage_start_transaction_version_1: (host) => host.storage.startTransaction(),
  ext_storage_commit_transaction_version_1: (host) => host.storage.commitTransaction(),
  ext_storage_rollback_transaction_version_1: (host) => host.storage.rollbackTransaction(),

  ext_trie_blake2_256_root_version_1: (host, pairs: bigint) => host.place(pairsRoot(host.bytes(pairs), 0)),
  ext_trie_blake2_256_root_version_2: (host, pairs: bigint, version: number) =>
    host.place(pairsRoot(host.bytes(pairs), layout(version))),
  ext_trie_blake2_256_ordered_root_version_1: (host, values: bigint) =>
    host.place(orderedTrieRoot(readList(host.bytes(values)), 0)),
  ext_trie_blake2_256_ordered_root_version_2: (host, values: bigint, version: number) =>
    host.place(orderedTrieRoot(readList(host.bytes(values)), layout(version))),
}

function layout(version: number): 0 | 1 {
  return version === 0 ? 0 : 1
}

function option(bytes: Uint8Array | undefined): Uint8Array {
  if (bytes === undefined) return Uint8Array.of(0)
  const writer = new ScaleWriter()
  writer.small(1, 1)
  writer.compact(bytes.length)
  writer.bytes(bytes)
  return writer.finish()
}

function optionU32(value: number): Uint8Array {
  const bytes = new Uint8Array(5)
  bytes[0] = 1
  new DataView(bytes.buffer).setUint32(1, value, true)
  return bytes
}

function readLimit(host: Host, limit: bigint): number | undefined {
  const reader = new ScaleReader(host.bytes(limit))
  return reader.small(1, false) === 0 ? undefined : reader.small(4, false)
}

/** A SCALE vector with one more item; what was no vector becomes one of this item alone, as in Substrate. */
function append(list: Uint8Array | undefined, item: Uint8Array): Uint8Array {
  let count = 0
  let items = new Uint8Array()
  if (list !== undefined && list.length > 0) {
    try {
      const reader = new ScaleReader(list)
      count = Number(reader.compact())
      items = list.subarray(reader.offset) as Uint8Array<ArrayBuffer>
    } catch {
      count = 0
    }
  }
  const writer = new ScaleWriter()
  writer.compact(count + 1)
  const head = writer.finish()
  const out = new Uint8Array(head.length + items.length + item.length)
  out.set(head)
  out.set(items, head.length)
  out.set(item, head.length + items.length)
  return out
}

function readList(bytes: Uint8Array): Uint8Array[] {
  const reader = new ScaleReader(bytes)
  return Array.from({ length: reader.count(1) }, () => reader.take(reader.count(1)))
}

function pairsRoot(bytes: Uint8Array, version: 0 | 1): Uint8Array {
  const reader = new ScaleReader(bytes)
  let trie: Trie
  for (let left = reader.count(2); left > 0; left--) {
    const key = reader.take(reader.count(1))
    trie = trieSet(trie, key, reader.take(reader.count(1)))
  }
  return trieRoot(trie, version)
}
