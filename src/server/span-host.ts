import type { EngineSpan } from '../engine/engine.ts'
import { ChoraleError } from '../errors.ts'
import { createLocalSpan } from '../session/local-span.ts'
import type { SpanSession } from '../session/span-runner.ts'
import type { SpanHost } from '../swarm/span-host.ts'
import { type AdmissionLimits, admitSession } from './admission.ts'

export interface SpanHostOptions {
  readonly span: EngineSpan
  readonly modelId: string
  readonly hiddenSize: number
  /** The engine's name, as clients see it. */
  readonly engine: string
  readonly limits: AdmissionLimits
  /** Most tokens of one step that a client may send (default 512). */
  readonly maxStepTokens?: number
  /** Whether sessions that begin alike share what was computed for the beginning (default true). */
  readonly prefixCache?: boolean
  /** Called after a session came or went. */
  readonly onChange?: () => void
}

/** A `SpanHost` over an engine's span that can be told to take no more sessions. */
export interface EngineSpanHost extends SpanHost {
  /** Takes no more sessions, and tells those it has that it leaves. */
  drain(): void
  /** Resolves when no session is left, or after `timeoutMs`; whether none is left. */
  idle(timeoutMs: number): Promise<boolean>
  /** Ends every session: its next step fails. */
  endSessions(): Promise<void>
  /** Waits for the engine and frees the span. Sessions must be closed before. */
  close(): Promise<void>
}

/** Most tokens of one step, where nothing else is said. */
export const MAX_STEP_TOKENS = 512

/** Admits sessions to a span; the local span takes care that each gets its turn and single tokens run together. */
export function createSpanHost(options: SpanHostOptions): EngineSpanHost {
  const { span, modelId, hiddenSize, engine, limits } = options
  const runner = createLocalSpan(span, {
    modelId,
    hiddenSize,
    engineName: engine,
    ...(options.prefixCache === false && { prefixCacheBytes: 0 }),
  })
  /** Sessions by the peer that asked for them. */
  const sessions = new Map<SpanSession, string>()
  const idleWaiters = new Set<() => void>()
  let draining = false
  const leaving = Promise.withResolvers<void>()
  /** Admitted and not opened yet: they count, or a burst would pass the limit. */
  let opening = 0

  const changed = (): void => {
    if (sessions.size === 0) for (const wake of idleWaiters) wake()
    options.onChange?.()
  }

  return {
    modelId,
    hiddenSize,
    span: runner.span,
    engine,
    maxStepTokens: options.maxStepTokens ?? MAX_STEP_TOKENS,
    open: async (request) => {
      const decision = admitSession(
        {
          modelId,
          start: span.start,
          end: span.end,
          draining,
          sessions: sessions.size + opening,
          sessionsOfPeer: [...sessions.values()].filter((peerId) => peerId === request.peerId).length,
          kvTokensFree: span.kvTokensFree,
        },
        limits,
        request,
      )
      if (!decision.admit) throw new ChoraleError(decision.code, decision.message)
      opening++
      const session = await runner.open({ maxTokens: request.maxTokens }).finally(() => opening--)
      const hosted: SpanSession = {
        get position() {
          return session.position
        },
        get route() {
          return session.route
        },
        leaving: leaving.promise,
        ...(session.kv && { kv: session.kv }),
        step: (hidden, stepOptions) => session.step(hidden, stepOptions),
        rollback: (position) => session.rollback(position),
        close: async () => {
          if (!sessions.delete(hosted)) return
          await session.close()
          changed()
        },
      }
      sessions.set(hosted, request.peerId)
      changed()
      return hosted
    },
    load: () => ({ sessions: sessions.size, freeKvTokens: span.kvTokensFree }),
    drain: () => {
      draining = true
      leaving.resolve()
    },
    idle: async (timeoutMs) => {
      if (sessions.size === 0) return true
      return await new Promise<boolean>((resolve) => {
        const finish = (): void => {
          clearTimeout(timer)
          idleWaiters.delete(finish)
          resolve(sessions.size === 0)
        }
        const timer = setTimeout(finish, timeoutMs)
        idleWaiters.add(finish)
      })
    },
    endSessions: async () => {
      await Promise.all([...sessions.keys()].map((session) => session.close()))
    },
    close: () => runner.close(),
  }
}
