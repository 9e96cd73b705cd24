import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { errorCode, isChoraleError } from '../../src/errors.ts'
import type { SamplingOptions } from '../../src/sampling/options.ts'
import { createSampler } from '../../src/sampling/sampler.ts'
import { validateSampling } from '../../src/sampling/validate.ts'

const LOGITS = Float32Array.of(2, 1.5, 1, 0.5, 0, -0.5, -1, -3)

const zeros = (length: number): number[] => Array.from({ length }, () => 0)

function softmax(logits: Iterable<number>, temperature: number): number[] {
  const weights = Array.from(logits, (logit) => Math.exp(logit / temperature))
  const sum = weights.reduce((a, b) => a + b, 0)
  return weights.map((weight) => weight / sum)
}

/** Shares of each token over `draws` seeds. */
function shares(options: SamplingOptions, draws: number): number[] {
  const counts = zeros(LOGITS.length)
  for (let seed = 0; seed < draws; seed++) {
    const { id } = createSampler({ ...options, seed }, [1, 2, 3]).sample(LOGITS, 3)
    counts[id] = (counts[id] as number) + 1
  }
  return counts.map((count) => count / draws)
}

/** Pearson's statistic; tokens of probability 0 must not occur. */
function chiSquare(observed: readonly number[], expected: readonly number[], draws: number): number {
  let sum = 0
  expected.forEach((probability, id) => {
    if (probability === 0) expect(observed[id]).toBe(0)
    else sum += (draws * ((observed[id] as number) - probability) ** 2) / probability
  })
  return sum
}

function codeOf(action: () => unknown): string {
  try {
    action()
    return 'none'
  } catch (error) {
    return errorCode(error)
  }
}

