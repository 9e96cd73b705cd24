import type { Connection, Stream } from '@libp2p/interface'
import { ChoraleError, errorMessage } from '../errors.ts'
import { checkGrant, grantSignedBytes, type HandoverGrant, parseGrant } from '../protocol/handover-grant.ts'
import {
  type HandoverMessage,
  handoverRefusal,
  type Held,
  type Part,
  parseHandoverMessage,
  type Take,
} from '../protocol/handover-messages.ts'
import { encodeFrame } from '../protocol/frame.ts'
import { HANDOVER_PROTOCOL } from '../protocol/ids.ts'
import { MAX_GRANT_BYTES, MAX_HANDOVER_PART_BYTES } from '../protocol/limits.ts'
import { toWire } from '../protocol/wire-dtype.ts'
import { type FramedStream, frameStream } from './framed-stream.ts'
import type { GivenSession, HandoverDesk } from './handover-desk.ts'
import { verifySignature } from './identity.ts'
import type { Peer } from './peer.ts'
import { createRateLimit } from './rate-limit.ts'
import { clientError } from './span-host.ts'

/** Streams of one connection. Libp2p cuts those above without a word. */
const MAX_STREAMS_A_CONNECTION = 32
/** Hand-overs under way to all servers together: each reads the engine's memory and fills a socket. */
const MAX_UNDER_WAY = 8
/** Hand-overs that one server may ask for: so many a second, and as many at once when a crowded server leaves. */
const PER_SECOND = 4
const BURST = 128
/** Whole sessions' worth that one session gives: rounds, new attempts, and no pump for anybody's line. */
const MAX_GIVEN = 8
/** Bytes of a part, as far as a page's worth fits: small enough that steps of other sessions get their turns. */
const PART_BYTES = 512 * 1024
/** Parts are whole pages where they can be. */
const PART_TOKENS = 16
/** A question is small and its asker has it ready. */
const QUESTION_MS = 5_000
/** A reader that takes nothing for so long is cut. */
const STALL_MS = 10_000

/** Hands sessions of `desk` to servers that show their client's grant, until closed. */
export async function giveSessions(peer: Peer, desk: HandoverDesk): Promise<{ close(): Promise<void> }> {
  const rate = createRateLimit(() => performance.now())
  let underWay = 0

  /** The session that a grant is about. @throws `refused`, `capacity`, `not_found`. */
  const admit = async (to: string, payload: Uint8Array): Promise<[HandoverGrant, GivenSession]> => {
    const verdict = peer.gate?.check(to, 'serve')
    if (verdict?.ok === false) {
      peer.gate?.refuse('handover')
      throw new ChoraleError('refused', `not admitted as a server: ${verdict.reason}`)
    }
    const waitMs = rate.take(to, PER_SECOND, BURST)
    if (waitMs > 0) throw new ChoraleError('capacity', 'too many hand-overs', { retryAfterMs: waitMs })
    if (underWay >= MAX_UNDER_WAY) {
      throw new ChoraleError('capacity', `${underWay} hand-overs are under way`, { retryAfterMs: 500 })
    }
    const { body, grant, signature } = parseGrant(payload)
    checkGrant(grant, { from: peer.id, to }, Date.now())
    if (!(await verifySignature(grant.client, grantSignedBytes(body), signature))) {
      throw new ChoraleError('refused', `the grant is not signed by ${grant.client}`, { field: 'signature' })
    }
    const session = desk.find(grant.client, grant.session)
    if (session === undefined) throw new ChoraleError('not_found', 'the session is not here any more')
    const { start, end } = session.opening
    if (grant.start < start || grant.end > end) {
      throw new ChoraleError(
        'refused',
        `the session is of blocks ${start}:${end}, not ${grant.start}:${grant.end}`,
        { field: 'start' },
      )
    }
    return [grant, session]
  }

  /** Never rejects. */
  const answer = async (
    wire: FramedStream,
    to: string,
    take: Take,
    payload: Uint8Array,
  ): Promise<'given' | 'refused'> => {
    try {
      const [grant, session] = await admit(to, payload)
      underWay++
      try {
        await give(peer, wire, take, grant, session)
      } finally {
        underWay--
      }
      return 'given'
    } catch (error) {
      const { code, message, retryAfterMs } = clientError(error)
      peer.log.debug('a session was not handed over', { to, code, reason: errorMessage(error) })
      wire.post(() => encodeFrame(handoverRefusal(code, message, retryAfterMs)))
      return 'refused'
    }
  }

  await peer.handle(
    HANDOVER_PROTOCOL,
    (stream: Stream, connection: Connection) => {
      let asked = false
      let over = false
      const wire: FramedStream = frameStream<HandoverMessage>(stream, {
        parse: (header, length) => {
          const message = parseHandoverMessage(header, length)
          if (asked || message.type !== 'take') throw new ChoraleError('protocol', 'one question a stream')
          return message
        },
        maxPayload: MAX_GRANT_BYTES,
        onFrame: (message, payload) => {
          asked = true
          clearTimeout(timer)
          if (message.type !== 'take') return
          void answer(wire, connection.remotePeer.toString(), message, payload.slice()).then((outcome) => {
            if (outcome === 'refused') return wire.close()
            // The reader closes: what it has not read yet would be lost with this end.
            if (!over) timer = setTimeout(() => void wire.close(), STALL_MS)
            return undefined
          })
        },
        onClose: () => {
          over = true
          clearTimeout(timer)
        },
      })
      let timer = setTimeout(() => wire.fail(new ChoraleError('timeout', 'no question came')), QUESTION_MS)
    },
    MAX_STREAMS_A_CONNECTION,
  )
  return { close: () => peer.unhandle(HANDOVER_PROTOCOL) }
}

