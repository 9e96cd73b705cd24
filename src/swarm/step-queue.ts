import { ChoraleError } from '../errors.ts'
import { createFrame, encodeFrame } from '../protocol/frame.ts'
import {
  MAX_ERROR_MESSAGE_LENGTH,
  MAX_QUEUED_BYTES_PER_SESSION,
  MAX_QUEUED_STEPS,
} from '../protocol/limits.ts'
import type { Adopt, Adopted, Output, Rollback, Step } from '../protocol/messages.ts'
import type { AdoptSource } from '../protocol/handover-messages.ts'
import { fromWire, toWire, type WireDtype, wireRows } from '../protocol/wire-dtype.ts'
import type { SpanSession } from '../session/span-runner.ts'
import { tensor } from '../tensor/tensor.ts'
import type { FramedStream } from './framed-stream.ts'
import { createHeldOutputs } from './held-outputs.ts'
import type { PushLink } from './push-link.ts'
import type { ServeContext } from './span-host.ts'
import type { Taken } from './take-session.ts'

/** Something that waits for its turn in a session. */
export type Work =
  | { readonly message: Step; readonly payload: Uint8Array; readonly receivedAt: number }
  | { readonly message: Rollback }
  | { readonly message: Adopt; readonly sources: readonly AdoptSource[] }

/** The steps of one session on a server: they run one after the other, and the client gets their outputs. */
export interface StepQueue {
  readonly length: number
  /** @throws `protocol` when too many wait. */
  checkRoom(): void
  add(work: Work): void
  /** Sends outputs that were held back. Never throws. */
  flush(): Promise<void>
  /** Drops what waits and gives its bytes back; for when the session ended. */
  clear(): void
}

/** One session's parts that its steps need. */
export interface StepQueueOptions {
  readonly context: ServeContext
  readonly hiddenSize: number
  readonly hosted: SpanSession
  readonly dtype: WireDtype
  readonly wire: FramedStream
  /** The way to the next server, where there is one. */
  readonly link: () => PushLink | undefined
  readonly dropLink: () => void
  /** Whether the session ended. */
  readonly over: () => boolean
  /** Stops and restarts reading from everybody who brings steps. */
  readonly pause: () => void
  readonly resume: () => void
  /** What a step threw; the session ends. */
  readonly onError: (error: unknown) => void
  /** A step's output was handed to the stream: its input and the rows that were sent, as on the wire. */
  readonly onStep?: (step: Step, input: Uint8Array, output: Uint8Array) => void
  readonly onRollback?: (message: Rollback) => void
  /** Gets tokens from other servers. Never rejects. */
  readonly adopt: (message: Adopt, sources: readonly AdoptSource[]) => Promise<Taken>
  /** The client was told how far that went. */
  readonly onAdopted?: (message: Adopt, taken: Taken) => void
}

