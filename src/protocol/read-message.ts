import { ChoraleError, type ErrorCode } from '../errors.ts'
import type { CborMap } from './cbor.ts'
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
  MAX_KV_WIDTH,
  MAX_LEASE_TOKENS,
  MAX_NAME_LENGTH,
  MAX_ONWARD,
  MAX_OPENING_BYTES,
  MAX_PASS_BYTES,
  MAX_PEER_ID_LENGTH,
  MAX_RETRY_AFTER_MS,
  MAX_STEP_TOKENS,
} from './limits.ts'
import type { Adopt, Failure, Link, LinkEnd, Onward, Opened, SpanMessage, Welcome } from './messages.ts'
import { SIGNATURE_BYTES } from './signed.ts'
import { WIRE_DTYPES } from './wire-dtype.ts'

const WANTS = ['all', 'last', 'none'] as const
const ROLES = ['client', 'server'] as const
/** Steps, roll-backs and receipts are numbered in 32 bits. */
const MAX_SEQ = 0xffff_ffff
const MAX_VERSION = 65_535
/** Above every count and width a peer truly has; keeps sums of them exact. */
const MAX_COUNT = 1 << 30
/** What an attacker would have to guess to push into a session: 128 bits. */
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

/**
 * A message of its header's fields, each within the bounds of `limits.ts`; fields it does not know are ignored.
 * @throws `protocol` naming the field.
 */
export function readMessage(map: CborMap): SpanMessage {
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
    case 'adopt':
      return readAdopt(map)
    case 'adopted':
      return {
        type,
        seq: uintField(map, 'seq', MAX_SEQ),
        position: uintField(map, 'position', MAX_LEASE_TOKENS),
        ...(map['reason'] !== undefined && {
          reason: messageField(map, 'reason', MAX_ERROR_MESSAGE_LENGTH),
        }),
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

function readAdopt(map: CborMap): Adopt {
  const from = uintField(map, 'from', MAX_LEASE_TOKENS)
  const position = uintField(map, 'position', MAX_LEASE_TOKENS)
  if (position <= from) {
    throw new ChoraleError('protocol', `adopt of no tokens, ${from}:${position}`, { field: 'position' })
  }
  return {
    type: 'adopt',
    seq: uintField(map, 'seq', MAX_SEQ),
    from,
    position,
    deadlineMs: amountField(map, 'deadlineMs', MAX_DEADLINE_MS),
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
  const load = subMap(map, 'load')
  return {
    type: 'opened',
    leaseTokens: uintField(map, 'leaseTokens', MAX_LEASE_TOKENS),
    maxStepTokens: atLeastOne(map, 'maxStepTokens', MAX_STEP_TOKENS),
    hiddenSize: uintField(map, 'hiddenSize', MAX_COUNT),
    dtype: choiceField(map, 'dtype', WIRE_DTYPES),
    engine: textField(map, 'engine', MAX_NAME_LENGTH),
    load: {
      sessions: uintField(load, 'sessions', MAX_COUNT),
      freeKvTokens: uintField(load, 'freeKvTokens', MAX_COUNT),
      queued: uintField(load, 'queued', MAX_COUNT),
    },
    ...(map['kv'] !== undefined && { kv: readKv(subMap(map, 'kv')) }),
  }
}

function readKv(map: CborMap): NonNullable<Opened['kv']> {
  return {
    precision: choiceField(map, 'precision', ['f32', 'f16']),
    width: uintField(map, 'width', MAX_KV_WIDTH),
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
