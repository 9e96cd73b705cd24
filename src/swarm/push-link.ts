import { ChoraleError } from '../errors.ts'
import { createFrame, encodeFrame } from '../protocol/frame.ts'
import { PROTOCOL_VERSION, SPAN_PROTOCOL } from '../protocol/ids.ts'
import { MAX_EARLY_BYTES, MAX_EARLY_STEPS, MAX_QUEUED_BYTES_PER_SESSION } from '../protocol/limits.ts'
import {
  type Attach,
  type Hello,
  type Link,
  parseSpanMessage,
  type SpanMessage,
  type Step,
} from '../protocol/messages.ts'
import { WIRE_DTYPES } from '../protocol/wire-dtype.ts'
import { atMost } from '../session/race-signal.ts'
import { type FramedStream, frameStream } from './framed-stream.ts'
import type { Peer } from './peer.ts'

/** A server's way to the next one of a chain: a stream that carries one session's steps, in one direction. */
export interface PushLink {
  /**
   * Hands a step over to the stream, after waiting for the stream where it is still being opened.
   * @returns false when there is no way: the client then carries the step itself.
   */
  push(step: Step, payload: Uint8Array): Promise<boolean>
  close(): void
}

/** Dial, handshakes and negotiation of a link; the client carries steps itself in the meantime. */
const LINK_MS = 5_000
/** How long a step's output waits for a link that is being opened. */
const WAIT_MS = 1_500

/** Opens a link in the background. Never throws; a link that fails stays closed. */
export function openPushLink(
  peer: Peer,
  next: NonNullable<Link['next']>,
  heartbeat: { readonly everyMs: number; readonly silenceMs: number },
): PushLink {
  const stopped = new AbortController()
  let wire: FramedStream | undefined
  let over = false
  let waitingBytes = 0
  /** Resolves when the next server answered, or never will. */
  const welcome = Promise.withResolvers<void>()
  let welcomed = false
  let early = { steps: 0, bytes: 0 }
  const end = (): void => {
    over = true
    stopped.abort()
    welcome.resolve()
  }

  /** A server without stake gets no hidden states from this one. */
  const admitted = (): boolean => {
    if (peer.gate?.check(next.peerId, 'serve').ok !== false) return true
    peer.gate.refuse('push')
    return false
  }

  const opening = (async (): Promise<void> => {
    if (!admitted()) throw new ChoraleError('refused', 'the next server is not admitted')
    const stream = await peer.openStream(next.peerId, next.addrs, SPAN_PROTOCOL, {
      timeoutMs: LINK_MS,
      lazy: true,
      signal: stopped.signal,
    })
    wire = frameStream<SpanMessage>(stream, {
      parse: parseSpanMessage,
      maxPayload: 0,
      onFrame: (message) => {
        if (!admitted()) throw new ChoraleError('refused', 'the next server is not admitted any more')
        if (message.type === 'welcome') {
          welcomed = true
          welcome.resolve()
        } else if (message.type === 'ping') wire?.post(() => encodeFrame({ type: 'pong' }))
        else if (message.type === 'error') throw new ChoraleError(message.code, message.message)
      },
      onClose: end,
      heartbeat: { frame: () => encodeFrame({ type: 'ping' }), ...heartbeat },
    })
    if (stopped.signal.aborted) return wire.fail(new ChoraleError('cancelled', 'the session ended'))
    const hello: Hello = {
      type: 'hello',
      version: PROTOCOL_VERSION,
      role: 'server',
      software: peer.software,
      dtypes: WIRE_DTYPES,
    }
    const attach: Attach = { type: 'attach', token: next.token }
    wire.post(() => encodeFrame(hello))
    wire.post(() => encodeFrame(attach))
  })()
  opening.catch((error: unknown) => {
    end()
    peer.log.debug('no link to the next server', { peer: next.peerId, reason: String(error) })
  })

  return {
    async push(step, payload) {
      if (wire === undefined && !over) await atMost(opening, WAIT_MS)
      if (!welcomed) {
        // Only so much is taken from a server that is not greeted yet.
        early = { steps: early.steps + 1, bytes: early.bytes + payload.length }
        if (early.steps > MAX_EARLY_STEPS || early.bytes > MAX_EARLY_BYTES)
          await atMost(welcome.promise, WAIT_MS)
      }
      if (over || wire === undefined || !admitted()) return false
      const frame = createFrame(step, payload.length)
      frame.payload.set(payload)
      waitingBytes += payload.length
      const sent = wire.send(() => frame.bytes).finally(() => (waitingBytes -= payload.length))
      sent.catch(() => undefined)
      // Usually nobody waits here: a slow neighbour must not make this server look slow.
      if (waitingBytes > MAX_QUEUED_BYTES_PER_SESSION) {
        return await sent.then(
          () => true,
          () => false,
        )
      }
      return true
    },
    close() {
      end()
      void wire?.close()
    },
  }
}
