import { ChoraleError } from '../errors.ts'
import { createFrame, encodeFrame } from '../protocol/frame.ts'
import { MAX_EARLY_STEP_TOKENS, MAX_STEP_PAYLOAD_BYTES } from '../protocol/limits.ts'
import type { Link, Onward, Opened, Step } from '../protocol/messages.ts'
import { toWire, wireBytes, type WireDtype } from '../protocol/wire-dtype.ts'
import type { ServerRecord } from '../routing/snapshot.ts'
import { atMost } from '../session/race-signal.ts'
import { checkRollback, checkStep, wantedCount } from '../session/check-step.ts'
import type {
  PushedStep,
  PushLinks,
  PushPort,
  RouteHop,
  SessionHandover,
  SpanSession,
  StepOptions,
} from '../session/span-runner.ts'
import { concatRows, rows, type Tensor } from '../tensor/tensor.ts'
import { createEarlyWrites, type EarlyWrites } from './early-writes.ts'
import type { Peer } from './peer.ts'
import type { RemoteCalls } from './remote-calls.ts'
import { createRemoteHandover } from './remote-handover.ts'
import { prepareOpening } from './remote-opening.ts'
import type { RemoteTimeouts } from './remote-timeouts.ts'

/** What of a server's record a client needs to reach it. */
export type RemoteSpanTarget = Pick<ServerRecord, 'peerId' | 'addrs' | 'modelId' | 'start' | 'end' | 'engine'>

export interface RemoteSessionOptions {
  readonly hiddenSize: number
  readonly dtype: WireDtype
  readonly timeouts: RemoteTimeouts
  readonly maxTokens: number
  readonly signal: AbortSignal | undefined
  readonly push: PushLinks | undefined
  readonly onSent: ((session: SpanSession) => void) | undefined
}

/** How long a closed session waits for the server's last receipt. */
const FINAL_RECEIPT_MS = 2_000

/** A pushed step comes after those of all servers before this one, each of which may take its time. */
const PUSH_TIMEOUT_FACTOR = 4

/** One session on a server, over a stream of its own; see `openRemoteSession`. */
export class RemoteSession implements SpanSession {
  readonly #peer: Peer
  readonly #calls: RemoteCalls
  readonly #target: RemoteSpanTarget
  readonly #options: RemoteSessionOptions
  readonly push: PushPort
  /** Position after the steps that were sent. */
  #sentPosition = 0
  #nextSeq = 0
  /** Numbers below this one were sent by this client. */
  #sentBelow = 0
  /** A LINK was sent: from then on others may send steps too. */
  #linked = false
  readonly #early: EarlyWrites
  #handover: SessionHandover | undefined
  /** A step was refused before it was sent: later ones must not take its place. `rollback` clears it. */
  #refused: unknown

