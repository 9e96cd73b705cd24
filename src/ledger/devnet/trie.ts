/**
 * An immutable base-16 Patricia trie of bytes: every change returns a new root that shares all untouched nodes.
 *
 * The chain's state, its overlays and its history are all roots of this one structure: a snapshot is a pointer, a
 * rollback forgets one, and two states are compared by skipping the nodes they share.
 */
export interface TrieNode {
  /** Nibbles (0–15) between the parent's slot and this node. */
  readonly partial: Uint8Array
  readonly value: Uint8Array | undefined
  /** 16 slots; undefined at a leaf. */
  readonly children: readonly (TrieNode | undefined)[] | undefined
  /** Present keys in this subtree. */
  readonly size: number
  /** How the parent refers to this node: its encoding, or the hash of it (`trie-root.ts`). */
  reference: Uint8Array | undefined
  /** Layout of `reference`. */
  referenceVersion: 0 | 1
}

/** A trie; undefined is the empty one. */
export type Trie = TrieNode | undefined

const NO_CHILDREN: readonly (TrieNode | undefined)[] = []

/** The value at `key`; the array is shared, do not write to it. */
export function trieGet(trie: Trie, key: Uint8Array): Uint8Array | undefined {
  const length = key.length * 2
  let node = trie
  let at = 0
  while (node !== undefined) {
    const { partial } = node
    if (at + partial.length > length) return undefined
    for (let i = 0; i < partial.length; i++) if (partial[i] !== nibble(key, at + i)) return undefined
    at += partial.length
    if (at === length) return node.value
    node = node.children?.[nibble(key, at)]
    at++
  }
  return undefined
}

/** The trie with `value` at `key`; the same trie when that value is there already. `value` is kept, not copied. */
export function trieSet(trie: Trie, key: Uint8Array, value: Uint8Array): TrieNode {
  return trie === undefined ? leaf(key, 0, value) : setAt(trie, key, 0, value)
}

/** The trie without `key`; the same trie when it is absent. */
export function trieRemove(trie: Trie, key: Uint8Array): Trie {
  return trie && removeAt(trie, key, 0)
}

/** The trie without all keys that begin with `prefix`. */
export function trieRemovePrefix(trie: Trie, prefix: Uint8Array): Trie {
  return trie && removePrefixAt(trie, prefix, 0)
}

/** The next present key after `key` in byte order. */
export function trieNextKey(trie: Trie, key: Uint8Array): Uint8Array | undefined {
  if (trie === undefined) return undefined
  const path: number[] = []
  return keyAfter(trie, key, 0, path) ? pathBytes(path) : undefined
}

/** Keys and values in byte order, those below `prefix` alone when one is given. */
export function* trieEntries(
  trie: Trie,
  prefix: Uint8Array = new Uint8Array(),
): Generator<readonly [key: Uint8Array, value: Uint8Array]> {
  const path: number[] = []
  const length = prefix.length * 2
  let node = trie
  while (node !== undefined) {
    const { partial } = node
    for (let i = 0; i < partial.length && path.length + i < length; i++) {
      if (partial[i] !== nibble(prefix, path.length + i)) return
    }
    if (path.length + partial.length >= length) {
      yield* walk(node, path)
      return
    }
    path.push(...partial)
    const slot = nibble(prefix, path.length)
    path.push(slot)
    node = node.children?.[slot]
  }
}

/** Half byte number `at` of a key, the high half first. */
export function nibble(key: Uint8Array, at: number): number {
  const byte = key[at >> 1] as number
  return (at & 1) === 0 ? byte >> 4 : byte & 15
}

function makeNode(
  partial: Uint8Array,
  value: Uint8Array | undefined,
  children: readonly (TrieNode | undefined)[] | undefined,
): TrieNode {
  let size = value === undefined ? 0 : 1
  if (children !== undefined) for (const child of children) if (child !== undefined) size += child.size
  return { partial, value, children, size, reference: undefined, referenceVersion: 1 }
}

function leaf(key: Uint8Array, from: number, value: Uint8Array): TrieNode {
  const partial = new Uint8Array(key.length * 2 - from)
  for (let i = 0; i < partial.length; i++) partial[i] = nibble(key, from + i)
  return makeNode(partial, value, undefined)
}

function setAt(node: TrieNode, key: Uint8Array, from: number, value: Uint8Array): TrieNode {
  const { partial, children } = node
  const length = key.length * 2
  let shared = 0
  while (
    shared < partial.length &&
    from + shared < length &&
    partial[shared] === nibble(key, from + shared)
  ) {
    shared++
  }
  const at = from + shared
  if (shared === partial.length) {
    if (at === length) {
      return node.value !== undefined && sameBytes(node.value, value)
        ? node
        : makeNode(partial, value, children)
    }
    const slot = nibble(key, at)
    const child = children?.[slot]
    const next = child === undefined ? leaf(key, at + 1, value) : setAt(child, key, at + 1, value)
    return next === child ? node : makeNode(partial, node.value, withChild(children, slot, next))
  }
  const slot = partial[shared] as number
  const below = makeNode(partial.slice(shared + 1), node.value, children)
  const split = withChild(undefined, slot, below)
  const head = partial.slice(0, shared)
  if (at === length) return makeNode(head, value, split)
  split[nibble(key, at)] = leaf(key, at + 1, value)
  return makeNode(head, undefined, split)
}

