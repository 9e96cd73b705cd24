import type { EngineSpan } from '../engine/engine.ts'
import { createSpanHost, type EngineSpanHost, type SpanHostOptions } from './span-host.ts'
import { measurePrefill, measureThroughput } from './throughput.ts'

/** A span in memory that answers sessions, with its measured speeds. */
export interface LoadedSpan {
  readonly host: EngineSpanHost
  readonly weightBytes: number
  readonly kvTokens: number
  /** Decode speed of the span alone, tokens per second. */
  readonly throughput: number
  readonly prefillThroughput: number
}

/** Puts a host before a span that an engine loaded, and measures it. The span is freed when that fails. */
export async function hostSpan(
  span: EngineSpan,
  options: Omit<SpanHostOptions, 'span'>,
): Promise<LoadedSpan> {
  const host = createSpanHost({ ...options, span })
  try {
    const throughput = await measureThroughput(span, options.hiddenSize)
    const prefillThroughput = await measurePrefill(span, options.hiddenSize)
    const { weightBytes, kvTokens } = span
    return { host, weightBytes, kvTokens, throughput, prefillThroughput }
  } catch (error) {
    await host.close()
    throw error
  }
}

/**
 * Lets a span's sessions finish, at most `drainMs` or until `hurried`, ends the rest, and frees it. Sessions that are
 * ended here are rebuilt by their clients on other servers.
 */
export async function retireSpan(
  { host }: LoadedSpan,
  drainMs: number,
  hurried: Promise<void>,
): Promise<void> {
  host.drain()
  await Promise.race([host.idle(drainMs), hurried])
  await host.endSessions()
  await host.close()
}
