import { ChoraleError, type ErrorCode } from '../errors.ts'
import { decodeCborMap } from './cbor.ts'
import {
  MAX_ADOPT_BYTES,
  MAX_ERROR_MESSAGE_LENGTH,
  MAX_RECEIPT_PAYLOAD_BYTES,
  MAX_RETRY_AFTER_MS,
  MAX_STEP_PAYLOAD_BYTES,
} from './limits.ts'
import { readMessage } from './read-message.ts'
import type { WireDtype } from './wire-dtype.ts'

/**
 * Messages of `/chorale/span/1`. Header fields a reader does not know are ignored, so fields may be added within
 * a version; a field that changes meaning needs a new version. Only STEP, OUTPUT, ADOPT and RECEIPT carry a payload.
 */

/** First message of the client. */
export interface Hello {
  readonly type: 'hello'
  readonly version: number
  readonly role: 'client' | 'server'
  readonly software: string
  /** Activation formats the sender reads and writes. */
  readonly dtypes: readonly string[]
  /** The signed pass of a client that has no stake of its own (`pass.ts`). */
  readonly pass?: Uint8Array
}

/** The server's answer to HELLO: now, and not when `dial()` resolved, the client is admitted. */
export interface Welcome extends Omit<Hello, 'type' | 'pass'> {
  readonly type: 'welcome'
}

/** Asks for a session: what is asked for is in the body, which the client signed (`opening.ts`). */
export interface Open {
  readonly type: 'open'
  readonly body: Uint8Array
  readonly signature: Uint8Array
}

/** What a server is busy with. */
export interface ServerLoad {
  readonly sessions: number
  readonly freeKvTokens: number
  /** Steps received and not answered, of all sessions. */
  readonly queued: number
}

/** A session with its lease. */
export interface Opened {
  readonly type: 'opened'
  readonly leaseTokens: number
  readonly maxStepTokens: number
  readonly hiddenSize: number
  readonly dtype: WireDtype
  readonly engine: string
  readonly load: ServerLoad
  /** How the server keeps keys and values, where it can hand them over and take others' (`KvRows`). */
  readonly kv?: { readonly precision: 'f32' | 'f16'; readonly width: number }
}

/** What a server further along the chain is asked for when a step's output is pushed to it. */
export interface Onward {
  /** The step's number in that server's session. */
  readonly seq: number
  readonly want: Step['want']
}

/** Payload: hidden [tokens, hiddenSize]. Steps are numbered from 0 and run in that order. */
export interface Step {
  readonly type: 'step'
  readonly seq: number
  /** Tokens before this step, counting those of steps still under way; what is in the cache beyond is forgotten. */
  readonly position: number
  readonly tokens: number
  readonly want: 'all' | 'last' | 'none'
  /** How long the client will wait; the server drops work that nobody waits for. */
  readonly deadlineMs: number
  /** The servers after this one, nearest first: the output goes to the first of them, over the session's link. */
  readonly onward?: readonly Onward[]
}

/** Payload: hidden [tokens, 1 or 0 rows as wanted, hiddenSize]. */
export interface Output {
  readonly type: 'output'
  readonly seq: number
  /** Tokens in the cache after the step. */
  readonly position: number
  /** From the step's turn in its session to its output, waiting for other sessions included. */
  readonly serverMs: number
  /** Whether the output went on to the next server; absent when the step named none. */
  readonly pushed?: boolean
}

/** The other end of a link between two servers of a chain. Only the client knows both sessions, so it draws the token. */
export interface LinkEnd {
  /** 16 random bytes that only the client and the two servers know. */
  readonly token: Uint8Array
  readonly peerId: string
}

/** Sent after OPEN, also again when a neighbour was replaced: from whom steps may come, to whom outputs go. */
export interface Link {
  readonly type: 'link'
  /** Steps for this session may come from this peer when it shows the token. */
  readonly accept?: LinkEnd
  /** Outputs of steps with `onward` go to this peer. */
  readonly next?: LinkEnd & { readonly addrs: readonly string[] }
}

