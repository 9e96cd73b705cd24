import type { WireDtype } from '../protocol/wire-dtype.ts'

/**
 * How far two honest engines may be apart: max |a - b| ÷ max |b| of the rows of one step.
 *
 * Measured over a prefill of 64 tokens and 64 decoded ones, each engine on its own KV cache, worst step: float32 engines
 * among each other 2.8e-6 (storyteller, 8 blocks) and 1.2e-6 (12 blocks of SmolLM2-135M in Q4_1); the wasm engine's
 * 15-bit activations against them 1.3e-4 on Q4_1 weights and 2.7e-6 on float ones. Margins leave eight to thirty-five
 * times that, for deeper models and other machines' arithmetic. What cheats make on storyteller: weights rounded to 8
 * bits 3.5e-2, to 4 bits 0.5, one block of eight left out 1.2, the last answer again 0.95. `test/attest/margins.test.ts`
 * measures both again.
 *
 * A server names its own engine, so the widest margin of this table is what anybody may claim. That is why the wasm
 * engine with 8-bit activations has no place in it: it is 2.1e-2 off, as far as weights in 8 bits. Whoever is paid for
 * its work, or judges others', computes with 15 bits (the default) or in float32.
 */

/** How an engine computes, as far as its distance to others goes. */
export type ComputeClass =
  /** Activations and sums in float32, weights as in the file or dequantised to float32: reference, onnx, wgsl. */
  | 'float32'
  /** The same, but activations rounded to 15 bits in groups of 32 before they meet a quantised weight: wasm. */
  | 'rounded-15'
  /** Integers only: the same bytes everywhere. */
  | 'exact'

const MARGINS: Readonly<Record<ComputeClass, Readonly<Record<ComputeClass, number>>>> = {
  float32: { float32: 1e-4, 'rounded-15': 1e-3, exact: Infinity },
  'rounded-15': { float32: 1e-3, 'rounded-15': 1e-3, exact: Infinity },
  exact: { float32: Infinity, 'rounded-15': Infinity, exact: 0 },
}

/** A unit in the last place of what travels: rounding moves a value by half of it. */
const WIRE_MARGINS: Readonly<Record<WireDtype, number>> = { f32: 0, bf16: 2 ** -7, f16: 2 ** -10 }

/**
 * The margin of a prover's output, as it travelled, against a checker's. Infinite where the two can't be compared: an
 * exact engine is checked by an exact one.
 */
export function honestMargin(prover: ComputeClass, checker: ComputeClass, wire: WireDtype): number {
  return MARGINS[prover][checker] + WIRE_MARGINS[wire]
}

/** The class of an engine by its name in records and receipts. Unknown engines must keep to float32's margin. */
export function computeClass(engine: string, numericMode: string): ComputeClass {
  if (numericMode === 'exact') return 'exact'
  return engine.startsWith('wasm') ? 'rounded-15' : 'float32'
}
