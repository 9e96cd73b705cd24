import { exp } from './ln.ts'

/**
 * The nucleus of a whole vocabulary without a weight for every token: what top-p keeps is decided by a few tokens at its
 * edge, so the others are only sorted into buckets and weighed to nine digits.
 */

/** Buckets per unit of (logit − max) / temperature. */
const STEPS = 256
/** Tokens below e^−32 of the most likely one weigh nothing, as in `topP`. */
const BUCKETS = 32 * STEPS
/** e^x in the middle of each bucket. */
const MIDDLE = Float64Array.from({ length: BUCKETS }, (_, bucket) => exp(-(bucket + 0.5) / STEPS))
const BEYOND = 0xffff
/** The approximate total is right to 10^−11; prefixes closer than this to the target are left to the exact rule. */
const MARGIN = 1e-9
/** Larger buckets are sorted by the library: insertion takes their size squared. */
const MAX_INSERTION = 32

const counts = new Uint32Array(BUCKETS)
let places = new Uint16Array(0)

/**
 * What `topP` keeps of all tokens, in its order: the shortest row of most likely tokens (lower ids first on ties) whose
 * weights reach `p` of all; or undefined when that is too close to call without the exact sum of all weights.
 *
 * @param max the highest logit. p in (0, 1), temperature above 0; not checked.
 */
export function nucleus(
  logits: Float64Array,
  p: number,
  temperature: number,
  max: number,
): Uint32Array | undefined {
  const count = logits.length
  if (places.length < count) places = new Uint16Array(count)
  counts.fill(0)
  const scale = STEPS / temperature
  let total = 0
  for (let id = 0; id < count; id++) {
    const depth = (max - (logits[id] as number)) * scale
    if (!(depth < BUCKETS)) {
      places[id] = BEYOND
      continue
    }
    const bucket = depth | 0
    places[id] = bucket
    counts[bucket] = (counts[bucket] as number) + 1
    // e^d around the bucket's middle, |d| ≤ 1/512: the fourth power is below 10^−12.
    const d = (bucket + 0.5 - depth) / STEPS
    total += (MIDDLE[bucket] as number) * (1 + d * (1 + d * (0.5 + d / 6)))
  }
  const enough = p * total * (1 + MARGIN)
  const least = p * total * (1 - MARGIN)

  // Buckets that hold the nucleus for certain; from here on a bucket's count is where its first token goes.
  let reached = 0
  let kept = 0
  let last = 0
  for (; last < BUCKETS && reached < enough; last++) {
    const size = counts[last] as number
    // A hair below what its tokens weigh at least.
    reached += size * (MIDDLE[last] as number) * (1 - 1 / STEPS)
    counts[last] = kept
    kept += size
  }
  const ids = new Uint32Array(kept)
  for (let id = 0; id < count; id++) {
    const bucket = places[id] as number
    if (bucket >= last) continue
    const at = counts[bucket] as number
    ids[at] = id
    counts[bucket] = at + 1
  }

  let sum = 0
  let start = 0
  for (let bucket = 0; bucket < last; bucket++) {
    const end = counts[bucket] as number
    sortByLogit(ids, start, end, logits)
    for (let at = start; at < end; at++) {
      sum += exp(((logits[ids[at] as number] as number) - max) / temperature)
      if (sum >= enough) return ids.slice(0, at + 1)
      if (sum > least) return undefined
    }
    start = end
  }
  return undefined
}

/** Sorts ids [start, end), ascending before, by logit; equal ones stay in their order. */
function sortByLogit(ids: Uint32Array, start: number, end: number, logits: Float64Array): void {
  if (end - start > MAX_INSERTION) {
    ids.subarray(start, end).sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)
    return
  }
  for (let i = start + 1; i < end; i++) {
    const id = ids[i] as number
    const logit = logits[id] as number
    let at = i
    for (; at > start && (logits[ids[at - 1] as number] as number) < logit; at--)
      ids[at] = ids[at - 1] as number
    ids[at] = id
  }
}
