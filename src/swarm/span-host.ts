import { ChoraleError, type ErrorCode, errorCode, errorMessage, isChoraleError } from '../errors.ts'
import type { ServerLoad } from '../protocol/messages.ts'
import type { StoredReceipt } from '../protocol/receipt-file.ts'
import type { NumericMode } from '../protocol/receipts.ts'
import type { Span, SpanSession } from '../session/span-runner.ts'
import type { HandoverDesk } from './handover-desk.ts'
import type { OpeningGuard } from './opening-guard.ts'
import type { Peer } from './peer.ts'
import type { PushDesk } from './push-desk.ts'
import type { SpanMetrics } from './span-metrics.ts'
import type { StreamAction } from './stream-admission.ts'

/** What runs the steps of the sessions that come in over the network; `server/span-host.ts` is the one. */
export interface SpanHost {
  readonly modelId: string
  readonly hiddenSize: number
  readonly span: Span
  readonly engine: string
  /** How it computes, for receipts (default `float`). */
  readonly numericMode?: NumericMode
  /** Most tokens of one step. */
  readonly maxStepTokens: number
  /** Admits a session or throws. @throws `capacity`, `not_found`, `not_supported`. */
  open(request: SessionRequest): Promise<SpanSession>
  load(): Omit<ServerLoad, 'queued'>
  /** Is told what goes through its sessions, instead of what `ServeSpanOptions` names. */
  readonly tap?: SessionTap
}

/** The spans of a server that holds several. */
export interface SpanHosts {
  /** Who runs a session. @throws `not_found` for a model that is not here, `capacity`. */
  hostOf(request: SessionRequest): SpanHost
}

export interface SessionRequest extends Span {
  readonly modelId: string
  readonly maxTokens: number
  /** Who asks, authenticated by the connection. */
  readonly peerId: string
}

/** Numbers since the start, for `/metrics` and `chorale serve`. */
export interface ServeCounters {
  sessions: number
  tokens: number
  bytesIn: number
  bytesOut: number
  /** Sessions refused or ended by the server, by error code. */
  readonly refusals: Map<ErrorCode, number>
}

export interface ServeSpanOptions {
  /** A client must have said HELLO and OPEN by then: idle streams cost memory. Default 10 s. */
  readonly handshakeMs?: number
  /** An idle stream gets a PING this often. Default 15 s. */
  readonly heartbeatMs?: number
  /** A stream is dropped and its lease freed after this long without a byte. Default 75 s. */
  readonly silenceMs?: number
  /** Is told what goes through the sessions. */
  readonly tap?: SessionTap
  /** Whether sessions are handed over to other servers and taken from them (default true); false: their history is replayed. */
  readonly handover?: boolean
}

/** Keeps what accountants may ask for (`attest/audit-store.ts`). Must not throw and must not wait. */
export interface SessionTap {
  /** A session begins: its id in lower-case hex, and its signed opening. */
  open(session: string, opening: Uint8Array): void
  /** A step's rows as they travelled, valid during the call only; a rollback has no tokens and no bytes. */
  step(session: string, step: TappedStep): void
  /** A receipt with the client's agreement, or at the end without. */
  receipt(receipt: StoredReceipt): void
  /** The hidden states of tokens [from, to) that went into a session, as far as they are kept; undefined where they are gone. */
  inputs?(session: string, from: number, to: number): Uint8Array | undefined
}

export interface TappedStep {
  readonly seq: number
  readonly position: number
  readonly tokens: number
  readonly input: Uint8Array
  readonly output: Uint8Array
}

/** What the sessions of one server share. */
export interface ServeContext {
  readonly hosts: SpanHosts
  readonly peer: Peer
  readonly counters: ServeCounters
  readonly metrics: SpanMetrics
  readonly budget: ByteBudget
  readonly desk: PushDesk
  /** Sessions that other servers may take over. */
  readonly handovers: HandoverDesk
  readonly openings: OpeningGuard
  /** Steps received and not answered, of all sessions. */
  queued: number
  readonly options: Required<Omit<ServeSpanOptions, 'tap'>> & Pick<ServeSpanOptions, 'tap'>
}

/** Step bytes that wait in all sessions of a server; sessions that find it full stop reading until it has room. */
export interface ByteBudget {
  take(bytes: number): void
  give(bytes: number): void
  readonly full: boolean
  /** Calls back once when there is room again. */
  onRoom(resume: () => void): void
}

export interface ServedStream {
  /** Who is at the other end, and what it does here. */
  readonly peerId: string
  readonly action: StreamAction
  /** Who runs its session, once it has one. */
  readonly host: SpanHost | undefined
  /** Whether it has neither a session nor feeds one. */
  readonly waiting: boolean
  end(error: ChoraleError): void
}

/** A counter of waiting bytes with a list of who wants to know when it falls below `limit` again. */
export function byteBudget(limit: number): ByteBudget {
  let used = 0
  const waiting: (() => void)[] = []
  return {
    get full() {
      return used >= limit
    },
    take: (bytes) => {
      used += bytes
    },
    give: (bytes) => {
      used -= bytes
      if (used < limit) for (const resume of waiting.splice(0)) resume()
    },
    onRoom: (resume) => {
      waiting.push(resume)
    },
  }
}

/** Anything thrown as the error a client is told; what is not ours says nothing of our insides. */
export function clientError(error: unknown): ChoraleError {
  const code = errorCode(error)
  return new ChoraleError(code, code === 'internal' ? 'the server failed' : errorMessage(error), {
    cause: error,
    ...(isChoraleError(error) && {
      ...(error.field !== undefined && { field: error.field }),
      ...(error.retryAfterMs !== undefined && { retryAfterMs: error.retryAfterMs }),
    }),
  })
}
