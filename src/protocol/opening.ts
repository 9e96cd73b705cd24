import { ChoraleError } from '../errors.ts'
import { decodeCborMap, encodeCbor } from './cbor.ts'
import { bytesField, choiceField, textField, uintField } from './fields.ts'
import {
  CLOCK_TOLERANCE_MS,
  MAX_BLOCKS,
  MAX_LEASE_TOKENS,
  MAX_MODEL_ID_LENGTH,
  MAX_PEER_ID_LENGTH,
  MAX_TIME_MS,
} from './limits.ts'
import { WIRE_DTYPES, type WireDtype } from './wire-dtype.ts'

/** What a client signs when it opens a session: who asks whom for what, once. */
export interface Opening {
  /** 16 random bytes that name the session, and make the opening count once. */
  readonly session: Uint8Array
  readonly client: string
  readonly server: string
  readonly modelId: string
  readonly start: number
  readonly end: number
  /** KV room wanted, in tokens. */
  readonly maxTokens: number
  /** The format the client would like activations to travel in. */
  readonly dtype: WireDtype
  /** Milliseconds since the epoch, by the client's clock. */
  readonly issuedAt: number
}

/** The canonical bytes of an opening. */
export function encodeOpening(opening: Opening): Uint8Array {
  const { session, client, server, modelId, start, end, maxTokens, dtype, issuedAt } = opening
  return encodeCbor({ session, client, server, modelId, start, end, maxTokens, dtype, issuedAt })
}

/** Reads an opening's bounds. NOT checked: signature, names, time; see `checkOpening`. @throws `protocol`. */
export function parseOpening(body: Uint8Array): Opening {
  const map = decodeCborMap(body, 'opening')
  const start = uintField(map, 'start', MAX_BLOCKS)
  const end = uintField(map, 'end', MAX_BLOCKS)
  if (end <= start) {
    throw new ChoraleError('protocol', `the opening asks for the empty span ${start}:${end}`, {
      field: 'end',
    })
  }
  const maxTokens = uintField(map, 'maxTokens', MAX_LEASE_TOKENS)
  if (maxTokens === 0) {
    throw new ChoraleError('protocol', 'field maxTokens must be at least 1', { field: 'maxTokens' })
  }
  return {
    session: bytesField(map, 'session', 16, 16),
    client: textField(map, 'client', MAX_PEER_ID_LENGTH),
    server: textField(map, 'server', MAX_PEER_ID_LENGTH),
    modelId: textField(map, 'modelId', MAX_MODEL_ID_LENGTH),
    start,
    end,
    maxTokens,
    dtype: choiceField(map, 'dtype', WIRE_DTYPES),
    issuedAt: uintField(map, 'issuedAt', MAX_TIME_MS),
  }
}

/**
 * Whether an opening is for this server, from the peer at the other end, and of now. Pure. NOT checked: the signature,
 * and whether it came before.
 * @throws `protocol` naming the field.
 */
export function checkOpening(
  opening: Opening,
  { client, server }: { client: string; server: string },
  now: number,
): void {
  if (opening.client !== client) {
    throw wrong('client', `the opening is of ${opening.client}, the connection is of ${client}`)
  }
  if (opening.server !== server) {
    throw wrong('server', `the opening is addressed to ${opening.server}, this is ${server}`)
  }
  const late = now - opening.issuedAt
  if (Math.abs(late) > CLOCK_TOLERANCE_MS) {
    const when = late > 0 ? `${late} ms ago` : `${-late} ms in the future`
    throw wrong(
      'issuedAt',
      `the opening was signed ${when} (at most ${CLOCK_TOLERANCE_MS}): check both clocks`,
    )
  }
}

function wrong(field: string, message: string): ChoraleError {
  return new ChoraleError('protocol', message, { field })
}
