/**
 * XXH64 as Substrate uses it for storage keys: `twox_64`, `twox_128` and `twox_256` are runs with seeds 0, 1, 2, 3.
 * Not a secure hash. Written from the xxHash specification.
 */

const P1 = 0x9e3779b185ebca87n
const P2 = 0xc2b2ae3d27d4eb4fn
const P3 = 0x165667b19e3779f9n
const P4 = 0x85ebca77c2b2ae63n
const P5 = 0x27d4eb2f165667c5n
const MASK = 0xffff_ffff_ffff_ffffn

/** Inputs remembered with their hash: runtimes hash the same names in every block. */
const REMEMBERED = 4096
const REMEMBERED_BYTES = 64
const remembered = new Map<string, Uint8Array>()

/** `twox_64`, `twox_128` or `twox_256` of some bytes: `size` bytes, the runs little-endian one after another. */
export function twox(bytes: Uint8Array, size: 8 | 16 | 32): Uint8Array {
  if (bytes.length > REMEMBERED_BYTES) return hashRuns(bytes, size)
  const name = `${size}${String.fromCharCode(...bytes)}`
  let hash = remembered.get(name)
  if (hash === undefined) {
    hash = hashRuns(bytes, size)
    if (remembered.size >= REMEMBERED) remembered.clear()
    remembered.set(name, hash)
  }
  return hash.slice()
}

/** Storage key of a pallet's item: both names hashed with `twox_128`. */
export function storagePrefix(pallet: string, item: string): Uint8Array {
  const encoder = new TextEncoder()
  const key = new Uint8Array(32)
  key.set(twox(encoder.encode(pallet), 16))
  key.set(twox(encoder.encode(item), 16), 16)
  return key
}

function hashRuns(bytes: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size)
  const view = new DataView(out.buffer)
  for (let run = 0; run < size / 8; run++) view.setBigUint64(run * 8, xxh64(bytes, BigInt(run)), true)
  return out
}

/** XXH64 of some bytes. */
export function xxh64(bytes: Uint8Array, seed: bigint): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const { length } = bytes
  let at = 0
  let hash: bigint
  if (length >= 32) {
    let a = (seed + P1 + P2) & MASK
    let b = (seed + P2) & MASK
    let c = seed
    let d = (seed - P1) & MASK
    for (; at + 32 <= length; at += 32) {
      a = round(a, view.getBigUint64(at, true))
      b = round(b, view.getBigUint64(at + 8, true))
      c = round(c, view.getBigUint64(at + 16, true))
      d = round(d, view.getBigUint64(at + 24, true))
    }
    hash = (rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n)) & MASK
    for (const lane of [a, b, c, d]) hash = ((hash ^ round(0n, lane)) * P1 + P4) & MASK
  } else {
    hash = (seed + P5) & MASK
  }
  hash = (hash + BigInt(length)) & MASK
  for (; at + 8 <= length; at += 8) {
    hash ^= round(0n, view.getBigUint64(at, true))
    hash = (rotate(hash, 27n) * P1 + P4) & MASK
  }
  if (at + 4 <= length) {
    hash ^= (BigInt(view.getUint32(at, true)) * P1) & MASK
    hash = (rotate(hash, 23n) * P2 + P3) & MASK
    at += 4
  }
  for (; at < length; at++) {
    hash ^= (BigInt(view.getUint8(at)) * P5) & MASK
    hash = (rotate(hash, 11n) * P1) & MASK
  }
  hash = ((hash ^ (hash >> 33n)) * P2) & MASK
  hash = ((hash ^ (hash >> 29n)) * P3) & MASK
  return hash ^ (hash >> 32n)
}

function round(lane: bigint, input: bigint): bigint {
  return (rotate((lane + input * P2) & MASK, 31n) * P1) & MASK
}

function rotate(value: bigint, by: bigint): bigint {
  return ((value << by) | (value >> (64n - by))) & MASK
}
