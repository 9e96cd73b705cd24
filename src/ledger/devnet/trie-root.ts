import { joinBytes } from '../../bytes.ts'
import { blake2b } from '@noble/hashes/blake2.js'
import { nibble, type Trie, type TrieNode, trieSet } from './trie.ts'

/**
 * Merkle roots as Substrate computes them: node encoding of `sp-trie`, BLAKE2b-256, children shorter than a hash inline.
 * Version 1 stores values over 32 bytes by their hash. A trie has one version throughout: state that was written under
 * version 0 and lives on under 1 without being rewritten is not modelled.
 */

/** A value this long or longer is replaced by its hash in version 1. */
const HASHED_VALUE_BYTES = 33
const HASH_BYTES = 32

/** Root of a trie, 32 bytes. Only nodes that have changed since the last call are hashed. */
export function trieRoot(trie: Trie, version: 0 | 1): Uint8Array {
  if (trie === undefined) return blake2b256(Uint8Array.of(0))
  const reference = referenceOf(trie, version)
  return reference.length === HASH_BYTES ? reference.slice() : blake2b256(reference)
}

/** Nodes that prove what the trie holds at these keys, or that it holds nothing: what `state_getReadProof` returns. */
export function trieProof(trie: Trie, keys: readonly Uint8Array[], version: 0 | 1): readonly Uint8Array[] {
  if (trie === undefined) return [Uint8Array.of(0)]
  const proof = new Set<Uint8Array>()
  const nodes = new Set<TrieNode>()
  for (const key of keys) {
    let at = 0
    let node: Trie = trie
    while (node !== undefined) {
      // Shorter ones are inside their parent.
      if (!nodes.has(node) && (node === trie || referenceOf(node, version).length === HASH_BYTES)) {
        nodes.add(node)
        proof.add(encodeNode(node, version))
      }
      const { partial, value } = node
      if (at + partial.length > key.length * 2) break
      if (!partial.every((half, i) => half === nibble(key, at + i))) break
      at += partial.length
      if (at === key.length * 2) {
        if (version === 1 && value !== undefined && value.length >= HASHED_VALUE_BYTES) proof.add(value)
        break
      }
      node = node.children?.[nibble(key, at)]
      at++
    }
  }
  return [...proof]
}

/** Root of the trie whose keys are the positions of `values`, SCALE compact: what a header says of its extrinsics. */
export function orderedTrieRoot(values: readonly Uint8Array[], version: 0 | 1): Uint8Array {
  let trie: Trie
  for (const [index, value] of values.entries()) {
    const key: number[] = []
    pushCompact(key, index)
    trie = trieSet(trie, Uint8Array.from(key), value)
  }
  return trieRoot(trie, version)
}

/** BLAKE2b with 32 bytes of output. */
export function blake2b256(bytes: Uint8Array): Uint8Array {
  return blake2b(bytes, { dkLen: 32 })
}

function referenceOf(node: TrieNode, version: 0 | 1): Uint8Array {
  if (node.reference !== undefined && node.referenceVersion === version) return node.reference
  const encoded = encodeNode(node, version)
  node.reference = encoded.length < HASH_BYTES ? encoded : blake2b256(encoded)
  node.referenceVersion = version
  return node.reference
}

function encodeNode(node: TrieNode, version: 0 | 1): Uint8Array {
  const { partial, value, children } = node
  const hashed = version === 1 && value !== undefined && value.length >= HASHED_VALUE_BYTES
  const head: number[] = []
  if (children === undefined) pushHeader(head, hashed ? 0b0010_0000 : 0b0100_0000, hashed ? 3 : 2, partial)
  else if (value === undefined) pushHeader(head, 0b1000_0000, 2, partial)
  else pushHeader(head, hashed ? 0b0001_0000 : 0b1100_0000, hashed ? 4 : 2, partial)
  let at = 0
  if ((partial.length & 1) === 1) head.push(partial[at++] as number)
  for (; at < partial.length; at += 2) head.push(((partial[at] as number) << 4) | (partial[at + 1] as number))
  if (children !== undefined) {
    let bitmap = 0
    for (let slot = 0; slot < 16; slot++) if (children[slot] !== undefined) bitmap |= 1 << slot
    head.push(bitmap & 255, bitmap >> 8)
  }
  const parts: Uint8Array[] = []
  if (value !== undefined && hashed) parts.push(blake2b256(value))
  if (value !== undefined && !hashed) {
    pushCompact(head, value.length)
    parts.push(value)
  }
  for (const child of children ?? []) {
    if (child === undefined) continue
    const reference = referenceOf(child, version)
    const length: number[] = []
    pushCompact(length, reference.length)
    parts.push(Uint8Array.from(length), reference)
  }
  return joinBytes([Uint8Array.from(head), ...parts])
}

/** Kind bits and the count of nibbles, which spills over into bytes of 255. */
function pushHeader(out: number[], kind: number, kindBits: number, partial: Uint8Array): void {
  const max = 255 >> kindBits
  const inHeader = Math.min(max - 1, partial.length)
  if (inHeader === partial.length) {
    out.push(kind + inHeader)
    return
  }
  out.push(kind + max)
  let rest = partial.length - inHeader
  while (rest >= 256) {
    out.push(255)
    rest -= 255
  }
  out.push(rest - 1)
}

function pushCompact(out: number[], value: number): void {
  if (value < 64) out.push(value << 2)
  else if (value < 2 ** 14) out.push(((value & 63) << 2) | 1, value >> 6)
  else if (value < 2 ** 30) {
    const word = value * 4 + 2
    out.push(word & 255, (word >>> 8) & 255, (word >>> 16) & 255, word >>> 24)
  } else {
    out.push(3, value & 255, (value >>> 8) & 255, (value >>> 16) & 255, Math.floor(value / 2 ** 24))
  }
}
