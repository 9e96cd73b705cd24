import { exp, ln } from './ln.ts'
import { nucleus } from './nucleus.ts'

/**
 * Which tokens may be chosen. Every rule is a function of the logits alone, written so that each machine keeps the
 * same tokens: ranks by (logit descending, id ascending), sums in ascending id order, `exp` of this project.
 */

/** Below this the weight of a token counts as 0; 150,000 such tokens weigh 2·10^−9 of the most likely one. */
const NEGLIGIBLE = -32

/**
 * The k tokens with the highest logits, lower ids first on ties, in no useful order.
 *
 * One pass with a heap whose root is the worst token kept: O(n + hits·log k).
 */
export function topK(logits: Float64Array, k: number): Uint32Array {
  const heap = new Uint32Array(k)
  for (let id = 0; id < k; id++) heap[id] = id
  for (let index = (k >> 1) - 1; index >= 0; index--) sink(heap, logits, index)
  let worst = logits[heap[0] as number] as number
  for (let id = k; id < logits.length; id++) {
    // Ids ascend, so an equal logit never displaces one that is kept.
    if ((logits[id] as number) > worst) {
      heap[0] = id
      sink(heap, logits, 0)
      worst = logits[heap[0]] as number
    }
  }
  return heap
}

function sink(heap: Uint32Array, logits: Float64Array, from: number): void {
  const id = heap[from] as number
  let index = from
  for (;;) {
    let child = 2 * index + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && ranksHigher(logits, heap[child] as number, heap[child + 1] as number))
      child++
    const other = heap[child] as number
    if (!ranksHigher(logits, id, other)) break
    heap[index] = other
    index = child
  }
  heap[index] = id
}

/** Whether token `a` comes before token `b`: by logit, then by lower id. */
function ranksHigher(logits: Float64Array, a: number, b: number): boolean {
  const difference = (logits[a] as number) - (logits[b] as number)
  return difference > 0 || (difference === 0 && a < b)
}

/**
 * The smallest set of most likely tokens whose probability reaches p, never empty, most likely first.
 *
 * @param ids the tokens left by earlier filters, any order; undefined = all. Probabilities are renormalised over them.
 * @param max the highest logit of all.
 */
export function topP(
  logits: Float64Array,
  ids: Uint32Array | undefined,
  p: number,
  temperature: number,
  max: number,
): Uint32Array {
  if (ids === undefined) {
    const kept = nucleus(logits, p, temperature, max)
    if (kept !== undefined) return kept
  }
  return exactTopP(logits, ids, p, temperature, max)
}

/** `topP` by its definition: weights and sum of all. */
export function exactTopP(
  logits: Float64Array,
  ids: Uint32Array | undefined,
  p: number,
  temperature: number,
  max: number,
): Uint32Array {
  const candidates = ids === undefined ? undefined : ids.slice().sort((a, b) => a - b)
  const count = candidates?.length ?? logits.length
  const weights = new Float64Array(count)
  let total = 0
  for (let index = 0; index < count; index++) {
    const id = candidates === undefined ? index : (candidates[index] as number)
    const x = ((logits[id] as number) - max) / temperature
    if (x < NEGLIGIBLE) continue
    const weight = exp(x)
    weights[index] = weight
    total += weight
  }
  const target = p * total
  // Tokens this unlikely together weigh less than half of 1 − p, so the set is complete without them: what is left
  // to sort is small. Does not change the outcome.
  const least = (((1 - p) / 2) * total) / count
  const kept: number[] = []
  for (let index = 0; index < count; index++) if ((weights[index] as number) >= least) kept.push(index)
  const idOf = (index: number) => (candidates === undefined ? index : (candidates[index] as number))
  kept.sort((a, b) => (logits[idOf(b)] as number) - (logits[idOf(a)] as number) || a - b)
  let sum = 0
  let size = 0
  while (size < kept.length) {
    sum += weights[kept[size] as number] as number
    size++
    if (sum >= target) break
  }
  return Uint32Array.from(kept.slice(0, Math.max(size, 1)), idOf)
}

/** Tokens at least `share` times as likely as the most likely one. */
export function minP(
  logits: Float64Array,
  ids: Uint32Array | undefined,
  share: number,
  temperature: number,
  max: number,
): Uint32Array {
  const count = ids?.length ?? logits.length
  // A hair low: the exponential decides.
  const least = ln(share) - 1e-9
  const kept: number[] = []
  for (let index = 0; index < count; index++) {
    const id = ids === undefined ? index : (ids[index] as number)
    const x = ((logits[id] as number) - max) / temperature
    if (x >= least && exp(x) >= share) kept.push(id)
  }
  return Uint32Array.from(kept)
}

/** Highest logit's token, lowest id on ties. */
export function argmax(logits: Float32Array | Float64Array): number {
  let best = 0
  let bestLogit = logits[0] as number
  for (let id = 1; id < logits.length; id++) {
    const logit = logits[id] as number
    if (logit > bestLogit) {
      bestLogit = logit
      best = id
    }
  }
  return best
}

/** Whether every number is finite. Four sums side by side: one alone would wait for itself at every element. */
export function allFinite(numbers: Float32Array): boolean {
  let a = 0
  let b = 0
  let c = 0
  let d = 0
  let i = 0
  // x − x is 0 for finite numbers and NaN for all others.
  for (; i + 3 < numbers.length; i += 4) {
    a += (numbers[i] as number) - (numbers[i] as number)
    b += (numbers[i + 1] as number) - (numbers[i + 1] as number)
    c += (numbers[i + 2] as number) - (numbers[i + 2] as number)
    d += (numbers[i + 3] as number) - (numbers[i + 3] as number)
  }
  for (; i < numbers.length; i++) a += (numbers[i] as number) - (numbers[i] as number)
  return a + b + c + d === 0
}
