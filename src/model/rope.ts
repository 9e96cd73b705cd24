/**
 * Rotary frequencies with every scaling rule computed here.
 *
 * Hugging Face computes them in float32; so does this, step by step, so that angles at far positions agree.
 * Source: transformers `modeling_rope_utils.py`; YaRN: arXiv 2309.00071.
 */

import type { RopeSpec } from './spec.ts'

/** A model's rotary parameters after reading its config; numbers are already bounded. */
export type RopeParameters = { readonly theta: number } & (
  | { readonly type: 'default' }
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3'
      readonly factor: number
      readonly lowFreqFactor: number
      readonly highFreqFactor: number
      readonly originalContext: number
    }
  | {
      readonly type: 'yarn'
      readonly factor: number
      readonly originalContext: number
      readonly betaFast: number
      readonly betaSlow: number
      readonly truncate: boolean
      /** Multiplies cos and sin. */
      readonly attentionFactor: number
    }
)

const f32 = Math.fround

/** Inverse frequencies of `rotaryDim` rotated elements (even), one for each pair. */
export function ropeSpec(parameters: RopeParameters, rotaryDim: number): RopeSpec {
  const plain = Array.from({ length: rotaryDim / 2 }, (_, i) =>
    f32(1 / f32(parameters.theta ** f32((2 * i) / rotaryDim))),
  )
  return {
    kind: 'rope',
    rotaryDim,
    inverseFrequencies: scaled(parameters, plain, rotaryDim),
    attentionFactor: parameters.type === 'yarn' ? parameters.attentionFactor : 1,
  }
}

/** YaRN's default attention factor for a scaling factor; `mscale` as DeepSeek-style configs give it. */
export function yarnAttentionFactor(factor: number, mscale = 1): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1
}

function scaled(parameters: RopeParameters, plain: readonly number[], rotaryDim: number): readonly number[] {
  switch (parameters.type) {
    case 'default':
      return plain
    case 'linear':
      return plain.map((frequency) => f32(frequency / parameters.factor))
    case 'llama3': {
      const { factor, highFreqFactor: high, lowFreqFactor: low, originalContext } = parameters
      return plain.map((frequency) => {
        const wavelength = f32((2 * Math.PI) / frequency)
        if (wavelength > originalContext / low) return f32(frequency / factor)
        if (wavelength < originalContext / high) return frequency
        const smooth = f32(f32(f32(originalContext / wavelength) - low) / (high - low))
        return f32(f32(f32(f32(1 - smooth) * frequency) / factor) + f32(smooth * frequency))
      })
    }
    case 'yarn': {
      const [low, high] = yarnRange(parameters, rotaryDim)
      return plain.map((frequency, i) => {
        const ramp = Math.min(1, Math.max(0, f32((i - low) / (high - low))))
        return f32(f32(f32(frequency / parameters.factor) * ramp) + f32(frequency * (1 - ramp)))
      })
    }
  }
}

/** Indices between which YaRN goes from unscaled to interpolated. */
function yarnRange(
  parameters: RopeParameters & { type: 'yarn' },
  rotaryDim: number,
): readonly [low: number, high: number] {
  const { betaFast, betaSlow, originalContext, theta, truncate } = parameters
  const turns = (rotations: number) =>
    (rotaryDim * Math.log(originalContext / (rotations * 2 * Math.PI))) / (2 * Math.log(theta))
  const low = Math.max(truncate ? Math.floor(turns(betaFast)) : turns(betaFast), 0)
  const high = Math.min(truncate ? Math.ceil(turns(betaSlow)) : turns(betaSlow), rotaryDim - 1)
  return [low, low === high ? high + 0.001 : high]
}