describe('createSampler', () => {
  // 7 degrees of freedom: 26 is exceeded once in 2,000; the seeds are fixed.
  it.each([0.5, 1, 2])('draws from softmax(logits / T) at T = %d', (temperature) => {
    const draws = 20_000
    expect(chiSquare(shares({ temperature }, draws), softmax(LOGITS, temperature), draws)).toBeLessThan(26)
  })

  it.each<[string, SamplingOptions, number]>([
    ['topK 3', { topK: 3 }, 3],
    ['topP 0.6', { topP: 0.6 }, 2],
    ['minP 0.3', { minP: 0.3 }, 3],
    ['topK 5 then topP 0.9', { topK: 5, topP: 0.9 }, 4],
  ])('draws from the renormalised rest after %s', (_name, filter, kept) => {
    const draws = 20_000
    const rest = softmax(LOGITS.subarray(0, kept), 1)
    const expected = [...rest, ...zeros(LOGITS.length - kept)]
    expect(chiSquare(shares({ temperature: 1, ...filter }, draws), expected, draws)).toBeLessThan(26)
  })

  it('draws along positions as along seeds', () => {
    const draws = 20_000
    const sampler = createSampler({ temperature: 1, seed: 11 }, [])
    const counts = zeros(LOGITS.length)
    for (let position = 0; position < draws; position++) {
      const { id } = sampler.sample(LOGITS, position)
      counts[id] = (counts[id] as number) + 1
    }
    const observed = counts.map((count) => count / draws)
    expect(chiSquare(observed, softmax(LOGITS, 1), draws)).toBeLessThan(26)
  })

  it('gives frozen ids for a seed (any change needs a new SAMPLER_VERSION)', () => {
    const sampler = createSampler({ temperature: 0.9, topP: 0.97, repetitionPenalty: 1.1, seed: 42 }, [1, 5])
    const logits = Float32Array.from({ length: 500 }, (_, id) =>
      Math.fround(Math.sqrt((id * 7919) % 501) / 4),
    )
    const ids = Array.from({ length: 16 }, (_, step) => sampler.sample(logits, 2 + step).id)
    expect(ids).toEqual([37, 63, 481, 259, 238, 471, 69, 172, 394, 31, 367, 109, 186, 48, 414, 291])
  })

  it('chooses the same tokens after truncate, whatever was chosen in between', () => {
    const options: SamplingOptions = {
      temperature: 1,
      frequencyPenalty: 0.5,
      presencePenalty: 0.2,
      repetitionPenalty: 1.3,
      seed: 9,
    }
    const run = createSampler(options, [0, 1])
    const ids = Array.from({ length: 30 }, (_, step) => run.sample(LOGITS, 2 + step).id)
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 32 }),
        fc.array(fc.nat(7), { maxLength: 20 }),
        (position, noise) => {
          const sampler = createSampler(options, [0, 1])
          for (const id of ids) sampler.accept(id)
          sampler.truncate(position)
          for (const id of noise) sampler.accept(id)
          sampler.truncate(position)
          for (let at = position; at < 32; at++) expect(sampler.sample(LOGITS, at).id).toBe(ids[at - 2])
        },
      ),
      { numRuns: 200 },
    )
  })

  it('applies penalties in the frozen order: repetition, presence and frequency, bias', () => {
    // Token 0: prompt and twice in the answer; token 2: answer once, negative logit; token 3: biased.
    const sampler = createSampler(
      {
        repetitionPenalty: 2,
        presencePenalty: 0.5,
        frequencyPenalty: 0.25,
        logitBias: new Map([[3, 1.75]]),
        topLogprobs: 0,
      },
      [0],
    )
    for (const id of [0, 0, 2]) sampler.accept(id)
    // 0: 6/2 − 0.5 − 2·0.25 = 2; 1: 1.99; 2: −1·2 − 0.75; 3: 0.3 + 1.75 = 2.05.
    expect(sampler.sample(Float32Array.of(6, 1.99, -1, 0.3), 4).id).toBe(3)
    sampler.truncate(4)
    expect(sampler.sample(Float32Array.of(6, 1.99, -1, 0.2), 4).id).toBe(0)
    sampler.truncate(4)
    expect(sampler.sample(Float32Array.of(6, 2.01, -1, 0.2), 4).id).toBe(1)
  })

  it('is greedy at temperature 0, lowest id on ties', () => {
    const sampler = createSampler({ seed: 1, topK: 1 }, [])
    expect(sampler.sample(Float32Array.of(1, 4, 4, 0), 0)).toEqual({
      id: 1,
      logprob: undefined,
      topLogprobs: [],
    })
  })

  it('reports log-probabilities of the raw logits', () => {
    const expected = softmax(LOGITS, 1).map(Math.log)
    const sampler = createSampler(
      { temperature: 3, seed: 5, topLogprobs: 3, logitBias: new Map([[7, 100]]) },
      [],
    )
    const token = sampler.sample(LOGITS, 0)
    expect(token.id).toBe(7)
    expect(token.logprob).toBeCloseTo(expected[7] as number, 12)
    expect(token.topLogprobs.map(({ id }) => id)).toEqual([0, 1, 2])
    for (const { id, logprob } of token.topLogprobs) expect(logprob).toBeCloseTo(expected[id] as number, 12)
    const ties = createSampler({ topLogprobs: 9 }, []).sample(Float32Array.of(1, 2, 2), 0)
    expect(ties.topLogprobs.map(({ id }) => id)).toEqual([1, 2, 0])
  })

  it('uses seed 0 when none is given and says so', () => {
    const first = createSampler({ temperature: 1 }, [])
    expect(first.seed).toBe(0n)
    const ids = Array.from({ length: 20 }, (_, at) => first.sample(LOGITS, at).id)
    const again = createSampler({ temperature: 1, seed: 0 }, [])
    expect(Array.from({ length: 20 }, (_, at) => again.sample(LOGITS, at).id)).toEqual(ids)
  })

  it.each([Number.NaN, Infinity, -Infinity])('refuses a logit of %d', (bad) => {
    for (const temperature of [0, 1]) {
      const sampler = createSampler({ temperature, seed: 1 }, [])
      expect(() => sampler.sample(Float32Array.of(0, bad, 1), 0)).toThrow(/logit of token 1 at position 0/)
      expect(codeOf(() => sampler.sample(Float32Array.of(0, bad, 1), 0))).toBe('engine')
      expect(codeOf(() => sampler.sample(new Float32Array(0), 0))).toBe('engine')
      expect(sampler.position).toBe(0)
    }
  })

  it('refuses positions other than the next and truncation into the prompt', () => {
    const sampler = createSampler({}, [1, 2])
    expect(codeOf(() => sampler.sample(LOGITS, 1))).toBe('bad_request')
    expect(codeOf(() => sampler.sample(LOGITS, 3))).toBe('bad_request')
    expect(codeOf(() => sampler.truncate(1))).toBe('bad_request')
    expect(codeOf(() => sampler.truncate(3))).toBe('bad_request')
    expect(codeOf(() => sampler.accept(-1))).toBe('bad_request')
  })

  it('names the token of a bias outside the vocabulary', () => {
    const sampler = createSampler({ logitBias: new Map([[8, 1]]) }, [])
    expect(() => sampler.sample(LOGITS, 0)).toThrow('logitBias names token 8, the vocabulary ends at 7')
  })
})

