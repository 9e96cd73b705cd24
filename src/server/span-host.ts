import type { EngineSpan, KvLease } from '../engine/engine.ts'
import { ChoraleError } from '../errors.ts'
import type { HostedOutput, HostedSession, SessionRequest, SpanHost } from '../swarm/span-host.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { type AdmissionLimits, admitSession } from './admission.ts'

export interface SpanHostOptions {
  readonly span: EngineSpan
  readonly modelId: string
  readonly hiddenSize: number
  readonly engine: string
  readonly limits: AdmissionLimits
  readonly maxStepTokens: number
  /** Called after sessions or free room changed. */
  readonly onChange?: () => void
}

/** A `SpanHost` that can be told to take no more sessions. */
export interface EngineSpanHost extends SpanHost {
  drain(): void
  /** Resolves when no session is left, or after `timeoutMs`. */
  idle(timeoutMs: number): Promise<boolean>
}

interface Session {
  readonly lease: KvLease
  readonly peerId: string
  stepping: boolean
  closed: boolean
}

interface QueuedStep {
  readonly session: Session
  readonly hidden: Tensor
  readonly queuedAt: number
  readonly deadlineMs: number
  readonly resolve: (output: HostedOutput) => void
  readonly reject: (error: unknown) => void
}

/** Steps of at most this many tokens of different sessions run together: decoding, not prefill. */
const BATCH_STEP_TOKENS = 8
const MAX_BATCH = 16
/** Time the engine may keep the event loop before heartbeats and new sessions get a turn. */
const TURN_MS = 20

/**
 * Runs the steps of all sessions on one engine span, first come first served. A session has at most one step in
 * the queue, so nobody gets a second turn before everybody waiting had one.
 */
export function createSpanHost(options: SpanHostOptions): EngineSpanHost {
  const { span, limits } = options
  const sessions = new Set<Session>()
  const queue: QueuedStep[] = []
  const idleWaiters = new Set<() => void>()
  let running = false
  let draining = false

  const changed = (): void => {
    if (sessions.size === 0) for (const wake of idleWaiters) wake()
    options.onChange?.()
  }

  const open = (request: SessionRequest): HostedSession => {
    let sessionsOfPeer = 0
    for (const session of sessions) if (session.peerId === request.peerId) sessionsOfPeer++
    const decision = admitSession(
      {
        modelId: options.modelId,
        start: span.start,
        end: span.end,
        draining,
        sessions: sessions.size,
        sessionsOfPeer,
        kvTokensFree: span.kvTokensFree,
      },
      limits,
      request,
    )
    if (!decision.admit) throw new ChoraleError(decision.code, decision.message)
    const session: Session = {
      lease: span.lease(request.maxTokens),
      peerId: request.peerId,
      stepping: false,
      closed: false,
    }
    sessions.add(session)
    changed()
    return {
      step: (hidden, deadlineMs) => step(session, hidden, deadlineMs),
      rollback: (position) => {
        if (session.closed) throw closedError()
        session.lease.rollback(position)
      },
      close: () => {
        if (session.closed) return
        session.closed = true
        // The engine may be writing to the lease right now; then the step frees it.
        if (!session.stepping) session.lease.release()
        sessions.delete(session)
        changed()
      },
    }
  }

  const step = (session: Session, hidden: Tensor, deadlineMs: number): Promise<HostedOutput> =>
    new Promise((resolve, reject) => {
      if (session.closed) {
        reject(closedError())
        return
      }
      queue.push({ session, hidden, queuedAt: performance.now(), deadlineMs, resolve, reject })
      if (!running) void run()
    })

  const run = async (): Promise<void> => {
    running = true
    let turnStarted = performance.now()
    while (queue.length > 0) {
      const batch = takeBatch(queue)
      if (batch.length > 0) await runBatch(batch)
      if (queue.length > 0 && performance.now() - turnStarted > TURN_MS) {
        await new Promise((resolve) => setTimeout(resolve, 0))
        turnStarted = performance.now()
      }
    }
    running = false
  }

  const runBatch = async (batch: readonly QueuedStep[]): Promise<void> => {
    const started = performance.now()
    for (const { session } of batch) session.stepping = true
    try {
      const outputs = await span.step(batch.map(({ session, hidden }) => ({ lease: session.lease, hidden })))
      const computeMs = performance.now() - started
      for (const [i, { resolve, queuedAt }] of batch.entries()) {
        resolve({ hidden: outputs[i]!, computeMs, queueMs: started - queuedAt })
      }
    } catch (error) {
      for (const { reject } of batch) reject(error)
    } finally {
      for (const { session } of batch) {
        session.stepping = false
        if (session.closed) session.lease.release()
      }
    }
  }

  return {
    modelId: options.modelId,
    hiddenSize: options.hiddenSize,
    span: { start: span.start, end: span.end },
    engine: options.engine,
    maxStepTokens: options.maxStepTokens,
    open,
    load: () => ({ sessions: sessions.size, freeKvTokens: span.kvTokensFree, queued: queue.length }),
    drain: () => {
      draining = true
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
  }
}

/** The step that waited longest and, when it is short, the short ones of other sessions. Drops what nobody waits for. */
function takeBatch(queue: QueuedStep[]): QueuedStep[] {
  const now = performance.now()
  const batch: QueuedStep[] = []
  while (queue.length > 0 && batch.length < MAX_BATCH) {
    const next = queue[0]!
    const short = next.hidden.shape[0] <= BATCH_STEP_TOKENS
    if (batch.length > 0 && !short) break
    queue.shift()
    if (next.session.closed) {
      next.reject(closedError())
    } else if (now - next.queuedAt > next.deadlineMs) {
      next.reject(
        new ChoraleError(
          'timeout',
          `the step waited ${Math.round(now - next.queuedAt)} ms, longer than its deadline`,
        ),
      )
    } else {
      batch.push(next)
      if (!short) break
    }
  }
  return batch
}

function closedError(): ChoraleError {
  return new ChoraleError('session_lost', 'the session is closed')
}
