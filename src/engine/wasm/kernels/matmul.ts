// Which kernel multiplies a matrix.

import {
  KIND_BF16,
  KIND_F16,
  KIND_F32,
  KIND_Q4_F16,
  KIND_Q4_F32,
  KIND_Q4_MIN_F16,
  KIND_Q4_MIN_F32,
  KIND_Q8_F16,
  KIND_Q8_F32,
  KIND_Q8_HALF_F32,
  KIND_Q8_MIN_F16,
  KIND_Q8_MIN_F32,
  KIND_WIDE,
  MATRIX_KIND,
} from '../layout'
import { floatRows, floatStride, roundedRows, roundedStride } from './prepare'
import { matmul4 } from './matmul-4bit'
import { matmul8 } from './matmul-8bit'
import { matmulFloat } from './matmul-float'

/** Whether this matrix multiplies rounded activations. */
export function isQuantized(matrix: usize): bool {
  return load<i32>(matrix, MATRIX_KIND) >= KIND_Q4_F16
}

/** Whether it wants them in 15 bits. */
export function isWide(matrix: usize): bool {
  return load<i32>(matrix, MATRIX_KIND) >= KIND_WIDE
}

/** Octets [from, to) of `matrix` times the prepared rows: out[row, output] = or += sum. */
export function matmul(matrix: usize, from: i32, to: i32, rows: i32, out: usize, outStride: usize, add: bool): void {
  const kind = load<i32>(matrix, MATRIX_KIND)
  const x = kind < KIND_Q4_F16 ? floatRows : roundedRows
  const stride = kind < KIND_Q4_F16 ? floatStride : roundedStride
  switch (kind) {
    case KIND_F32:
      return matmulFloat<f32>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_F16:
      return matmulFloat<u16>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_BF16:
      return matmulFloat<i16>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q4_F16:
      return matmul4<u16, void, void>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q4_MIN_F16:
      return matmul4<u16, i32, void>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q4_F32:
      return matmul4<f32, void, void>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q4_MIN_F32:
      return matmul4<f32, i32, void>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q8_F16:
      return matmul8<u16, void, void, void>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q8_MIN_F16:
      return matmul8<u16, i32, void, void>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q8_F32:
      return matmul8<f32, void, void, void>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q8_MIN_F32:
      return matmul8<f32, i32, void, void>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q8_HALF_F32:
      return matmul8<f32, void, i32, void>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q4_F16 + KIND_WIDE:
      return matmul4<u16, void, i32>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q4_MIN_F16 + KIND_WIDE:
      return matmul4<u16, i32, i32>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q4_F32 + KIND_WIDE:
      return matmul4<f32, void, i32>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q4_MIN_F32 + KIND_WIDE:
      return matmul4<f32, i32, i32>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q8_F16 + KIND_WIDE:
      return matmul8<u16, void, void, i32>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q8_MIN_F16 + KIND_WIDE:
      return matmul8<u16, i32, void, i32>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q8_F32 + KIND_WIDE:
      return matmul8<f32, void, void, i32>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q8_MIN_F32 + KIND_WIDE:
      return matmul8<f32, i32, void, i32>(matrix, from, to, x, stride, rows, out, outStride, add)
    case KIND_Q8_HALF_F32 + KIND_WIDE:
      return matmul8<f32, void, i32, i32>(matrix, from, to, x, stride, rows, out, outStride, add)
    default:
      unreachable()
  }
}
