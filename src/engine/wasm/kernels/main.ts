// What the host calls. Every thread has an instance of this module on the same memory.

import {
  CONTROL_ARGUMENT,
  CONTROL_EPOCH,
  CONTROL_OPERATION,
  HEAD_ROW_COUNT,
  OPERATION_HEAD,
  OPERATION_SPAN,
  OPERATION_STOP,
  ROUNDED_BYTES_PER_VALUE,
  SPAN_ROW_COUNT,
} from '../layout'
import { setPatterns } from './half'
import { isWide, matmul } from './matmul'
import { useRows } from './prepare'
import { roundRow } from './round'
import { runHead } from './head'
import { multiplyScreened } from './matmul-screen'
import { prepareScreened } from './screen'
import { runBlocks } from './span'
import { bindThread, clearTaken, startPhases } from './threads'

export { activate } from './activation'
export { finalNorm } from './head'
export { rowNorms } from './screen'

/**
 * Looks for work before an idle thread goes to sleep, for each row of its last operation: some 10 µs, as at a barrier, and
 * up to 100 for the rows of many sessions, which JavaScript needs that long for and which waking up would keep waiting.
 */
const IDLE_SPINS = 20000
const IDLE_ROWS = 16

/**
 * Makes this instance one of the threads on `control`; thread 0 starts operations. The host gives every instance the
 * bits of the vectors it was compiled to and the bit patterns of `half.ts`.
 */
export function bind(
  control: usize,
  thread: i32,
  threads: i32,
  vectorBits: i32,
  halfBits: i32,
  halfFactor: f32,
  nibbleBits: i32,
): void {
  bindThread(control, thread, threads, vectorBits)
  setPatterns(halfBits, halfFactor, nibbleBits)
}

/** Runs an operation on all threads and returns when all are done. */
export function start(control: usize, operation: i32, argument: usize): void {
  store<i32>(control, operation, CONTROL_OPERATION)
  store<usize>(control, argument, CONTROL_ARGUMENT)
  clearTaken()
  atomic.add<i32>(control + CONTROL_EPOCH, 1)
  atomic.notify(control + CONTROL_EPOCH, -1)
  run(operation, argument)
}

/** Life of thread 1 and up, bound as above: runs operations till it is told to stop. No operation ran before. */
export function work(
  control: usize,
  thread: i32,
  threads: i32,
  vectorBits: i32,
  halfBits: i32,
  halfFactor: f32,
  nibbleBits: i32,
): void {
  bind(control, thread, threads, vectorBits, halfBits, halfFactor, nibbleBits)
  let epoch = 0
  let spins = 0
  while (true) {
    for (let spin = 0; spin < spins; spin++) {
      if (atomic.load<i32>(control, CONTROL_EPOCH) != epoch) break
    }
    while (atomic.load<i32>(control, CONTROL_EPOCH) == epoch) atomic.wait<i32>(control + CONTROL_EPOCH, epoch, -1)
    epoch++
    const operation = load<i32>(control, CONTROL_OPERATION)
    if (operation == OPERATION_STOP) return
    const argument = load<usize>(control, CONTROL_ARGUMENT)
    const rows = operation == OPERATION_SPAN ? load<i32>(argument, SPAN_ROW_COUNT) : load<i32>(argument, HEAD_ROW_COUNT)
    run(operation, argument)
    spins = min(rows, IDLE_ROWS) * IDLE_SPINS
  }
}

function run(operation: i32, argument: usize): void {
  startPhases()
  if (operation == OPERATION_SPAN) runBlocks(argument)
  else if (operation == OPERATION_HEAD) runHead(argument)
}

/** One matmul on this thread, rounding `rows` rows of `columns` values at `x` to `rounded` first; for tests and measurements. */
export function multiply(
  matrix: usize,
  octets: i32,
  x: usize,
  columns: i32,
  rounded: usize,
  rows: i32,
  out: usize,
  outStride: usize,
): void {
  const stride = <usize>columns * 4
  const roundedStride = <usize>columns * ROUNDED_BYTES_PER_VALUE
  if (rounded != 0) {
    for (let row = 0; row < rows; row++) {
      roundRow(x + <usize>row * stride, columns, rounded + <usize>row * roundedStride, isWide(matrix))
    }
  }
  useRows(x, stride, rounded, roundedStride)
  matmul(matrix, 0, octets, rows, out, outStride, false)
}

/** What screening knows of the outputs for rows that `multiply` has rounded: parts of them to `out`, and best records; for tests. */
export function screen(
  matrix: usize,
  octets: i32,
  columns: i32,
  rounded: usize,
  rows: i32,
  screened: usize,
  bests: usize,
  out: usize,
  outStride: usize,
): void {
  useRows(0, 0, rounded, <usize>columns * ROUNDED_BYTES_PER_VALUE)
  prepareScreened(matrix, bests, rows, screened)
  multiplyScreened(matrix, 0, octets, screened, rows, out, outStride)
}
