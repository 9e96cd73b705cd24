import type { Connection, Stream } from '@libp2p/interface'
import { ChoraleError } from '../errors.ts'
import { type FramedStream, frameStream } from './framed-stream.ts'
import type { Peer } from './peer.ts'
import { countRefusedQuestion } from './refused-questions.ts'

/** Protocols of one question and one answer a stream, each a frame. */

/** What both ends of such a protocol know of it. */
export interface QuestionProtocol<Message> {
  readonly id: string
  readonly parse: (header: Uint8Array, payloadLength: number) => Message
  readonly maxQuestionBytes: number
  readonly maxAnswerBytes: number
  /** For the question to come, and for the answer. */
  readonly timeoutMs: number
  /** What errors call the other end, before its id. */
  readonly other: string
}

/** Answers a protocol until closed. @param answer gives the frame that answers a question of `from`; never rejects. */
export async function answerQuestions<Message>(
  peer: Peer,
  protocol: QuestionProtocol<Message>,
  maxStreamsAConnection: number,
  answer: (from: string, message: Message, payload: Uint8Array) => Promise<Uint8Array>,
): Promise<{ close(): Promise<void> }> {
  await peer.handle(
    protocol.id,
    (stream: Stream, connection: Connection) => {
      let asked = false
      const wire: FramedStream = frameStream<Message>(stream, {
        parse: protocol.parse,
        maxPayload: protocol.maxQuestionBytes,
        onFrame: (message, payload) => {
          if (asked) throw new ChoraleError('protocol', 'one request a stream')
          asked = true
          void reply(message, payload.slice())
        },
        onClose: (error) => {
          clearTimeout(timer)
          if (error) countRefusedQuestion(peer, protocol.id, error)
        },
      })
      const reply = async (message: Message, payload: Uint8Array): Promise<void> => {
        const frame = await answer(connection.remotePeer.toString(), message, payload)
        wire.post(() => frame)
        await wire.close()
      }
      const timer = setTimeout(
        () => wire.fail(new ChoraleError('timeout', 'no request came')),
        protocol.timeoutMs,
      )
    },
    maxStreamsAConnection,
  )
  return { close: () => peer.unhandle(protocol.id) }
}

/** An answer; its payload is valid until the next turn. */
export interface QuestionAnswer<Message> {
  readonly message: Message
  readonly payload: Uint8Array
}

/** Asks a connected peer. @throws `unreachable`, `timeout`, `not_supported`, `cancelled`, `protocol`. */
export async function askQuestion<Message>(
  peer: Peer,
  peerId: string,
  protocol: QuestionProtocol<Message>,
  question: Uint8Array,
  signal?: AbortSignal,
): Promise<QuestionAnswer<Message>> {
  const { timeoutMs } = protocol
  const other = `${protocol.other} ${peerId}`
  const stream = await peer.openStream(peerId, [], protocol.id, { timeoutMs, ...(signal && { signal }) })
  return await new Promise<QuestionAnswer<Message>>((resolve, reject) => {
    const wire: FramedStream = frameStream<Message>(stream, {
      parse: protocol.parse,
      maxPayload: protocol.maxAnswerBytes,
      onFrame: (message, payload) => {
        resolve({ message, payload })
        void wire.close()
      },
      onClose: (error) => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', cancel)
        reject(error ?? new ChoraleError('protocol', `${other} closed without an answer`))
      },
    })
    const cancel = (): void => wire.fail(new ChoraleError('cancelled', 'cancelled'))
    const timer = setTimeout(
      () => wire.fail(new ChoraleError('timeout', `${other} did not answer in time`)),
      timeoutMs,
    )
    signal?.addEventListener('abort', cancel, { once: true })
    wire.post(() => question)
  })
}
