import { ChoraleError } from '../errors.ts'
import { seedKey } from './gumbel.ts'
import type { SamplingOptions } from './options.ts'

/** More alternatives a step would make an answer's record larger than its text is worth. */
export const MAX_TOP_LOGPROBS = 100
/** A bias list longer than any vocabulary is a mistake or an attack on memory. */
const MAX_BIASES = 300_000

/**
 * Checks the options before anything is computed.
 *
 * @throws `bad_request` whose `field` names the parameter and whose message gives its value and range. That a
 * biased token id lies inside the vocabulary is checked when the first token is chosen.
 */
export function validateSampling(options: SamplingOptions): void {
  number(options, 'temperature', 0, 100)
  number(options, 'topK', 0, Number.MAX_SAFE_INTEGER, true)
  number(options, 'topP', 0, 1)
  number(options, 'minP', 0, 1)
  number(options, 'repetitionPenalty', 0.01, 100)
  number(options, 'presencePenalty', -100, 100)
  number(options, 'frequencyPenalty', -100, 100)
  number(options, 'topLogprobs', 0, MAX_TOP_LOGPROBS, true)
  const seed: unknown = options.seed
  if (seed !== undefined) {
    if (typeof seed !== 'number' && typeof seed !== 'bigint') refuse('seed', seed, 'an integer')
    seedKey(seed)
  }
  const bias: unknown = options.logitBias
  if (bias === undefined) return
  if (!(bias instanceof Map)) refuse('logitBias', bias, 'a Map of token ids to numbers')
  if (bias.size > MAX_BIASES)
    refuse('logitBias', `with ${bias.size} entries`, `at most ${MAX_BIASES} entries`)
  for (const [id, value] of bias as Map<unknown, unknown>) {
    if (!Number.isInteger(id) || (id as number) < 0)
      refuse('logitBias', id, 'a token id (integer, 0 or more)')
    if (typeof value !== 'number' || !(Math.abs(value) <= 1e6)) {
      refuse('logitBias', value, 'a number in −1000000..1000000')
    }
  }
}

function number(
  options: SamplingOptions,
  field: keyof SamplingOptions,
  least: number,
  most: number,
  integer = false,
): void {
  const value: unknown = options[field]
  if (value === undefined) return
  if (
    typeof value !== 'number' ||
    !(value >= least && value <= most) ||
    (integer && !Number.isInteger(value))
  ) {
    const range = most === Number.MAX_SAFE_INTEGER ? `from ${least}` : `in ${least}..${most}`
    refuse(field, value, `${integer ? 'an integer' : 'a number'} ${range}`)
  }
}

function refuse(field: keyof SamplingOptions, value: unknown, expected: string): never {
  const shown = typeof value === 'object' && value !== null ? 'an object' : String(value).slice(0, 60)
  throw new ChoraleError('bad_request', `${field} is ${shown}, it must be ${expected}`, { field })
}