  constructor(peer: Peer, target: RemoteSpanTarget, options: RemoteSessionOptions, calls: RemoteCalls) {
    this.#peer = peer
    this.#calls = calls
    this.#target = target
    this.#options = options
    this.#early = createEarlyWrites(
      () => calls.opened !== undefined,
      (make) => calls.write(make),
    )
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
    return this.#calls.position
  }

  get route(): readonly RouteHop[] {
    const { peerId, engine, start, end } = this.#target
    return [{ peer: peerId, engine: this.#calls.opened?.engine ?? engine, start, end }]
  }

  get leaving(): Promise<void> {
    return this.#calls.leaving.promise
  }

  /** Once the server said that it can. */
  get handover(): SessionHandover | undefined {
    return this.#handover
  }

  async open(): Promise<void> {
    const { hiddenSize, maxTokens, dtype, timeouts, signal } = this.#options
    const { modelId, start, end } = this.#target
    const { hello, open, session } = await prepareOpening(this.#peer, this.#calls, {
      server: this.#target.peerId,
      modelId,
      start,
      end,
      maxTokens,
      dtype,
    })
    const request = { seq: -1, position: 0, rows: 0, timeoutMs: timeouts.openMs }
    await this.#calls.cancellable(signal, async () => {
      // All at once: on far links each answer waited for would cost a round trip.
      const welcome = this.#calls.ask({ ...request, kind: 'hello' }, () => encodeFrame(hello))
      const answer = this.#calls.ask({ ...request, kind: 'open' }, () => encodeFrame(open))
      if (this.#options.push) this.#link(this.#options.push)
      this.#options.onSent?.(this)
      const [, { message }] = await Promise.all([welcome, answer])
      const opened = message as Opened
      const otherDtype = this.#early.any && opened.dtype !== dtype
      if (opened.hiddenSize !== hiddenSize || opened.leaseTokens < maxTokens || otherDtype) {
        const error = this.#calls.blame(
          `it granted ${opened.leaseTokens} tokens of hidden size ${opened.hiddenSize} as ${opened.dtype}, asked were ${maxTokens} of ${hiddenSize} as ${dtype}`,
        )
        this.#calls.fail(error)
        throw error
      }
      if (opened.kv) this.#handover = this.#createHandover(opened.kv, session)
      this.#early.release()
    })
  }

  async step(hidden: Tensor, options: StepOptions = {}): Promise<Tensor> {
    const { hiddenSize, maxTokens } = this.#options
    if (this.#calls.failure !== undefined) throw this.#calls.failure
    if (this.#refused !== undefined) throw this.#refused
    try {
      checkStep(hidden, hiddenSize, this.#sentPosition, maxTokens)
    } catch (error) {
      this.#refused = error
      throw error
    }
    const tokens = hidden.shape[0]
    const want = options.want ?? 'all'
    const chunkTokens = this.#maxStepTokens()
    return await this.#calls.cancellable(options.signal, async () => {
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
    const dtype = this.#dtype
    const maxStepTokens = this.#calls.opened?.maxStepTokens ?? MAX_EARLY_STEP_TOKENS
    const mostTokens = Math.floor(MAX_STEP_PAYLOAD_BYTES / (this.#options.hiddenSize * wireBytes(dtype)))
    return Math.max(1, Math.min(maxStepTokens, mostTokens))
  }

  /** How activations travel; servers answer in kind. */
  get #dtype(): WireDtype {
    return this.#calls.opened?.dtype ?? this.#options.dtype
  }

  #createHandover(kv: NonNullable<Opened['kv']>, session: Uint8Array): SessionHandover {
    return createRemoteHandover(kv, {
      peer: this.#peer,
      calls: this.#calls,
      server: this.#target,
      session,
      maxTokens: this.#options.maxTokens,
      nextSeq: () => {
        const seq = this.#nextSeq++
        this.#sentBelow = seq + 1
        return seq
      },
      onPosition: (position) => {
        this.#sentPosition = position
      },
    })
  }

  #link({ accept, next }: PushLinks): void {
    this.#linked = true
    const link: Link = { type: 'link', ...(accept && { accept }), ...(next && { next }) }
    this.#calls.post(() => encodeFrame(link))
  }

  #forget(seq: number): void {
    this.#calls.receipts?.forget(seq)
    // Numbers that nobody sent are used again: only a linked session may skip some.
    if (!this.#linked) this.#nextSeq = Math.max(seq, this.#sentBelow)
    this.#calls.forgottenBelow = Math.max(this.#calls.forgottenBelow, this.#nextSeq)
    this.#calls.requests.drop(seq, new ChoraleError('session_lost', 'the step was given up'))
    // The next step starts where the remaining ones end; the server forgets what it did beyond.
    this.#sentPosition = this.#calls.requests.tail?.position ?? this.#calls.position
  }

  /** Numbers the next step and waits for its answer, whoever sends it. */
  #number(tokens: number, want: Step['want'], timeoutMs: number) {
    const seq = this.#nextSeq++
    const position = this.#sentPosition
    this.#sentPosition += tokens
    this.#calls.receipts?.begin(seq, position, tokens)
    const rowCount = wantedCount(tokens, want)
    const answer = this.#calls.ask({
      kind: 'step',
      seq,
      position: this.#sentPosition,
      rows: rowCount,
      timeoutMs,
    })
    const step: Step = { type: 'step', seq, position, tokens, want, deadlineMs: timeoutMs }
    return { step, answer }
  }

  #send(step: Step, hidden: Tensor, onward?: readonly Onward[]): void {
    this.#sentBelow = Math.max(this.#sentBelow, step.seq + 1)
    const bytes = hidden.data.length * wireBytes(this.#dtype)
    this.#early.write(bytes, () => this.#stepFrame(step, hidden, onward))
    // Hashed while the step is on its way.
    this.#noteInput(step.seq, hidden)
  }

  #begin(tokens: number, want: Step['want']): PushedStep {
    const { timeouts } = this.#options
    const timeoutMs = PUSH_TIMEOUT_FACTOR * (timeouts.stepMs + tokens * timeouts.stepPerTokenMs)
    const { step, answer } = this.#number(tokens, want, timeoutMs)
    const outcome = answer.then(({ hidden, pushed }) => ({ hidden, pushed }))
    outcome.catch(() => undefined)
    return {
      seq: step.seq,
      want,
      answer: outcome,
      send: (hidden, onward) => this.#send(step, hidden, onward),
      given: (hidden) => this.#noteInput(step.seq, hidden),
    }
  }

  #noteInput(seq: number, hidden: Tensor): void {
    this.#calls.receipts?.input(seq, toWire(hidden.data, this.#dtype))
  }

  #stepFrame(step: Step, hidden: Tensor, onward: readonly Onward[] = []): Uint8Array {
    const bytes = toWire(hidden.data, this.#dtype)
    const named = onward.map(({ seq, want }) => ({ seq, want }))
    const frame = createFrame(onward.length > 0 ? { ...step, onward: named } : step, bytes.length)
    frame.payload.set(bytes)
    return frame.bytes
  }

  async #stepChunk(hidden: Tensor, want: Step['want']): Promise<Tensor> {
    const { timeouts } = this.#options
    const tokens = hidden.shape[0]
    const { step, answer } = this.#number(tokens, want, timeouts.stepMs + tokens * timeouts.stepPerTokenMs)
    this.#send(step, hidden)
    return (await answer).hidden
  }

  async rollback(position: number): Promise<void> {
    if (this.#calls.failure !== undefined) throw this.#calls.failure
    if (this.#calls.requests.length > 0) {
      throw new ChoraleError(
        'bad_request',
        `rollback while ${this.#calls.requests.length} steps are under way`,
      )
    }
    checkRollback(position, this.#calls.position)
    // The next step says where it starts, and the server forgets what is beyond: nothing to wait for.
    this.#sentPosition = position
    this.#calls.position = position
    this.#refused = undefined
  }

  async close(): Promise<void> {
    if (this.#calls.failure !== undefined) return
    const { wire } = this.#calls
    const stepping = this.#calls.requests.length > 0
    const closed = new ChoraleError('session_lost', 'the session is closed')
    this.#calls.end(closed)
    // A reset frees the server at once; a polite CLOSE would queue behind the step.
    if (stepping) return wire?.fail(closed)
    wire?.post(() => encodeFrame({ type: 'close' }))
    if (this.#calls.receipts?.expected) await atMost(this.#calls.receipts.final, FINAL_RECEIPT_MS)
    await wire?.close()
  }
}
