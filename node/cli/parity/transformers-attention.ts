import { ChoraleError } from '../../../src/errors.ts'
import type { Model } from '../../../src/model/model.ts'

/** The two ways in which transformers computes attention; they differ in Falcon with ALiBi only. */
export type TransformersAttention = 'eager' | 'sdpa'

/**
 * The model as transformers computes it with that attention.
 *
 * `sdpa` (its default) is the model as trained, and what everything here but comparisons computes. `eager`, with which
 * references are made, adds Falcon's ALiBi twice: in the mask and again in the scores (`FalconModel` and
 * `FalconAttention`, seen in 5.23). Doubled slopes give the same numbers: doubling commutes with rounding.
 */
export function asTransformers(model: Model, attention: TransformersAttention): Model {
  const { positions } = model.spec
  if (attention === 'sdpa' || positions.kind !== 'alibi' || !positions.scaledByHeadDim) return model
  const slopes = positions.slopes.map((slope) => 2 * slope)
  return { ...model, spec: { ...model.spec, positions: { ...positions, slopes } } }
}

/** Reads an `--attention` value. @throws `bad_config`. */
export function parseAttention(value: string): TransformersAttention {
  if (value === 'eager' || value === 'sdpa') return value
  throw new ChoraleError('bad_config', `--attention ${JSON.stringify(value)}: use eager or sdpa`, {
    field: 'attention',
  })
}