/** Sends what there is. @throws `capacity`, `not_supported`, and what reading or the stream throws. */
async function give(
  peer: Peer,
  wire: FramedStream,
  take: Take,
  { start, end }: HandoverGrant,
  session: GivenSession,
): Promise<void> {
  const { kv, engine, numericMode, opening, hosted } = session
  let to = Math.max(take.from, Math.min(take.to, hosted.position))
  const tokenBytes = 2 * (end - start) * kv.width * 4
  if (tokenBytes * PART_TOKENS > MAX_HANDOVER_PART_BYTES) {
    throw new ChoraleError(
      'not_supported',
      `${tokenBytes} bytes a token: more than fit the parts of a hand-over`,
    )
  }
  // What went into a span is known at its first block alone.
  const inputs = take.inputs && start === opening.start ? session.inputs(take.from, to) : undefined
  if (take.inputs) {
    if (inputs === undefined) throw new ChoraleError('not_found', 'what went into the session was not kept')
    to = take.from + inputs.length / session.rowBytes
  }
  session.given += (to - take.from) * (end - start)
  if (session.given > MAX_GIVEN * opening.maxTokens * (opening.end - opening.start)) {
    throw new ChoraleError('capacity', 'this session was handed over too often')
  }
  const { precision, width } = kv
  const { modelId } = opening
  const held: Held = { type: 'held', to, modelId, precision, width, engine, numericMode }
  await inTime(wire, () => encodeFrame(held))
  const send = async (what: Part['what'], from: number, until: number, bytes: Uint8Array): Promise<void> => {
    const part: Part = { type: 'part', what, from, to: until, digest: await peer.digest(bytes) }
    await inTime(wire, () => encodeFrame(part, bytes))
  }
  const rowsOf = (bytes: Uint8Array, from: number, until: number): Uint8Array =>
    bytes.subarray((from - take.from) * session.rowBytes, (until - take.from) * session.rowBytes)
  const pages = Math.max(1, Math.floor(PART_BYTES / (tokenBytes * PART_TOKENS)))
  for (let from = take.from; from < to;) {
    // Parts end where pages do, wherever the first one begins.
    const until = Math.min(to, (Math.floor(from / PART_TOKENS) + pages) * PART_TOKENS)
    if (inputs) await send('inputs', from, until, rowsOf(inputs, from, until))
    const rows = await kv.read({ start, end, from, to: until })
    await send('kv', from, until, toWire(rows, 'f32'))
    from = until
  }
  await inTime(wire, () => encodeFrame({ type: 'done' }))
}

/** Sends a frame; a reader that lets it wait is cut. */
async function inTime(wire: FramedStream, make: () => Uint8Array): Promise<void> {
  const timer = setTimeout(
    () => wire.fail(new ChoraleError('timeout', 'the other server takes nothing')),
    STALL_MS,
  )
  try {
    await wire.send(make)
  } finally {
    clearTimeout(timer)
  }
}
