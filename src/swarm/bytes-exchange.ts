import type { Connection, Stream } from '@libp2p/interface'
import { joinBytes } from '../bytes.ts'
import { ChoraleError } from '../errors.ts'
import type { StakeAction } from '../ledger/subnet-parameters.ts'
import {
  type BytesMessage,
  bytesRefusal,
  MAX_PART_BYTES,
  parseBytesMessage,
} from '../protocol/bytes-messages.ts'
import { encodeFrame } from '../protocol/frame.ts'
import { refusalError } from '../protocol/refusal.ts'
import { type FramedStream, frameStream } from './framed-stream.ts'
import type { Peer } from './peer.ts'
import { countRefusedQuestion } from './refused-questions.ts'
import { createRateLimit } from './rate-limit.ts'
import { clientError } from './span-host.ts'

/** Questions between nodes whose answers are bytes, up to some MiB: one question a stream, stake on both sides. */

export interface AnswerOptions {
  readonly protocol: string
  /** Label of refusals. */
  readonly place: 'content' | 'audit' | 'blob'
  /** What whoever asks must have stake for (default `gossip`); with `passes` a pass does too where passes are for that. */
  readonly action?: StakeAction
  readonly passes?: boolean
  readonly maxRequestBytes: number
  /** Questions that one peer may ask: `burst` at once, then so many a second. */
  readonly perSecond: number
  readonly burst: number
  /** Answers under way to all peers together: each is held in memory until it was read. */
  readonly maxAnswers: number
  /** Of these, to one peer (default: all). */
  readonly maxAnswersAPeer?: number
  /** When to come again if too many are under way (default 1 s). */
  readonly busyMs?: number
  /**
   * The answer, undefined when there is none. Only peers that the gate admits get here. @throws `refused`,
   * `capacity`, `protocol`: told to whoever asked.
   */
  readonly answer: (from: string, request: Uint8Array) => Promise<Uint8Array | undefined>
}

/** Streams of one connection. More than a node asks at once: libp2p cuts those above without a word. */
const MAX_STREAMS_A_CONNECTION = 64
/** A question is small and its asker has it ready. */
const REQUEST_TIMEOUT_MS = 5_000
/** 32 MiB at 4 Mbit/s, about: who reads slower is cut. */
const ANSWER_TIMEOUT_MS = 60_000

/** Answers a protocol until closed. */
export async function answerBytes(peer: Peer, options: AnswerOptions): Promise<{ close(): Promise<void> }> {
  const { protocol, maxRequestBytes, action = 'gossip', maxAnswersAPeer = Infinity, busyMs = 1_000 } = options
  const rate = createRateLimit(() => performance.now())
  let underWay = 0
  /** Only peers with an answer under way are in it. */
  const ofPeer = new Map<string, number>()

  const admit = (from: string): void => {
    const { gate } = peer
    const verdict = options.passes === true ? gate?.check(from, action) : gate?.staked(from, action)
    if (verdict?.ok === false) {
      peer.gate?.refuse(options.place)
      throw new ChoraleError('refused', `not admitted: ${verdict.reason}`)
    }
    const waitMs = rate.take(from, options.perSecond, options.burst)
    if (waitMs > 0) {
      peer.gate?.refuse(options.place, 'rate')
      throw new ChoraleError('capacity', 'too many questions', { retryAfterMs: waitMs })
    }
    if (underWay >= options.maxAnswers || (ofPeer.get(from) ?? 0) >= maxAnswersAPeer) {
      throw new ChoraleError('capacity', `${underWay} answers are under way`, { retryAfterMs: busyMs })
    }
  }

  /** Never rejects. */
  const reply = async (wire: FramedStream, from: string, request: Uint8Array): Promise<void> => {
    try {
      admit(from)
      underWay++
      ofPeer.set(from, (ofPeer.get(from) ?? 0) + 1)
      try {
        const bytes = await options.answer(from, request)
        if (bytes === undefined || bytes.length === 0) {
          wire.post(() => encodeFrame({ type: 'absent' }))
        } else {
          for (let at = 0; at < bytes.length; at += MAX_PART_BYTES) {
            const end = at + MAX_PART_BYTES
            await wire.send(() =>
              encodeFrame({ type: 'part', more: end < bytes.length }, bytes.subarray(at, end)),
            )
          }
        }
      } finally {
        underWay--
        const left = (ofPeer.get(from) ?? 1) - 1
        if (left > 0) ofPeer.set(from, left)
        else ofPeer.delete(from)
      }
    } catch (error) {
      countRefusedQuestion(peer, protocol, error)
      const { code, message, retryAfterMs } = clientError(error)
      wire.post(() => encodeFrame(bytesRefusal(code, message, retryAfterMs)))
    }
    await wire.close()
  }

  await peer.handle(
    protocol,
    (stream: Stream, connection: Connection) => {
      let timer: ReturnType<typeof setTimeout> | undefined
      let asked = false
      const wire: FramedStream = frameStream<BytesMessage>(stream, {
        parse: (header, length) => {
          const message = parseBytesMessage(header, length)
          if (asked || message.type !== 'ask') throw new ChoraleError('protocol', 'one question a stream')
          if (length > maxRequestBytes) {
            throw new ChoraleError('protocol', `question of ${length} bytes (at most ${maxRequestBytes})`)
          }
          return message
        },
        maxPayload: maxRequestBytes,
        onFrame: (_, payload) => {
          asked = true
          limit(ANSWER_TIMEOUT_MS, 'the answer was not read')
          void reply(wire, connection.remotePeer.toString(), payload.slice())
        },
        onClose: (error) => {
          clearTimeout(timer)
          if (error) countRefusedQuestion(peer, protocol, error)
        },
      })
      const limit = (ms: number, why: string): void => {
        clearTimeout(timer)
        timer = setTimeout(() => wire.fail(new ChoraleError('timeout', why)), ms)
      }
      limit(REQUEST_TIMEOUT_MS, 'no question came')
    },
    MAX_STREAMS_A_CONNECTION,
  )
  return { close: () => peer.unhandle(protocol) }
}

