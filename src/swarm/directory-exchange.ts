import type { Stream } from '@libp2p/interface'
import { ChoraleError, errorMessage } from '../errors.ts'
import {
  type DirectoryMessage,
  decodeRecordList,
  encodeRecordList,
  parseDirectoryMessage,
} from '../protocol/directory-messages.ts'
import { encodeFrame } from '../protocol/frame.ts'
import { DIRECTORY_PROTOCOL } from '../protocol/ids.ts'
import { MAX_LIST_PAYLOAD_BYTES, MAX_LISTED_RECORDS, MAX_RECORD_BYTES } from '../protocol/limits.ts'
import { type FramedStream, frameStream } from './framed-stream.ts'
import { verifyRecord } from './identity.ts'
import type { Peer } from './peer.ts'
import type { RecordStore } from './record-store.ts'

/** `/chorale/directory/1`: one request and one answer a stream. */

/** Requests one peer may have under way at once. */
const MAX_STREAMS_A_CONNECTION = 32
const REQUEST_TIMEOUT_MS = 2_000

/** Answers ANNOUNCE and LIST from `store`. Records that do not verify are refused. */
export async function serveDirectory(
  peer: Peer,
  store: RecordStore,
  now: () => number,
): Promise<{ close(): Promise<void> }> {
  await peer.handle(
    DIRECTORY_PROTOCOL,
    (stream: Stream) => {
      let asked = false
      const wire: FramedStream = frameStream<DirectoryMessage>(stream, {
        parse: parseDirectoryMessage,
        maxPayload: MAX_RECORD_BYTES,
        onFrame: (message, payload) => {
          if (asked) throw new ChoraleError('protocol', 'one request a stream')
          asked = true
          void answer(store, message, payload, now()).then(async (frame) => {
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
  return { close: () => peer.unhandle(DIRECTORY_PROTOCOL) }
}

/** The frame that answers a request. Never throws. */
async function answer(
  store: RecordStore,
  message: DirectoryMessage,
  payload: Uint8Array,
  now: number,
): Promise<Uint8Array> {
  try {
    switch (message.type) {
      case 'announce': {
        const bytes = payload.slice()
        store.put({ ...(await verifyRecord(bytes, now)), bytes }, now)
        return encodeFrame({ type: 'announced', stored: store.size })
      }
      case 'list': {
        const found =
          message.modelId === undefined ? store.ofEachModel(now) : store.ofModel(message.modelId, now)
        // Newest first: when there are more than fit, those most likely alive are told.
        found.sort((a, b) => b.record.issuedAt - a.record.issuedAt)
        const records = found.slice(0, MAX_LISTED_RECORDS).map(({ bytes }) => bytes)
        return encodeFrame({ type: 'records' }, encodeRecordList(records))
      }
      default:
        return encodeFrame({ type: 'refused', message: `${message.type} is no request` })
    }
  } catch (error) {
    return encodeFrame({ type: 'refused', message: errorMessage(error).slice(0, 400) })
  }
}

/** Gives a signed record to a peer. @throws `unreachable`, `timeout`, `not_supported`, `protocol` when it is refused. */
export async function announceTo(peer: Peer, peerId: string, record: Uint8Array): Promise<void> {
  const { message } = await ask(peer, peerId, encodeFrame({ type: 'announce' }, record), undefined)
  if (message.type !== 'announced') throw unexpected(peerId, message)
}

/** Signed records a peer knows, NOT verified. Same errors as `announceTo`. */
export async function listFrom(
  peer: Peer,
  peerId: string,
  modelId: string | undefined,
  signal: AbortSignal | undefined,
): Promise<Uint8Array[]> {
  const request = encodeFrame(modelId === undefined ? { type: 'list' } : { type: 'list', modelId })
  const { message, payload } = await ask(peer, peerId, request, signal)
  if (message.type !== 'records') throw unexpected(peerId, message)
  return decodeRecordList(payload)
}

interface Answer {
  readonly message: DirectoryMessage
  readonly payload: Uint8Array
}

async function ask(
  peer: Peer,
  peerId: string,
  request: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<Answer> {
  const stream = await peer.openStream(peerId, [], DIRECTORY_PROTOCOL, {
    timeoutMs: REQUEST_TIMEOUT_MS,
    ...(signal === undefined ? {} : { signal }),
  })
  return await new Promise<Answer>((resolve, reject) => {
    const wire: FramedStream = frameStream<DirectoryMessage>(stream, {
      parse: parseDirectoryMessage,
      maxPayload: MAX_LIST_PAYLOAD_BYTES,
      onFrame: (message, payload) => {
        resolve({ message, payload })
        void wire.close()
      },
      onClose: (error) => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', cancel)
        reject(error ?? new ChoraleError('protocol', `directory peer ${peerId} closed without an answer`))
      },
    })
    const cancel = (): void => wire.fail(new ChoraleError('cancelled', 'cancelled'))
    const timer = setTimeout(
      () => wire.fail(new ChoraleError('timeout', `directory peer ${peerId} did not answer in time`)),
      REQUEST_TIMEOUT_MS,
    )
    signal?.addEventListener('abort', cancel, { once: true })
    wire.post(() => request)
  })
}

function unexpected(peerId: string, message: DirectoryMessage): ChoraleError {
  const reason = message.type === 'refused' ? message.message : `it answered ${message.type}`
  return new ChoraleError('protocol', `directory peer ${peerId} refused: ${reason}`)
}