function withChild(
  children: readonly (TrieNode | undefined)[] | undefined,
  slot: number,
  child: TrieNode | undefined,
): (TrieNode | undefined)[] {
  const copy = children === undefined ? Array.from<TrieNode | undefined>({ length: 16 }) : children.slice()
  copy[slot] = child
  return copy
}

function removeAt(node: TrieNode, key: Uint8Array, from: number): Trie {
  const at = from + node.partial.length
  const length = key.length * 2
  if (at > length || !matches(node.partial, key, from)) return node
  if (at === length) {
    return node.value === undefined ? node : contract(node.partial, undefined, node.children)
  }
  const slot = nibble(key, at)
  const child = node.children?.[slot]
  if (child === undefined) return node
  const next = removeAt(child, key, at + 1)
  return next === child ? node : contract(node.partial, node.value, withChild(node.children, slot, next))
}

function removePrefixAt(node: TrieNode, prefix: Uint8Array, from: number): Trie {
  const length = prefix.length * 2
  const at = from + node.partial.length
  if (!matches(node.partial, prefix, from)) return node
  if (at >= length) return undefined
  const slot = nibble(prefix, at)
  const child = node.children?.[slot]
  if (child === undefined) return node
  const next = removePrefixAt(child, prefix, at + 1)
  return next === child ? node : contract(node.partial, node.value, withChild(node.children, slot, next))
}

/** Whether `partial` and the key from there on agree as far as both go. */
function matches(partial: Uint8Array, key: Uint8Array, from: number): boolean {
  const end = Math.min(partial.length, key.length * 2 - from)
  for (let i = 0; i < end; i++) if (partial[i] !== nibble(key, from + i)) return false
  return true
}

/** A node that has lost something: gone when empty, merged with an only child. */
function contract(
  partial: Uint8Array,
  value: Uint8Array | undefined,
  children: readonly (TrieNode | undefined)[] | undefined,
): Trie {
  let only = -1
  let count = 0
  for (const [slot, child] of (children ?? NO_CHILDREN).entries()) {
    if (child === undefined) continue
    only = slot
    count++
  }
  if (count === 0) return value === undefined ? undefined : makeNode(partial, value, undefined)
  if (value !== undefined || count > 1) return makeNode(partial, value, children)
  const child = children?.[only] as TrieNode
  const joined = new Uint8Array(partial.length + 1 + child.partial.length)
  joined.set(partial)
  joined[partial.length] = only
  joined.set(child.partial, partial.length + 1)
  return makeNode(joined, child.value, child.children)
}

/** Appends the path of the first key after `key` below `node`; `path` is as before when there is none. */
function keyAfter(node: TrieNode, key: Uint8Array, from: number, path: number[]): boolean {
  const { partial, children } = node
  const length = key.length * 2
  for (let i = 0; i < partial.length; i++) {
    if (from + i >= length) return firstKey(node, path)
    const wanted = nibble(key, from + i)
    const found = partial[i] as number
    if (found > wanted) return firstKey(node, path)
    if (found < wanted) return false
  }
  if (children === undefined) return false
  const depth = path.length
  path.push(...partial)
  const at = from + partial.length
  let slot = 0
  if (at < length) {
    slot = nibble(key, at)
    const child = children[slot]
    path.push(slot)
    if (child !== undefined && keyAfter(child, key, at + 1, path)) return true
    path.pop()
    slot++
  }
  for (; slot < 16; slot++) {
    const child = children[slot]
    if (child === undefined) continue
    path.push(slot)
    return firstKey(child, path)
  }
  path.length = depth
  return false
}

function firstKey(start: TrieNode, path: number[]): true {
  let node = start
  for (;;) {
    path.push(...node.partial)
    if (node.value !== undefined) return true
    const slot = (node.children ?? []).findIndex((child) => child !== undefined)
    path.push(slot)
    node = node.children?.[slot] as TrieNode
  }
}

function* walk(node: TrieNode, path: number[]): Generator<readonly [Uint8Array, Uint8Array]> {
  const depth = path.length
  path.push(...node.partial)
  if (node.value !== undefined) yield [pathBytes(path), node.value]
  for (let slot = 0; node.children !== undefined && slot < 16; slot++) {
    const child = node.children[slot]
    if (child === undefined) continue
    path.push(slot)
    yield* walk(child, path)
    path.pop()
  }
  path.length = depth
}

/** The key that a path of nibbles spells. */
export function pathBytes(path: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(path.length >> 1)
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = ((path[2 * i] as number) << 4) | (path[2 * i + 1] as number)
  }
  return bytes
}

/** Whether two arrays hold the same bytes. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}
