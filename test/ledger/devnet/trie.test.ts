import { trieChanges } from '../../../src/ledger/devnet/trie-changes.ts'
import { blake2AsU8a, xxhashAsU8a } from '@polkadot/util-crypto'
import { validateProofs } from '@polkadot-api/substrate-bindings'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { headerHash, encodeHeader } from '../../../src/ledger/devnet/header.ts'
import { createStateStore } from '../../../src/ledger/devnet/storage.ts'
import { orderedTrieRoot, trieProof, trieRoot } from '../../../src/ledger/devnet/trie-root.ts'
import {
  type Trie,
  trieEntries,
  trieGet,
  trieNextKey,
  trieRemove,
  trieRemovePrefix,
  trieSet,
} from '../../../src/ledger/devnet/trie.ts'
import { storagePrefix, twox } from '../../../src/ledger/devnet/twox.ts'
import { ASSET_HUB } from './asset-hub.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'hex'))
const EMPTY_ROOT = '03170a2e7597b7b7e3d84c05391d139a62b157e78786d8c082f29dcf4c111314'

/** The definition, straight: recursion over sorted pairs of nibble text, no nodes kept. */
function naiveRoot(pairs: ReadonlyMap<string, Uint8Array>, version: 0 | 1): string {
  if (pairs.size === 0) return EMPTY_ROOT
  return hex(blake2AsU8a(naiveNode([...pairs], version), 256))
}

function naiveNode(pairs: readonly (readonly [string, Uint8Array])[], version: 0 | 1): Uint8Array {
  let shared = pairs[0]![0]
  for (const [key] of pairs) while (!key.startsWith(shared)) shared = shared.slice(0, -1)
  const value = pairs.find(([key]) => key === shared)?.[1]
  const below = [...'0123456789abcdef'].map((slot) =>
    pairs
      .filter(([key]) => key.startsWith(shared + slot))
      .map(([key, of]) => [key.slice(shared.length + 1), of] as const),
  )
  const isLeaf = below.every((list) => list.length === 0)
  const hashed = version === 1 && value !== undefined && value.length > 32
  const [kind, room]: readonly [number, number] = isLeaf
    ? hashed
      ? [0x20, 31]
      : [0x40, 63]
    : value === undefined
      ? [0x80, 63]
      : hashed
        ? [0x10, 15]
        : [0xc0, 63]
  const out: number[] = []
  let rest = shared.length - (room - 1)
  if (rest <= 0) out.push(kind + shared.length)
  else {
    out.push(kind + room)
    for (; rest >= 256; rest -= 255) out.push(255)
    out.push(rest - 1)
  }
  out.push(...bytes(shared.length % 2 === 1 ? `0${shared}` : shared))
  if (!isLeaf) {
    const bitmap = below.reduce((sum, list, slot) => sum + (list.length > 0 ? 2 ** slot : 0), 0)
    out.push(bitmap % 256, bitmap >> 8)
  }
  const prefixed = (data: Uint8Array) => {
    const { length } = data
    if (length < 64) out.push(length * 4)
    else out.push((length * 4 + 1) % 256, (length * 4 + 1) >> 8)
    out.push(...data)
  }
  if (value !== undefined && hashed) out.push(...blake2AsU8a(value, 256))
  else if (value !== undefined) prefixed(value)
  for (const list of below) {
    if (list.length === 0) continue
    const node = naiveNode(list, version)
    prefixed(node.length < 32 ? node : blake2AsU8a(node, 256))
  }
  return Uint8Array.from(out)
}

/** Few distinct bytes, so that keys share prefixes and contain one another. */
const key = fc
  .array(fc.constantFrom(0x00, 0x01, 0x10, 0x11, 0xff), { maxLength: 5 })
  .map((list) => Uint8Array.from(list))
const value = fc.uint8Array({ maxLength: 70 })
const change = fc.oneof(
  { weight: 4, arbitrary: fc.record({ set: key, value }) },
  { weight: 2, arbitrary: fc.record({ remove: key }) },
  { weight: 1, arbitrary: fc.record({ prefix: key }) },
)

function applyTo(
  trie: Trie,
  model: Map<string, Uint8Array>,
  step: typeof change extends fc.Arbitrary<infer T> ? T : never,
): Trie {
  if ('set' in step) {
    model.set(hex(step.set), step.value)
    return trieSet(trie, step.set, step.value)
  }
  if ('remove' in step) {
    model.delete(hex(step.remove))
    return trieRemove(trie, step.remove)
  }
  for (const name of model.keys()) if (name.startsWith(hex(step.prefix))) model.delete(name)
  return trieRemovePrefix(trie, step.prefix)
}

