import { ChoraleError, type ErrorCode } from '../errors.ts'
import { type CborMap, decodeCborMap, encodeCbor } from './cbor.ts'
import { booleanField, bytesField, choiceField, textField, textListField, uintField } from './fields.ts'
import {
  MAX_ADDR_LENGTH,
  MAX_ADDRS,
  MAX_ADOPT_BYTES,
  MAX_ADOPT_SOURCES,
  MAX_GRANT_BYTES,
  MAX_HANDOVER_PART_BYTES,
  MAX_KV_WIDTH,
  MAX_LEASE_TOKENS,
  MAX_MODEL_ID_LENGTH,
  MAX_NAME_LENGTH,
} from './limits.ts'
import { makeRefusal, readRefusal, type Refusal } from './refusal.ts'

/**
 * Messages of `/chorale/handover/1`: a server asks another for the keys and values of a session, in parts. One question a
 * stream.
 */

/** What is asked for. Payload: the client's signed grant, which names session and blocks. */
export interface Take {
  readonly type: 'take'
  /** Tokens [from, to). */
  readonly from: number
  readonly to: number
  /** Whether the hidden states that went into the span are wanted too, for audits. */
  readonly inputs: boolean
}

/** The first answer: what will come, and what made it. */
export interface Held {
  readonly type: 'held'
  /** The tokens before this one come: not more than were asked for, nor than there are. */
  readonly to: number
  readonly modelId: string
  /** As `KvRows.precision` and `KvRows.width`. */
  readonly precision: 'f32' | 'f16'
  readonly width: number
  readonly engine: string
  readonly numericMode: 'float' | 'exact'
}

/**
 * Some tokens of it, in order. Payload: `kv`, the rows of `KvRows` in float32 for the grant's blocks; `inputs`, hidden
 * states in the session's format, for the tokens of the part behind it.
 */
export interface Part {
  readonly type: 'part'
  readonly what: 'kv' | 'inputs'
  readonly from: number
  readonly to: number
  /** SHA-256 of the payload. */
  readonly digest: Uint8Array
}

/** All parts came. */
export interface Done {
  readonly type: 'done'
}

export type HandoverMessage = Take | Held | Part | Done | Refusal

const CODES: readonly ErrorCode[] = [
  'capacity',
  'not_found',
  'not_supported',
  'protocol',
  'refused',
  'internal',
]

/** Reads a message of `/chorale/handover/1`. NOT checked: the payload beyond its length. @throws `protocol`. */
export function parseHandoverMessage(header: Uint8Array, payloadLength: number): HandoverMessage {
  const map = decodeCborMap(header, 'frame header')
  const type = map['type']
  const most = type === 'part' ? MAX_HANDOVER_PART_BYTES : type === 'take' ? MAX_GRANT_BYTES : 0
  if (payloadLength > most) {
    throw new ChoraleError('protocol', `message with ${payloadLength} bytes (at most ${most})`)
  }
  switch (type) {
    case 'take':
      return { type, ...readTokens(map), inputs: booleanField(map, 'inputs') }
    case 'held':
      return {
        type,
        to: uintField(map, 'to', MAX_LEASE_TOKENS),
        modelId: textField(map, 'modelId', MAX_MODEL_ID_LENGTH),
        precision: choiceField(map, 'precision', ['f32', 'f16']),
        width: uintField(map, 'width', MAX_KV_WIDTH),
        engine: textField(map, 'engine', MAX_NAME_LENGTH),
        numericMode: choiceField(map, 'numericMode', ['float', 'exact']),
      }
    case 'part':
      return {
        type,
        what: choiceField(map, 'what', ['kv', 'inputs']),
        ...readTokens(map),
        digest: bytesField(map, 'digest', 32, 32),
      }
    case 'done':
      return { type }
    case 'refused':
      return readRefusal(map, CODES)
    default:
      throw new ChoraleError('protocol', 'unknown message', { field: 'type' })
  }
}

function readTokens(map: CborMap): { readonly from: number; readonly to: number } {
  const from = uintField(map, 'from', MAX_LEASE_TOKENS)
  const to = uintField(map, 'to', MAX_LEASE_TOKENS)
  if (to <= from) throw new ChoraleError('protocol', `no tokens in ${from}:${to}`, { field: 'to' })
  return { from, to }
}

/** A refusal as it is sent; codes that say nothing to whoever asked read as `internal`. */
export function handoverRefusal(code: ErrorCode, message: string, retryAfterMs?: number): Refusal {
  return makeRefusal(CODES, code, message, retryAfterMs)
}

/** Where a server gets part of a session from: ADOPT's payload is a list of these. */
export interface AdoptSource {
  /** The signed grant. */
  readonly grant: Uint8Array
  /** Of the server that the grant names. */
  readonly addrs: readonly string[]
}

/** ADOPT's payload. */
export function encodeSources(sources: readonly AdoptSource[]): Uint8Array {
  return encodeCbor({ sources: sources.map(({ grant, addrs }) => ({ grant, addrs: [...addrs] })) })
}

/** Reads ADOPT's payload. NOT checked: the grants. @throws `protocol` naming the field. */
export function parseSources(bytes: Uint8Array): AdoptSource[] {
  if (bytes.length > MAX_ADOPT_BYTES) {
    throw new ChoraleError('protocol', `sources of ${bytes.length} bytes (at most ${MAX_ADOPT_BYTES})`)
  }
  const { sources } = decodeCborMap(bytes, 'sources')
  if (!Array.isArray(sources) || sources.length === 0 || sources.length > MAX_ADOPT_SOURCES) {
    throw new ChoraleError('protocol', `field sources must be a list of 1 to ${MAX_ADOPT_SOURCES}`, {
      field: 'sources',
    })
  }
  return sources.map((value) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) {
      throw new ChoraleError('protocol', 'field sources must hold maps', { field: 'sources' })
    }
    const map = value as CborMap
    return {
      grant: bytesField(map, 'grant', 1, MAX_GRANT_BYTES),
      addrs: textListField(map, 'addrs', MAX_ADDRS, MAX_ADDR_LENGTH),
    }
  })
}
