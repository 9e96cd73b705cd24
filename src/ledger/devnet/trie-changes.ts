import { pathBytes, sameBytes, type Trie, type TrieNode } from './trie.ts'

/** One key whose value differs between two tries; undefined where it is absent. */
export interface TrieChange {
  readonly key: Uint8Array
  readonly before: Uint8Array | undefined
  readonly after: Uint8Array | undefined
}

/** What differs from `before` to `after`, at the cost of the nodes they do not share. */
export function trieChanges(before: Trie, after: Trie): readonly TrieChange[] {
  const changes: TrieChange[] = []
  compare(before, 0, after, 0, [], changes)
  return changes
}

/** Compares two subtrees at one path, each after the first `aFrom` or `bFrom` nibbles of its partial. */
function compare(a: Trie, aFrom: number, b: Trie, bFrom: number, path: number[], out: TrieChange[]): void {
  if (a === b && aFrom === bFrom) return
  if (a === undefined || b === undefined) {
    const node = a ?? b
    if (node !== undefined) collect(node, a === undefined ? bFrom : aFrom, a !== undefined, path, out)
    return
  }
  const depth = path.length
  let shared = 0
  const end = Math.min(a.partial.length - aFrom, b.partial.length - bFrom)
  while (shared < end && a.partial[aFrom + shared] === b.partial[bFrom + shared]) shared++
  const aDone = aFrom + shared === a.partial.length
  const bDone = bFrom + shared === b.partial.length
  if (!aDone && !bDone) {
    collect(a, aFrom, true, path, out)
    collect(b, bFrom, false, path, out)
    return
  }
  for (let i = 0; i < shared; i++) path.push(a.partial[aFrom + i] as number)
  const before = aDone ? a.value : undefined
  const after = bDone ? b.value : undefined
  if (before !== after && !(before && after && sameBytes(before, after))) {
    out.push({ key: pathBytes(path), before, after })
  }
  for (let slot = 0; slot < 16; slot++) {
    const left = aDone ? a.children?.[slot] : slot === a.partial[aFrom + shared] ? a : undefined
    const right = bDone ? b.children?.[slot] : slot === b.partial[bFrom + shared] ? b : undefined
    if (left === right) continue
    path.push(slot)
    compare(left, aDone ? 0 : aFrom + shared + 1, right, bDone ? 0 : bFrom + shared + 1, path, out)
    path.pop()
  }
  path.length = depth
}

/** Everything below a node that only one side has. */
function collect(node: TrieNode, from: number, removed: boolean, path: number[], out: TrieChange[]): void {
  const depth = path.length
  for (let i = from; i < node.partial.length; i++) path.push(node.partial[i] as number)
  if (node.value !== undefined) {
    const key = pathBytes(path)
    out.push(
      removed ? { key, before: node.value, after: undefined } : { key, before: undefined, after: node.value },
    )
  }
  for (let slot = 0; node.children !== undefined && slot < 16; slot++) {
    const child = node.children[slot]
    if (child === undefined) continue
    path.push(slot)
    collect(child, 0, removed, path, out)
    path.pop()
  }
  path.length = depth
}
