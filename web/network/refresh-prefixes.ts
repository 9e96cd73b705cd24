import { sha256 } from '@noble/hashes/sha2.js'

/**
 * For a 16-bit prefix, a number whose made-up peer id lies near it in the DHT: what kad-dht asks for when it refreshes
 * its table. The library brings a table of 50 kB (gzipped) for this, a third of a page; here the nearest of some are
 * tried. The prefix is met in about eleven bits: enough for networks of 2^11 buckets, or 40,000 peers.
 */
export function refreshPrefix(prefix: number): number {
  // A multihash of SHA-256: what the number stands in for is the first bytes of a digest.
  const id = new Uint8Array(34)
  id.set([0x12, 0x20])
  const view = new DataView(id.buffer)
  let best = 0
  let least = Infinity
  for (let number = 0; number < TRIES; number++) {
    view.setUint32(2, number)
    const [high = 0, low = 0] = sha256(id)
    const distance = ((high << 8) | low) ^ prefix
    if (distance < least) {
      least = distance
      best = number
    }
  }
  return best
}

/** About 10 ms of hashing each time the table is refreshed, every five minutes and once for each of a few buckets. */
const TRIES = 2048

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
