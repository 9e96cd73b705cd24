import type { SampledToken } from './options.ts'
import { topK } from './filters.ts'
import { exp, ln } from './ln.ts'

/**
 * Natural-log probabilities under the raw logits [vocabulary], all finite.
 *
 * @param alternatives how many of the most likely tokens to list; most likely first, lower ids first on ties.
 */
export function logprobsOf(logits: Float64Array, chosen: number, alternatives: number): SampledToken {
  let max = -Infinity
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number
    if (logit > max) max = logit
  }
  let sum = 0
  for (let id = 0; id < logits.length; id++) sum += exp((logits[id] as number) - max)
  const logSum = max + ln(sum)
  const logprob = (id: number) => (logits[id] as number) - logSum
  const count = Math.min(alternatives, logits.length)
  const ids = count === 0 ? [] : Array.from(topK(logits, count))
  ids.sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)
  return {
    id: chosen,
    logprob: logprob(chosen),
    topLogprobs: ids.map((id) => ({ id, logprob: logprob(id) })),
  }
}
