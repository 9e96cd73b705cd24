import type { AlibiSpec } from './spec.ts'

/**
 * Slopes of ALiBi for any number of heads: powers of one base for the largest power of two, the rest from the odd
 * powers of the next one's base. Float32 as Hugging Face computes them. arXiv 2108.12409; transformers
 * `build_alibi_tensor`.
 */
export function alibiSlopes(headCount: number): readonly number[] {
  const near = 2 ** Math.floor(Math.log2(headCount))
  const base = Math.fround(2 ** -(2 ** -(Math.log2(near) - 3)))
  const between = Math.fround(2 ** -(2 ** -(Math.log2(2 * near) - 3)))
  return Array.from({ length: headCount }, (_, head) =>
    Math.fround(head < near ? base ** (head + 1) : between ** (2 * (head - near) + 1)),
  )
}

/** The positions of a model with ALiBi. */
export function alibiSpec(
  headCount: number,
  options: Pick<AlibiSpec, 'scaledByHeadDim' | 'roundedBias'>,
): AlibiSpec {
  const { roundedBias, scaledByHeadDim } = options
  const slopes = alibiSlopes(headCount)
  return {
    kind: 'alibi',
    slopes: roundedBias ? slopes.map(roundToBfloat16) : slopes,
    scaledByHeadDim,
    roundedBias,
  }
}

/** ALiBi's bias of query head `head` for the key at `position`, as `AlibiSpec` defines it. */
export function alibiBias(alibi: AlibiSpec, head: number, position: number): number {
  const slope = alibi.slopes[head] ?? 0
  return alibi.roundedBias ? roundToBfloat16(slope * roundToBfloat16(position)) : slope * position
}

const float = new Float32Array(1)
const bits = new Uint32Array(float.buffer)

/** The nearest bfloat16 of a finite number, ties to even. */
export function roundToBfloat16(value: number): number {
  float[0] = value
  const word = bits[0] as number
  bits[0] = (word + 0x7fff + ((word >>> 16) & 1)) & 0xffff0000
  return float[0]
}
