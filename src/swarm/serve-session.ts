import type { Stream } from '@libp2p/interface'
import { ChoraleError, errorMessage } from '../errors.ts'
import { createFrame, encodeFrame } from '../protocol/frame.ts'
import { PROTOCOL_VERSION } from '../protocol/ids.ts'
import {
  MAX_LINKS_PER_SESSION,
  MAX_QUEUED_BYTES_PER_SESSION,
  MAX_QUEUED_STEPS,
  MAX_STEP_PAYLOAD_BYTES,
} from '../protocol/limits.ts'
import {
  failure,
  type Hello,
  type Link,
  type Open,
  type Opened,
  type Output,
  parseSpanMessage,
  type Rollback,
  type SpanMessage,
  type Step,
  type Welcome,
} from '../protocol/messages.ts'
import { fromWire, toWire, WIRE_DTYPES, wireBytes, type WireDtype, wireRows } from '../protocol/wire-dtype.ts'
import type { SpanSession } from '../session/span-runner.ts'
import { tensor } from '../tensor/tensor.ts'
import { frameStream } from './framed-stream.ts'
import type { Feedable, Feeder } from './push-desk.ts'
import { openPushLink, type PushLink } from './push-link.ts'
import { clientError, type ServeContext, type ServedStream } from './span-host.ts'

type Work =
  | { readonly message: Step; readonly payload: Uint8Array; readonly receivedAt: number }
  | { readonly message: Rollback }

