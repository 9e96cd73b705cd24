import type { Stream } from '@libp2p/interface'
import { ChoraleError, errorMessage } from '../errors.ts'
import { encodeFrame } from '../protocol/frame.ts'
import { PROTOCOL_VERSION } from '../protocol/ids.ts'
import { parseSources } from '../protocol/handover-messages.ts'
import { MAX_STEP_PAYLOAD_BYTES } from '../protocol/limits.ts'
import {
  failure,
  type Hello,
  type Link,
  type Open,
  parseSpanMessage,
  type SpanMessage,
  type Welcome,
} from '../protocol/messages.ts'
import { WIRE_DTYPES } from '../protocol/wire-dtype.ts'
import { createEarlySteps } from './early-steps.ts'
import { attachFeeding, type Feeding } from './feeding.ts'
import { frameStream } from './framed-stream.ts'
import type { Feedable } from './push-desk.ts'
import { createSessionLinks } from './session-links.ts'
import { createHostedSession, type HostedSession } from './hosted-session.ts'
import { createStreamAdmission } from './stream-admission.ts'
import { clientError, type ServeContext, type ServedStream, type SpanHost } from './span-host.ts'

/** The server's end of one stream: handshake, then one session, or steps for another one. `onEnd` is called once. */
export function serveSession(
  context: ServeContext,
  stream: Stream,
  peerId: string,
  onEnd: (error: ChoraleError | undefined) => void,
): ServedStream {
  const { hosts, counters, options } = context
  const { gate } = context.peer
  /** Resolves when HELLO was answered: a pass takes a moment to check, and OPEN may be right behind it. */
  let greeting: Promise<void> | undefined
  let greeted = false
  const admission = createStreamAdmission(gate, peerId)
  let opening = false
  let session: HostedSession | undefined
  /** Who runs it. */
  let host: SpanHost | undefined
  let over = false
  /** A LINK that came while the session was being opened. */
  let earlyLink: Link | undefined
  /** This stream is no session's own: another server brings steps for one of ours. */
  let feeding: Feeding | undefined
  /** ATTACH came, and its stream is not greeted yet. */
  let attaching = false
  const early = createEarlySteps(context.budget)
  /** The error this end told the client, which explains the close that follows. */
  let told: ChoraleError | undefined

  const wire = frameStream<SpanMessage>(stream, {
    parse: (header, payloadLength) => {
      const message = parseSpanMessage(header, payloadLength)
      if (message.type === 'step' && feeding === undefined) {
        try {
          if (told !== undefined) return message
          if (isEarly()) early.check(payloadLength)
          else feedable.checkStep(message, payloadLength)
        } catch (error) {
          throw blame(clientError(error))
        }
      } else if (message.type === 'step') feeding?.check(message, payloadLength)
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
      early.clear()
      admission.close()
      freeLease()
      void session?.receipts.finish(false)
      feeding?.detach()
      session?.queue.clear()
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

  /** Steps may come right behind OPEN or ATTACH: on far links waiting for the answer would cost a round trip. */
  const isEarly = (): boolean => session === undefined && feeding === undefined && (opening || attaching)

  /** The engine's own trouble with freeing a lease is not the client's. */
  const freeLease = (): void => {
    links.close()
    session?.end()
    session?.hosted.close().catch((error: unknown) => {
      context.peer.log.error('a session did not close', { reason: errorMessage(error) })
    })
  }

  /** Tells the client why, then closes. */
  const refuse = (error: ChoraleError): void => {
    if (told !== undefined || over) return
    told = error
    early.clear()
    void session?.queue.flush()
    freeLease()
    if (error.code === 'refused' || error.field !== undefined) {
      gate?.refuse(feeding ? 'push' : 'span', error.field)
    }
    wire.post(() => encodeFrame(failure(error.code, error.message, error.retryable, error.retryAfterMs)))
    void wire.close()
  }

  const feedable: Feedable = {
    checkStep: (step, payloadLength) => {
      if (session === undefined) throw new ChoraleError('protocol', 'step before open')
      session.turns.check(step, payloadLength)
      session.queue.checkRoom()
    },
    takeStep: (step, payload) => {
      if (told !== undefined || over || session?.turns.take(step) !== true) return
      // The session is its client's, whoever brings the step.
      admission.check('infer')
      if (host) gate?.charge(peerId, step.tokens, host)
      session.queue.add({ message: step, payload, receivedAt: performance.now() })
    },
  }
  const links = createSessionLinks(context, feedable)

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
    if (gate && greeted) {
      admission.check(admission.action)
      admission.slowDown(wire)
    }
    if (over) {
      // After CLOSE only the last signature is of interest.
      if (message.type === 'ack') session?.receipts.ack(message)
      return
    }
    switch (message.type) {
      case 'ping':
        // A client that floods PINGs and reads nothing gets no queue of PONGs.
        if (!wire.congested) wire.post(() => encodeFrame({ type: 'pong' }))
        return
      case 'pong':
        return
      case 'hello':
        if (greeting) throw new ChoraleError('protocol', 'hello twice')
        greeting = greet(message)
        greeting.catch((error: unknown) => refuse(clientError(error)))
        return
      case 'open':
        open(message).catch((error: unknown) => refuse(clientError(error)))
        return
      case 'step':
        if (isEarly()) early.add(message, payload)
        else if (feeding) feeding.take(message, payload)
        else {
          // Once more: its header may have come before the session was there.
          feedable.checkStep(message, payload.length)
          feedable.takeStep(message, payload)
        }
        return
      case 'link':
        if (!opening) throw new ChoraleError('protocol', 'link before open')
        if (session === undefined) earlyLink = message
        else takeLink(session, message)
        return
      case 'attach':
        attach(message.token.slice()).catch((error: unknown) => refuse(clientError(error)))
        return
      case 'rollback':
        if (session === undefined) throw new ChoraleError('protocol', 'rollback before open')
        session.turns.rollback(message)
        session.queue.add({ message })
        return
      case 'adopt':
        if (session === undefined) throw new ChoraleError('protocol', 'adopt before open')
        admission.check('infer')
        session.turns.adopt(message)
        session.queue.add({ message, sources: parseSources(payload) })
        return
      case 'ack':
        if (session === undefined) throw new ChoraleError('protocol', 'ack before open')
        session.receipts.ack(message)
        return
      case 'close':
        over = true
        freeLease()
        void finish(session).then(() => wire.close())
        return
      case 'error':
        throw new ChoraleError(message.code, `the client reported: ${message.message}`)
      default:
        throw new ChoraleError('protocol', `a client can't send ${message.type}`)
    }
  }

  const greet = async (hello: Hello): Promise<void> => {
    if (hello.version !== PROTOCOL_VERSION) {
      throw new ChoraleError(
        'not_supported',
        `${hello.software} speaks version ${hello.version} of the span protocol, this server (${context.peer.software}) version ${PROTOCOL_VERSION}: update the older one`,
      )
    }
    // Only where it must be: ATTACH of a server that pushes may be in the very same bytes.
    const admitting = admission.greet(hello)
    if (admitting) await admitting
    if (over || told !== undefined) return
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
    if (!greeting) throw new ChoraleError('protocol', 'open before hello')
    if (opening || attaching) throw new ChoraleError('protocol', 'open twice')
    opening = true
    await greeting
    if (admission.action === 'serve')
      throw new ChoraleError('protocol', 'a server that pushes opens no session')
    const admitted = await context.openings.admit(message, peerId)
    const { modelId, start, end, maxTokens } = admitted.opening
    gate?.takeSession(peerId, modelId)
    const request = { modelId, start, end, maxTokens, peerId }
    const runs = (host = hosts.hostOf(request))
    const hosted = await runs.open(request)
    if (over || told !== undefined) return await hosted.close()
    clearTimeout(handshake)
    session = createHostedSession({
      context,
      host: runs,
      admitted,
      hosted,
      wire,
      links,
      over: () => over || told !== undefined,
      throttled: () => admission.throttled,
      refuse,
    })
    counters.sessions++
    const { opened } = session
    wire.post(() => encodeFrame(opened))
    void hosted.leaving?.then(() => {
      if (!over && told === undefined) wire.post(() => encodeFrame({ type: 'leaving' }))
      return undefined
    })
    if (earlyLink) takeLink(session, earlyLink)
    early.giveTo(feedable)
  }

  /** After CLOSE: the receipts cover all that was answered. */
  const finish = async (open: HostedSession | undefined): Promise<void> => {
    await open?.queue.flush()
    await open?.receipts.finish(true)
  }

  const takeLink = ({ turns }: HostedSession, link: Link): void => {
    turns.linked = true
    links.take(link)
  }

  const attach = async (token: Uint8Array): Promise<void> => {
    if (!greeting || opening || attaching) throw new ChoraleError('protocol', 'attach out of turn')
    attaching = true
    await greeting
    if (over || told !== undefined) return
    feeding = attachFeeding(
      context.desk,
      { token, peerId, wire },
      { onJoined: () => clearTimeout(handshake), onError: (error) => refuse(clientError(error)) },
    )
    early.giveTo({ checkStep: feeding.check, takeStep: feeding.take })
  }

  return {
    peerId,
    get host() {
      return host
    },
    get action() {
      return admission.action
    },
    end: refuse,
    get waiting() {
      return session === undefined && feeding?.joined !== true
    },
  }
}
