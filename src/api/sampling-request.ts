import type { LanguageModel } from '../session/language-model.ts'
import type { SamplingOptions } from '../sampling/options.ts'
import { invalidRequest } from './errors.ts'
import type { ApiLimits } from './limits.ts'
import { usableVocabulary } from './prompt.ts'
import type { SharedRequest } from './schemas.ts'

/** Sampling with its seed always set, so that the answer can be had again. */
export type SeededSampling = SamplingOptions & { readonly seed: number | bigint }

/**
 * The request's sampling. What it leaves open comes from the model's own `generation_config.json`, then from
 * OpenAI's defaults (temperature 1, everything kept); a missing seed is drawn.
 * @throws `ApiError` 400 naming `logit_bias` when a key is not a token id of this model.
 */
export function samplingOf(
  request: SharedRequest,
  model: LanguageModel,
  limits: ApiLimits,
  topLogprobs: number | undefined,
): SeededSampling {
  const defaults = model.model.generationDefaults
  const topK = request.top_k ?? defaults.topK ?? 0
  return {
    temperature: request.temperature ?? defaults.temperature ?? 1,
    topP: request.top_p ?? defaults.topP ?? 1,
    topK: Math.max(0, topK),
    minP: request.min_p ?? 0,
    repetitionPenalty: request.repetition_penalty ?? 1,
    presencePenalty: request.presence_penalty ?? 0,
    frequencyPenalty: request.frequency_penalty ?? 0,
    logitBias: logitBiasOf(request.logit_bias ?? {}, usableVocabulary(model), limits.logitBias),
    seed: seedOf(request.seed ?? undefined),
    ...(topLogprobs === undefined ? {} : { topLogprobs }),
  }
}

function logitBiasOf(
  bias: Readonly<Record<string, number>>,
  vocabSize: number,
  limit: number,
): ReadonlyMap<number, number> {
  const entries = Object.entries(bias)
  if (entries.length > limit) {
    throw invalidRequest(
      'logit_bias',
      `logit_bias: ${entries.length} entries are more than the limit of ${limit}`,
    )
  }
  return new Map(
    entries.map(([key, value]) => {
      const id = /^\d{1,9}$/.test(key) ? Number(key) : -1
      if (id < 0 || id >= vocabSize) {
        throw invalidRequest(
          'logit_bias',
          `logit_bias: "${key.slice(0, 40)}" is not a token id of this model (0 to ${vocabSize - 1})`,
        )
      }
      return [id, value]
    }),
  )
}

/** Negative seeds become their two's complement: 64 unsigned bits. A drawn seed survives JSON. */
function seedOf(seed: number | undefined): number | bigint {
  if (seed === undefined) return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0
  return seed < 0 ? BigInt.asUintN(64, BigInt(seed)) : seed
}

/** Stop strings as a list. */
export function stopOf(stop: string | readonly string[] | null | undefined): readonly string[] {
  if (stop === null || stop === undefined) return []
  return typeof stop === 'string' ? [stop] : stop
}
