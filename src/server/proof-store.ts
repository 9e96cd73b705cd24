/** Where a node keeps the fault proofs that it made. */

/** Port: fault proofs by content address, for as long as disputes last. */
export interface ProofStore {
  load(hash: string): Promise<Uint8Array | undefined>
  save(hash: string, bytes: Uint8Array): Promise<void>
}

/** Proofs are up to 32 MiB each. */
const MAX_PROOFS_IN_MEMORY = 4

/** A store of the last few proofs, gone with the process. */
export function memoryProofs(): ProofStore {
  const kept = new Map<string, Uint8Array>()
  return {
    load: (hash) => Promise.resolve(kept.get(hash)),
    save: (hash, bytes) => {
      const [oldest] = kept.keys()
      if (kept.size >= MAX_PROOFS_IN_MEMORY && oldest !== undefined) kept.delete(oldest)
      kept.set(hash, bytes)
      return Promise.resolve()
    },
  }
}