describe('trieRoot', () => {
  it('of nothing is the hash of the empty node', () => {
    expect(hex(trieRoot(undefined, 0))).toBe(EMPTY_ROOT)
    expect(hex(trieRoot(undefined, 1))).toBe(EMPTY_ROOT)
  })

  it('of Rococo Asset Hub gives the genesis hash that its network has', () => {
    const header = {
      parentHash: new Uint8Array(32),
      number: 0,
      stateRoot: createStateStore(ASSET_HUB.genesis).root(0),
      extrinsicsRoot: orderedTrieRoot([], 0),
      digest: [],
    }
    expect(headerHash(encodeHeader(header))).toBe(
      '0x7c34d42fc815d392057c78b49f2755c753440ccd38bcb0405b3bcfb601d08734',
    )
  })

  it('equals the definition after any changes, in both layouts, with hashes kept in between', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), (steps) => {
        const model = new Map<string, Uint8Array>()
        let trie: Trie
        for (const step of steps) {
          trie = applyTo(trie, model, step)
          trieRoot(trie, 1) // fills the cache that the next change must not believe
        }
        expect(hex(trieRoot(trie, 1))).toBe(naiveRoot(model, 1))
        expect(hex(trieRoot(trie, 0))).toBe(naiveRoot(model, 0))
      }),
      { numRuns: 300 },
    )
  })

  it('takes partial keys longer than a header byte can count', () => {
    for (const length of [7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 159, 160, 300]) {
      for (const size of [1, 40]) {
        const long = new Uint8Array(length).fill(0xab)
        const other = Uint8Array.of(...long, 1)
        const model = new Map([
          [hex(long), new Uint8Array(size)],
          [hex(other), new Uint8Array(size)],
        ])
        const trie = trieSet(trieSet(undefined, long, new Uint8Array(size)), other, new Uint8Array(size))
        for (const version of [0, 1] as const)
          expect(hex(trieRoot(trie, version))).toBe(naiveRoot(model, version))
      }
    }
  })

  it('orders list entries by their compact position', () => {
    const values = Array.from({ length: 300 }, (_, at) => Uint8Array.of(at % 256, 1, 2))
    const model = new Map(
      values.map((entry, at) => [
        at < 64 ? hex(Uint8Array.of(at * 4)) : hex(Uint8Array.of((at * 4 + 1) % 256, (at * 4 + 1) >> 8)),
        entry,
      ]),
    )
    expect(hex(orderedTrieRoot(values, 0))).toBe(naiveRoot(model, 0))
  })
})

describe('trie', () => {
  it('reads, walks and counts as a sorted map does', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), key, (steps, asked) => {
        const model = new Map<string, Uint8Array>()
        let trie: Trie
        for (const step of steps) trie = applyTo(trie, model, step)
        const names = [...model.keys()].sort()
        expect([...trieEntries(trie)].map(([name]) => hex(name))).toEqual(names)
        expect([...trieEntries(trie, asked)].map(([name]) => hex(name))).toEqual(
          names.filter((name) => name.startsWith(hex(asked))),
        )
        expect(trie?.size ?? 0).toBe(names.length)
        expect(trieGet(trie, asked)).toEqual(model.get(hex(asked)))
        const next = trieNextKey(trie, asked)
        expect(next && hex(next)).toBe(names.find((name) => name > hex(asked)))
      }),
      { numRuns: 1000 },
    )
  })

  it('tells what differs between two states', () => {
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 30 }),
        fc.array(change, { maxLength: 15 }),
        (first, second) => {
          const before = new Map<string, Uint8Array>()
          let trie: Trie
          for (const step of first) trie = applyTo(trie, before, step)
          const after = new Map(before)
          let changed = trie
          for (const step of second) changed = applyTo(changed, after, step)
          const expected = [...new Set([...before.keys(), ...after.keys()])]
            .filter(
              (name) =>
                !Buffer.from(before.get(name) ?? 'absent').equals(Buffer.from(after.get(name) ?? 'absent')),
            )
            .sort()
            .map((name) => [name, before.get(name), after.get(name)])
          const found = trieChanges(trie, changed).map(
            (one) => [hex(one.key), one.before, one.after] as const,
          )
          expect(found.toSorted(([a], [b]) => (a < b ? -1 : 1))).toEqual(expected)
        },
      ),
      { numRuns: 1000 },
    )
  })

  it('leaves an older root as it was', () => {
    const one = trieSet(undefined, bytes('0102'), bytes('aa'))
    const root = hex(trieRoot(one, 1))
    trieRemovePrefix(
      trieSet(trieSet(one, bytes('0103'), bytes('bb')), bytes('0102'), bytes('cc')),
      bytes('01'),
    )
    expect([...trieEntries(one)]).toEqual([[bytes('0102'), bytes('aa')]])
    expect(hex(trieRoot(one, 1))).toBe(root)
  })

  it('returns the same root for a value that is there already, and for a key that is not there', () => {
    const trie = trieSet(trieSet(undefined, bytes('01'), bytes('aa')), bytes('0203'), bytes('bb'))
    expect(trieSet(trie, bytes('01'), bytes('aa'))).toBe(trie)
    expect(trieRemove(trie, bytes('02'))).toBe(trie)
    expect(trieRemovePrefix(trie, bytes('ff'))).toBe(trie)
  })
})

describe('trieProof', () => {
  it('convinces a verifier that is not ours', () => {
    const { trie } = createStateStore(ASSET_HUB.genesis)
    const asked = storagePrefix('System', 'LastRuntimeUpgrade')
    const proof = trieProof(trie, [asked], 0)
    const checked = validateProofs(proof.map((node) => `0x${hex(node)}`))
    expect(checked?.rootHash).toBe(`0x${hex(trieRoot(trie, 0))}`)
  })
})

describe('twox', () => {
  it('equals another implementation at every length', () => {
    for (let length = 0; length < 200; length++) {
      const data = Uint8Array.from({ length }, (_, at) => (at * 37 + length) % 256)
      expect(twox(data, 8)).toEqual(xxhashAsU8a(data, 64))
      expect(twox(data, 16)).toEqual(xxhashAsU8a(data, 128))
      expect(twox(data, 32)).toEqual(xxhashAsU8a(data, 256))
    }
  })

  it('names the storage prefix that every Substrate chain has', () => {
    expect(hex(storagePrefix('System', 'Account'))).toBe(
      '26aa394eea5630e07c48ae0c9558cef7b99d880ec681799c0cf30e8886371da9',
    )
  })
})
