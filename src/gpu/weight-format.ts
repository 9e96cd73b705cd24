import type { WeightDtype } from '../tensor/weight.ts'
import { padded } from './context.ts'

/** How weights are kept on the GPU: the name of their `lib/weight_*.wgsl`, which describes it. */
export type WeightFormat =
  | 'f32'
  | 'f16'
  | 'bf16'
  | 'q4'
  | 'q4_symmetric'
  | 'q4_wide'
  | 'q8'
  | 'q8_wide'
  | 'q8_affine'

/** Bytes of a word, the unit that kernels read weights in. */
export const WORD_BYTES = 16

interface Layout {
  /** Weights in a word: WORD_QUADS * 4 of the kernels. */
  readonly wordValues: number
  /** Bytes of a row's scales; 0 without. */
  readonly scaleBytes: (words: number) => number
}

const LAYOUTS: Readonly<Record<WeightFormat, Layout>> = {
  f32: { wordValues: 4, scaleBytes: () => 0 },
  f16: { wordValues: 8, scaleBytes: () => 0 },
  bf16: { wordValues: 8, scaleBytes: () => 0 },
  q4: { wordValues: 32, scaleBytes: (words) => words * 4 },
  q4_symmetric: { wordValues: 32, scaleBytes: (words) => Math.ceil(words / 2) * 4 },
  q4_wide: { wordValues: 32, scaleBytes: (words) => words * 8 },
  q8: { wordValues: 16, scaleBytes: (words) => Math.ceil(words / 4) * 4 },
  q8_wide: { wordValues: 16, scaleBytes: (words) => words * 4 },
  q8_affine: { wordValues: 16, scaleBytes: (words) => words * 8 },
}

/** The format that holds a stored weight without loss, in the fewest bytes. */
export const FORMAT_OF: Readonly<Record<WeightDtype, WeightFormat>> = {
  F32: 'f32',
  F16: 'f16',
  BF16: 'bf16',
  Q4_0: 'q4_symmetric',
  Q4_1: 'q4',
  Q4_K: 'q4_wide',
  Q8_0: 'q8',
  Q5_0: 'q8',
  IQ4_NL: 'q8',
  Q3_K: 'q8_wide',
  Q6_K: 'q8_wide',
  IQ4_XS: 'q8_wide',
  Q2_K: 'q8_affine',
  Q5_1: 'q8_affine',
  Q5_K: 'q8_affine',
}

/** What rows of `columns` weights take; quantised rows are whole groups of 32, not checked. */
export interface RowLayout {
  readonly words: number
  readonly weightBytes: number
  /** 0 in formats without scales. */
  readonly scaleBytes: number
}

/** Layout of a row of `columns` weights in `format`. */
export function rowLayout(format: WeightFormat, columns: number): RowLayout {
  const { scaleBytes, wordValues } = LAYOUTS[format]
  const words = Math.ceil(padded(columns) / wordValues)
  return { words, weightBytes: words * WORD_BYTES, scaleBytes: scaleBytes(words) }
}
