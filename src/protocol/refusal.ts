import { ChoraleError, type ErrorCode } from '../errors.ts'
import type { CborMap } from './cbor.ts'
import { choiceField, messageField, uintField } from './fields.ts'
import { MAX_ERROR_MESSAGE_LENGTH, MAX_RETRY_AFTER_MS } from './limits.ts'

/** The answer to a question that was refused. */
export interface Refusal {
  readonly type: 'refused'
  readonly code: ErrorCode
  readonly message: string
  readonly retryAfterMs?: number
}

/** Reads the fields of a refusal. @param codes those that may come. @throws `protocol`. */
export function readRefusal(map: CborMap, codes: readonly ErrorCode[]): Refusal {
  return {
    type: 'refused',
    code: choiceField(map, 'code', codes),
    message: messageField(map, 'message', MAX_ERROR_MESSAGE_LENGTH),
    ...(map['retryAfterMs'] !== undefined && {
      retryAfterMs: uintField(map, 'retryAfterMs', MAX_RETRY_AFTER_MS),
    }),
  }
}

/** A refusal as it is sent; codes that say nothing to whoever asked read as `internal`. */
export function makeRefusal(
  codes: readonly ErrorCode[],
  code: ErrorCode,
  message: string,
  retryAfterMs?: number,
): Refusal {
  return {
    type: 'refused',
    code: codes.includes(code) ? code : 'internal',
    message: message.slice(0, MAX_ERROR_MESSAGE_LENGTH),
    ...(retryAfterMs !== undefined && {
      retryAfterMs: Math.min(MAX_RETRY_AFTER_MS, Math.ceil(Math.max(0, retryAfterMs))),
    }),
  }
}

/** What a refusal means to whoever asked. @param other who refused, for the message. */
export function refusalError(
  other: string,
  { code, message, retryAfterMs }: Omit<Refusal, 'type'>,
): ChoraleError {
  return new ChoraleError(code, `${other}: ${message}`, {
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  })
}
