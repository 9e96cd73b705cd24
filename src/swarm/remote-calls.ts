import { ChoraleError } from '../errors.ts'
import { encodeFrame } from '../protocol/frame.ts'
import { PROTOCOL_VERSION } from '../protocol/ids.ts'
import {
  type Adopted,
  failure,
  type Opened,
  type ServerMessage,
  type SpanMessage,
} from '../protocol/messages.ts'
import { parseSpanMessage } from '../protocol/messages.ts'
import { fromWire, wireBytes } from '../protocol/wire-dtype.ts'
import { cancelled } from '../session/check-step.ts'
import { allFinite } from '../sampling/filters.ts'
import { type Tensor, tensor } from '../tensor/tensor.ts'
import type { FramedStream } from './framed-stream.ts'
import type { RemoteReceipts } from './remote-receipts.ts'
import { createRequestQueue, type Request } from './request-queue.ts'
import type { StakeGate } from './stake-gate.ts'

/** What a server answered. */
export interface Answer {
  readonly message: ServerMessage
  readonly hidden: Tensor
  readonly pushed?: boolean | undefined
}

/**
 * The client's end of one stream: what was asked, what came back, and whether that is what was asked for.
 *
 * The first error ends it: every waiting call rejects with it, and later ones too.
 */
export class RemoteCalls {
  /** The server's name in errors. */
  readonly server: string
  readonly #peerId: string
  readonly #gate: StakeGate | undefined
  readonly #hiddenSize: number
  readonly requests = createRequestQueue<Answer>((head) => this.#timedOut(head))
  #wire: FramedStream | undefined
  /** Set when the session is opened. */
  receipts: RemoteReceipts | undefined
  /** What the server granted, once it did. */
  opened: Opened | undefined
  /** Why the session is over; undefined while it lives. */
  failure: ChoraleError | undefined
  /** Resolves when the server says that it will leave. */
  readonly leaving = Promise.withResolvers<void>()
  /** Position after the last answered step. */
  position = 0
  /** Where the tokens begin that the server is getting from others. */
  adoptingFrom = 0
  /** Numbers below this one were dropped or answered: their outputs are of no interest. */
  forgottenBelow = 0

  constructor(peerId: string, hiddenSize: number, gate?: StakeGate) {
    this.server = `server …${peerId.slice(-8)}`
    this.#peerId = peerId
    this.#gate = gate
    this.#hiddenSize = hiddenSize
  }

  attach(wire: FramedStream): void {
    this.#wire = wire
  }

  get wire(): FramedStream | undefined {
    return this.#wire
  }

  /** Waits for an answer, after sending what `make` returns; without it somebody else sends. */
  ask(request: Request, make?: () => Uint8Array): Promise<Answer> {
    if (this.failure !== undefined || this.#wire === undefined) {
      return Promise.reject(this.failure ?? new ChoraleError('internal', 'no stream'))
    }
    const answer = this.requests.add(request)
    if (make) this.write(make)
    return answer
  }

  /** Sends; when that fails the session is over. */
  write(make: () => Uint8Array): void {
    this.#wire?.send(make).catch((error: unknown) => {
      this.fail(error instanceof ChoraleError ? error : new ChoraleError('session_lost', String(error)))
    })
  }

  /** Sends what nobody waits for. */
  post(make: () => Uint8Array): void {
    this.#wire?.post(make)
  }

  /** Ends the session: every waiting call rejects with the first error. */
  fail(error: ChoraleError): void {
    if (this.failure !== undefined) return
    this.end(error)
    this.#wire?.fail(error)
  }

  /** Like `fail`, but leaves the stream to be closed by the caller. */
  end(error: ChoraleError): void {
    this.failure = error
    this.requests.fail(error)
  }

  /** Runs `work`; an abort ends the whole session, because a step can't be taken back alone. */
  async cancellable<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    if (signal === undefined) return await work()
    const cancel = (): void => this.fail(cancelled())
    if (signal.aborted) cancel()
    signal.addEventListener('abort', cancel, { once: true })
    try {
      return await work()
    } finally {
      signal.removeEventListener('abort', cancel)
    }
  }

  /** A protocol error of the server, told to it as far as that is still possible. */
  blame(what: string): ChoraleError {
    this.post(() => encodeFrame(failure('protocol', what, false)))
    return new ChoraleError('protocol', `${this.server}: ${what}`)
  }

  /** Reads a header and refuses an OUTPUT whose payload has not exactly the rows that were asked for. */
  parse(header: Uint8Array, payloadLength: number): SpanMessage {
    const message = parseSpanMessage(header, payloadLength)
    if (message.type === 'output' && !this.#isForgotten(message.seq)) {
      const dtype = this.opened?.dtype ?? 'f32'
      const expected = (this.requests.head?.rows ?? 0) * this.#hiddenSize * wireBytes(dtype)
      if (payloadLength !== expected) {
        throw this.blame(`output ${message.seq} carries ${payloadLength} bytes instead of ${expected}`)
      }
    }
    return message
  }

  /** Takes a message. @throws what ends the session. */
  receive(message: SpanMessage, payload: Uint8Array): void {
    switch (message.type) {
      case 'ping':
        if (this.#wire?.congested === false) this.post(() => encodeFrame({ type: 'pong' }))
        return
      case 'pong':
        return
      case 'leaving':
        this.leaving.resolve()
        return
      case 'error':
        this.fail(
          new ChoraleError(message.code, `${this.server}: ${message.message}`, {
            ...(message.retryAfterMs !== undefined && { retryAfterMs: message.retryAfterMs }),
          }),
        )
        return
      case 'welcome':
        if (message.version !== PROTOCOL_VERSION) {
          throw this.blame(
            `it speaks version ${message.version} of the protocol, this is version ${PROTOCOL_VERSION}`,
          )
        }
        this.#answer('hello', -1, 0, message, payload)
        return
      case 'opened':
        // Outputs may be right behind it.
        this.opened = message
        this.#answer('open', -1, 0, message, payload)
        return
      case 'output':
        this.#checkAdmitted()
        if (!this.#isForgotten(message.seq)) {
          this.#answer('step', message.seq, message.position, message, payload)
        }
        // After the answer was handed over: whoever waits for it need not wait for the hash.
        this.receipts?.output(message.seq, payload)
        return
      case 'receipt':
        this.receipts?.receive(payload)
        return
      case 'adopted':
        this.#adopted(message)
        return
      default:
        throw this.blame(`it sent ${message.type}, which only clients send`)
    }
  }

  /** A server that could not get everything says how far it came: what is beyond was not asked for. */
  #adopted(message: Adopted): void {
    const head = this.requests.head
    if (
      head?.kind !== 'adopt' ||
      head.seq !== message.seq ||
      message.position > head.position ||
      message.position < this.adoptingFrom
    ) {
      throw this.blame(`it adopted ${message.position} tokens out of turn`)
    }
    this.position = message.position
    const from = this.adoptingFrom
    // Before anything else is read: a receipt may be right behind it.
    if (message.position > from) this.receipts?.handed(message.seq, from, message.position - from)
    this.requests.answer({ message, hidden: tensor(0, this.#hiddenSize, new Float32Array(0)) })
  }

  /** What a server computed that has no stake (any more) is nobody's answer. @throws `refused`. */
  #checkAdmitted(): void {
    const verdict = this.#gate?.check(this.#peerId, 'serve')
    if (verdict?.ok !== false) return
    this.#gate?.refuse('output')
    throw new ChoraleError('refused', `${this.server} is not admitted: ${verdict.reason}`, { field: 'stake' })
  }

  /** Whether an output is of a step that was dropped: it may still come, before those asked for since. */
  #isForgotten(seq: number): boolean {
    return seq < this.forgottenBelow && seq !== this.requests.head?.seq
  }

  #answer(
    kind: Request['kind'],
    seq: number,
    position: number,
    message: ServerMessage,
    payload: Uint8Array,
  ): void {
    const head = this.requests.head
    if (head === undefined || head.kind !== kind || head.seq !== seq || head.position !== position) {
      const wanted = head === undefined ? 'nothing' : `${head.kind} ${head.seq} at ${head.position}`
      throw this.blame(`it answered ${kind} ${seq} at ${position}, expected was ${wanted}`)
    }
    const data = fromWire(payload, this.opened?.dtype ?? 'f32')
    if (!allFinite(data)) throw this.blame(`output ${seq} holds values that are not finite`)
    const hidden = tensor(head.rows, this.#hiddenSize, data)
    if (kind === 'step') this.position = position
    const pushed = message.type === 'output' ? message.pushed : undefined
    this.requests.answer({ message, hidden, pushed })
  }

  #timedOut({ kind, timeoutMs }: Request): void {
    this.fail(new ChoraleError('timeout', `${this.server} did not answer ${kind} within ${timeoutMs} ms`))
  }
}
