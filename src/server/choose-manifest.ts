import { ChoraleError } from '../errors.ts'
import type { ServerRecord } from '../routing/snapshot.ts'

/** A manifest to go by, and why. */
export interface ChosenManifest {
  readonly hash: string
  /** `pinned`: the operator named it. `used`: it was used here before. `agreed`: more than half of the servers go by it. */
  readonly why: 'pinned' | 'used' | 'agreed'
  /** Servers that go by it, and by another one. */
  readonly votes: number
  readonly against: number
}

/**
 * Which manifest of a model's weights to trust: the one that is pinned, else the one used before, else the one that more
 * than half of the servers which name any go by, one vote a peer. A model's id does not prove its weights, so where
 * identities cost nothing only the first two are proof against somebody with many of them.
 * @returns undefined when no server names one. @throws `refused` when servers disagree without a majority.
 */
export function chooseManifest(
  records: readonly ServerRecord[],
  known: { readonly pinned?: string | undefined; readonly used?: string | undefined },
): ChosenManifest | undefined {
  const votes = new Map<string, Set<string>>()
  for (const { manifest, peerId } of records) {
    if (manifest !== undefined) votes.set(manifest, (votes.get(manifest) ?? new Set()).add(peerId))
  }
  const voters = new Set([...votes.values()].flatMap((peers) => [...peers])).size
  const count = (hash: string) => votes.get(hash)?.size ?? 0
  const chosen = (hash: string, why: ChosenManifest['why']): ChosenManifest => ({
    hash,
    why,
    votes: count(hash),
    against: voters - count(hash),
  })
  if (known.pinned !== undefined) return chosen(known.pinned, 'pinned')
  if (known.used !== undefined) return chosen(known.used, 'used')
  if (voters === 0) return undefined
  const [most] = [...votes.keys()].sort((a, b) => count(b) - count(a) || (a < b ? -1 : 1))
  if (most !== undefined && count(most) * 2 > voters) return chosen(most, 'agreed')
  const told = [...votes].map(([hash, peers]) => `${hash} (${peers.size})`).join(', ')
  throw new ChoraleError(
    'refused',
    `servers disagree about the weights, none has a majority: ${told}; name the right manifest with --manifest`,
    { field: 'manifest' },
  )
}
