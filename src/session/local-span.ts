import type { EngineSpan, KvLease } from '../engine/engine.ts'
import { ChoraleError } from '../errors.ts'
import { createPrefixCache } from '../kv/prefix-cache.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { cancelled, checkOpen, checkRollback, checkStep } from './check-step.ts'
import { createPrefixTrail } from './prefix-trail.ts'
import { catchUp, nextTurn } from './race-signal.ts'
import type { RouteHop, SpanRunner, SpanSession, StepOptions } from './span-runner.ts'
import { createSessionKv } from './session-kv.ts'
import { computeTurns, type Job, type Line, piece, remaining, type Turn, wanted } from './span-turn.ts'

/** Who a local span belongs to, and how it cuts its work. */
export interface LocalSpanOptions {
  readonly modelId: string
  readonly hiddenSize: number
  readonly engineName: string
  /** What `route` calls this machine (default `local`; a server gives its peer id). */
  readonly peer?: string
  /** Most tokens of one session in one call of the engine: other sessions wait no longer than that (default 128). */
  readonly maxRows?: number
  /** Most sessions whose next token one call of the engine computes together (default 16). */
  readonly maxBatch?: number
  /**
   * Most bytes of outputs kept for sessions that begin as earlier ones did (default 64 MiB; 0: every session computes
   * all its tokens). Results are the same bit for bit. Needs an engine whose KV cache has pages.
   */
  readonly prefixCacheBytes?: number
}

/** Measured on two cores: larger prefill pieces gain under 5 % and make every other session wait. */
const MAX_ROWS = 128
const MAX_BATCH = 16
/** Outputs of 4,096 tokens of a model as wide as Llama-3-8B. */
const PREFIX_CACHE_BYTES = 64 * 2 ** 20
/** Longest time an engine on this thread keeps timers and sockets waiting, single calls aside. */
const TURN_MS = 20

/**
 * A span of this machine as a `SpanRunner`: gives the engine one call at a time, in turn for every session.
 *
 * Each session's steps run in call order, long ones in pieces; single tokens of several sessions go into one call.
 * A session that begins with the same inputs as an earlier one gets the earlier one's results, whole pages at a time.
 * Closing the runner closes the engine's span.
 */
