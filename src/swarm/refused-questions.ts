import { errorCode, isChoraleError } from '../errors.ts'
import type { Peer } from './peer.ts'

/**
 * Counts a question of `protocol` (directory, passes, content, audits, weights) that was refused, or was none: forged,
 * expired or cut records, passes and requests, by the error's code and the field that is wrong.
 */
export function countRefusedQuestion(
  { metrics }: Pick<Peer, 'metrics'>,
  protocol: string,
  error: unknown,
): void {
  const code = errorCode(error)
  const field = (isChoraleError(error) && error.field) || ''
  // Whoever asked went away, though not in the middle of a word.
  if ((code === 'session_lost' && field === '') || code === 'cancelled') return
  metrics
    .counter(
      'chorale_question_refusals_total',
      'Questions refused, by protocol, code and the field that is wrong.',
      ['protocol', 'code', 'field'],
    )
    .inc({ protocol, code, field })
}
