import { ChoraleError } from '../errors.ts'
import { createFrame, encodeFrame } from '../protocol/frame.ts'
import { PROTOCOL_VERSION, SPAN_PROTOCOL } from '../protocol/ids.ts'
import { MAX_STEP_PAYLOAD_BYTES } from '../protocol/limits.ts'
import {
  failure,
  type Hello,
  type Link,
  type Onward,
  type Open,
  type Opened,
  parseSpanMessage,
  type ServerMessage,
  type SpanMessage,
  type Step,
} from '../protocol/messages.ts'
import { fromWire, toWire, WIRE_DTYPES, wireBytes, type WireDtype } from '../protocol/wire-dtype.ts'
import type { ServerRecord } from '../routing/snapshot.ts'
import { cancelled, checkOpen, checkRollback, checkStep, wantedCount } from '../session/check-step.ts'
import type {
  PushedStep,
  PushLinks,
  PushPort,
  RouteHop,
  SpanSession,
  StepOptions,
} from '../session/span-runner.ts'
import { concatRows, rows, type Tensor, tensor } from '../tensor/tensor.ts'
import { type FramedStream, frameStream } from './framed-stream.ts'
import type { Peer } from './peer.ts'
import type { RemoteTimeouts } from './remote-timeouts.ts'
import { createRequestQueue, type Request } from './request-queue.ts'

/** What of a server's record a client needs to reach it. */
export type RemoteSpanTarget = Pick<ServerRecord, 'peerId' | 'addrs' | 'modelId' | 'start' | 'end' | 'engine'>

export interface RemoteSessionOptions {
  readonly hiddenSize: number
  readonly dtype: WireDtype
  readonly timeouts: RemoteTimeouts
  readonly maxTokens: number
  readonly signal: AbortSignal | undefined
  readonly push: PushLinks | undefined
}

/** A pushed step comes after those of all servers before this one, each of which may take its time. */
const PUSH_TIMEOUT_FACTOR = 4

/** Dials, says HELLO, opens a session. Errors: see `connectRemoteSpan`. */
export async function openRemoteSession(
  peer: Peer,
  target: RemoteSpanTarget,
  options: RemoteSessionOptions,
): Promise<SpanSession> {
  const { timeouts, signal } = options
  checkOpen({ maxTokens: options.maxTokens, ...(signal && { signal }) })
  const stream = await peer.openStream(target.peerId, target.addrs, SPAN_PROTOCOL, {
    timeoutMs: timeouts.dialMs,
    ...(signal && { signal }),
  })
  const session = new RemoteSession(peer.software, target, options)
  session.attach(
    frameStream<SpanMessage>(stream, {
      parse: (header, length) => session.parse(header, length),
      maxPayload: MAX_STEP_PAYLOAD_BYTES,
      onFrame: (message, payload) => session.receive(message, payload),
      onClose: (error) =>
        session.fail(error ?? new ChoraleError('session_lost', `${session.server} closed the session`)),
      heartbeat: {
        frame: () => encodeFrame({ type: 'ping' }),
        everyMs: timeouts.heartbeatMs,
        silenceMs: timeouts.silenceMs,
      },
    }),
  )
  await session.open()
  return session
}

interface Answer {
  readonly message: ServerMessage
  readonly hidden: Tensor
  readonly pushed?: boolean | undefined
}

class RemoteSession implements SpanSession {
  /** The server's name in errors. */
  readonly server: string
  readonly #software: string
  readonly #target: RemoteSpanTarget
  readonly #options: RemoteSessionOptions
  readonly push: PushPort
  readonly #requests = createRequestQueue<Answer>((head) => this.#timedOut(head))
  #wire: FramedStream | undefined
  #opened: Opened | undefined
  #position = 0
  /** Position after the steps that were sent. */
  #sentPosition = 0
  #nextSeq = 0
  /** Numbers below this one were dropped or answered: their outputs are of no interest. */
  #forgottenBelow = 0
  /** A step was refused before it was sent: later ones must not take its place. `rollback` clears it. */
  #refused: unknown
  /** The session is over. */
  #failure: ChoraleError | undefined