/** A stream of another server, and the steps it brought before its session was there. */
interface Feeding {
  session?: Feedable
  readonly early: { readonly step: Step; readonly payload: Uint8Array }[]
}

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
  /** Set when the client linked the session with a server before it: then steps may come from both. */
  let feeder: Feeder | undefined
  let unaccept: (() => void) | undefined
  /** Set when outputs may go to a server after this one. */
  let link: PushLink | undefined
  let links = 0
  /** A LINK that came while the session was being opened. */
  let earlyLink: Link | undefined
  /** This stream is no session's own: another server brings steps for one of ours. */
  let feeding: Feeding | undefined
  let detach: (() => void) | undefined
  /** The error this end told the client, which explains the close that follows. */
  let told: ChoraleError | undefined

  const wire = frameStream<SpanMessage>(stream, {
    parse: (header, payloadLength) => {
      const message = parseSpanMessage(header, payloadLength)
      if (message.type === 'step' && feeding === undefined) {
        try {
          if (told === undefined) feedable.checkStep(message, payloadLength)
        } catch (error) {
          throw blame(clientError(error))
        }
      } else if (message.type === 'step') feeding?.session?.checkStep(message, payloadLength)
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
      detach?.()
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
    unaccept?.()
    link?.close()
    feeder?.end(new ChoraleError('session_lost', 'the session ended'))
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

  const feedable: Feedable = {
    checkStep: (step, payloadLength) => {
      if (session === undefined) throw new ChoraleError('protocol', 'step before open')
      // Two ways lead here once servers are linked: what came by one may come again by the other.
      const again = links > 0 && step.seq < nextSeq
      const inTurn = step.seq === nextSeq || (links > 0 && step.seq > nextSeq)
      if (!again && (!inTurn || step.position > nextPosition)) {
        throw new ChoraleError(
          'protocol',
          `step ${step.seq} at ${step.position}, expected was ${nextSeq} at ${nextPosition}`,
        )
      }
      if (step.tokens > host.maxStepTokens) {
        throw new ChoraleError('protocol', `step of ${step.tokens} tokens (at most ${host.maxStepTokens})`)
      }
      const bytes = step.tokens * host.hiddenSize * wireBytes(session.dtype)
      if (payloadLength !== bytes) {
        throw new ChoraleError(
          'protocol',
          `step of ${step.tokens} tokens carries ${payloadLength} bytes instead of ${bytes}`,
        )
      }
      if (step.position + step.tokens > session.maxTokens) {
        throw new ChoraleError(
          'protocol',
          `step to ${step.position + step.tokens} tokens passes the lease of ${session.maxTokens}`,
        )
      }
      if (queue.length >= MAX_QUEUED_STEPS) {
        throw new ChoraleError('protocol', `more than ${MAX_QUEUED_STEPS} steps wait`)
      }
    },
    takeStep: (step, payload) => {
      if (told !== undefined || over || step.seq < nextSeq) return
      nextSeq = step.seq + 1
      nextPosition = step.position + step.tokens
      enqueue({ message: step, payload, receivedAt: performance.now() })
    },
  }

  /** A protocol error that the client is told before the stream is cut. */
  const blame = (error: ChoraleError): ChoraleError => {
    if (told === undefined) {
      told = error
      wire.post(() => encodeFrame(failure(error.code, error.message, false)))
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
        if (feeding === undefined) feedable.takeStep(message, payload)
        else if (feeding.session) feeding.session.takeStep(message, payload)
        else feeding.early.push({ step: message, payload: payload.slice() })
        return
      case 'link':
        if (!opening) throw new ChoraleError('protocol', 'link before open')
        if (session === undefined) earlyLink = message
        else takeLink(message)
        return
      case 'attach':
        attach(message.token)
        return
      case 'rollback':
        if (session === undefined) throw new ChoraleError('protocol', 'rollback before open')
        if (
          (links > 0 ? message.seq < nextSeq : message.seq !== nextSeq) ||
          message.position > nextPosition
        ) {
          throw new ChoraleError(
            'protocol',
            `rollback ${message.seq} to ${message.position}, the session is at ${nextSeq} and ${nextPosition}`,
          )
        }
        nextSeq = message.seq + 1
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
    if (opening || feeding) throw new ChoraleError('protocol', 'open twice')
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
    if (earlyLink) takeLink(earlyLink)
  }

  /** Lets another server's steps in, and opens the way for this session's outputs. */
  const takeLink = ({ accept, next }: Link): void => {
    if (++links > MAX_LINKS_PER_SESSION) {
      throw new ChoraleError('protocol', `more than ${MAX_LINKS_PER_SESSION} links of one session`)
    }
    if (accept) {
      unaccept?.()
      unaccept = context.desk.accept(accept.token, accept.peerId, feedable, (fresh) => {
        feeder?.end(new ChoraleError('session_lost', 'another server took its place'))
        feeder = fresh
      })
    }
    if (next) {
      link?.close()
      const { heartbeatMs: everyMs, silenceMs } = options
      link = openPushLink(context.peer, next, { everyMs, silenceMs })
    }
  }

  const attach = (token: Uint8Array): void => {
    if (!greeted || opening || feeding) throw new ChoraleError('protocol', 'attach out of turn')
    const mine: Feeding = { early: [] }
    feeding = mine
    detach = context.desk.attach(token, peerId, {
      joined: (target) => {
        clearTimeout(handshake)
        mine.session = target
        try {
          for (const { step, payload } of mine.early.splice(0)) {
            target.checkStep(step, payload.length)
            target.takeStep(step, payload)
          }
          wire.resume()
        } catch (error) {
          refuse(clientError(error))
        }
      },
      pause: () => wire.pause(),
      resume: () => wire.resume(),
      end: refuse,
    })
    if (mine.session === undefined) wire.pause()
  }

  const pauseAll = (): void => [wire, feeder].forEach((source) => source?.pause())
  const resumeAll = (): void => [wire, feeder].forEach((source) => source?.resume())

  const enqueue = (work: Work): void => {
    queue.push(work)
    if ('payload' in work) {
      context.queued++
      counters.bytesIn += work.payload.length
      queuedBytes += work.payload.length
      budget.take(work.payload.length)
    }
    if (budget.full || queuedBytes >= MAX_QUEUED_BYTES_PER_SESSION) pauseAll()
    if (!running) void run()
  }

  const release = (work: Work): void => {
    if (!('payload' in work)) return
    context.queued--
    queuedBytes -= work.payload.length
    budget.give(work.payload.length)
    if (over || queuedBytes >= MAX_QUEUED_BYTES_PER_SESSION) return
    if (budget.full) budget.onRoom(resumeAll)
    else resumeAll()
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
    if (step.position < hosted.position) await hosted.rollback(step.position)
    const wanted = await hosted.step(input, { want: step.onward ? 'all' : step.want })
    if (over) return
    counters.tokens += step.tokens
    const bytes = toWire(wanted.data, dtype)
    const pushed = step.onward && (await pushOn(step, step.onward, bytes))
    if (over) return
    const shown = step.onward ? wireRows(bytes, step.want, wanted.shape[0]) : bytes
    const output: Output = {
      type: 'output',
      seq: step.seq,
      position: step.position + step.tokens,
      serverMs: performance.now() - started,
      ...(pushed !== undefined && { pushed }),
    }
    await wire.send(() => {
      const frame = createFrame(output, shown.length)
      frame.payload.set(shown)
      counters.bytesOut += shown.length
      return frame.bytes
    })
  }

  /** Gives a step's output to the next server. @returns false when there is no link, or the server is gone. */
  const pushOn = async (
    step: Step,
    [first, ...rest]: NonNullable<Step['onward']>,
    payload: Uint8Array,
  ): Promise<boolean> => {
    if (first === undefined || link === undefined) return false
    counters.bytesOut += payload.length
    const { position, tokens, deadlineMs } = step
    const next: Step = { type: 'step', ...first, position, tokens, deadlineMs }
    const pushed = await link.push(rest.length > 0 ? { ...next, onward: rest } : next, payload)
    if (!pushed) {
      // The client carries this step now; a later one that took the link again would overtake it.
      link?.close()
      link = undefined
    }
    return pushed
  }

  const runRollback = async (message: Rollback): Promise<void> => {
    await session!.hosted.rollback(message.position)
    await wire.send(() => encodeFrame({ type: 'rolledback', seq: message.seq, position: message.position }))
  }

  return {
    end: refuse,
    get waiting() {
      return session === undefined && feeding?.session === undefined
    },
  }
}
