import { ChoraleError, type ErrorCode } from '../errors.ts'
import { type CborMap, decodeCborMap } from './cbor.ts'
import {
  amountField,
  booleanField,
  bytesField,
  choiceField,
  messageField,
  textField,
  textListField,
  uintField,
} from './fields.ts'
import {
  MAX_ADDR_LENGTH,
  MAX_ADDRS,
  MAX_DEADLINE_MS,
  MAX_ERROR_MESSAGE_LENGTH,
  MAX_LEASE_TOKENS,
  MAX_NAME_LENGTH,
  MAX_ONWARD,
  MAX_OPENING_BYTES,
  MAX_PASS_BYTES,
  MAX_PEER_ID_LENGTH,
  MAX_RECEIPT_PAYLOAD_BYTES,
  MAX_RETRY_AFTER_MS,
  MAX_STEP_PAYLOAD_BYTES,
  MAX_STEP_TOKENS,
} from './limits.ts'
import { SIGNATURE_BYTES } from './signed.ts'
import { WIRE_DTYPES, type WireDtype } from './wire-dtype.ts'

/**
 * Messages of `/chorale/span/1`. Header fields a reader does not know are ignored, so fields may be added within
 * a version; a field that changes meaning needs a new version. Only STEP, OUTPUT and RECEIPT carry a payload.
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
  | Leaving
  | Ping
  | Pong
  | Failure
export type SpanMessage = ClientMessage | ServerMessage

const WANTS = ['all', 'last', 'none'] as const
const ROLES = ['client', 'server'] as const
const MAX_SEQ = 0xffff_ffff
const MAX_VERSION = 65_535
const MAX_COUNT = 1 << 30
const TOKEN_BYTES = 16

/** Codes that may come from another peer; one we do not know (a newer peer's) reads as `internal`. */
const WIRE_CODES: ReadonlySet<string> = new Set<ErrorCode>([
  'bad_request',
  'protocol',
  'limit',
  'capacity',
  'context_length',
  'not_found',
  'not_supported',
  'unreachable',
  'timeout',
  'session_lost',
  'engine',
  'refused',
  'cancelled',
  'internal',
])

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

function readMessage(map: CborMap): SpanMessage {
  const type = map['type']
  switch (type) {
    case 'step':
      return {
        type,
        seq: uintField(map, 'seq', MAX_SEQ),
        position: uintField(map, 'position', MAX_LEASE_TOKENS),
        tokens: atLeastOne(map, 'tokens', MAX_STEP_TOKENS),
        want: choiceField(map, 'want', WANTS),
        deadlineMs: amountField(map, 'deadlineMs', MAX_DEADLINE_MS),
        ...(map['onward'] !== undefined && { onward: readOnward(map['onward']) }),
      }
    case 'output':
      return {
        type,
        seq: uintField(map, 'seq', MAX_SEQ),
        position: uintField(map, 'position', MAX_LEASE_TOKENS),
        serverMs: amountField(map, 'serverMs', MAX_COUNT),
        ...(map['pushed'] !== undefined && { pushed: booleanField(map, 'pushed') }),
      }
    case 'hello':
      return {
        type,
        ...readGreeting(map),
        ...(map['pass'] !== undefined && { pass: bytesField(map, 'pass', 1, MAX_PASS_BYTES) }),
      }
    case 'welcome':
      return { type, ...readGreeting(map) }
    case 'open':
      return {
        type,
        body: bytesField(map, 'body', 1, MAX_OPENING_BYTES),
        signature: bytesField(map, 'signature', SIGNATURE_BYTES, SIGNATURE_BYTES),
      }
    case 'receipt':
      return { type }
    case 'ack':
      return {
        type,
        sequence: uintField(map, 'sequence', MAX_SEQ),
        signature: bytesField(map, 'signature', SIGNATURE_BYTES, SIGNATURE_BYTES),
      }
    case 'opened':
      return readOpened(map)
    case 'link':
      return readLink(map)
    case 'attach':
      return { type, token: bytesField(map, 'token', TOKEN_BYTES, TOKEN_BYTES) }
    case 'rollback':
    case 'rolledback':
      return {
        type,
        seq: uintField(map, 'seq', MAX_SEQ),
        position: uintField(map, 'position', MAX_LEASE_TOKENS),
      }
    case 'close':
    case 'leaving':
    case 'ping':
    case 'pong':
      return { type }
    case 'error':
      return readFailure(map)
    default: {
      const shown = typeof type === 'string' ? JSON.stringify(type.slice(0, 40)) : 'missing'
      throw new ChoraleError('protocol', `unknown message type ${shown}`, { field: 'type' })
    }
  }
}

