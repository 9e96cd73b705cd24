/** A small seeded generator, so that a failing case can be run again (mulberry32). */
export function seededRandom(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}

/** `bytes` with one to four random changes: flips, cuts, insertions, copies, and the length bytes CBOR cares for. */
export function mutate(bytes: Uint8Array, random: (below: number) => number): Uint8Array {
  let out: Uint8Array = bytes.slice()
  for (let i = random(4); i >= 0; i--) {
    const at = random(out.length + 1)
    switch (random(6)) {
      case 0:
        if (at < out.length) out[at]! ^= 1 << random(8)
        break
      case 1:
        if (at < out.length) out[at] = random(256)
        break
      case 2:
        out = out.slice(0, at)
        break
      case 3:
        out = join(out.subarray(0, at), Uint8Array.of(random(256)), out.subarray(at))
        break
      case 4:
        out = join(out.subarray(0, at), out.subarray(random(at + 1)))
        break
      default:
        if (at < out.length)
          out[at] = [0x1b, 0x3b, 0x5b, 0x7b, 0x9b, 0xbb, 0xfb, 0xff, 0x9f, 0xf7][random(10)]!
    }
  }
  return out
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Random bytes of random length below `most`. */
export function noise(most: number, random: (below: number) => number): Uint8Array {
  const out = new Uint8Array(random(most))
  for (let i = 0; i < out.length; i++) out[i] = random(256)
  return out
}

/** Runs 10^5 failing cases without paying for 10^5 stack traces. */
export function withoutStackTraces<T>(work: () => T): T {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  try {
    return work()
  } finally {
    Error.stackTraceLimit = limit
  }
}
