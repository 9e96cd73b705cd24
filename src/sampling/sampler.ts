import { ChoraleError } from '../errors.ts'
import { allFinite, argmax, minP, topK, topP } from './filters.ts'
import { gumbelArgmax, gumbelArgmaxOf, seedKey } from './gumbel.ts'
import { logprobsOf } from './logprobs.ts'
import type { SampledToken, SamplingOptions } from './options.ts'
import { applyPenalties, changesLogits, createHistory } from './penalties.ts'
import { validateSampling } from './validate.ts'

/** Chooses the tokens of one answer, one after the other. */
export interface Sampler {
  /** The seed in use: the options', or 0. */
  readonly seed: bigint
  /** Absolute position of the next token: prompt length + tokens of the answer so far. */
  readonly position: number
  /** Tokens are those of the highest logits and nothing else is wanted of logits: `sample` may be spared for `accept`. */
  readonly greedy: boolean
  /**
   * Chooses the token at `position` from the model's raw logits [vocabSize] and appends it to the history.
   * The choice depends on the options, the history and the position, not on how often `sample` was called before.
   * @throws `bad_request` when `position` is not the next one, `engine` when a logit is not finite.
   */
  sample(logits: Float32Array, position: number): SampledToken
  /** Appends a token that was chosen elsewhere. */
  accept(id: number): void
  /** Forgets the answer's tokens from `position` on. @throws `bad_request` inside the prompt or beyond the end. */
  truncate(position: number): void
}

/**
 * Order of rules, frozen under `SAMPLER_VERSION`: repetition, presence and frequency penalties, bias, top-k, top-p,
 * min-p, then `argmax(logits + temperature·gumbel)` over what is left; lowest id on ties. Temperature 0: argmax of
 * the penalised logits, no filter, no noise.
 *
 * @param promptIds the prompt; the repetition penalty counts it, its length gives the first position.
 * @throws `bad_request` naming the option, as `validateSampling`.
 */
export function createSampler(options: SamplingOptions, promptIds: readonly number[]): Sampler {
  validateSampling(options)
  const seed = BigInt(options.seed ?? 0)
  const key = seedKey(seed)
  const history = createHistory(promptIds)
  const temperature = options.temperature ?? 0
  const k = options.topK ?? 0
  const p = options.topP ?? 1
  const share = options.minP ?? 0
  const changed = changesLogits(options)
  let scratch = new Float64Array(0)

  const choose = (raw: Float32Array, position: number): number => {
    if (temperature === 0 && !changed) return argmax(raw)
    if (scratch.length !== raw.length) scratch = new Float64Array(raw.length)
    const logits = scratch
    logits.set(raw)
    if (changed) applyPenalties(logits, options, history)
    const first = argmax(logits)
    if (temperature === 0) return first
    const max = logits[first] as number
    let ids: Uint32Array | undefined
    if (k > 0 && k < logits.length) ids = topK(logits, k)
    if (p < 1) ids = topP(logits, ids, p, temperature, max)
    if (share > 0) ids = minP(logits, ids, share, temperature, max)
    return ids === undefined
      ? gumbelArgmax(logits, temperature, key, position, first)
      : gumbelArgmaxOf(ids, logits, temperature, key, position)
  }

  return {
    seed,
    greedy: temperature === 0 && !changed && options.topLogprobs === undefined,
    get position() {
      return history.length
    },
    sample(logits, position) {
      if (position !== history.length) {
        throw new ChoraleError(
          'bad_request',
          `token ${position} can't be chosen now: the next position is ${history.length} (truncate first?)`,
        )
      }
      checkFinite(logits, position)
      const id = choose(logits, position)
      history.append(id)
      if (options.topLogprobs === undefined) return { id, logprob: undefined, topLogprobs: [] }
      return logprobsOf(Float64Array.from(logits), id, options.topLogprobs)
    },
    accept(id) {
      if (!Number.isInteger(id) || id < 0) throw new ChoraleError('bad_request', `${id} is not a token id`)
      history.append(id)
    },
    truncate: (position) => history.truncate(position),
  }
}

/** @throws `engine`: a NaN would win or lose every comparison, so nothing chosen from it means anything. */
function checkFinite(logits: Float32Array, position: number): void {
  if (logits.length === 0) throw new ChoraleError('engine', `no logits for position ${position}`)
  if (allFinite(logits)) return
  const id = logits.findIndex((logit) => !Number.isFinite(logit))
  throw new ChoraleError(
    'engine',
    `the logit of token ${id} at position ${position} is ${logits[id]}: the model's numbers overflowed or a span is broken`,
  )
}