describe('validateSampling', () => {
  it.each<[keyof SamplingOptions, unknown]>([
    ['temperature', -0.1],
    ['temperature', Number.NaN],
    ['topK', 1.5],
    ['topP', 1.01],
    ['minP', -1],
    ['repetitionPenalty', 0],
    ['presencePenalty', '1'],
    ['frequencyPenalty', Infinity],
    ['seed', -1],
    ['seed', 'x'],
    ['topLogprobs', 101],
    ['logitBias', {}],
    ['logitBias', new Map([[-1, 1]])],
    ['logitBias', new Map([[1, Number.NaN]])],
  ])('refuses %s = %s, naming it', (field, value) => {
    try {
      validateSampling({ [field]: value })
      expect.unreachable()
    } catch (error) {
      expect(isChoraleError(error) && error.code === 'bad_request' && error.field === field).toBe(true)
      expect((error as Error).message).toContain(field)
    }
  })

  it('lets through nothing that breaks the sampler, and throws nothing but its own errors: 10^5 option sets', () => {
    const value = fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom<unknown>(undefined, 1, 1, 0.5, 1e-9, 0.999999, 1) },
      fc.double(),
      fc.integer({ min: -3, max: 3 }),
      fc.constantFrom<unknown>(
        undefined,
        null,
        '',
        '1',
        true,
        {},
        [],
        -0,
        1e-320,
        1e308,
        2n ** 64n,
        0.999999,
        7n,
      ),
    )
    const bias = fc.oneof(
      value,
      fc.array(fc.tuple(value, value), { maxLength: 3 }).map((entries) => new Map(entries)),
    )
    const fields = [
      'temperature',
      'topK',
      'topP',
      'minP',
      'repetitionPenalty',
      'presencePenalty',
      'frequencyPenalty',
      'seed',
      'topLogprobs',
    ]
    const options = fc.record(
      { ...Object.fromEntries(fields.map((field) => [field, value])), logitBias: bias },
      { requiredKeys: [] },
    )
    let accepted = 0
    fc.assert(
      fc.property(options, (candidate) => {
        try {
          const sampler = createSampler(candidate as SamplingOptions, [1, 2])
          const { id } = sampler.sample(LOGITS, 2)
          accepted++
          return id >= 0 && id < LOGITS.length
        } catch (error) {
          return errorCode(error) === 'bad_request'
        }
      }),
      { numRuns: 100_000, seed: 1 },
    )
    expect(accepted).toBeGreaterThan(1000)
  })
})
