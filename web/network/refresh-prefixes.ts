import { sha256 } from '@noble/hashes/sha2.js'

/** Numbers that are tried. Their digests are taken once, some milliseconds after the start. */
const TRIED = 2048

let digests: Uint16Array | undefined

/**
 * For a 16-bit prefix, a number whose made-up peer id lies near it in the DHT: what kad-dht asks for when it refreshes
 * its table. The library brings a table of 50 kB (gzipped) for this, a seventh of a page; here the nearest of some are
 * chosen. The prefix is met in about eleven bits: enough for 2^11 buckets of 20 peers.
 */
export function refreshPrefix(prefix: number): number {
  digests ??= Uint16Array.from({ length: TRIED }, (_, number) => digestOf(number))
  let best = 0
  let least = Infinity
  digests.forEach((digest, number) => {
    const distance = digest ^ prefix
    if (distance >= least) return
    least = distance
    best = number
  })
  return best
}

/** First 16 bits of where the peer id that a number stands for lies in the DHT. */
export function digestOf(number: number): number {
  // A multihash of SHA-256: the number takes the first bytes of the digest's place.
  const id = new Uint8Array(34)
  id.set([0x12, 0x20])
  new DataView(id.buffer).setUint32(2, number)
  const [high = 0, low = 0] = sha256(id)
  return (high << 8) | low
}

/** Stands in for the library's array. */
const prefixes: Readonly<Record<number, number>> = new Proxy(
  {},
  {
    get: (_, name) =>
      typeof name === 'string' && /^\d{1,5}$/.test(name) ? refreshPrefix(Number(name)) : undefined,
  },
)

// oxlint-disable-next-line import/no-default-export -- the library imports its array so
export default prefixes
