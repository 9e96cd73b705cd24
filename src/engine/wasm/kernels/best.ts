// The highest logit of each row, lowest id on ties, noted while a thread's pieces of logits are still in its cache.
//
// A best record is this thread's for one row: value, id, whether a logit was not finite, and what `screen.ts` needs. The host clears
// them before threads start.

import { BEST_BYTES, BEST_ID, BEST_SPOILED, BEST_VALUE } from '../layout'
import { threads } from './threads'

/** The highest logit of row `row` of `rows` that any thread has noted by now; `bests` are the best records of all. */
export function knownBest(bests: usize, rows: i32, row: i32): f32 {
  let value = -<f32>Infinity
  for (let other = 0; other < threads; other++) {
    value = max(value, load<f32>(bests + <usize>(other * rows + row) * BEST_BYTES, BEST_VALUE))
  }
  return value
}

/** Notes logits [from, to) of `rows` rows at `logits`. */
export function noteBest(best: usize, logits: usize, stride: usize, rows: i32, from: i32, to: i32): void {
  for (let row = 0; row < rows; row++, best += BEST_BYTES, logits += stride) noteRow(best, logits, from, to)
}

function noteRow(best: usize, logits: usize, from: i32, to: i32): void {
  const four = i32x4.splat(4)
  let top = f32x4.splat(-<f32>Infinity)
  let at = i32x4.splat(i32.MAX_VALUE)
  let ids = i32x4.add(i32x4.splat(from), i32x4(0, 1, 2, 3))
  let spoiled = i32x4.splat(0)
  let id = from
  for (; id + 4 <= to; id += 4) {
    const values = v128.load(logits + (<usize>id << 2))
    const higher = f32x4.gt(values, top)
    top = v128.bitselect(values, top, higher)
    at = v128.bitselect(ids, at, higher)
    // x - x is 0 for finite numbers and NaN for all others.
    const difference = f32x4.sub(values, values)
    spoiled = v128.or(spoiled, f32x4.ne(difference, difference))
    ids = i32x4.add(ids, four)
  }
  let value = f32x4.extract_lane(top, 0)
  let first = i32x4.extract_lane(at, 0)
  for (let lane = 1; lane < 4; lane++) {
    top = v128.shuffle<i32>(top, top, 1, 2, 3, 0)
    at = v128.shuffle<i32>(at, at, 1, 2, 3, 0)
    const other = f32x4.extract_lane(top, 0)
    const otherId = i32x4.extract_lane(at, 0)
    if (other < value || (other == value && otherId >= first)) continue
    value = other
    first = otherId
  }
  let bad = v128.any_true(spoiled)
  for (; id < to; id++) {
    const logit = load<f32>(logits + (<usize>id << 2))
    bad = bad || logit - logit != 0
    if (logit <= value) continue
    value = logit
    first = id
  }
  if (bad) store<i32>(best, 1, BEST_SPOILED)
  // Of equal values the lowest id: a thread that helps another comes to lower ones later.
  const known = load<f32>(best, BEST_VALUE)
  if (value < known || (value == known && first > load<i32>(best, BEST_ID))) return
  store<f32>(best, value, BEST_VALUE)
  store<i32>(best, first, BEST_ID)
}
