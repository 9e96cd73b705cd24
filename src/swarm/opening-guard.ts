import { bytesToHex } from '@noble/hashes/utils.js'
import { ChoraleError } from '../errors.ts'
import { OPENING_SIGNATURE_CONTEXT } from '../protocol/ids.ts'
import { CLOCK_TOLERANCE_MS, MAX_OPENING_BYTES, MAX_REMEMBERED_OPENINGS } from '../protocol/limits.ts'
import type { Open } from '../protocol/messages.ts'
import { checkOpening, type Opening, parseOpening } from '../protocol/opening.ts'
import { encodeSigned, signedBytes } from '../protocol/signed.ts'
import { type Identity, signBytes, verifySignature } from './identity.ts'

/** An opening whose client, address, time and signature are right, and that did not come before. */
export interface AdmittedOpening {
  readonly opening: Opening
  readonly body: Uint8Array
  /** As it is kept with the session's receipts. */
  readonly signed: Uint8Array
}

/** Refuses openings that are forged, re-addressed, too old, or replayed. One a server. */
export interface OpeningGuard {
  /** @throws `protocol` naming the field, `capacity` while the memory of openings is full. */
  admit(message: Open, client: string): Promise<AdmittedOpening>
}

/** Remembers each opening as long as it could be shown again. `maxRemembered` is a parameter for tests. */
export function createOpeningGuard(
  server: string,
  now: () => number = Date.now,
  maxRemembered: number = MAX_REMEMBERED_OPENINGS,
): OpeningGuard {
  /** Until when each could be replayed, in the order they came. */
  const seen = new Map<string, number>()

  const forget = (): void => {
    const time = now()
    for (const [key, until] of seen) {
      // Nearly in order: clocks differ by the tolerance at most, and those behind wait that much longer.
      if (until > time) break
      seen.delete(key)
    }
  }

  return {
    admit: async ({ body: shared, signature }, client) => {
      const body = shared.slice()
      const opening = parseOpening(body)
      checkOpening(opening, { client, server }, now())
      const key = `${client} ${bytesToHex(opening.session)}`
      const replayed = (): ChoraleError | undefined =>
        seen.has(key)
          ? new ChoraleError('protocol', 'the opening came before: draw a new session', { field: 'session' })
          : undefined
      const again = replayed()
      if (again) throw again
      forget()
      if (seen.size >= maxRemembered) {
        throw new ChoraleError('capacity', `this server remembers ${seen.size} openings, no more now`, {
          retryAfterMs: CLOCK_TOLERANCE_MS,
        })
      }
      if (!(await verifySignature(client, signedBytes(OPENING_SIGNATURE_CONTEXT, body), signature))) {
        throw new ChoraleError('protocol', `the opening is not signed by ${client}`, { field: 'signature' })
      }
      const meanwhile = replayed()
      if (meanwhile) throw meanwhile
      seen.set(key, opening.issuedAt + CLOCK_TOLERANCE_MS + 1)
      return { opening, body, signed: encodeSigned({ body, signature }, 'opening', MAX_OPENING_BYTES) }
    },
  }
}

/** An OPEN signed by its client. */
export async function signOpening(identity: Identity, body: Uint8Array): Promise<Open> {
  const signature = await signBytes(identity, signedBytes(OPENING_SIGNATURE_CONTEXT, body))
  return { type: 'open', body, signature }
}
