import { kvBytesPerToken } from '../../../src/model/spec.ts'
import type { Metrics } from '../../../src/metrics.ts'
import type { HeldSpan } from './hold-span.ts'

/**
 * Shows what a server holds: sessions, memory, blocks and speed, by model. The models are those that its operator named,
 * so there are few.
 */
export function watchSpans(
  metrics: Metrics,
  spans: () => readonly HeldSpan[],
  /** Of one key or value in the cache. */
  bytesPerValue: number,
): void {
  const gauge = (name: string, help: string, of: (span: HeldSpan) => number): void =>
    metrics.watch(
      'gauge',
      `chorale_${name}`,
      help,
      () => spans().map((span) => [of(span), { model: span.model.id }]),
      ['model'],
    )
  const tokenBytes = ({ model, server: { span } }: HeldSpan): number =>
    kvBytesPerToken(model.spec, span.end - span.start, bytesPerValue)
  gauge('sessions_open', 'Sessions open now.', ({ server }) => server.sessions)
  gauge(
    'kv_used_bytes',
    'Key-value cache that sessions have leased.',
    (span) => (span.server.kvTokens - span.server.host.load().freeKvTokens) * tokenBytes(span),
  )
  gauge(
    'kv_limit_bytes',
    'Key-value cache there is for all sessions.',
    (span) => span.server.kvTokens * tokenBytes(span),
  )
  gauge('weight_bytes', 'Weights in memory.', ({ server }) => server.weightBytes)
  gauge('blocks_start', 'First block served.', ({ server }) => server.span.start)
  gauge('blocks_end', 'Block after the last one served.', ({ server }) => server.span.end)
  gauge(
    'throughput_tokens_per_second',
    'Measured decode speed of the span.',
    ({ server }) => server.throughput,
  )
}
