import { DispatchFailure } from '../dispatch-error.ts'

/** Longest multiaddr, unique parameter, name, description. The pallet's bounds; they defend its storage. */
export const MAX_VECTOR = 1024
export const MAX_URL = 1024
export const MAX_SOCIAL_ID = 255
/** Longest `args` and `attest_data` of a proposal, and `attest_data` of an attestation. */
export const MAX_ATTEST = 4096

/**
 * Refuses bytes over a bound. The chain's decoder refuses the whole transaction; here the call fails with `Other`.
 * @throws DispatchFailure
 */
export function ensureLength(field: string, bytes: Uint8Array | undefined, limit: number): void {
  if (bytes !== undefined && bytes.length > limit)
    throw new DispatchFailure('Other', `${field} has ${bytes.length} bytes, at most ${limit} may be given`)
}
