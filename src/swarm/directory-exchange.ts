import type { Connection, Stream } from '@libp2p/interface'
import { ChoraleError, errorCode, errorMessage, isChoraleError } from '../errors.ts'
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
import type { StakeGate } from './stake-gate.ts'

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
    (stream: Stream, connection: Connection) => {
      const from = connection.remotePeer.toString()
      let asked = false
      const wire: FramedStream = frameStream<DirectoryMessage>(stream, {
        parse: parseDirectoryMessage,
        maxPayload: MAX_RECORD_BYTES,
        onFrame: (message, payload) => {
          if (asked) throw new ChoraleError('protocol', 'one request a stream')
          asked = true
          void answer({ store, gate: peer.gate, from }, message, payload, now()).then(async (frame) => {
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

interface Asked {
  readonly store: RecordStore
  readonly gate: StakeGate | undefined
  /** Who asks. */
  readonly from: string
}

/** The frame that answers a request. Never throws. */
async function answer(
  { store, gate, from }: Asked,
  message: DirectoryMessage,
  payload: Uint8Array,
  now: number,
): Promise<Uint8Array> {
  try {
    if (gate) await admit(gate, from, message)
    switch (message.type) {
      case 'announce': {
        const bytes = payload.slice()
        const entry = { ...(await verifyRecord(bytes, now)), bytes }
        if (gate) checkPublisher(gate, entry.record.peerId)
        store.put(entry, now)
        return encodeFrame({ type: 'announced', stored: store.size })
      }
      case 'list': {
        const all =
          message.modelId === undefined ? store.ofEachModel(now) : store.ofModel(message.modelId, now)
        const found = all.filter(({ record }) => gate?.staked(record.peerId, 'directory').ok !== false)
        // Newest first: when there are more than fit, those most likely alive are told.
        found.sort((a, b) => b.record.issuedAt - a.record.issuedAt)
        const records = found.slice(0, MAX_LISTED_RECORDS).map(({ bytes }) => bytes)
        return encodeFrame({ type: 'records' }, encodeRecordList(records))
      }
      default:
        return encodeFrame({ type: 'refused', message: `${message.type} is no request` })
    }
  } catch (error) {
    const code = errorCode(error)
    const known = code === 'refused' || code === 'capacity' ? { code } : {}
    const retryAfterMs = isChoraleError(error) ? error.retryAfterMs : undefined
    return encodeFrame({
      type: 'refused',
      message: errorMessage(error).slice(0, 400),
      ...known,
      ...(retryAfterMs !== undefined && { retryAfterMs: Math.ceil(retryAfterMs) }),
    })
  }
}

/** Somebody who asks faster than that is told to come later; sessions wait, questions don't. */
const MAX_RATE_WAIT_MS = 1_000

/** @throws `refused` for somebody without stake and pass, `capacity` for one who asks too often. */
async function admit(gate: StakeGate, from: string, message: DirectoryMessage): Promise<void> {
  const shown = message.type === 'list' ? message.pass : undefined
  if (shown && !gate.check(from, 'connect').ok) await gate.show(from, shown.slice())
  const verdict = gate.check(from, 'connect')
  if (!verdict.ok) {
    gate.refuse('directory')
    throw new ChoraleError('refused', `not admitted: ${verdict.reason}`)
  }
  const waitMs = gate.takeMessage(from)
  if (waitMs > MAX_RATE_WAIT_MS) {
    gate.refuse('directory', 'rate')
    throw new ChoraleError('capacity', 'too many questions', { retryAfterMs: waitMs })
  }
}

/** Only who has stake is listed, whoever brings the record. @throws `refused`. */
export function checkPublisher(gate: StakeGate, peerId: string): void {
  const verdict = gate.staked(peerId, 'directory')
  if (verdict.ok) return
  gate.refuse('record')
  throw new ChoraleError('refused', `the record's publisher is not admitted: ${verdict.reason}`)
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
  const request = encodeFrame({
    type: 'list',
    ...(modelId !== undefined && { modelId }),
    ...(peer.pass && { pass: peer.pass }),
  })
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
  if (message.type !== 'refused') {
    return new ChoraleError('protocol', `directory peer ${peerId} refused: it answered ${message.type}`)
  }
  const { retryAfterMs } = message
  return new ChoraleError(
    message.code ?? 'protocol',
    `directory peer ${peerId} refused: ${message.message}`,
    {
      ...(retryAfterMs !== undefined && { retryAfterMs }),
    },
  )
}
