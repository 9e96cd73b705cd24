/**
 * The reference engine's arithmetic: plain loops over float32 arrays with float64 accumulation.
 *
 * Clear, not fast. Every row is computed by itself in one fixed order, so results do not depend on how rows
 * are grouped into steps.
 */

import type { RopeSpec } from '../../model/spec.ts'
import { inputsFor } from './rounded-activations.ts'

/** y[r, o] = sum_i x[r, i] * w[o, i] + bias[o]; x [rows, inputs], w [outputs, inputs] row-major. */
export function linear(
  x: Float32Array,
  rows: number,
  w: Float32Array,
  inputs: number,
  outputs: number,
  bias?: Float32Array,
): Float32Array {
  const y = new Float32Array(rows * outputs)
  const input = inputsFor(w, x)
  for (let r = 0; r < rows; r++) {
    const xBase = r * inputs
    for (let o = 0; o < outputs; o++) {
      const wBase = o * inputs
      let sum = bias === undefined ? 0 : (bias[o] as number)
      for (let i = 0; i < inputs; i++) sum += (input[xBase + i] as number) * (w[wBase + i] as number)
      y[r * outputs + o] = sum
    }
  }
  return y
}

/** target += addend. */
export function addInto(target: Float32Array, addend: Float32Array): void {
  for (let index = 0; index < target.length; index++)
    target[index] = (target[index] as number) + (addend[index] as number)
}

/**
 * Rotates the first 2 * inverseFrequencies.length elements of each head in place, half-split: element i with i + half.
 * x [rows, heads, headDim]; row r is at position `position + r`. arXiv 2104.09864, Hugging Face's layout.
 */
export function rotate(
  x: Float32Array,
  rows: number,
  heads: number,
  headDim: number,
  position: number,
  { attentionFactor, inverseFrequencies }: RopeSpec,
): void {
  const half = inverseFrequencies.length
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < half; i++) {
      const angle = (position + r) * (inverseFrequencies[i] as number)
      const cos = Math.cos(angle) * attentionFactor
      const sin = Math.sin(angle) * attentionFactor
      for (let h = 0; h < heads; h++) {
        const low = (r * heads + h) * headDim + i
        const a = x[low] as number
        const b = x[low + half] as number
        x[low] = a * cos - b * sin
        x[low + half] = b * cos + a * sin
      }
    }
  }
}
