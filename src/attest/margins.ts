import type { WireDtype } from '../protocol/wire-dtype.ts'

/**
 * How far two honest engines may be apart: max |a - b| ÷ max |b| of the rows of one step.
 *
 * Measured over prefill and 64 decoded tokens, whole model, each engine on its own KV cache
 * (`test/attest/margins.test.ts` measures the pairs again): float32 engines among each other, and the wasm engine's
 * default rounding of activations to 15 bits against quantised weights. A table entry is about ten times the largest
 * distance seen, and a tenth of what the cheapest cheat (weights in 8 bits where 16 were promised) makes.
 */

/** How an engine computes, as far as its distance to others goes. */
export type ComputeClass =
  /** Activations and sums in float32, weights as in the file or dequantised to float32: reference, onnx, wgsl. */
  | 'float32'
  /** The same, but activations rounded to 15 bits in groups of 32 before they meet a quantised weight: wasm. */
  | 'rounded-15'
  /** The same with 8 bits. */
  | 'rounded-8'
  /** Integers only: the same bytes everywhere. */
  | 'exact'

const MARGINS: Readonly<Record<ComputeClass, Readonly<Record<ComputeClass, number>>>> = {
  float32: { float32: 1e-4, 'rounded-15': 1e-3, 'rounded-8': 5e-2, exact: Infinity },
  'rounded-15': { float32: 1e-3, 'rounded-15': 1e-3, 'rounded-8': 5e-2, exact: Infinity },
  'rounded-8': { float32: 5e-2, 'rounded-15': 5e-2, 'rounded-8': 5e-2, exact: Infinity },
  exact: { float32: Infinity, 'rounded-15': Infinity, 'rounded-8': Infinity, exact: 0 },
}

/** Half a unit in the last place of what travels, with room for a float that lies between two. */
const WIRE_MARGINS: Readonly<Record<WireDtype, number>> = { f32: 0, bf16: 2 ** -7, f16: 2 ** -10 }

/**
 * The margin of a prover's output, as it travelled, against a checker's. Infinite where the two can't be compared: an
 * exact engine is checked by an exact one.
 */
export function honestMargin(prover: ComputeClass, checker: ComputeClass, wire: WireDtype): number {
  return MARGINS[prover][checker] + WIRE_MARGINS[wire]
}

/** The class of an engine by its name in records and receipts. Unknown engines count as float32. */
export function computeClass(engine: string, numericMode: string): ComputeClass {
  if (numericMode === 'exact') return 'exact'
  if (!engine.startsWith('wasm')) return 'float32'
  return /8-bit/.test(engine) ? 'rounded-8' : 'rounded-15'
}
