import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { createIdentity, type Identity } from '../../src/swarm/identity.ts'

const STORE_KEY = 'chorale-identity'
const LOCK = 'chorale-identity'

/**
 * This browser's own key as a server. It stays the same, because stake is bound to it; it signs work and owns no money.
 * Made at the first call; new each time where the browser keeps nothing.
 */
export async function browserIdentity(): Promise<Identity> {
  return await createIdentity(seed())
}

function seed(): Uint8Array {
  try {
    const stored = localStorage.getItem(STORE_KEY) ?? ''
    if (/^[0-9a-f]{64}$/.test(stored)) return hexToBytes(stored)
    const made = crypto.getRandomValues(new Uint8Array(32))
    localStorage.setItem(STORE_KEY, bytesToHex(made))
    return made
  } catch {
    return crypto.getRandomValues(new Uint8Array(32))
  }
}

/** Holds the identity for this tab until `ended`; false when another tab serves under it now. */
export async function holdIdentity(ended: AbortSignal): Promise<boolean> {
  return await new Promise<boolean>((resolve, reject) => {
    navigator.locks
      .request(LOCK, { ifAvailable: true }, async (lock) => {
        resolve(lock !== null)
        if (lock === null || ended.aborted) return
        await new Promise<void>((free) => ended.addEventListener('abort', () => free(), { once: true }))
      })
      .catch(reject)
  })
}
