import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'

/** Who audits whom, from randomness that nobody chose. Pure: equal inputs choose equally everywhere. */

/**
 * The `count` nodes that audit in an epoch: those with the smallest SHA-256(seed, `accountant`, node id).
 *
 * Ranking keeps the choice stable when others join or leave: a node that appears changes at most one place.
 * @param seed randomness of the epoch: hash of its first block. @returns node ids, ascending.
 */
export function chooseAccountants(
  seed: Uint8Array,
  candidates: readonly number[],
  count: number,
): readonly number[] {
  return smallest(seed, 'accountant', [...new Set(candidates)], String, count).toSorted((a, b) => a - b)
}

/**
 * Which of `sessions` an accountant re-runs: it can't choose, and the server can't know before the epoch begins.
 * @param key names a session, e.g. `server session`; keys are unique.
 */
export function chooseAudits<T>(
  seed: Uint8Array,
  accountant: number,
  sessions: readonly T[],
  key: (session: T) => string,
  count: number,
): readonly T[] {
  return smallest(seed, `audit ${accountant}`, sessions, key, count)
}

function smallest<T>(
  seed: Uint8Array,
  purpose: string,
  entries: readonly T[],
  key: (entry: T) => string,
  count: number,
): readonly T[] {
  const prefix = bytesToHex(seed)
  return entries
    .map((entry) => {
      const text = `${prefix} ${purpose} ${key(entry)}`
      return { entry, rank: bytesToHex(sha256(new TextEncoder().encode(text))) }
    })
    .toSorted((a, b) => (a.rank < b.rank ? -1 : 1))
    .slice(0, count)
    .map(({ entry }) => entry)
}
