import { ChoraleError, errorCode, errorMessage, isChoraleError } from '../errors.ts'
import { encodeFrame } from '../protocol/frame.ts'
import { PASS_PROTOCOL } from '../protocol/ids.ts'
import { MAX_PASS_BYTES } from '../protocol/limits.ts'
import { parsePassMessage, type PassMessage, passRefusal } from '../protocol/pass-messages.ts'
import { refusalError } from '../protocol/refusal.ts'
import { answerQuestions, askQuestion, type QuestionProtocol } from './one-question.ts'
import type { Peer } from './peer.ts'
import { countRefusedQuestion } from './refused-questions.ts'
import type { ReportedUse } from './sponsor-accounts.ts'

/** `/chorale/pass/1`: one request and one answer a stream. */

/** Requests one peer may have under way at once: a server reports for several clients. */
const MAX_STREAMS_A_CONNECTION = 8

const PASSES: QuestionProtocol<PassMessage> = {
  id: PASS_PROTOCOL,
  parse: parsePassMessage,
  maxQuestionBytes: MAX_PASS_BYTES,
  maxAnswerBytes: MAX_PASS_BYTES,
  timeoutMs: 5_000,
  other: 'peer',
}

/** What a peer does with requests about passes. */
export interface PassHandler {
  /** Gives a client a pass. @throws `refused`, `capacity`, `not_supported`. */
  issue(client: string, models: readonly string[]): Promise<Uint8Array>
  /** Takes a client's pass. @returns until when it is admitted. @throws `refused`, `protocol`, `capacity`. */
  show(client: string, pass: Uint8Array): Promise<number>
  /** Takes a server's report. @returns tokens left. @throws `refused`, `protocol`, `capacity`, `not_supported`. */
  used(server: string, pass: Uint8Array, use: ReportedUse): Promise<number>
}

/** Answers requests about passes until closed. */
export async function answerPasses(peer: Peer, handler: PassHandler): Promise<{ close(): Promise<void> }> {
  return await answerQuestions(peer, PASSES, MAX_STREAMS_A_CONNECTION, (client, message, payload) =>
    answer(peer, handler, client, message, payload),
  )
}

/** The frame that answers a request. Never throws. */
async function answer(
  peer: Peer,
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
      case 'used':
        return encodeFrame({ type: 'left', tokens: await handler.used(client, payload, message) })
      default:
        return encodeFrame(passRefusal('protocol', `${message.type} is no request`))
    }
  } catch (error) {
    countRefusedQuestion(peer, PASSES.id, error)
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
  const { message, payload } = await askQuestion(
    peer,
    sponsor,
    PASSES,
    encodeFrame({ type: 'request', models: [...models] }),
  )
  if (message.type !== 'pass') throw unexpected(sponsor, message)
  return payload.slice()
}

/** Shows a pass. @returns until when this peer is admitted there. @throws what the other says, `unreachable`, `timeout`. */
export async function showPass(peer: Peer, to: string, pass: Uint8Array): Promise<number> {
  const { message } = await askQuestion(peer, to, PASSES, encodeFrame({ type: 'show' }, pass))
  if (message.type !== 'admitted') throw unexpected(to, message)
  return message.until
}

/** Tells a sponsor what its client used here. @returns tokens left. @throws what it says, `unreachable`, `timeout`. */
export async function tellUse(
  peer: Peer,
  sponsor: string,
  pass: Uint8Array,
  { modelId, start, end, tokens }: ReportedUse,
): Promise<number> {
  const question = encodeFrame({ type: 'used', modelId, start, end, tokens }, pass)
  const { message } = await askQuestion(peer, sponsor, PASSES, question)
  if (message.type !== 'left') throw unexpected(sponsor, message)
  return message.tokens
}

function unexpected(peerId: string, message: PassMessage): ChoraleError {
  if (message.type === 'refused') return refusalError(`peer ${peerId}`, message)
  return new ChoraleError('protocol', `peer ${peerId} answered ${message.type}`)
}
