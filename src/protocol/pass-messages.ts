import { ChoraleError, type ErrorCode } from '../errors.ts'
import { decodeCborMap } from './cbor.ts'
import { textField, textListField, uintField } from './fields.ts'
import {
  MAX_BLOCKS,
  MAX_MODEL_ID_LENGTH,
  MAX_PASS_BYTES,
  MAX_PASS_MODELS,
  MAX_PASS_TOKENS,
  MAX_TIME_MS,
} from './limits.ts'
import { makeRefusal, readRefusal, type Refusal } from './refusal.ts'

/** Messages of `/chorale/pass/1`: one request and one answer, then the stream is closed. */

/** Asks a sponsor for a pass, for these models or, when there are none, for all. */
export interface PassRequest {
  readonly type: 'request'
  readonly models: readonly string[]
}

/** Answer to REQUEST. Payload: the signed pass. */
export interface PassGranted {
  readonly type: 'pass'
}

/** Payload: a signed pass, so that this connection is admitted. */
export interface PassShown {
  readonly type: 'show'
}

/** Answer to SHOW: admitted until then, ms since the epoch. */
export interface PassTaken {
  readonly type: 'admitted'
  readonly until: number
}

/**
 * A server tells the sponsor what it computed for a pass's holder in one span since it first saw the pass. Payload: the
 * signed pass.
 */
export interface PassUsed {
  readonly type: 'used'
  readonly modelId: string
  readonly start: number
  readonly end: number
  readonly tokens: number
}

/** Answer to USED: tokens that the holder may still use, on all servers together. */
export interface PassLeft {
  readonly type: 'left'
  readonly tokens: number
}

export type PassMessage = PassRequest | PassGranted | PassShown | PassTaken | PassUsed | PassLeft | Refusal

const CODES = ['refused', 'capacity', 'protocol', 'not_supported', 'internal'] as const

/** Reads a header of either end. NOT checked: whether it may come from that end. @throws `protocol`. */
export function parsePassMessage(header: Uint8Array, payloadLength: number): PassMessage {
  const map = decodeCborMap(header, 'frame header')
  const type = map['type']
  const maxPayload = type === 'pass' || type === 'show' || type === 'used' ? MAX_PASS_BYTES : 0
  if (payloadLength > maxPayload) {
    throw new ChoraleError('protocol', `pass message with ${payloadLength} bytes (at most ${maxPayload})`)
  }
  switch (type) {
    case 'pass':
    case 'show':
      return { type }
    case 'request':
      return { type, models: textListField(map, 'models', MAX_PASS_MODELS, MAX_MODEL_ID_LENGTH) }
    case 'admitted':
      return { type, until: uintField(map, 'until', MAX_TIME_MS) }
    case 'used': {
      const start = uintField(map, 'start', MAX_BLOCKS)
      const end = uintField(map, 'end', MAX_BLOCKS)
      if (end <= start) {
        throw new ChoraleError('protocol', `use of the empty span ${start}:${end}`, { field: 'end' })
      }
      const modelId = textField(map, 'modelId', MAX_MODEL_ID_LENGTH)
      return { type, modelId, start, end, tokens: uintField(map, 'tokens', MAX_PASS_TOKENS) }
    }
    case 'left':
      return { type, tokens: uintField(map, 'tokens', MAX_PASS_TOKENS) }
    case 'refused':
      return readRefusal(map, CODES)
    default:
      throw new ChoraleError('protocol', 'unknown pass message', { field: 'type' })
  }
}

/** A refusal as it is sent; codes that say nothing to a client read as `internal`. */
export function passRefusal(code: ErrorCode, message: string, retryAfterMs?: number): Refusal {
  return makeRefusal(CODES, code, message, retryAfterMs)
}
