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
  const input = new Float64Array(inputsFor(w, x))
  for (let r = 0; r < rows; r += 4) {
    for (let o = 0; o < outputs; o++) {
      const start = bias === undefined ? 0 : (bias[o] as number)
      if (r + 4 <= rows)
        fourRows(input, r * inputs, w, o * inputs, inputs, start, y, r * outputs + o, outputs)
      else {
        for (let row = r; row < rows; row++) {
          let sum = start
          for (let i = 0; i < inputs; i++)
            sum += (input[row * inputs + i] as number) * (w[o * inputs + i] as number)
          y[row * outputs + o] = sum
        }
      }
    }
  }
  return y
}

/** One output of four rows, each summed in the order above: side by side, since a sum waits for itself and for weights. */
function fourRows(
  x: Float64Array,
  xBase: number,
  w: Float32Array,
  wBase: number,
  inputs: number,
  start: number,
  y: Float32Array,
  yBase: number,
  outputs: number,
): void {
  const [x1, x2, x3] = [xBase + inputs, xBase + 2 * inputs, xBase + 3 * inputs]
  let [a, b, c, d] = [start, start, start, start]
  for (let i = 0; i < inputs; i++) {
    const weight = w[wBase + i] as number
    a += (x[xBase + i] as number) * weight
    b += (x[x1 + i] as number) * weight
    c += (x[x2 + i] as number) * weight
    d += (x[x3 + i] as number) * weight
  }
  y[yBase] = a
  y[yBase + outputs] = b
  y[yBase + 2 * outputs] = c
  y[yBase + 3 * outputs] = d
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
