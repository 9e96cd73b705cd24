import { trieChanges } from './trie-changes.ts'
import { blake2b256, trieProof } from './trie-root.ts'
import type { DevNode } from './dev-node.ts'
import { toHex } from '../hex.ts'
import { ScaleReader } from './native/scale-bytes.ts'
import { hashOr, subscriptionsOf, unsubscribe } from './rpc-chain.ts'
import { invalidParams } from './rpc-error.ts'
import type { RpcMethod, RpcMethods } from './rpc-method.ts'
import type { StateStore } from './storage.ts'
import { trieNextKey } from './trie.ts'

/** Keys read or watched by one request. */
const MAX_KEYS = 10_000
/** Keys listed by one request, as in Substrate. */
const MAX_PAGE = 1000
/** Blocks that `state_queryStorage` looks through. */
const MAX_RANGE = 256

const getStorage: RpcMethod = ({ node }, params) => {
  const value = node.state(params.hash(1)).get(params.bytes(0, 'key'))
  return value && toHex(value)
}

const getStorageHash: RpcMethod = ({ node }, params) => {
  const value = node.state(params.hash(1)).get(params.bytes(0, 'key'))
  return value && toHex(blake2b256(value))
}

const getStorageSize: RpcMethod = ({ node }, params) =>
  node.state(params.hash(1)).get(params.bytes(0, 'key'))?.length

const getKeysPaged: RpcMethod = ({ node }, params) => {
  const prefix = params.optionalBytes(0, 'prefix') ?? new Uint8Array()
  const count = params.integer(1, 'count', 2 ** 32 - 1)
  if (count > MAX_PAGE) throw invalidParams(`count is ${count}, the limit is ${MAX_PAGE}`)
  return listKeys(node.state(params.hash(3)), prefix, count, params.optionalBytes(2, 'startKey'))
}

const queryStorageAt: RpcMethod = ({ node }, params) => {
  const keys = params.bytesList(0, 'keys', MAX_KEYS)
  const block = hashOr(node, params.hash(1))
  return [{ block, changes: readAll(node.state(block), keys) }]
}

const queryStorage: RpcMethod = ({ node }, params) => {
  const keys = params.bytesList(0, 'keys', MAX_KEYS)
  const first = node.block(params.hash(1)).header.number
  const last = node.block(params.hash(2)).header.number
  if (last < first || last - first > MAX_RANGE) {
    throw invalidParams(`from block ${first} to ${last}, the limit is ${MAX_RANGE} blocks`)
  }
  const sets: unknown[] = []
  let before: StateStore | undefined
  for (let number = first; number <= last; number++) {
    const block = node.chain.hashAt(number)
    const state = node.state(block)
    const earlier = before
    const changed = earlier === undefined ? keys : keys.filter((key) => earlier.get(key) !== state.get(key))
    if (changed.length > 0) sets.push({ block, changes: readAll(state, changed) })
    before = state
  }
  return sets
}

const getMetadata: RpcMethod = ({ node }, params) => {
  const reader = new ScaleReader(node.call('Metadata_metadata', new Uint8Array(), params.hash(0)))
  return toHex(reader.take(reader.count(1)))
}

const getRuntimeVersion: RpcMethod = ({ node }, params) => node.version(node.state(params.hash(0)))

const call: RpcMethod = ({ node }, params) =>
  toHex(node.call(params.text(0, 'method'), params.bytes(1, 'data'), params.hash(2)))

const getReadProof: RpcMethod = ({ node }, params) => {
  const keys = params.bytesList(0, 'keys', MAX_KEYS)
  const at = hashOr(node, params.hash(1))
  const state = node.state(at)
  return { at, proof: trieProof(state.trie, keys, node.version(state).stateVersion).map(toHex) }
}

