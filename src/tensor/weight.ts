import { ChoraleError } from '../errors.ts'

/** How a weight's bytes are laid out; block formats are GGUF's. */
export type WeightDtype =
  | 'F32'
  | 'F16'
  | 'BF16'
  | 'Q8_0'
  | 'Q4_0'
  | 'Q4_1'
  | 'Q5_0'
  | 'Q5_1'
  | 'Q2_K'
  | 'Q3_K'
  | 'Q4_K'
  | 'Q5_K'
  | 'Q6_K'
  | 'IQ4_NL'
  | 'IQ4_XS'

/** One weight as stored. Matrices are row-major [out, in]; quantised rows are whole blocks along `in`. */
export interface WeightTensor {
  readonly dtype: WeightDtype
  readonly shape: readonly number[]
  readonly bytes: Uint8Array
}

/** Weights a block and bytes a block; plain floats are blocks of one. Source: ggml-common.h. */
const LAYOUT: Readonly<Record<WeightDtype, readonly [weights: number, bytes: number]>> = {
  F32: [1, 4],
  F16: [1, 2],
  BF16: [1, 2],
  Q8_0: [32, 34],
  Q4_0: [32, 18],
  Q4_1: [32, 20],
  Q5_0: [32, 22],
  Q5_1: [32, 24],
  Q2_K: [256, 84],
  Q3_K: [256, 110],
  Q4_K: [256, 144],
  Q5_K: [256, 176],
  Q6_K: [256, 210],
  IQ4_NL: [32, 18],
  IQ4_XS: [256, 136],
}

/** Every dtype this project computes with. */
export const WEIGHT_DTYPES = Object.keys(LAYOUT) as readonly WeightDtype[]

/** Whether `dtype` is one of the formats computed here. */
export function isWeightDtype(dtype: string): dtype is WeightDtype {
  return Object.hasOwn(LAYOUT, dtype)
}

/** Weights in one block of `dtype`. */
export function blockSize(dtype: WeightDtype): number {
  return LAYOUT[dtype][0]
}

/** Bytes of one block of `dtype`. */
export function blockBytes(dtype: WeightDtype): number {
  return LAYOUT[dtype][1]
}

/** Product of a shape's dimensions; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  let count = 1
  for (const dimension of shape) count *= dimension
  return count
}

/**
 * Bytes that a weight of `shape` takes.
 * @throws `bad_file` when the last dimension is not a whole number of blocks.
 */
export function byteLength(dtype: WeightDtype, shape: readonly number[]): number {
  const [weights, bytes] = LAYOUT[dtype]
  const row = shape.at(-1) ?? 1
  if (row % weights !== 0) {
    throw new ChoraleError(
      'bad_file',
      `${dtype} stores blocks of ${weights} weights, but rows have ${row} (shape [${shape.join(', ')}])`,
    )
  }
  return (elementCount(shape) / weights) * bytes
}