/** An empty queue. */
export function createStepQueue(options: StepQueueOptions): StepQueue {
  const { context, hiddenSize, hosted, dtype, wire, over } = options
  const { counters, budget } = context
  const queue: Work[] = []
  let queuedBytes = 0
  let running = false
  const held = createHeldOutputs(wire, ({ step, input, frame }) =>
    options.onStep?.(step, input, frame.payload),
  )

  const release = (work: Work): void => {
    if (!('payload' in work)) return
    context.queued--
    queuedBytes -= work.payload.length
    budget.give(work.payload.length)
    if (over() || queuedBytes >= MAX_QUEUED_BYTES_PER_SESSION) return
    if (budget.full) budget.onRoom(options.resume)
    else options.resume()
  }

  /** Runs what waits, one after the other; the next step starts only when the client took the last output. */
  const run = async (): Promise<void> => {
    running = true
    try {
      for (;;) {
        const work = queue[0]
        if (over() || work === undefined) break
        const done =
          'payload' in work
            ? runStep(work.message, work.payload, work.receivedAt)
            : 'sources' in work
              ? runAdopt(work.message, work.sources)
              : runRollback(work.message)
        try {
          await done
        } finally {
          // `clear` may have emptied the queue and given the bytes back while the step ran.
          if (queue[0] === work) {
            queue.shift()
            release(work)
          }
        }
      }
    } catch (error) {
      options.onError(error)
    } finally {
      running = false
    }
  }

  const runStep = async (step: Step, payload: Uint8Array, receivedAt: number): Promise<void> => {
    const input = tensor(step.tokens, hiddenSize, fromWire(payload, dtype))
    const started = performance.now()
    if (started - receivedAt > step.deadlineMs) {
      throw new ChoraleError('timeout', `step ${step.seq} waited longer than the client would`)
    }
    if (step.position < hosted.position) await hosted.rollback(step.position)
    // After a hand-over that brought less than was asked for.
    if (step.position > hosted.position) {
      throw new ChoraleError(
        'protocol',
        `step ${step.seq} at ${step.position}, the session holds ${hosted.position} tokens`,
      )
    }
    const wanted = await hosted.step(input, { want: step.onward ? 'all' : step.want })
    if (over()) return
    counters.tokens += step.tokens
    const bytes = toWire(wanted.data, dtype)
    const pushed = step.onward && (await pushOn(step, step.onward, bytes))
    if (over()) return
    const shown = step.onward ? wireRows(bytes, step.want, wanted.shape[0]) : bytes
    const output: Output = {
      type: 'output',
      seq: step.seq,
      position: step.position + step.tokens,
      serverMs: performance.now() - started,
      ...(pushed !== undefined && { pushed }),
    }
    const frame = createFrame(output, shown.length)
    frame.payload.set(shown)
    counters.bytesOut += shown.length
    context.metrics.step(step.tokens, output.serverMs / 1000)
    await held.add({ step, input: payload, frame }, pushed === true && step.tokens === 1)
  }

  /** Gives a step's output to the next server. @returns false when there is no link, or the server is gone. */
  const pushOn = async (
    step: Step,
    [first, ...rest]: NonNullable<Step['onward']>,
    payload: Uint8Array,
  ): Promise<boolean> => {
    const link = options.link()
    if (first === undefined || link === undefined) return false
    counters.bytesOut += payload.length
    const { position, tokens, deadlineMs } = step
    const next: Step = { type: 'step', ...first, position, tokens, deadlineMs }
    const pushed = await link.push(rest.length > 0 ? { ...next, onward: rest } : next, payload)
    // The client carries this step now; a later one that took the link again would overtake it.
    if (!pushed) options.dropLink()
    return pushed
  }

  const runRollback = async (message: Rollback): Promise<void> => {
    await hosted.rollback(message.position)
    await held.flush()
    await wire.send(() => encodeFrame({ type: 'rolledback', seq: message.seq, position: message.position }))
    options.onRollback?.(message)
  }

  const runAdopt = async (message: Adopt, sources: readonly AdoptSource[]): Promise<void> => {
    if (message.from < hosted.position) await hosted.rollback(message.from)
    if (message.from > hosted.position) {
      throw new ChoraleError(
        'protocol',
        `adopt from ${message.from}, the session holds ${hosted.position} tokens`,
      )
    }
    const taken = await options.adopt(message, sources)
    if (over()) return
    await held.flush()
    const adopted: Adopted = {
      type: 'adopted',
      seq: message.seq,
      position: taken.position,
      ...(taken.reason !== undefined && { reason: taken.reason.slice(0, MAX_ERROR_MESSAGE_LENGTH) }),
    }
    await wire.send(() => encodeFrame(adopted))
    options.onAdopted?.(message, taken)
  }

  return {
    get length() {
      return queue.length
    },
    checkRoom: () => {
      if (queue.length >= MAX_QUEUED_STEPS) {
        throw new ChoraleError('protocol', `more than ${MAX_QUEUED_STEPS} steps wait`)
      }
    },
    add: (work) => {
      queue.push(work)
      if ('payload' in work) {
        context.queued++
        counters.bytesIn += work.payload.length
        queuedBytes += work.payload.length
        budget.take(work.payload.length)
      }
      if (budget.full || queuedBytes >= MAX_QUEUED_BYTES_PER_SESSION) options.pause()
      if (!running) void run()
    },
    flush: () => held.flush().catch(() => undefined),
    clear: () => {
      held.clear()
      for (const work of queue.splice(0)) release(work)
    },
  }
}
