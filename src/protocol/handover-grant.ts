import { ChoraleError } from '../errors.ts'
import { decodeCborMap, encodeCbor } from './cbor.ts'
import { bytesField, textField, uintField } from './fields.ts'
import { HANDOVER_SIGNATURE_CONTEXT } from './ids.ts'
import { CLOCK_TOLERANCE_MS, MAX_BLOCKS, MAX_GRANT_BYTES, MAX_PEER_ID_LENGTH, MAX_TIME_MS } from './limits.ts'
import { parseSigned, type Signed, signedBytes } from './signed.ts'

/**
 * A client's word that another server may have what a server keeps of one of its sessions. It is worth nothing to
 * anybody but the server named in `to`, and for half a minute.
 */
export interface HandoverGrant {
  /** The session as its opening named it. */
  readonly session: Uint8Array
  readonly client: string
  /** Who has the session, and who may have it from there: peer ids. */
  readonly from: string
  readonly to: string
  /** The blocks that may go. */
  readonly start: number
  /** Exclusive. */
  readonly end: number
  /** Milliseconds since the epoch, by the client's clock. */
  readonly issuedAt: number
}

/** A parsed grant whose signature was NOT checked. */
export interface UnverifiedGrant extends Signed {
  readonly grant: HandoverGrant
}

/** The canonical bytes of a grant. */
export function encodeGrant(grant: HandoverGrant): Uint8Array {
  return encodeCbor({ ...grant })
}

/** What the client signs for a grant's body. */
export function grantSignedBytes(body: Uint8Array): Uint8Array {
  return signedBytes(HANDOVER_SIGNATURE_CONTEXT, body)
}

/** Reads a signed grant and its bounds. NOT checked: signature, names, time; see `checkGrant`. @throws `protocol`. */
export function parseGrant(bytes: Uint8Array): UnverifiedGrant {
  const { body, signature } = parseSigned(bytes, 'hand-over grant', MAX_GRANT_BYTES)
  const map = decodeCborMap(body, 'hand-over grant body')
  const start = uintField(map, 'start', MAX_BLOCKS)
  const end = uintField(map, 'end', MAX_BLOCKS)
  if (end <= start) throw wrong('end', `the grant is for the empty span ${start}:${end}`)
  return {
    body,
    signature,
    grant: {
      session: bytesField(map, 'session', 16, 16),
      client: textField(map, 'client', MAX_PEER_ID_LENGTH),
      from: textField(map, 'from', MAX_PEER_ID_LENGTH),
      to: textField(map, 'to', MAX_PEER_ID_LENGTH),
      start,
      end,
      issuedAt: uintField(map, 'issuedAt', MAX_TIME_MS),
    },
  }
}

/**
 * Whether a grant is of now, for the server that shows it, and for this one to honour. Pure. NOT checked: the signature.
 * @throws `refused` naming the field.
 */
export function checkGrant(
  grant: HandoverGrant,
  { from, to }: { readonly from: string; readonly to: string },
  now: number,
): void {
  if (grant.from !== from) throw refused('from', `the grant is for ${grant.from}, this is ${from}`)
  if (grant.to !== to) throw refused('to', `the grant is for ${grant.to}, it was shown by ${to}`)
  if (Math.abs(now - grant.issuedAt) > CLOCK_TOLERANCE_MS) {
    throw refused(
      'issuedAt',
      `the grant was signed ${now - grant.issuedAt} ms ago (at most ${CLOCK_TOLERANCE_MS}): check both clocks`,
    )
  }
}

function wrong(field: string, message: string): ChoraleError {
  return new ChoraleError('protocol', message, { field })
}

function refused(field: string, message: string): ChoraleError {
  return new ChoraleError('refused', message, { field })
}
