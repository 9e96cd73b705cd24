import type { LedgerValue } from '../../../ledger.ts'

/** A `BTreeMap` as ledger values hold it: pairs in ascending key order, as the codec gives and wants them. */
export type OrderedMap<K extends LedgerValue, V extends LedgerValue> = readonly (readonly [K, V])[]

/** Rust's `Ord` for the keys that storage uses: numbers, accounts as lower-case hex, byte strings. */
export function compareKeys(a: LedgerValue, b: LedgerValue): number {
  if (a instanceof Uint8Array && b instanceof Uint8Array) {
    const shared = Math.min(a.length, b.length)
    for (let i = 0; i < shared; i++) {
      const difference = (a[i] ?? 0) - (b[i] ?? 0)
      if (difference !== 0) return difference
    }
    return a.length - b.length
  }
  if (typeof a === 'number' && typeof b === 'number') return a - b
  const [left, right] = [a as string, b as string]
  return left < right ? -1 : left > right ? 1 : 0
}

export function lookUp<K extends LedgerValue, V extends LedgerValue>(
  map: OrderedMap<K, V>,
  key: K,
): V | undefined {
  return map.find(([k]) => compareKeys(k, key) === 0)?.[1]
}

export function hasKey<K extends LedgerValue, V extends LedgerValue>(map: OrderedMap<K, V>, key: K): boolean {
  return map.some(([k]) => compareKeys(k, key) === 0)
}

/** The map with `key` set to `value`. */
export function withEntry<K extends LedgerValue, V extends LedgerValue>(
  map: OrderedMap<K, V>,
  key: K,
  value: V,
): OrderedMap<K, V> {
  const rest = withoutKey(map, key)
  const at = rest.findIndex(([k]) => compareKeys(k, key) > 0)
  return at < 0 ? [...rest, [key, value]] : [...rest.slice(0, at), [key, value], ...rest.slice(at)]
}

export function withoutKey<K extends LedgerValue, V extends LedgerValue>(
  map: OrderedMap<K, V>,
  key: K,
): OrderedMap<K, V> {
  return map.filter(([k]) => compareKeys(k, key) !== 0)
}

export function contains<K extends LedgerValue>(set: readonly K[], value: K): boolean {
  return set.some((v) => compareKeys(v, value) === 0)
}

export function withValue<K extends LedgerValue>(set: readonly K[], value: K): readonly K[] {
  if (contains(set, value)) return set
  const at = set.findIndex((v) => compareKeys(v, value) > 0)
  return at < 0 ? [...set, value] : [...set.slice(0, at), value, ...set.slice(at)]
}

export function withoutValue<K extends LedgerValue>(set: readonly K[], value: K): readonly K[] {
  return set.filter((v) => compareKeys(v, value) !== 0)
}
