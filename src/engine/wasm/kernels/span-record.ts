// Where a span record's parts lie.

import { SPAN_PRIVATE, SPAN_PRIVATE_BYTES } from '../layout'
import { thread } from './threads'

/** This thread's own scratch. */
// @ts-ignore: decorator
@inline
export function privateScratch(span: usize): usize {
  return load<usize>(span, SPAN_PRIVATE) + <usize>thread * load<usize>(span, SPAN_PRIVATE_BYTES)
}

/** Bytes between rows of a scratch matrix whose stride is at `offset` of the span record. */
// @ts-ignore: decorator
@inline
export function strideBytes(span: usize, offset: usize): usize {
  return load<usize>(span + offset) * 4
}