export function createLocalSpan(span: EngineSpan, options: LocalSpanOptions): SpanRunner {
  const {
    modelId,
    hiddenSize,
    engineName,
    peer = 'local',
    maxRows = MAX_ROWS,
    maxBatch = MAX_BATCH,
    prefixCacheBytes = PREFIX_CACHE_BYTES,
  } = options
  const hop: RouteHop = { start: span.start, end: span.end, peer, engine: engineName }
  /** Sessions with work, next one first. */
  const waiting = new Set<Line>()
  let busy: Promise<void> | undefined
  let closing: Promise<void> | undefined
  let lastTurn = performance.now()
  const prefixes =
    span.sharedPages && prefixCacheBytes > 0
      ? createPrefixCache(span.sharedPages, prefixCacheBytes)
      : undefined

  function rollBack(line: Line): void {
    line.lease.rollback(line.position)
    line.trail?.rollback(line.position)
  }

  /** Rejects the step at `from` and all behind it; the ones before go on. */
  function fail(line: Line, from: number, error: unknown): void {
    line.failure ??= error
    for (const job of line.jobs.splice(from)) job.reject(error)
    if (from > 0 || line.running || line.closed) return
    waiting.delete(line)
    // A step that failed half-way leaves nothing behind: its tokens go, whatever the engine did with them.
    if (line.lease.position > line.position) rollBack(line)
  }

  /** The next call: one piece of the first session's step, or the next tokens of many sessions. */
  function nextBatch(): Line[] {
    const [first] = waiting
    if (!first) return []
    const single = (line: Line) => line.jobs[0] !== undefined && remaining(line.jobs[0]) === 1
    return single(first) ? [...waiting].filter(single).slice(0, maxBatch) : [first]
  }

  async function turn(): Promise<void> {
    await nextTurn()
    lastTurn = performance.now()
  }

  async function work(): Promise<void> {
    if (performance.now() - lastTurn > TURN_MS) await turn()
    for (let batch = nextBatch(); batch.length > 0; batch = nextBatch()) {
      const turns = batch.map((line): Turn => {
        line.running = true
        return { line, input: piece(line.jobs[0]!, maxRows), outputs: [] }
      })
      await computeTurns(span, turns)
      for (const line of batch) {
        // Who had a turn goes behind all who came meanwhile; `settle` takes those out who are done.
        waiting.delete(line)
        waiting.add(line)
      }
      for (const taken of turns) settle(taken)
      if (performance.now() - lastTurn > TURN_MS) await turn()
    }
    busy = undefined
  }

  function settle({ line, outputs, failure }: Turn): void {
    line.running = false
    if (line.closed) {
      waiting.delete(line)
      line.lease.release()
      line.onIdle?.()
      return
    }
    const job = line.jobs[0]!
    if (failure) return fail(line, 0, failure.error)
    if (job.signal?.aborted) return fail(line, 0, cancelled())
    for (const output of outputs) job.done += output.shape[0]
    job.outputs.push(...outputs)
    if (remaining(job) > 0) return
    line.jobs.shift()
    line.position += job.hidden.shape[0]
    if (line.jobs.length === 0) waiting.delete(line)
    job.resolve(wanted(job, hiddenSize))
  }

  function openSession(lease: KvLease): SpanSession {
    const line: Line = {
      lease,
      trail: prefixes && createPrefixTrail(prefixes, lease, hiddenSize),
      jobs: [],
      position: 0,
      running: false,
      failure: undefined,
      closed: false,
    }
    /** Tokens of all steps asked for, done or not. */
    const asked = () => line.jobs.reduce((sum, job) => sum + job.hidden.shape[0], line.position)

    function enqueue(hidden: Tensor, { want, signal }: StepOptions): Promise<Tensor> {
      return new Promise<Tensor>((resolve, reject) => {
        const abort = () => {
          const index = line.jobs.indexOf(job)
          // A piece that the engine is computing ends first; `settle` sees the signal then.
          if (index > 0 || (index === 0 && !line.running)) fail(line, index, cancelled())
          else if (index === 0) fail(line, 1, cancelled())
        }
        const job: Job = {
          hidden,
          want,
          signal,
          outputs: [],
          done: 0,
          resolve: (output) => {
            signal?.removeEventListener('abort', abort)
            resolve(output)
          },
          reject: (error) => {
            signal?.removeEventListener('abort', abort)
            reject(error)
          },
        }
        signal?.addEventListener('abort', abort)
        line.jobs.push(job)
        waiting.add(line)
        busy ??= catchUp().then(work)
      })
    }

    return {
      get position() {
        return line.position
      },
      route: [hop],
      ...(span.kvRows && { kv: createSessionKv(span.kvRows, line) }),
      get reusedTokens() {
        return line.trail?.reusedTokens ?? 0
      },
      async step(hidden, stepOptions = {}) {
        if (line.closed) throw closed()
        if (line.failure !== undefined) throw line.failure
        try {
          checkStep(hidden, hiddenSize, asked(), lease.maxTokens)
          if (stepOptions.signal?.aborted) throw cancelled()
        } catch (error) {
          // The steps before this one go on; the ones after it must not run in its place.
          line.failure = error
          throw error
        }
        return await enqueue(hidden, stepOptions)
      },
      async rollback(position) {
        if (line.closed) throw closed()
        if (line.jobs.length > 0) throw new ChoraleError('bad_request', 'rollback while a step is under way')
        checkRollback(position, line.position)
        line.position = position
        rollBack(line)
        line.failure = undefined
      },
      async close() {
        if (line.closed) return
        line.closed = true
        waiting.delete(line)
        fail(line, 0, cancelled())
        if (!line.running) line.lease.release()
        else await new Promise<void>((resolve) => (line.onIdle = resolve))
      },
    }
  }

  return {
    modelId,
    hiddenSize,
    span: { start: span.start, end: span.end },
    async open(openOptions) {
      checkOpen(openOptions)
      if (closing) throw new ChoraleError('unreachable', 'this span is shutting down')
      return openSession(span.lease(openOptions.maxTokens))
    },
    close() {
      closing ??= (async () => {
        await busy
        await span.close()
      })()
      return closing
    },
  }
}

function closed(): ChoraleError {
  return new ChoraleError('session_lost', 'the session is closed')
}