export interface AskOptions {
  readonly protocol: string
  /** Where to find the peer when there is no connection; none = only over a connection, or what the DHT knows. */
  readonly addrs?: readonly string[]
  readonly maxAnswerBytes: number
  /** What the peer must have stake for (default `gossip`). */
  readonly action?: StakeAction
  /** Connecting, and each part of the answer. Default 5 s. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

/**
 * Asks a peer. NOT checked: the bytes.
 * @returns undefined when it has none. @throws what it says, `refused` for a peer without stake, `unreachable`, `timeout`,
 * `cancelled`, `not_supported`, `protocol` when the answer is too long.
 */
export async function askBytes(
  peer: Peer,
  peerId: string,
  request: Uint8Array,
  options: AskOptions,
): Promise<Uint8Array | undefined> {
  const { protocol, maxAnswerBytes, signal, timeoutMs = REQUEST_TIMEOUT_MS } = options
  const verdict = peer.gate && (await peer.gate.resolve(peerId, options.action ?? 'gossip'))
  if (verdict?.ok === false) {
    throw new ChoraleError('refused', `peer ${peerId} is not admitted: ${verdict.reason}`)
  }
  const stream = await peer.openStream(peerId, options.addrs ?? [], protocol, {
    timeoutMs,
    ...(signal && { signal }),
  })
  const parts: Uint8Array[] = []
  let size = 0
  return await new Promise<Uint8Array | undefined>((resolve, reject) => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const wait = (): void => {
      clearTimeout(timer)
      timer = setTimeout(
        () => wire.fail(new ChoraleError('timeout', `peer ${peerId} did not answer in time`)),
        timeoutMs,
      )
    }
    const wire: FramedStream = frameStream<BytesMessage>(stream, {
      parse: (header, length) => {
        const message = parseBytesMessage(header, length)
        size += length
        if (size <= maxAnswerBytes) return message
        throw new ChoraleError('protocol', `peer ${peerId} answers with more than ${maxAnswerBytes} bytes`)
      },
      maxPayload: MAX_PART_BYTES,
      onFrame: (message, payload) => {
        switch (message.type) {
          case 'part':
            parts.push(payload.slice())
            if (message.more) return wait()
            resolve(joinBytes(parts))
            break
          case 'absent':
            resolve(undefined)
            break
          case 'refused':
            reject(refusalError(`peer ${peerId}`, message))
            break
          case 'ask':
            throw new ChoraleError('protocol', `peer ${peerId} answered with a question`)
        }
        void wire.close()
      },
      onClose: (error) => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', cancel)
        reject(error ?? new ChoraleError('protocol', `peer ${peerId} closed without an answer`))
      },
    })
    const cancel = (): void => wire.fail(new ChoraleError('cancelled', 'cancelled'))
    signal?.addEventListener('abort', cancel, { once: true })
    wait()
    wire.post(() => encodeFrame({ type: 'ask' }, request))
  })
}
