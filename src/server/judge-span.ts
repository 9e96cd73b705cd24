import { computeClass } from '../attest/margins.ts'
import type { JudgeSpan, LoadJudgeSpan } from '../attest/fault-proof.ts'
import type { EngineSpan } from '../engine/engine.ts'
import { ChoraleError } from '../errors.ts'
import { createLocalSpan } from '../session/local-span.ts'
import type { Span, SpanRunner, SpanSession } from '../session/span-runner.ts'
import type { SpanHost } from '../swarm/span-host.ts'

/** Spans of others on this machine's own engine, for audits and disputes; sessions go first. */

export interface JudgeOptions {
  readonly peerId: string
  readonly model: { readonly modelId: string; readonly hiddenSize: number; readonly blockCount: number }
  /** The engine's name. */
  readonly engine: string
  /** What this server serves now; sessions of its own span are judged on it. */
  readonly host: () => Pick<SpanHost, 'span' | 'open' | 'load'>
  /** Loads blocks beside those that are served. */
  readonly load: (span: Span, kvTokens: number) => Promise<EngineSpan>
  /** Bytes that `load` would take, about, and how many it may. */
  readonly bytesOf: (span: Span, kvTokens: number) => number
  readonly maxBytes: number
  /** Steps of sessions that wait now. */
  readonly queued: () => number
}

/** A step of an audit waits this long at most for the sessions' steps to be done. */
const YIELD_MS = 200
const LOOK_MS = 5
/** An audit computes at most half of the time. */
const MAX_REST_MS = 1_000

/** Loads one span at a time. @throws `capacity` for spans too large for `maxBytes`, `not_found` for other models. */
export function createJudgeSpans(options: JudgeOptions): LoadJudgeSpan {
  const { engine, model, peerId } = options
  const compute = computeClass(engine, 'float')
  let turn: Promise<void> = Promise.resolve()

  const onServed = (span: Span): SpanRunner => ({
    modelId: model.modelId,
    hiddenSize: model.hiddenSize,
    span,
    open: ({ maxTokens }) => options.host().open({ modelId: model.modelId, ...span, maxTokens, peerId }),
    close: () => Promise.resolve(),
  })

  const load = async (span: Span, kvTokens: number): Promise<SpanRunner> => {
    const served = options.host().span
    if (served.start === span.start && served.end === span.end) {
      const { freeKvTokens } = options.host().load()
      if (freeKvTokens >= 2 * kvTokens) return onServed(span)
    }
    const bytes = options.bytesOf(span, kvTokens)
    if (bytes > options.maxBytes) {
      throw new ChoraleError(
        'capacity',
        `blocks ${span.start}:${span.end} take ${Math.ceil(bytes / 1e6)} MB beside those that are served, allowed are ${Math.floor(options.maxBytes / 1e6)} MB`,
      )
    }
    return createLocalSpan(await options.load(span, kvTokens), {
      modelId: model.modelId,
      hiddenSize: model.hiddenSize,
      engineName: engine,
      prefixCacheBytes: 0,
    })
  }

  return async (modelId, start, end, maxTokens): Promise<JudgeSpan> => {
    if (modelId !== model.modelId || end > model.blockCount) {
      throw new ChoraleError('not_found', `blocks ${start}:${end} of ${modelId} are not here`)
    }
    const before = turn
    const free = Promise.withResolvers<void>()
    turn = free.promise
    await before
    try {
      const runner = await load({ start, end }, maxTokens)
      return {
        runner: politely(runner, options.queued),
        compute,
        close: async () => {
          await runner.close().finally(free.resolve)
        },
      }
    } catch (error) {
      free.resolve()
      throw error
    }
  }
}

/** A runner whose steps wait for whoever is served, and rest as long as they took. */
function politely(runner: SpanRunner, queued: () => number): SpanRunner {
  return {
    ...runner,
    open: async (opening) => {
      const session = await runner.open(opening)
      const polite: SpanSession = {
        get position() {
          return session.position
        },
        get route() {
          return session.route
        },
        rollback: (position) => session.rollback(position),
        close: () => session.close(),
        step: async (hidden, step) => {
          const deadline = performance.now() + YIELD_MS
          while (queued() > 0 && performance.now() < deadline) await pause(LOOK_MS)
          const started = performance.now()
          const output = await session.step(hidden, step)
          if (queued() > 0) await pause(Math.min(MAX_REST_MS, performance.now() - started))
          return output
        },
      }
      return polite
    },
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