  constructor(software: string, target: RemoteSpanTarget, options: RemoteSessionOptions) {
    this.#software = software
    this.#target = target
    this.#options = options
    this.server = `server …${target.peerId.slice(-8)}`
    const maxStepTokens = (): number => this.#maxStepTokens()
    this.push = {
      get maxStepTokens() {
        return maxStepTokens()
      },
      link: (links) => this.#link(links),
      begin: (tokens, want) => this.#begin(tokens, want),
      forget: (seq) => this.#forget(seq),
    }
  }

  get position(): number {
    return this.#position
  }

  get route(): readonly RouteHop[] {
    const { peerId, engine, start, end } = this.#target
    return [{ peer: peerId, engine: this.#opened?.engine ?? engine, start, end }]
  }

  attach(wire: FramedStream): void {
    this.#wire = wire
  }

  async open(): Promise<void> {
    const { hiddenSize, maxTokens, dtype, timeouts, signal } = this.#options
    const { modelId, start, end } = this.#target
    const hello: Hello = {
      type: 'hello',
      version: PROTOCOL_VERSION,
      role: 'client',
      software: this.#software,
      dtypes: WIRE_DTYPES,
    }
    const session = crypto.getRandomValues(new Uint8Array(16))
    const open: Open = { type: 'open', session, modelId, start, end, maxTokens, dtype }
    const request = { seq: -1, position: 0, rows: 0, timeoutMs: timeouts.openMs }
    await this.#cancellable(signal, async () => {
      // All at once: on far links each answer waited for would cost a round trip.
      const welcome = this.#ask({ ...request, kind: 'hello' }, () => encodeFrame(hello))
      const answer = this.#ask({ ...request, kind: 'open' }, () => encodeFrame(open))
      if (this.#options.push) this.#link(this.#options.push)
      const [, { message }] = await Promise.all([welcome, answer])
      const opened = message as Opened
      if (opened.hiddenSize !== hiddenSize || opened.leaseTokens < maxTokens) {
        const error = this.#blame(
          `it granted ${opened.leaseTokens} tokens of hidden size ${opened.hiddenSize}, asked were ${maxTokens} of ${hiddenSize}`,
        )
        this.fail(error)
        throw error
      }
      this.#opened = opened
    })
  }

