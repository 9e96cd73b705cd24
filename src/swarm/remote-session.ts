import { ChoraleError } from '../errors.ts'
import { createFrame, encodeFrame } from '../protocol/frame.ts'
import { PROTOCOL_VERSION, SPAN_PROTOCOL } from '../protocol/ids.ts'
import { MAX_STEP_PAYLOAD_BYTES } from '../protocol/limits.ts'
import {
  failure,
  type Hello,
  type Open,
  type Opened,
  parseSpanMessage,
  type ServerMessage,
  type SpanMessage,
  type Step,
} from '../protocol/messages.ts'
import { fromWire, toWire, WIRE_DTYPES, wireBytes, type WireDtype } from '../protocol/wire-dtype.ts'
import type { ServerRecord } from '../routing/snapshot.ts'
import type { RouteHop, SpanSession, StepOptions } from '../session/span-runner.ts'
import { concatRows, rows, type Tensor, tensor } from '../tensor/tensor.ts'
import { type FramedStream, frameStream } from './framed-stream.ts'
import type { Peer } from './peer.ts'
import type { RemoteTimeouts } from './remote-timeouts.ts'

/** What of a server's record a client needs to reach it. */
export type RemoteSpanTarget = Pick<ServerRecord, 'peerId' | 'addrs' | 'modelId' | 'start' | 'end' | 'engine'>

export interface RemoteSessionOptions {
  readonly hiddenSize: number
  readonly dtype: WireDtype
  readonly timeouts: RemoteTimeouts
  readonly maxTokens: number
  readonly signal: AbortSignal | undefined
}

/** Sent and not answered yet; answers come in the order of sending. */
interface Pending {
  readonly seq: number
  readonly kind: 'hello' | 'open' | 'step' | 'rollback'
  /** Position the answer must report. */
  readonly position: number
  /** Rows the answer must carry. */
  readonly rows: number
  /** How long the answer may take once it is first in line. */
  readonly timeoutMs: number
  readonly resolve: (answer: { message: ServerMessage; hidden: Tensor }) => void
  readonly reject: (error: ChoraleError) => void
}

