// Final norm, logits and the best of them.

import {
  BEST_BYTES,
  HEAD_BEST,
  HEAD_EPSILON,
  HEAD_HIDDEN,
  HEAD_HIDDEN_SIZE,
  HEAD_HIDDEN_STRIDE,
  HEAD_LOGITS,
  HEAD_LOGITS_STRIDE,
  HEAD_MATRIX,
  HEAD_NORM,
  HEAD_NORM_BIAS,
  HEAD_NORMS,
  HEAD_PREPARED,
  HEAD_PREPARED_ROUNDED,
  HEAD_PRIVATE,
  HEAD_PRIVATE_BYTES,
  HEAD_ROW_COUNT,
  HEAD_SCREENED,
  HEAD_VOCABULARY,
  MATRIX_OCTETS,
  OCTET,
} from '../layout'
import { noteBest } from './best'
import { isQuantized, isWide, matmul } from './matmul'
import { screenStride } from './matmul-screen'
import { normalize } from './norm'
import { prepare } from './prepare'
import { noteScreened, prepareScreened } from './screen'
import { barrier, from, takeOctets, thread, to } from './threads'

/** This thread's part of logits = head · norm(hidden), and of each row's best when it is wanted. */
export function runHead(head: usize): void {
  const rows = load<i32>(head, HEAD_ROW_COUNT)
  const matrix = load<usize>(head, HEAD_MATRIX)
  prepare(
    load<usize>(head, HEAD_HIDDEN),
    load<usize>(head, HEAD_HIDDEN_STRIDE) * 4,
    load<i32>(head, HEAD_HIDDEN_SIZE),
    rows,
    load<usize>(head, HEAD_NORM),
    load<usize>(head, HEAD_NORM_BIAS),
    load<f32>(head, HEAD_EPSILON),
    isQuantized(matrix),
    isWide(matrix),
    load<usize>(head, HEAD_PRIVATE) + <usize>thread * load<usize>(head, HEAD_PRIVATE_BYTES),
    load<usize>(head, HEAD_PREPARED),
    load<usize>(head, HEAD_PREPARED_ROUNDED),
  )
  const total = load<i32>(matrix, MATRIX_OCTETS)
  const logits = load<usize>(head, HEAD_LOGITS)
  const stride = load<usize>(head, HEAD_LOGITS_STRIDE) * 4
  const vocabulary = load<i32>(head, HEAD_VOCABULARY)
  const bests = load<usize>(head, HEAD_BEST)
  const best = bests + <usize>(thread * rows) * BEST_BYTES
  // One row waits for its weights longer than for arithmetic.
  let screened = bests != 0 && rows > 1 ? load<usize>(head, HEAD_SCREENED) : 0
  if (screened != 0) {
    screened += <usize>(thread * rows) * screenStride(matrix)
    prepareScreened(matrix, best, rows, screened)
  }
  while (takeOctets(total)) {
    if (screened != 0) {
      noteScreened(matrix, screened, load<usize>(head, HEAD_NORMS), bests, logits, stride, rows, from, to, vocabulary)
      continue
    }
    matmul(matrix, from, to, rows, logits, stride, false)
    if (bests != 0) noteBest(best, logits, stride, rows, from * OCTET, min(to * OCTET, vocabulary))
  }
  barrier()
}

/** The final norm alone, on the calling thread: rows at HEAD_HIDDEN to rows at HEAD_PREPARED. */
export function finalNorm(head: usize): void {
  const stride = load<usize>(head, HEAD_HIDDEN_STRIDE) * 4
  for (let row = 0; row < load<i32>(head, HEAD_ROW_COUNT); row++) {
    normalize(
      load<usize>(head, HEAD_HIDDEN) + <usize>row * stride,
      load<i32>(head, HEAD_HIDDEN_SIZE),
      load<usize>(head, HEAD_NORM),
      load<usize>(head, HEAD_NORM_BIAS),
      load<f32>(head, HEAD_EPSILON),
      load<usize>(head, HEAD_PREPARED) + <usize>row * stride,
    )
  }
}
