import type { WeightDtype } from '../../tensor/weight.ts'

/** Values that share one scale. */
const GROUP = 32

/** Formats whose matmuls the wasm engine computes in floats: plain ones, and Q2_K, which it keeps as float32. */
const FLOAT_DTYPES: readonly WeightDtype[] = ['F32', 'F16', 'BF16', 'Q2_K']

/** Whether an engine that rounds activations does so before it multiplies a weight of this format. */
export function roundsActivations(dtype: WeightDtype): boolean {
  return !FLOAT_DTYPES.includes(dtype)
}

/** How activations are rounded: to 8 bits as llama.cpp does, or to 15. */
export type ActivationRounding = 'q8-groups' | 'q15-groups'

/** What the largest value of a group becomes. */
const LEVELS: Readonly<Record<ActivationRounding, number>> = { 'q8-groups': 127, 'q15-groups': 128 * 127 }

/**
 * Activations [rows, columns] as an engine sees them that rounds them in groups of 32, in float32 steps:
 * d = max |x| / levels; x' = d * nearestEven(x * (1 / d)). Source: ggml `quantize_row_q8_0`, with d kept in float32
 * instead of float16. Not checked: that rows are whole groups.
 */
export function roundActivations(x: Float32Array, levels: number): Float32Array {
  const y = new Float32Array(x.length)
  for (let at = 0; at < x.length; at += GROUP) {
    let largest = 0
    for (let i = at; i < at + GROUP; i++) largest = Math.max(largest, Math.abs(x[i] as number))
    const d = Math.fround(largest / levels)
    const inverse = d === 0 ? 0 : Math.fround(1 / d)
    for (let i = at; i < at + GROUP; i++) y[i] = d * nearestEven(Math.fround((x[i] as number) * inverse))
  }
  return y
}

function nearestEven(value: number): number {
  const below = Math.floor(value)
  const rest = value - below
  if (rest === 0.5) return below % 2 === 0 ? below : below + 1
  return rest < 0.5 ? below : below + 1
}

/** Matrices whose inputs are rounded: a mark on the weight keeps the arithmetic's signatures free of it. */
const levels = new WeakMap<Float32Array, number>()

/** Makes `linear` round what it multiplies with this matrix. */
export function markRounded(matrix: Float32Array, rounding: ActivationRounding): void {
  levels.set(matrix, LEVELS[rounding])
}

/** `x`, rounded when `matrix` is marked. */
export function inputsFor(matrix: Float32Array, x: Float32Array): Float32Array {
  const count = levels.get(matrix)
  return count === undefined ? x : roundActivations(x, count)
}
