import type { Stream } from '@libp2p/interface'
import { ChoraleError, errorMessage } from '../errors.ts'
import { createFrame, encodeFrame } from '../protocol/frame.ts'
import { PROTOCOL_VERSION } from '../protocol/ids.ts'
import { MAX_QUEUED_BYTES_PER_SESSION, MAX_QUEUED_STEPS, MAX_STEP_PAYLOAD_BYTES } from '../protocol/limits.ts'
import {
  failure,
  type Hello,
  type Open,
  type Opened,
  type Output,
  parseSpanMessage,
  type Rollback,
  type SpanMessage,
  type Step,
  type Welcome,
} from '../protocol/messages.ts'
import { fromWire, toWire, WIRE_DTYPES, wireBytes, type WireDtype } from '../protocol/wire-dtype.ts'
import type { SpanSession } from '../session/span-runner.ts'
import { tensor } from '../tensor/tensor.ts'
import { frameStream } from './framed-stream.ts'
import { clientError, type ServeContext, type ServedStream } from './span-host.ts'

type Work =
  | { readonly message: Step; readonly payload: Uint8Array; readonly receivedAt: number }
  | { readonly message: Rollback }

/** The server's end of one stream: handshake, one session, its queue of steps. `onEnd` is called once. */
export function serveSession(
  context: ServeContext,
  stream: Stream,
  peerId: string,
  onEnd: (error: ChoraleError | undefined) => void,
): ServedStream {
  const { host, counters, budget, options } = context
  let greeted = false
  let opening = false
  let session:
    | { readonly hosted: SpanSession; readonly maxTokens: number; readonly dtype: WireDtype }
    | undefined
  const queue: Work[] = []
  let queuedBytes = 0
  let running = false
  let over = false
  /** What the next step must say, counting those that wait. */
  let nextSeq = 0
  let nextPosition = 0
  /** The error this end told the client, which explains the close that follows. */
  let told: ChoraleError | undefined

  const wire = frameStream<SpanMessage>(stream, {
    parse: (header, payloadLength) => {
      const message = parseSpanMessage(header, payloadLength)
      if (message.type === 'step') checkStep(message, payloadLength)
      return message
    },
    maxPayload: MAX_STEP_PAYLOAD_BYTES,
    onFrame: (message, payload) => {
      try {
        receive(message, payload)
      } catch (error) {
        refuse(clientError(error))
      }
    },
    onClose: (error) => {
      over = true
      clearTimeout(handshake)
      freeLease()
      for (const work of queue.splice(0)) release(work)
      onEnd(told ?? error)
    },
    heartbeat: {
      frame: () => encodeFrame({ type: 'ping' }),
      everyMs: options.heartbeatMs,
      silenceMs: options.silenceMs,
    },
  })
  const handshake = setTimeout(
    () => refuse(new ChoraleError('timeout', `no session was opened within ${options.handshakeMs} ms`)),
    options.handshakeMs,
  )

  /** The engine's own trouble with freeing a lease is not the client's. */
  const freeLease = (): void => {
    session?.hosted.close().catch((error: unknown) => {
      context.peer.log.error('a session did not close', { reason: errorMessage(error) })
    })
  }

  /** Tells the client why, then closes. */
  const refuse = (error: ChoraleError): void => {
    if (told !== undefined || over) return
    told = error
    freeLease()
    wire.post(() => encodeFrame(failure(error.code, error.message, error.retryable)))
    void wire.close()
  }

  /** Refuses a step by its header alone, before any of its payload is kept. */
  const checkStep = (step: Step, payloadLength: number): void => {
    if (told !== undefined) return
    if (session === undefined) throw blame('step before open')
    if (step.seq !== nextSeq || step.position !== nextPosition) {
      throw blame(`step ${step.seq} at ${step.position}, expected was ${nextSeq} at ${nextPosition}`)
    }
    if (step.tokens > host.maxStepTokens) {
      throw blame(`step of ${step.tokens} tokens (at most ${host.maxStepTokens})`)
    }
    const bytes = step.tokens * host.hiddenSize * wireBytes(session.dtype)
    if (payloadLength !== bytes) {
      throw blame(`step of ${step.tokens} tokens carries ${payloadLength} bytes instead of ${bytes}`)
    }
    if (nextPosition + step.tokens > session.maxTokens) {
      throw blame(`step to ${nextPosition + step.tokens} tokens passes the lease of ${session.maxTokens}`)
    }
    if (queue.length >= MAX_QUEUED_STEPS) throw blame(`more than ${MAX_QUEUED_STEPS} steps wait`)
  }

  /** A protocol error that the client is told before the stream is cut. */
  const blame = (what: string): ChoraleError => {
    const error = new ChoraleError('protocol', what)
    if (told === undefined) {
      told = error
      wire.post(() => encodeFrame(failure('protocol', what, false)))
    }
    return error
  }

  const receive = (message: SpanMessage, payload: Uint8Array): void => {
    if (told !== undefined) return
    switch (message.type) {
      case 'ping':
        // A client that floods PINGs and reads nothing gets no queue of PONGs.
        if (!wire.congested) wire.post(() => encodeFrame({ type: 'pong' }))
        return
      case 'pong':
        return
      case 'hello':
        greet(message)
        return
      case 'open':
        open(message).catch((error: unknown) => refuse(clientError(error)))
        return
      case 'step':
        nextSeq++
        nextPosition += message.tokens
        enqueue({ message, payload, receivedAt: performance.now() })
        return
      case 'rollback':
        if (session === undefined) throw new ChoraleError('protocol', 'rollback before open')
        if (message.seq !== nextSeq || message.position > nextPosition) {
          throw new ChoraleError(
            'protocol',
            `rollback ${message.seq} to ${message.position}, the session is at ${nextSeq} and ${nextPosition}`,
          )
        }
        nextSeq++
        nextPosition = message.position
        enqueue({ message })
        return
      case 'close':
        over = true
        freeLease()
        void wire.close()
        return
      case 'error':
        throw new ChoraleError(message.code, `the client reported: ${message.message}`)
      default:
        throw new ChoraleError('protocol', `a client can't send ${message.type}`)
    }
  }

  const greet = (hello: Hello): void => {
    if (greeted) throw new ChoraleError('protocol', 'hello twice')
    if (hello.version !== PROTOCOL_VERSION) {
      throw new ChoraleError(
        'not_supported',
        `${hello.software} speaks version ${hello.version} of the span protocol, this server (${context.peer.software}) version ${PROTOCOL_VERSION}: update the older one`,
      )
    }
    greeted = true
    const welcome: Welcome = {
      type: 'welcome',
      version: PROTOCOL_VERSION,
      role: 'server',
      software: context.peer.software,
      dtypes: WIRE_DTYPES,
    }
    wire.post(() => encodeFrame(welcome))
  }

  const open = async (message: Open): Promise<void> => {
    if (!greeted) throw new ChoraleError('protocol', 'open before hello')
    if (opening) throw new ChoraleError('protocol', 'open twice')
    opening = true
    const { modelId, start, end, maxTokens, dtype } = message
    const hosted = await host.open({ modelId, start, end, maxTokens, peerId })
    if (over || told !== undefined) return await hosted.close()
    clearTimeout(handshake)
    session = { hosted, maxTokens, dtype }
    counters.sessions++
    const opened: Opened = {
      type: 'opened',
      leaseTokens: maxTokens,
      maxStepTokens: host.maxStepTokens,
      hiddenSize: host.hiddenSize,
      dtype,
      engine: host.engine,
      load: { ...host.load(), queued: context.queued },
    }
    wire.post(() => encodeFrame(opened))
  }

  const enqueue = (work: Work): void => {
    queue.push(work)
    if ('payload' in work) {
      context.queued++
      counters.bytesIn += work.payload.length
      queuedBytes += work.payload.length
      budget.take(work.payload.length)
    }
    if (budget.full || queuedBytes >= MAX_QUEUED_BYTES_PER_SESSION) wire.pause()
    if (!running) void run()
  }

  const release = (work: Work): void => {
    if (!('payload' in work)) return
    context.queued--
    queuedBytes -= work.payload.length
    budget.give(work.payload.length)
    if (over || queuedBytes >= MAX_QUEUED_BYTES_PER_SESSION) return
    if (budget.full) budget.onRoom(() => wire.resume())
    else wire.resume()
  }

  /** Runs what waits, one after the other; the next step starts only when the client took the last output. */
  const run = async (): Promise<void> => {
    running = true
    try {
      for (;;) {
        if (over || told !== undefined || queue.length === 0) break
        const work = queue[0]!
        const done =
          'payload' in work ? runStep(work.message, work.payload, work.receivedAt) : runRollback(work.message)
        try {
          await done
        } finally {
          // `onClose` may have emptied the queue and given the bytes back while the step ran.
          if (queue[0] === work) {
            queue.shift()
            release(work)
          }
        }
      }
    } catch (error) {
      refuse(clientError(error))
    } finally {
      running = false
    }
  }

  const runStep = async (step: Step, payload: Uint8Array, receivedAt: number): Promise<void> => {
    const { hosted, dtype } = session!
    const input = tensor(step.tokens, host.hiddenSize, fromWire(payload, dtype))
    const started = performance.now()
    if (started - receivedAt > step.deadlineMs) {
      throw new ChoraleError('timeout', `step ${step.seq} waited longer than the client would`)
    }
    const wanted = await hosted.step(input, { want: step.want })
    if (over) return
    counters.tokens += step.tokens
    const output: Output = {
      type: 'output',
      seq: step.seq,
      position: step.position + step.tokens,
      serverMs: performance.now() - started,
    }
    await wire.send(() => {
      const bytes = toWire(wanted.data, dtype)
      const frame = createFrame(output, bytes.length)
      frame.payload.set(bytes)
      counters.bytesOut += bytes.length
      return frame.bytes
    })
  }

  const runRollback = async (message: Rollback): Promise<void> => {
    await session!.hosted.rollback(message.position)
    await wire.send(() => encodeFrame({ type: 'rolledback', seq: message.seq, position: message.position }))
  }

  return { end: refuse }
}
