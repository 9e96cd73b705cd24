import type { Activation } from '../../model/spec.ts'

/** The activation of each element; formulas at `Activation`. */
export function activate(activation: Activation, x: Float32Array): Float32Array {
  return x.map(FUNCTIONS[activation])
}

const FUNCTIONS: Readonly<Record<Activation, (x: number) => number>> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  'gelu-tanh': (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
}

/**
 * The error function, within 1e-13 (absolute): its Taylor series up to 3, beyond it 1 minus the continued fraction
 * of the complement. Abramowitz and Stegun 7.1.6 and 7.1.14.
 */
export function erf(x: number): number {
  const a = Math.abs(x)
  if (a < 3) {
    // erf x = 2/sqrt(pi) * e^(-x²) * sum of 2^n x^(2n+1) / (1·3·…·(2n+1)): all terms positive.
    let term = a
    let sum = a
    for (let n = 1; term > sum * 1e-17; n++) {
      term *= (2 * a * a) / (2 * n + 1)
      sum += term
    }
    return Math.sign(x) * (2 / Math.sqrt(Math.PI)) * Math.exp(-a * a) * sum
  }
  if (a > 6) return Math.sign(x)
  let fraction = a
  for (let n = 40; n > 0; n--) fraction = a + n / 2 / fraction
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * fraction))
}
