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
import { refusalError } from '../protocol/refusal.ts'
import { verifyRecord } from './identity.ts'
import { answerQuestions, askQuestion, type QuestionProtocol } from './one-question.ts'
import type { Peer } from './peer.ts'
import { countRefusedQuestion } from './refused-questions.ts'
import type { RecordStore } from './record-store.ts'
import type { StakeGate } from './stake-gate.ts'

/** `/chorale/directory/1`: one request and one answer a stream. */

/** Requests one peer may have under way at once. */
const MAX_STREAMS_A_CONNECTION = 32

const DIRECTORY: QuestionProtocol<DirectoryMessage> = {
  id: DIRECTORY_PROTOCOL,
  parse: parseDirectoryMessage,
  maxQuestionBytes: MAX_RECORD_BYTES,
  maxAnswerBytes: MAX_LIST_PAYLOAD_BYTES,
  timeoutMs: 2_000,
  other: 'directory peer',
}

/** Answers ANNOUNCE and LIST from `store`. Records that do not verify are refused. */
export async function serveDirectory(
  peer: Peer,
  store: RecordStore,
  now: () => number,
): Promise<{ close(): Promise<void> }> {
  return await answerQuestions(peer, DIRECTORY, MAX_STREAMS_A_CONNECTION, (from, message, payload) =>
    answer({ store, peer, from }, message, payload, now()),
  )
}

interface Asked {
  readonly store: RecordStore
  readonly peer: Pick<Peer, 'gate' | 'metrics'>
  /** Who asks. */
  readonly from: string
}

/** The frame that answers a request. Never throws. */
async function answer(
  { store, peer, from }: Asked,
  message: DirectoryMessage,
  payload: Uint8Array,
  now: number,
): Promise<Uint8Array> {
  const { gate } = peer
  try {
    if (gate) await admit(gate, from, message)
    switch (message.type) {
      case 'announce': {
        const entry = { ...(await verifyRecord(payload, now)), bytes: payload }
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
    countRefusedQuestion(peer, DIRECTORY.id, error)
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
  const { message } = await askQuestion(peer, peerId, DIRECTORY, encodeFrame({ type: 'announce' }, record))
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
  const { message, payload } = await askQuestion(peer, peerId, DIRECTORY, request, signal)
  if (message.type !== 'records') throw unexpected(peerId, message)
  return decodeRecordList(payload)
}

function unexpected(peerId: string, message: DirectoryMessage): ChoraleError {
  const other = `directory peer ${peerId} refused`
  if (message.type === 'refused') return refusalError(other, { code: 'protocol', ...message })
  return new ChoraleError('protocol', `${other}: it answered ${message.type}`)
}
