import { bytesToHex } from '@noble/hashes/utils.js'
import { ChoraleError } from '../errors.ts'
import { decodeCborMap, encodeCbor } from './cbor.ts'
import { bytesField, textField, textListField, uintField } from './fields.ts'
import { PASS_SIGNATURE_CONTEXT } from './ids.ts'
import {
  CLOCK_TOLERANCE_MS,
  MAX_MODEL_ID_LENGTH,
  MAX_PASS_BYTES,
  MAX_PASS_LIFETIME_MS,
  MAX_PASS_MODELS,
  MAX_PASS_SESSIONS,
  MAX_PASS_TOKENS,
  MAX_PEER_ID_LENGTH,
  MAX_TIME_MS,
} from './limits.ts'
import { parseSigned, signedBytes } from './signed.ts'

/**
 * A pass: a staked sponsor's word that an unstaked client may be served at the sponsor's expense. It is bound to the
 * client's key, so that whoever copies it has nothing.
 */
export interface Pass {
  /** Peer id of the staked peer that signed it and is charged. */
  readonly sponsor: string
  /** Peer id of the client: its connections prove the key. */
  readonly audience: string
  /** Models it is good for; empty = all. */
  readonly models: readonly string[]
  /** What its holder may use, on all servers together; each tells the sponsor (`swarm/client-account.ts`). */
  readonly tokens: number
  /** Sessions that its holder may open on each server. */
  readonly sessions: number
  readonly issuedAt: number
  readonly expiresAt: number
  /** 16 random bytes: the pass's name in accounts. */
  readonly nonce: Uint8Array
}

/** A pass whose signature was NOT checked. */
export interface UnverifiedPass {
  readonly pass: Pass
  /** The nonce as hex. */
  readonly id: string
  readonly signedBytes: Uint8Array
  readonly signature: Uint8Array
}

/** The canonical bytes of a pass. */
export function encodePassBody(pass: Pass): Uint8Array {
  const { sponsor, audience, models, tokens, sessions, issuedAt, expiresAt, nonce } = pass
  return encodeCbor({ sponsor, audience, models: [...models], tokens, sessions, issuedAt, expiresAt, nonce })
}

/**
 * Reads a pass, cheapest refusals first: size, fields, whom it is for (unless `audience` is undefined), times. NOT checked: the signature and the
 * sponsor's stake, which come after in this order: stake (a look-up), then signature.
 * @throws `protocol` for bytes that are no pass, `refused` naming the field for a pass that is not good here and now.
 */
export function parsePass(bytes: Uint8Array, audience: string | undefined, now: number): UnverifiedPass {
  const { body, signature } = parseSigned(bytes, 'pass', MAX_PASS_BYTES)
  const map = decodeCborMap(body, 'pass body')
  const nonce = bytesField(map, 'nonce', 16, 16)
  const pass: Pass = {
    sponsor: textField(map, 'sponsor', MAX_PEER_ID_LENGTH),
    audience: textField(map, 'audience', MAX_PEER_ID_LENGTH),
    models: textListField(map, 'models', MAX_PASS_MODELS, MAX_MODEL_ID_LENGTH),
    tokens: uintField(map, 'tokens', MAX_PASS_TOKENS),
    sessions: uintField(map, 'sessions', MAX_PASS_SESSIONS),
    issuedAt: uintField(map, 'issuedAt', MAX_TIME_MS),
    expiresAt: uintField(map, 'expiresAt', MAX_TIME_MS),
    nonce,
  }
  if (audience !== undefined && pass.audience !== audience) {
    throw refused('audience', `the pass is for ${pass.audience}, the connection is of ${audience}`)
  }
  const { issuedAt, expiresAt } = pass
  if (issuedAt > now + CLOCK_TOLERANCE_MS) {
    throw refused('issuedAt', `the pass was issued ${issuedAt - now} ms in the future: check both clocks`)
  }
  if (expiresAt <= issuedAt || expiresAt - issuedAt > MAX_PASS_LIFETIME_MS) {
    throw refused(
      'expiresAt',
      `the pass is good for ${expiresAt - issuedAt} ms (1 to ${MAX_PASS_LIFETIME_MS} allowed)`,
    )
  }
  if (expiresAt <= now)
    throw refused('expiresAt', `the pass expired ${now - expiresAt} ms ago: ask for a new one`)
  return { pass, id: bytesToHex(nonce), signature, signedBytes: signedBytes(PASS_SIGNATURE_CONTEXT, body) }
}

function refused(field: string, message: string): ChoraleError {
  return new ChoraleError('refused', message, { field })
}
