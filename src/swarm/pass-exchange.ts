import type { Connection, Stream } from '@libp2p/interface'
import { ChoraleError, errorCode, errorMessage, isChoraleError } from '../errors.ts'
import { encodeFrame } from '../protocol/frame.ts'
import { PASS_PROTOCOL } from '../protocol/ids.ts'
import { MAX_PASS_BYTES } from '../protocol/limits.ts'
import { parsePassMessage, type PassMessage, passRefusal } from '../protocol/pass-messages.ts'
import { type FramedStream, frameStream } from './framed-stream.ts'
import type { Peer } from './peer.ts'

/** `/chorale/pass/1`: one request and one answer a stream. */

/** Requests one peer may have under way at once. */
const MAX_STREAMS_A_CONNECTION = 4
const REQUEST_TIMEOUT_MS = 5_000

/** What a peer does with requests about passes. */
export interface PassHandler {
  /** Gives a client a pass. @throws `refused`, `capacity`, `not_supported`. */
  issue(client: string, models: readonly string[]): Promise<Uint8Array>
  /** Takes a client's pass. @returns until when it is admitted. @throws `refused`, `protocol`, `capacity`. */
  show(client: string, pass: Uint8Array): Promise<number>
}

/** Answers requests about passes until closed. */
export async function answerPasses(peer: Peer, handler: PassHandler): Promise<{ close(): Promise<void> }> {
  await peer.handle(
    PASS_PROTOCOL,
    (stream: Stream, connection: Connection) => {
      const client = connection.remotePeer.toString()
      let asked = false
      const wire: FramedStream = frameStream<PassMessage>(stream, {
        parse: parsePassMessage,
        maxPayload: MAX_PASS_BYTES,
        onFrame: (message, payload) => {
          if (asked) throw new ChoraleError('protocol', 'one request a stream')
          asked = true
          void answer(handler, client, message, payload.slice()).then(async (frame) => {
            wire.post(() => frame)
            await wire.close()
            return undefined
          })
        },
        onClose: () => clearTimeout(timer),
      })
      const timer = setTimeout(
        () => wire.fail(new ChoraleError('timeout', 'no request came')),
        REQUEST_TIMEOUT_MS,
      )
    },
    MAX_STREAMS_A_CONNECTION,
  )
  return { close: () => peer.unhandle(PASS_PROTOCOL) }
}

/** The frame that answers a request. Never throws. */
async function answer(
  handler: PassHandler,
  client: string,
  message: PassMessage,
  payload: Uint8Array,
): Promise<Uint8Array> {
  try {
    switch (message.type) {
      case 'request':
        return encodeFrame({ type: 'pass' }, await handler.issue(client, message.models))
      case 'show':
        return encodeFrame({ type: 'admitted', until: await handler.show(client, payload) })
      default:
        return encodeFrame(passRefusal('protocol', `${message.type} is no request`))
    }
  } catch (error) {
    const retryAfterMs = isChoraleError(error) ? error.retryAfterMs : undefined
    return encodeFrame(passRefusal(errorCode(error), errorMessage(error), retryAfterMs))
  }
}

/** Asks a sponsor for a pass. NOT checked: the pass. @throws what the sponsor says, `unreachable`, `timeout`. */
export async function requestPass(
  peer: Peer,
  sponsor: string,
  models: readonly string[],
): Promise<Uint8Array> {
  const { message, payload } = await ask(peer, sponsor, encodeFrame({ type: 'request', models: [...models] }))
  if (message.type !== 'pass') throw unexpected(sponsor, message)
  return payload.slice()
}

/** Shows a pass. @returns until when this peer is admitted there. @throws what the other says, `unreachable`, `timeout`. */
export async function showPass(peer: Peer, to: string, pass: Uint8Array): Promise<number> {
  const { message } = await ask(peer, to, encodeFrame({ type: 'show' }, pass))
  if (message.type !== 'admitted') throw unexpected(to, message)
  return message.until
}

interface Answer {
  readonly message: PassMessage
  readonly payload: Uint8Array
}

async function ask(peer: Peer, peerId: string, request: Uint8Array): Promise<Answer> {
  const stream = await peer.openStream(peerId, [], PASS_PROTOCOL, { timeoutMs: REQUEST_TIMEOUT_MS })
  return await new Promise<Answer>((resolve, reject) => {
    const wire: FramedStream = frameStream<PassMessage>(stream, {
      parse: parsePassMessage,
      maxPayload: MAX_PASS_BYTES,
      onFrame: (message, payload) => {
        resolve({ message, payload })
        void wire.close()
      },
      onClose: (error) => {
        clearTimeout(timer)
        reject(error ?? new ChoraleError('protocol', `peer ${peerId} closed without an answer`))
      },
    })
    const timer = setTimeout(
      () => wire.fail(new ChoraleError('timeout', `peer ${peerId} did not answer in time`)),
      REQUEST_TIMEOUT_MS,
    )
    wire.post(() => request)
  })
}

function unexpected(peerId: string, message: PassMessage): ChoraleError {
  if (message.type !== 'refused') {
    return new ChoraleError('protocol', `peer ${peerId} answered ${message.type}`)
  }
  const { code, retryAfterMs } = message
  return new ChoraleError(code, `peer ${peerId}: ${message.message}`, {
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  })
}
