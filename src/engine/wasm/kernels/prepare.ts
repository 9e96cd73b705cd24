// Rows made ready for a matmul: normed, and rounded where the matrix is quantised.

import { PRIVATE_PLAIN_ROWS, PRIVATE_ROWS, ROUNDED_BYTES_PER_VALUE } from '../layout'
import { normalize } from './norm'
import { roundRow } from './round'
import { barrier, from, take, to } from './threads'

/** Where `matmul` finds its rows; strides in bytes. */
export let floatRows: usize = 0
export let floatStride: usize = 0
export let roundedRows: usize = 0
export let roundedStride: usize = 0

/** Points `matmul` at rows that are ready. */
export function useRows(rows: usize, stride: usize, rounded: usize, roundedRowBytes: usize): void {
  floatRows = rows
  floatStride = stride
  roundedRows = rounded
  roundedStride = roundedRowBytes
}

/**
 * Prepares `rows` rows of `columns` values at `x`. `weight` is the norm's, or 0 for none; `bias` a layer norm's, or 0.
 * Few rows are prepared by every thread for itself at `privately`, many by all together at `together` and `togetherRounded`.
 */
export function prepare(
  x: usize,
  xStride: usize,
  columns: i32,
  rows: i32,
  weight: usize,
  bias: usize,
  epsilon: f32,
  round: bool,
  wide: bool,
  privately: usize,
  together: usize,
  togetherRounded: usize,
): void {
  const roundedBytes = <usize>columns * ROUNDED_BYTES_PER_VALUE
  const alone = rows <= (round ? PRIVATE_ROWS : PRIVATE_PLAIN_ROWS)
  const normed = weight == 0 ? x : alone ? privately : together
  const rounded = alone ? privately + <usize>PRIVATE_ROWS * xStride : togetherRounded
  useRows(normed, xStride, rounded, roundedBytes)
  if (weight == 0 && !round) return
  let more = alone || take(rows)
  while (more) {
    const end = alone ? rows : to
    for (let row = alone ? 0 : from; row < end; row++) {
      let at = x + <usize>row * xStride
      if (weight != 0) {
        const prepared = normed + <usize>row * xStride
        normalize(at, columns, weight, bias, epsilon, prepared)
        at = prepared
      }
      if (round) roundRow(at, columns, rounded + <usize>row * roundedBytes, wide)
    }
    more = !alone && take(rows)
  }
  if (!alone) barrier()
}
