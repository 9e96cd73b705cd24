import { ChoraleError } from '../errors.ts'
import { decodeCbor, decodeCborMap, encodeCbor } from './cbor.ts'
import { bytesField, choiceField, messageField, textField, uintField } from './fields.ts'
import {
  MAX_ERROR_MESSAGE_LENGTH,
  MAX_LIST_PAYLOAD_BYTES,
  MAX_LISTED_RECORDS,
  MAX_MODEL_ID_LENGTH,
  MAX_PASS_BYTES,
  MAX_RECORD_BYTES,
  MAX_RETRY_AFTER_MS,
} from './limits.ts'

/** Messages of `/chorale/directory/1`: one request and one answer, then the stream is closed. */

/** Payload: one signed record, to be kept until it expires. */
export interface Announce {
  readonly type: 'announce'
}

/** Asks for the records of a model, or for one record of every model when `modelId` is undefined. */
export interface List {
  readonly type: 'list'
  readonly modelId: string | undefined
  /** The signed pass of a client that has no stake of its own (`pass.ts`). */
  readonly pass?: Uint8Array
}

/** Answer to ANNOUNCE. */
export interface Announced {
  readonly type: 'announced'
  /** Records the answering peer holds now. */
  readonly stored: number
}

/** Answer to LIST. Payload: a CBOR list of signed records. */
export interface Records {
  readonly type: 'records'
}

/** Answer to a request that was refused. */
export interface Refused {
  readonly type: 'refused'
  readonly message: string
  /** `refused` or `capacity` where the asking peer is not admitted, or asks too often; absent for what is wrong with the request. */
  readonly code?: 'refused' | 'capacity'
  readonly retryAfterMs?: number
}

export type DirectoryMessage = Announce | List | Announced | Records | Refused

/** Reads a header of either end. NOT checked: whether it may come from that end. @throws `protocol`. */
export function parseDirectoryMessage(header: Uint8Array, payloadLength: number): DirectoryMessage {
  const map = decodeCborMap(header, 'frame header')
  const type = map['type']
  const maxPayload = type === 'announce' ? MAX_RECORD_BYTES : type === 'records' ? MAX_LIST_PAYLOAD_BYTES : 0
  if (payloadLength > maxPayload) {
    throw new ChoraleError(
      'protocol',
      `directory message with a payload of ${payloadLength} bytes (at most ${maxPayload})`,
    )
  }
  switch (type) {
    case 'announce':
    case 'records':
      return { type }
    case 'list':
      return {
        type,
        modelId: map['modelId'] === undefined ? undefined : textField(map, 'modelId', MAX_MODEL_ID_LENGTH),
        ...(map['pass'] !== undefined && { pass: bytesField(map, 'pass', 1, MAX_PASS_BYTES) }),
      }
    case 'announced':
      return { type, stored: uintField(map, 'stored', 1 << 30) }
    case 'refused':
      return {
        type,
        message: messageField(map, 'message', MAX_ERROR_MESSAGE_LENGTH),
        ...(map['code'] !== undefined && {
          code: choiceField(map, 'code', ['refused', 'capacity'] as const),
        }),
        ...(map['retryAfterMs'] !== undefined && {
          retryAfterMs: uintField(map, 'retryAfterMs', MAX_RETRY_AFTER_MS),
        }),
      }
    default:
      throw new ChoraleError('protocol', 'unknown directory message', { field: 'type' })
  }
}

/** The payload of RECORDS. */
export function encodeRecordList(records: readonly Uint8Array[]): Uint8Array {
  return encodeCbor(records.slice(0, MAX_LISTED_RECORDS))
}

/** Signed records of a RECORDS payload, each still to be verified. @throws `protocol`. */
export function decodeRecordList(payload: Uint8Array): Uint8Array[] {
  const list = decodeCbor(payload, 'record list', MAX_LISTED_RECORDS + 1)
  if (!Array.isArray(list)) throw new ChoraleError('protocol', 'record list is no list')
  return list.map((entry) => {
    if (!(entry instanceof Uint8Array)) throw new ChoraleError('protocol', 'record list holds something else')
    return entry
  })
}