const subscribeStorage: RpcMethod = (context, params) => {
  const { node } = context
  const all = params.raw(0) === undefined || params.raw(0) === null
  const keys = all ? undefined : params.bytesList(0, 'keys', MAX_KEYS)
  return subscriptionsOf(context).open('state_storage', (push) => {
    const block = node.chain.head.hash
    push({ block, changes: keys === undefined ? [] : readAll(node.chain.headState, keys) })
    return node.listen({
      onHead: (_change, before) => {
        const changes = changedSince(node, before, keys)
        if (changes.length > 0) push({ block: node.chain.head.hash, changes })
      },
    })
  })
}

const subscribeRuntimeVersion: RpcMethod = (context) => {
  const { node } = context
  return subscriptionsOf(context).open('state_runtimeVersion', (push) => {
    let last = node.version()
    push(last)
    return node.listen({
      onHead: () => {
        const version = node.version()
        if (version.specVersion === last.specVersion && version.specName === last.specName) return
        last = version
        push(version)
      },
    })
  })
}

/** `state_*`: storage, runtime calls and metadata. */
export const STATE_METHODS: RpcMethods = {
  state_getStorage: getStorage,
  state_getStorageAt: getStorage,
  state_getStorageHash: getStorageHash,
  state_getStorageHashAt: getStorageHash,
  state_getStorageSize: getStorageSize,
  state_getStorageSizeAt: getStorageSize,
  state_getKeysPaged: getKeysPaged,
  state_getKeysPagedAt: getKeysPaged,
  state_queryStorageAt: queryStorageAt,
  state_queryStorage: queryStorage,
  state_getMetadata: getMetadata,
  state_getRuntimeVersion: getRuntimeVersion,
  chain_getRuntimeVersion: getRuntimeVersion,
  state_call: call,
  state_callAt: call,
  state_getReadProof: getReadProof,
  state_subscribeStorage: subscribeStorage,
  state_unsubscribeStorage: unsubscribe,
  state_subscribeRuntimeVersion: subscribeRuntimeVersion,
  chain_subscribeRuntimeVersion: subscribeRuntimeVersion,
  state_unsubscribeRuntimeVersion: unsubscribe,
  chain_unsubscribeRuntimeVersion: unsubscribe,
}

type Changes = readonly (readonly [key: string, value: string | null])[]

function readAll(state: StateStore, keys: readonly Uint8Array[]): Changes {
  return keys.map((key) => [toHex(key), hexOrNull(state.get(key))] as const)
}

function changedSince(node: DevNode, before: StateStore, keys: readonly Uint8Array[] | undefined): Changes {
  const now = node.chain.headState
  if (keys === undefined) {
    return trieChanges(before.trie, now.trie).map(({ key, after }) => [toHex(key), hexOrNull(after)] as const)
  }
  const changed = keys.filter((key) => hexOrNull(before.get(key)) !== hexOrNull(now.get(key)))
  return readAll(now, changed)
}

function listKeys(
  state: StateStore,
  prefix: Uint8Array,
  count: number,
  start: Uint8Array | undefined,
): readonly string[] {
  const keys: string[] = []
  let key = start
  if (key === undefined || compare(key, prefix) < 0) {
    if (state.get(prefix) !== undefined && start === undefined) keys.push(toHex(prefix))
    key = prefix
  }
  while (keys.length < count) {
    key = trieNextKey(state.trie, key)
    if (key === undefined || !startsWith(key, prefix)) break
    keys.push(toHex(key))
  }
  return keys.slice(0, count)
}

function startsWith(key: Uint8Array, prefix: Uint8Array): boolean {
  return key.length >= prefix.length && prefix.every((byte, at) => byte === key[at])
}

function compare(a: Uint8Array, b: Uint8Array): number {
  for (let at = 0; at < Math.min(a.length, b.length); at++) {
    if (a[at] !== b[at]) return (a[at] as number) - (b[at] as number)
  }
  return a.length - b.length
}

function hexOrNull(value: Uint8Array | undefined): string | null {
  return value === undefined ? null : toHex(value)
}
