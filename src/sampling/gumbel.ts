import { ChoraleError } from '../errors.ts'
import { ln } from './ln.ts'
import { philox4x32 } from './philox.ts'

/**
 * The noise that turns an argmax into a sample: `argmax(logits + T·g)` draws from `softmax(logits / T)`.
 *
 * g is a function of (seed, position, token id) and nothing else, never of rank or draw order, so filters do not
 * shift it and everybody who knows the seed can check a choice. u = (word + ½) / 2^32, g = −ln(−ln u), rounded to
 * multiples of 2^−16: integer engines use the same noise, and nothing hangs on a last bit.
 */

/** Names the exact rules of choosing a token; changes whenever the same seed could give another text. */
export const SAMPLER_VERSION = 'philox-gumbel-q16-v1'

/** Bounds of g, both attained only near u = 2^−33 and u = 1 − 2^−33: g ∈ [−3.14, 22.88]. */
export const GUMBEL_MAX = 22.88

/** Counter word 2: choosing tokens. Other uses of the same seed take other numbers. */
const STREAM = 0
const ONE = 65536
const TWO_32 = 4294967296

/** A 64-bit seed as the generator's two key words. */
export interface SeedKey {
  readonly low: number
  readonly high: number
}

/** @throws `bad_request` unless `seed` is an integer in 0..2^64−1 (as a number: at most 2^53−1). */
export function seedKey(seed: number | bigint): SeedKey {
  const usable =
    typeof seed === 'bigint' ? seed >= 0n && seed < 1n << 64n : Number.isSafeInteger(seed) && seed >= 0
  if (!usable) {
    throw new ChoraleError(
      'bad_request',
      `seed ${seed} is not an integer in 0..2^64−1 (above 2^53−1 it must be a bigint)`,
      { field: 'seed' },
    )
  }
  const bits = BigInt(seed)
  return { low: Number(bits & 0xffffffffn), high: Number(bits >> 32n) }
}

/** g of one generator word: the lowest and highest words give the bounds. */
export function gumbelOfWord(word: number): number {
  const g = -ln(-ln((word + 0.5) / TWO_32))
  return Math.floor(g * ONE + 0.5) / ONE
}

const block = new Uint32Array(4)

/** g(seed, position, tokenId); position and tokenId are integers in 0..2^32−1, not checked. */
export function gumbel(key: SeedKey, position: number, tokenId: number): number {
  philox4x32(tokenId >>> 2, position, STREAM, 0, key.low, key.high, block)
  return gumbelOfWord(block[tokenId & 3] as number)
}

/**
 * LEAST_WORD[n] is the smallest word whose g is at least n / 4, so that a token which needs more noise than its
 * word can give is passed over without computing two logarithms. Exact: g grows with the word.
 */
const STEPS_PER_UNIT = 4
const LEAST_WORD = (() => {
  const table = new Float64Array(Math.ceil(GUMBEL_MAX * STEPS_PER_UNIT) + 1)
  for (let n = 0; n < table.length; n++) {
    let low = 0
    let high = TWO_32
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      if (gumbelOfWord(middle) >= n / STEPS_PER_UNIT) high = middle
      else low = middle + 1
    }
    table[n] = low
  }
  return table
})()

/**
 * The token with the highest `logits[id] + temperature·g(id)` of the whole vocabulary, lowest id on ties.
 *
 * @param start a token to begin with, best the one with the highest logit: the higher the first score, the more
 * tokens are passed over because even the largest noise could not lift them above it.
 */
export function gumbelArgmax(
  logits: Float64Array,
  temperature: number,
  key: SeedKey,
  position: number,
  start: number,
): number {
  let best = start
  let bestScore = (logits[start] as number) + temperature * gumbel(key, position, start)
  const reach = temperature * GUMBEL_MAX
  const count = logits.length
  for (let first = 0; first < count; first += 4) {
    const end = first + 4 < count ? first + 4 : count
    const floor = bestScore - reach
    let possible = false
    for (let id = first; id < end; id++) {
      if ((logits[id] as number) >= floor) possible = true
    }
    if (!possible) continue
    philox4x32(first >>> 2, position, STREAM, 0, key.low, key.high, block)
    for (let id = first; id < end; id++) {
      const logit = logits[id] as number
      const word = block[id & 3] as number
      // Noise still needed, a hair less so that rounding in the division never loses a winner.
      const need = (bestScore - logit) / temperature - 0.001
      if (need > 0) {
        const step = Math.floor(need * STEPS_PER_UNIT)
        if (step >= LEAST_WORD.length || word < (LEAST_WORD[step] as number)) continue
      }
      const score = logit + temperature * gumbelOfWord(word)
      if (score > bestScore || (score === bestScore && id < best)) {
        best = id
        bestScore = score
      }
    }
  }
  return best
}

/** The same over some tokens only; `ids` need no order. */
export function gumbelArgmaxOf(
  ids: ArrayLike<number>,
  logits: Float64Array,
  temperature: number,
  key: SeedKey,
  position: number,
): number {
  let best = -1
  let bestScore = -Infinity
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index] as number
    const score = (logits[id] as number) + temperature * gumbel(key, position, id)
    if (score > bestScore || (score === bestScore && id < best)) {
      best = id
      bestScore = score
    }
  }
  return best
}