function readGreeting(map: CborMap): Omit<Welcome, 'type'> {
  return {
    version: uintField(map, 'version', MAX_VERSION),
    role: choiceField(map, 'role', ROLES),
    software: textField(map, 'software', MAX_NAME_LENGTH),
    dtypes: textListField(map, 'dtypes', 16, MAX_NAME_LENGTH),
  }
}

function readLink(map: CborMap): Link {
  const accept = map['accept'] === undefined ? undefined : subMap(map, 'accept')
  const next = map['next'] === undefined ? undefined : subMap(map, 'next')
  return {
    type: 'link',
    ...(accept && { accept: readLinkEnd(accept) }),
    ...(next && {
      next: { ...readLinkEnd(next), addrs: textListField(next, 'addrs', MAX_ADDRS, MAX_ADDR_LENGTH) },
    }),
  }
}

function readLinkEnd(map: CborMap): LinkEnd {
  return {
    token: bytesField(map, 'token', TOKEN_BYTES, TOKEN_BYTES),
    peerId: textField(map, 'peerId', MAX_PEER_ID_LENGTH),
  }
}

function readOnward(value: unknown): Onward[] {
  if (!Array.isArray(value) || value.length > MAX_ONWARD) {
    throw new ChoraleError('protocol', `field onward must be a list of at most ${MAX_ONWARD} steps`, {
      field: 'onward',
    })
  }
  return value.map((entry) => {
    if (!isMap(entry)) throw new ChoraleError('protocol', 'field onward must hold maps', { field: 'onward' })
    return { seq: uintField(entry, 'seq', MAX_SEQ), want: choiceField(entry, 'want', WANTS) }
  })
}

function subMap(map: CborMap, name: string): CborMap {
  const value = map[name]
  if (!isMap(value)) throw new ChoraleError('protocol', `field ${name} must be a map`, { field: name })
  return value
}

function isMap(value: unknown): value is CborMap {
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)
  )
}

function readOpened(map: CborMap): Opened {
  const load = map['load']
  if (typeof load !== 'object' || load === null) {
    throw new ChoraleError('protocol', 'field load must be a map', { field: 'load' })
  }
  const loadMap = load as CborMap
  return {
    type: 'opened',
    leaseTokens: uintField(map, 'leaseTokens', MAX_LEASE_TOKENS),
    maxStepTokens: atLeastOne(map, 'maxStepTokens', MAX_STEP_TOKENS),
    hiddenSize: uintField(map, 'hiddenSize', MAX_COUNT),
    dtype: choiceField(map, 'dtype', WIRE_DTYPES),
    engine: textField(map, 'engine', MAX_NAME_LENGTH),
    load: {
      sessions: uintField(loadMap, 'sessions', MAX_COUNT),
      freeKvTokens: uintField(loadMap, 'freeKvTokens', MAX_COUNT),
      queued: uintField(loadMap, 'queued', MAX_COUNT),
    },
  }
}

function readFailure(map: CborMap): Failure {
  const code = textField(map, 'code', MAX_NAME_LENGTH)
  return {
    type: 'error',
    code: WIRE_CODES.has(code) ? (code as ErrorCode) : 'internal',
    message: messageField(map, 'message', MAX_ERROR_MESSAGE_LENGTH),
    retryable: booleanField(map, 'retryable'),
    ...(map['retryAfterMs'] !== undefined && {
      retryAfterMs: uintField(map, 'retryAfterMs', MAX_RETRY_AFTER_MS),
    }),
  }
}

function atLeastOne(map: CborMap, name: string, max: number): number {
  const value = uintField(map, name, max)
  if (value === 0) throw new ChoraleError('protocol', `field ${name} must be at least 1`, { field: name })
  return value
}