  async step(hidden: Tensor, options: StepOptions = {}): Promise<Tensor> {
    const { hiddenSize, maxTokens } = this.#options
    if (this.#failure !== undefined) throw this.#failure
    if (this.#refused !== undefined) throw this.#refused
    const opened = this.#opened
    if (opened === undefined) throw new ChoraleError('bad_request', 'the session is not open')
    try {
      checkStep(hidden, hiddenSize, this.#sentPosition, maxTokens)
    } catch (error) {
      this.#refused = error
      throw error
    }
    const tokens = hidden.shape[0]
    const want = options.want ?? 'all'
    const chunkTokens = this.#maxStepTokens()
    return await this.#cancellable(options.signal, async () => {
      const chunks: Promise<Tensor>[] = []
      for (let start = 0; start < tokens; start += chunkTokens) {
        const end = Math.min(tokens, start + chunkTokens)
        const chunkWant = want === 'all' || end === tokens ? want : 'none'
        chunks.push(this.#stepChunk(rows(hidden, start, end), chunkWant))
      }
      if (chunks.length === 1) return await chunks[0]!
      const outputs = await Promise.all(chunks)
      return want === 'all' ? concatRows(outputs, hiddenSize) : outputs[outputs.length - 1]!
    })
  }

  #maxStepTokens(): number {
    const { dtype, maxStepTokens } = this.#opened!
    const mostTokens = Math.floor(MAX_STEP_PAYLOAD_BYTES / (this.#options.hiddenSize * wireBytes(dtype)))
    return Math.max(1, Math.min(maxStepTokens, mostTokens))
  }

  #link({ accept, next }: PushLinks): void {
    const link: Link = { type: 'link', ...(accept && { accept }), ...(next && { next }) }
    this.#wire?.post(() => encodeFrame(link))
  }

  #forget(seq: number): void {
    this.#forgottenBelow = Math.max(this.#forgottenBelow, this.#nextSeq)
    this.#requests.drop(seq, new ChoraleError('session_lost', 'the step was given up'))
    // The next step starts where the remaining ones end; the server forgets what it did beyond.
    this.#sentPosition = this.#requests.tail?.position ?? this.#position
  }

  #begin(tokens: number, want: Step['want']): PushedStep {
    const { timeouts } = this.#options
    const timeoutMs = PUSH_TIMEOUT_FACTOR * (timeouts.stepMs + tokens * timeouts.stepPerTokenMs)
    const seq = this.#nextSeq++
    const position = this.#sentPosition
    this.#sentPosition += tokens
    const request: Request = {
      kind: 'step',
      seq,
      position: this.#sentPosition,
      rows: wantedCount(tokens, want),
      timeoutMs,
    }
    const answer = this.#ask(request).then(({ hidden, pushed }) => ({ hidden, pushed }))
    answer.catch(() => undefined)
    return {
      seq,
      want,
      answer,
      send: (hidden, onward) =>
        this.#write(() =>
          this.#stepFrame(
            { type: 'step', seq, position, tokens, want, deadlineMs: timeoutMs },
            hidden,
            onward,
          ),
        ),
    }
  }

  #stepFrame(step: Step, hidden: Tensor, onward: readonly Onward[] = []): Uint8Array {
    const bytes = toWire(hidden.data, this.#opened!.dtype)
    const named = onward.map(({ seq, want }) => ({ seq, want }))
    const frame = createFrame(onward.length > 0 ? { ...step, onward: named } : step, bytes.length)
    frame.payload.set(bytes)
    return frame.bytes
  }

  async #stepChunk(hidden: Tensor, want: Step['want']): Promise<Tensor> {
    const { timeouts } = this.#options
    const tokens = hidden.shape[0]
    const timeoutMs = timeouts.stepMs + tokens * timeouts.stepPerTokenMs
    const step: Step = {
      type: 'step',
      seq: this.#nextSeq++,
      position: this.#sentPosition,
      tokens,
      want,
      deadlineMs: timeoutMs,
    }
    this.#sentPosition += tokens
    const request: Request = {
      kind: 'step',
      seq: step.seq,
      position: this.#sentPosition,
      rows: wantedCount(tokens, want),
      timeoutMs,
    }
    return (await this.#ask(request, () => this.#stepFrame(step, hidden))).hidden
  }

  async rollback(position: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#requests.length > 0) {
      throw new ChoraleError('bad_request', `rollback while ${this.#requests.length} steps are under way`)
    }
    checkRollback(position, this.#position)
    // The next step says where it starts, and the server forgets what is beyond: nothing to wait for.
    this.#sentPosition = position
    this.#position = position
    this.#refused = undefined
  }

  async close(): Promise<void> {
    if (this.#failure !== undefined) return
    const wire = this.#wire
    const stepping = this.#requests.length > 0
    const closed = new ChoraleError('session_lost', 'the session is closed')
    this.#end(closed)
    // A reset frees the server at once; a polite CLOSE would queue behind the step.
    if (stepping) return wire?.fail(closed)
    wire?.post(() => encodeFrame({ type: 'close' }))
    await wire?.close()
  }

  /** Reads a header and refuses an OUTPUT whose payload has not exactly the rows that were asked for. */
  parse(header: Uint8Array, payloadLength: number): SpanMessage {
    const message = parseSpanMessage(header, payloadLength)
    if (message.type === 'output') {
      const dtype = this.#opened?.dtype ?? 'f32'
      if (this.#isForgotten(message.seq)) return message
      const expected = (this.#requests.head?.rows ?? 0) * this.#options.hiddenSize * wireBytes(dtype)
      if (payloadLength !== expected) {
        throw this.#blame(`output ${message.seq} carries ${payloadLength} bytes instead of ${expected}`)
      }
    }
    return message
  }

  receive(message: SpanMessage, payload: Uint8Array): void {
    switch (message.type) {
      case 'ping':
        if (this.#wire?.congested === false) this.#wire.post(() => encodeFrame({ type: 'pong' }))
        return
      case 'pong':
        return
      case 'error':
        this.fail(new ChoraleError(message.code, `${this.server}: ${message.message}`))
        return
      case 'welcome':
        if (message.version !== PROTOCOL_VERSION) {
          throw this.#blame(
            `it speaks version ${message.version} of the protocol, this is version ${PROTOCOL_VERSION}`,
          )
        }
        this.#answer('hello', -1, 0, message, payload)
        return
      case 'opened':
        this.#answer('open', -1, 0, message, payload)
        return
      case 'output':
        if (this.#isForgotten(message.seq)) return
        this.#answer('step', message.seq, message.position, message, payload)
        return
      default:
        throw this.#blame(`it sent ${message.type}, which only clients send`)
    }
  }

  /** Whether an output is of a step that was dropped: it may still come, before those asked for since. */
  #isForgotten(seq: number): boolean {
    return seq < this.#forgottenBelow && seq !== this.#requests.head?.seq
  }

  /** Ends the session: every waiting call rejects with the first error. */
  fail(error: ChoraleError): void {
    if (this.#failure !== undefined) return
    this.#end(error)
    this.#wire?.fail(error)
  }

  #end(error: ChoraleError): void {
    this.#failure = error
    this.#requests.fail(error)
  }

  #answer(
    kind: Request['kind'],
    seq: number,
    position: number,
    message: ServerMessage,
    payload: Uint8Array,
  ): void {
    const head = this.#requests.head
    if (head === undefined || head.kind !== kind || head.seq !== seq || head.position !== position) {
      const wanted = head === undefined ? 'nothing' : `${head.kind} ${head.seq} at ${head.position}`
      throw this.#blame(`it answered ${kind} ${seq} at ${position}, expected was ${wanted}`)
    }
    const data = fromWire(payload, this.#opened?.dtype ?? 'f32')
    if (!allFinite(data)) throw this.#blame(`output ${seq} holds values that are not finite`)
    const hidden = tensor(head.rows, this.#options.hiddenSize, data)
    if (kind === 'step') this.#position = position
    const pushed = message.type === 'output' ? message.pushed : undefined
    this.#requests.answer({ message, hidden, pushed })
  }

  /** Waits for an answer, after sending what `make` returns; without it somebody else sends. */
  #ask(request: Request, make?: () => Uint8Array): Promise<Answer> {
    const wire = this.#wire
    if (this.#failure !== undefined || wire === undefined) {
      return Promise.reject(this.#failure ?? new ChoraleError('internal', 'no stream'))
    }
    const answer = this.#requests.add(request)
    if (make) this.#write(make)
    return answer
  }

  #write(make: () => Uint8Array): void {
    this.#wire?.send(make).catch((error: unknown) => {
      this.fail(error instanceof ChoraleError ? error : new ChoraleError('session_lost', String(error)))
    })
  }

  #timedOut({ kind, timeoutMs }: Request): void {
    this.fail(new ChoraleError('timeout', `${this.server} did not answer ${kind} within ${timeoutMs} ms`))
  }

  /** Runs `work`; an abort ends the whole session, because a step can't be taken back alone. */
  async #cancellable<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
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
  #blame(what: string): ChoraleError {
    this.#wire?.post(() => encodeFrame(failure('protocol', what, false)))
    return new ChoraleError('protocol', `${this.server}: ${what}`)
  }
}

function allFinite(data: Float32Array): boolean {
  for (let i = 0; i < data.length; i++) if (!Number.isFinite(data[i])) return false
  return true
}
