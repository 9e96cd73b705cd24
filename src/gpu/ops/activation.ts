import type { Activation } from '../../model/spec.ts'
import type { WeightFormat } from '../weight-format.ts'

/** A linear layer as a kernel is compiled for it. */
export interface LinearVariant {
  readonly format: WeightFormat
  readonly activation: Activation | 'none'
  /** Rows of gate and up alternate: activation(gate) * up. */
  readonly gated: boolean
}

/** ACTIVATION of `lib/activation.wgsl`. */
export const ACTIVATION_NUMBERS = { none: 0, silu: 1, gelu: 2, 'gelu-tanh': 3 } as const satisfies Record<
  Activation | 'none',
  number
>

/** The constants of a linear kernel's variant. */
export function variantConstants(variant: LinearVariant): { ACTIVATION: number; GATED: number } {
  return { ACTIVATION: ACTIVATION_NUMBERS[variant.activation], GATED: variant.gated ? 1 : 0 }
}
