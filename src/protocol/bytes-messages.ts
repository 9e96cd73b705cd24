import { ChoraleError, type ErrorCode } from '../errors.ts'
import { decodeCborMap } from './cbor.ts'
import { booleanField } from './fields.ts'
import { makeRefusal, readRefusal, type Refusal } from './refusal.ts'

/** Messages of protocols that ask for bytes, `/chorale/content/1` and `/chorale/audit/1`: one question a stream. */

/** Payload: the question, as the protocol in question encodes it. */
export interface BytesAsked {
  readonly type: 'ask'
}

/** A part of the answer, in order. Payload: its bytes. */
export interface BytesPart {
  readonly type: 'part'
  readonly more: boolean
}

/** There are no such bytes here. */
export interface BytesAbsent {
  readonly type: 'absent'
}

export type BytesMessage = BytesAsked | BytesPart | BytesAbsent | Refusal

/** Bytes of one part: whoever reads slowly holds this much of the other's memory. */
export const MAX_PART_BYTES = 512 * 1024

const CODES = ['refused', 'capacity', 'protocol', 'internal'] as const

/** Reads a header of either end. NOT checked: whether it may come from that end. @throws `protocol`. */
export function parseBytesMessage(header: Uint8Array, payloadLength: number): BytesMessage {
  const map = decodeCborMap(header, 'frame header')
  const type = map['type']
  const maxPayload = type === 'part' || type === 'ask' ? MAX_PART_BYTES : 0
  if (payloadLength > maxPayload) {
    throw new ChoraleError('protocol', `message with ${payloadLength} bytes (at most ${maxPayload})`)
  }
  switch (type) {
    case 'ask':
    case 'absent':
      return { type }
    case 'part':
      // Parts of no bytes would never end.
      if (payloadLength === 0) throw new ChoraleError('protocol', 'an empty part', { field: 'type' })
      return { type, more: booleanField(map, 'more') }
    case 'refused':
      return readRefusal(map, CODES)
    default:
      throw new ChoraleError('protocol', 'unknown message', { field: 'type' })
  }
}

/** A refusal as it is sent; codes that say nothing to whoever asked read as `internal`. */
export function bytesRefusal(code: ErrorCode, message: string, retryAfterMs?: number): Refusal {
  return makeRefusal(CODES, code, message, retryAfterMs)
}
