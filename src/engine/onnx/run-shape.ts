import type { HeadLayout } from './head-layout.ts'

/**
 * Rows one run takes; longer steps are cut. Bounds the scores of a run (heads × rows × lease length × 4 bytes)
 * and how long one run blocks the thread. More rows gain nothing: weights are read once for 64.
 */
export const RUN_ROWS = 64

/** The rows of one run of a block and of what they see. */
export interface RunShape {
  /** Tokens before this run. */
  readonly position: number
  readonly rows: number
  /** Zero rows after them. */
  readonly fillerRows: number
  /** position + rows + fillerRows. */
  readonly total: number
}

/**
 * A score's sum of more than 128 products is cut in pieces; onnxruntime takes longer pieces when 64 keys or fewer are
 * there. (MlasSgemm's strides: 128 by 128, or wider along the sum where there are few columns.)
 */
const UNCUT_WIDTH = 128
const SHORT_CONTEXT = 64

/** The shape of a run of `rows` rows: never one row alone, never a short context for wide heads. */
export function runShape(layout: HeadLayout, position: number, rows: number): RunShape {
  const wanted = layout.width > UNCUT_WIDTH ? SHORT_CONTEXT + 1 - position - rows : 0
  const fillerRows = Math.max(wanted, rows === 1 ? 1 : 0)
  return { position, rows, fillerRows, total: position + rows + fillerRows }
}

/** The most filler rows a run of heads so laid out takes. */
export function fillerLimit(layout: HeadLayout): number {
  return runShape(layout, 0, 1).fillerRows
}
