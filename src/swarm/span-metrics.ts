import type { ChoraleError } from '../errors.ts'
import type { Metrics } from '../metrics.ts'
import type { ReceiptFate } from './receipt-acks.ts'
import type { ServeCounters } from './span-host.ts'

/** What serving spans adds to a peer's metrics, as it happens; the rest is read from the counters when it is asked for. */
export interface SpanMetrics {
  /** A step was computed and passed on. */
  step(tokens: number, seconds: number): void
  /** A stream was refused, or ended by this server or because of what came. */
  refused(error: ChoraleError): void
  receipt(fate: ReceiptFate): void
}

/** A token of a small model on a good machine takes a millisecond, a long prompt of a large one minutes. */
const STEP_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** Registers them. Labels take words of this code only: no peer, model or text of others. */
export function createSpanMetrics(
  metrics: Metrics,
  now: { readonly counters: ServeCounters; readonly streams: () => number; readonly queued: () => number },
): SpanMetrics {
  const { counters } = now
  metrics.watch('counter', 'chorale_sessions_opened_total', 'Sessions opened by others.', () => [
    [counters.sessions],
  ])
  metrics.watch('counter', 'chorale_tokens_served_total', 'Tokens computed for others.', () => [
    [counters.tokens],
  ])
  metrics.watch(
    'counter',
    'chorale_hop_bytes_total',
    'Bytes of hidden states that came in and went out.',
    () => [
      [counters.bytesIn, { direction: 'in' }],
      [counters.bytesOut, { direction: 'out' }],
    ],
    ['direction'],
  )
  metrics.watch(
    'gauge',
    'chorale_streams_open',
    'Streams of sessions, of pushes, and not yet of either.',
    () => [[now.streams()]],
  )
  metrics.watch('gauge', 'chorale_queued_steps', 'Steps received and not answered.', () => [[now.queued()]])
  const steps = metrics.histogram(
    'chorale_step_seconds',
    'From the start of a step to its output, by steps of one token (decode) and of several (prefill).',
    STEP_SECONDS,
    ['kind'],
  )
  const refusals = metrics.counter(
    'chorale_span_refusals_total',
    'Streams refused or ended with an error, by its code and the field of the message that was wrong.',
    ['code', 'field'],
  )
  const receipts = metrics.counter(
    'chorale_receipts_given_total',
    'Receipts given, by whether the client agreed: by a signature that was checked, by a later one that covers it, not at all, or by a forged one.',
    ['result'],
  )
  for (const result of ['agreed', 'covered', 'unsigned', 'forged'] as const) receipts.inc({ result }, 0)
  return {
    step: (tokens, seconds) => steps.observe(seconds, { kind: tokens > 1 ? 'prefill' : 'decode' }),
    refused: ({ code, field = '' }) => refusals.inc({ code, field }),
    receipt: (result) => receipts.inc({ result }),
  }
}