/** First message after HELLO of a server that pushes: the stream feeds the session that accepts this token. */
export interface Attach {
  readonly type: 'attach'
  readonly token: Uint8Array
}

/** Forgets tokens from `position` on. Shares the numbering of steps. */
export interface Rollback {
  readonly type: 'rollback'
  readonly seq: number
  readonly position: number
}

export interface RolledBack {
  readonly type: 'rolledback'
  readonly seq: number
  readonly position: number
}

/**
 * The server is to get the session's tokens [from, position) from other servers; what it holds beyond `from` is forgotten.
 * Shares the numbering of steps. Payload: where from (`handover-messages.ts`).
 */
export interface Adopt {
  readonly type: 'adopt'
  readonly seq: number
  readonly from: number
  readonly position: number
  /** How long the client will wait. */
  readonly deadlineMs: number
}

/** How far that went: `from` when nothing came of it. The client's next step starts there at the latest. */
export interface Adopted {
  readonly type: 'adopted'
  readonly seq: number
  readonly position: number
  /** Why not all of it, for logs. */
  readonly reason?: string
}

/** Payload: a signed receipt and the steps it is about (`receipts.ts`). Sent by a server between outputs. */
export interface ReceiptMessage {
  readonly type: 'receipt'
}

/** The client agrees with a receipt: its own signature over the same body. */
export interface Ack {
  readonly type: 'ack'
  /** The receipt's number in the session. */
  readonly sequence: number
  readonly signature: Uint8Array
}

/** The client is done; the lease is free. Closing or resetting the stream means the same. */
export interface Close {
  readonly type: 'close'
}

/** The server will leave soon: the client should bring the session elsewhere, and may go on until then. */
export interface Leaving {
  readonly type: 'leaving'
}

/** Sent by an end that had nothing else to say for a while. */
export interface Ping {
  readonly type: 'ping'
}

export interface Pong {
  readonly type: 'pong'
}

/** Ends the session. */
export interface Failure {
  readonly type: 'error'
  readonly code: ErrorCode
  readonly message: string
  /** Whether the same request may succeed later or on another server. */
  readonly retryable: boolean
  /** When the same request may succeed here. */
  readonly retryAfterMs?: number
}

export type ClientMessage =
  | Hello
  | Open
  | Ack
  | Link
  | Attach
  | Step
  | Rollback
  | Adopt
  | Close
  | Ping
  | Pong
  | Failure
export type ServerMessage =
  | Welcome
  | Opened
  | Output
  | ReceiptMessage
  | RolledBack
  | Adopted
  | Leaving
  | Ping
  | Pong
  | Failure
export type SpanMessage = ClientMessage | ServerMessage

/** An ERROR as it is sent. */
export function failure(
  code: ErrorCode,
  message: string,
  retryable: boolean,
  retryAfterMs?: number,
): Failure {
  return {
    type: 'error',
    code,
    message: message.slice(0, MAX_ERROR_MESSAGE_LENGTH),
    retryable,
    ...(retryAfterMs !== undefined && {
      retryAfterMs: Math.min(MAX_RETRY_AFTER_MS, Math.ceil(Math.max(0, retryAfterMs))),
    }),
  }
}

const MAX_PAYLOADS: Readonly<Record<string, number>> = {
  step: MAX_STEP_PAYLOAD_BYTES,
  output: MAX_STEP_PAYLOAD_BYTES,
  receipt: MAX_RECEIPT_PAYLOAD_BYTES,
  adopt: MAX_ADOPT_BYTES,
}

/**
 * Reads any message's header, with the bounds of `limits.ts`. NOT checked: whether the message may come now and
 * from that end, and the exact payload length, which depends on the session's hidden size and format.
 * @throws `protocol`.
 */
export function parseSpanMessage(header: Uint8Array, payloadLength: number): SpanMessage {
  const map = decodeCborMap(header, 'frame header')
  const message = readMessage(map)
  const maxPayload = MAX_PAYLOADS[message.type] ?? 0
  if (payloadLength > maxPayload) {
    throw new ChoraleError(
      'protocol',
      `${message.type} with a payload of ${payloadLength} bytes (at most ${maxPayload})`,
    )
  }
  return message
}