/** Dials, says HELLO, opens a session. Errors: see `connectRemoteSpan`. */
export async function openRemoteSession(
  peer: Peer,
  target: RemoteSpanTarget,
  options: RemoteSessionOptions,
): Promise<SpanSession> {
  const { timeouts, signal } = options
  const stream = await peer.openStream(target.peerId, target.addrs, SPAN_PROTOCOL, {
    timeoutMs: timeouts.dialMs,
    ...(signal === undefined ? {} : { signal }),
  })
  const session = new RemoteSession(peer, target, options)
  session.attach(
    frameStream<SpanMessage>(stream, {
      parse: (header, length) => session.parse(header, length),
      maxPayload: MAX_STEP_PAYLOAD_BYTES,
      onFrame: (message, payload) => session.receive(message, payload),
      onClose: (error) =>
        session.fail(error ?? new ChoraleError('session_lost', 'the server closed the session')),
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

class RemoteSession implements SpanSession {
  readonly #peer: Peer
  readonly #target: RemoteSpanTarget
  readonly #options: RemoteSessionOptions
  #wire: FramedStream | undefined
  #opened: Opened | undefined
  #position = 0
  /** Position after the steps that were sent. */
  #sentPosition = 0
  #nextSeq = 0
  readonly #pending: Pending[] = []
  #failure: ChoraleError | undefined
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(peer: Peer, target: RemoteSpanTarget, options: RemoteSessionOptions) {
    this.#peer = peer
    this.#target = target
    this.#options = options
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
    const hello: Hello = {
      type: 'hello',
      version: PROTOCOL_VERSION,
      role: 'client',
      software: this.#peer.software,
      dtypes: WIRE_DTYPES,
    }
    const open: Open = {
      type: 'open',
      session: crypto.getRandomValues(new Uint8Array(16)),
      modelId: this.#target.modelId,
      start: this.#target.start,
      end: this.#target.end,
      maxTokens,
      dtype,
    }
    await this.#cancellable(signal, async () => {
      const ask = { seq: -1, position: 0, rows: 0, timeoutMs: timeouts.openMs }
      await this.#request({ ...ask, kind: 'hello' }, () => encodeFrame(hello))
      const { message } = await this.#request({ ...ask, kind: 'open' }, () => encodeFrame(open))
      const opened = message as Opened
      if (opened.hiddenSize !== hiddenSize || opened.leaseTokens < maxTokens) {
        const error = new ChoraleError(
          'protocol',
          `server granted ${opened.leaseTokens} tokens of hidden size ${opened.hiddenSize}, asked were ${maxTokens} of ${hiddenSize}`,
        )
        this.fail(error)
        throw this.#failure ?? error
      }
      this.#opened = opened
    })
  }

  async step(hidden: Tensor, options: StepOptions = {}): Promise<Tensor> {
    const { hiddenSize, maxTokens } = this.#options
    const [tokens, columns] = hidden.shape
    if (this.#failure !== undefined) throw this.#failure
    const opened = this.#opened
    if (opened === undefined) throw new ChoraleError('bad_request', 'the session is not open')
    if (tokens === 0 || columns !== hiddenSize) {
      throw new ChoraleError(
        'bad_request',
        `step needs hidden [1 or more, ${hiddenSize}], got [${tokens}, ${columns}]`,
      )
    }
    if (this.#sentPosition + tokens > maxTokens) {
      throw new ChoraleError(
        'capacity',
        `step to ${this.#sentPosition + tokens} tokens passes the lease of ${maxTokens}: open with a larger maxTokens`,
      )
    }
    const want = options.want ?? 'all'
    const rowBytes = hiddenSize * wireBytes(opened.dtype)
    const chunkTokens = Math.max(
      1,
      Math.min(opened.maxStepTokens, Math.floor(MAX_STEP_PAYLOAD_BYTES / rowBytes)),
    )
    return await this.#cancellable(options.signal, async () => {
      const chunks: Promise<Tensor>[] = []
      for (let start = 0; start < tokens; start += chunkTokens) {
        const end = Math.min(tokens, start + chunkTokens)
        const chunkWant = want === 'all' || end === tokens ? want : 'none'
        chunks.push(this.#stepChunk(rows(hidden, start, end), chunkWant, opened.dtype))
      }
      if (chunks.length === 1) return await chunks[0]!
      const outputs = await Promise.all(chunks)
      return want === 'all' ? concatRows(outputs, hiddenSize) : outputs.at(-1)!
    })
  }

  async #stepChunk(hidden: Tensor, want: Step['want'], dtype: WireDtype): Promise<Tensor> {
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
    const pending = {
      kind: 'step',
      seq: step.seq,
      position: this.#sentPosition,
      rows: want === 'all' ? tokens : want === 'last' ? 1 : 0,
      timeoutMs,
    } as const
    const { hidden: output } = await this.#request(pending, () => {
      const bytes = toWire(hidden.data, dtype)
      const frame = createFrame(step, bytes.length)
      frame.payload.set(bytes)
      return frame.bytes
    })
    return output
  }

  async rollback(position: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#pending.length > 0) {
      throw new ChoraleError('bad_request', `rollback while ${this.#pending.length} steps are under way`)
    }
    if (!Number.isSafeInteger(position) || position < 0 || position > this.#position) {
      throw new ChoraleError(
        'bad_request',
        `rollback to ${position}, the session holds ${this.#position} tokens`,
      )
    }
    const seq = this.#nextSeq++
    this.#sentPosition = position
    const pending = {
      kind: 'rollback',
      seq,
      position,
      rows: 0,
      timeoutMs: this.#options.timeouts.stepMs,
    } as const
    await this.#request(pending, () => encodeFrame({ type: 'rollback', seq, position }))
  }

  async close(): Promise<void> {
    if (this.#failure !== undefined) return
    const wire = this.#wire
    const unused = this.#pending.length > 0
    this.#end(new ChoraleError('cancelled', 'the session was closed'))
    if (unused) {
      // Somebody still waits for a step: a reset frees the server at once, a polite CLOSE would queue behind the step.
      wire?.fail(new ChoraleError('cancelled', 'the session was closed'))
      return
    }
    wire?.post(() => encodeFrame({ type: 'close' }))
    await wire?.close()
  }

  /** Reads a header and refuses an OUTPUT whose payload has not exactly the rows that were asked for. */
  parse(header: Uint8Array, payloadLength: number): SpanMessage {
    const message = parseSpanMessage(header, payloadLength)
    if (message.type === 'output') {
      const head = this.#pending[0]
      const dtype = this.#opened?.dtype ?? 'f32'
      const expected = (head?.rows ?? 0) * this.#options.hiddenSize * wireBytes(dtype)
      if (payloadLength !== expected) {
        throw this.#blame(`output ${message.seq} carries ${payloadLength} bytes instead of ${expected}`)
      }
    }
    return message
  }

  receive(message: SpanMessage, payload: Uint8Array): void {
    switch (message.type) {
      case 'ping':
        if (this.#wire?.congested !== true) this.#wire?.post(() => encodeFrame({ type: 'pong' }))
        return
      case 'pong':
        return
      case 'error':
        this.fail(new ChoraleError(message.code, `server ${short(this.#target.peerId)}: ${message.message}`))
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
        this.#answer('step', message.seq, message.position, message, payload)
        return
      case 'rolledback':
        this.#answer('rollback', message.seq, message.position, message, payload)
        return
      default:
        throw this.#blame(`it sent ${message.type}, which only clients send`)
    }
  }

  /** Ends the session: every waiting call rejects with the first error. */
  fail(error: ChoraleError): void {
    if (this.#failure !== undefined) return
    this.#end(error)
    this.#wire?.fail(error)
  }

  #end(error: ChoraleError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    clearTimeout(this.#timer)
    for (const pending of this.#pending.splice(0)) pending.reject(error)
  }

  #answer(
    kind: Pending['kind'],
    seq: number,
    position: number,
    message: ServerMessage,
    payload: Uint8Array,
  ): void {
    const head = this.#pending[0]
    if (head === undefined || head.kind !== kind || head.seq !== seq || head.position !== position) {
      const wanted = head === undefined ? 'nothing' : `${head.kind} ${head.seq} at ${head.position}`
      throw this.#blame(`it answered ${kind} ${seq} at ${position}, expected was ${wanted}`)
    }
    const dtype = this.#opened?.dtype ?? 'f32'
    const hidden = tensor(head.rows, this.#options.hiddenSize, fromWire(payload, dtype))
    checkFinite(hidden.data, () => this.#blame(`output ${seq} holds values that are not finite`))
    this.#pending.shift()
    if (kind === 'step' || kind === 'rollback') this.#position = position
    this.#armTimer()
    head.resolve({ message, hidden })
  }

  #request(
    pending: Omit<Pending, 'resolve' | 'reject'>,
    make: () => Uint8Array,
  ): Promise<{ message: ServerMessage; hidden: Tensor }> {
    const wire = this.#wire
    if (this.#failure !== undefined || wire === undefined) {
      return Promise.reject(this.#failure ?? new ChoraleError('internal', 'no stream'))
    }
    return new Promise((resolve, reject) => {
      this.#pending.push({ ...pending, resolve, reject })
      if (this.#pending.length === 1) this.#armTimer()
      wire.send(make).catch((error: unknown) => {
        this.fail(error instanceof ChoraleError ? error : new ChoraleError('session_lost', String(error)))
      })
    })
  }

  /** One timer for the answer that is first in line: those behind it can't come earlier. */
  #armTimer(): void {
    clearTimeout(this.#timer)
    const head = this.#pending[0]
    if (head === undefined) return
    this.#timer = setTimeout(() => {
      this.fail(
        new ChoraleError(
          'timeout',
          `server ${short(this.#target.peerId)} did not answer ${head.kind} within ${head.timeoutMs} ms`,
        ),
      )
    }, head.timeoutMs)
  }

  /** Runs `work`; an abort ends the whole session, because a step can't be taken back alone. */
  async #cancellable<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    if (signal === undefined) return await work()
    const cancel = (): void => this.fail(new ChoraleError('cancelled', 'the caller cancelled'))
    if (signal.aborted) {
      cancel()
      throw new ChoraleError('cancelled', 'the caller cancelled')
    }
    signal.addEventListener('abort', cancel, { once: true })
    try {
      return await work()
    } finally {
      signal.removeEventListener('abort', cancel)
    }
  }

  /** A protocol error of the server, told to it as far as that is still possible. */
  #blame(what: string): ChoraleError {
    const error = new ChoraleError('protocol', `server ${short(this.#target.peerId)}: ${what}`)
    this.#wire?.post(() => encodeFrame(failure('protocol', what, false)))
    return error
  }
}

function checkFinite(data: Float32Array, error: () => ChoraleError): void {
  for (let i = 0; i < data.length; i++) if (!Number.isFinite(data[i])) throw error()
}

/** A peer id as people can compare it: its last eight characters. */
function short(peerId: string): string {
  return `…${peerId.slice(-8)}`
}
