import { ChoraleError, errorMessage, isChoraleError } from '../errors.ts'
import { PASS_PROTOCOL } from '../protocol/ids.ts'
import { parsePass } from '../protocol/pass.ts'
import { verifySignature } from './identity.ts'
import { requestPass, showPass } from './pass-exchange.ts'
import type { Peer } from './peer.ts'

export interface KeepPassOptions {
  /** Peers to ask; default: whoever is connected and gives passes. */
  readonly sponsors?: readonly string[]
  /** Models to ask for; default all. */
  readonly models?: readonly string[]
  readonly now?: () => number
}

/** A pass that is renewed before it ends, and shown to every peer that wants one. */
export interface PassKeeper {
  /** Whether there is a pass that is good now. */
  readonly good: boolean
  /** Whether a connected peer deals in passes: this network admits nobody without stake or one. */
  readonly wanted: boolean
  /** Resolves when the first pass came. @throws `refused` with the sponsors' reason after `timeoutMs`. */
  first(timeoutMs: number): Promise<void>
  close(): void
}

const RETRY_MS = 500
const MAX_RETRY_MS = 30_000

/**
 * Gets a pass for a peer without stake of its own and keeps it good. `peer.pass` goes along with sessions and directory
 * questions; peers that are connected get it at once, so that they keep the connection.
 */
export async function keepPass(peer: Peer, options: KeepPassOptions = {}): Promise<PassKeeper> {
  const now = options.now ?? Date.now
  const waiting = new Set<() => void>()
  let connected: ReadonlySet<string> = new Set()
  let until = 0
  let trouble = 'no peer that gives passes is connected'
  let timer: ReturnType<typeof setTimeout> | undefined
  let retryMs = RETRY_MS
  let asking = false
  let closed = false

  const later = (ms: number): void => {
    clearTimeout(timer)
    if (!closed) timer = setTimeout(() => void renew(), ms)
  }

  const show = (to: string): void => {
    const { pass } = peer
    if (pass === undefined || until <= now()) return
    showPass(peer, to, pass).catch((error: unknown) => {
      peer.log.debug('a peer did not take the pass', { peer: to, reason: errorMessage(error) })
    })
  }

  const renew = async (): Promise<void> => {
    if (asking || closed) return
    asking = true
    try {
      for (const sponsor of options.sponsors ?? connected) {
        if (!connected.has(sponsor)) continue
        try {
          const pass = await requestPass(peer, sponsor, options.models ?? [])
          await take(pass, sponsor)
          return
        } catch (error) {
          trouble = errorMessage(error)
          if (isChoraleError(error) && error.retryAfterMs !== undefined) retryMs = error.retryAfterMs
        }
      }
      later(Math.min(MAX_RETRY_MS, Math.max(RETRY_MS, retryMs)))
      retryMs = Math.min(MAX_RETRY_MS, 2 * retryMs)
    } finally {
      asking = false
    }
  }

  const take = async (bytes: Uint8Array, sponsor: string): Promise<void> => {
    const { pass, signature, signedBytes } = parsePass(bytes, peer.id, now())
    if (pass.sponsor !== sponsor || !(await verifySignature(sponsor, signedBytes, signature))) {
      throw new ChoraleError('protocol', `peer ${sponsor} gave a pass that it did not sign`)
    }
    peer.pass = bytes
    until = pass.expiresAt
    retryMs = RETRY_MS
    later((until - now()) / 2)
    for (const done of waiting) done()
    for (const id of connected) if (id !== sponsor) show(id)
  }

  const unwatch = await peer.watch(PASS_PROTOCOL, (peers) => {
    const fresh = [...peers].filter((id) => !connected.has(id))
    connected = new Set(peers)
    if (until > now()) for (const id of fresh) show(id)
    else if (fresh.length > 0) void renew()
  })

  return {
    get good() {
      return until > now()
    },
    get wanted() {
      return connected.size > 0
    },
    first: async (timeoutMs) => {
      if (until > now()) return
      await new Promise<void>((resolve, reject) => {
        const done = (): void => {
          clearTimeout(late)
          waiting.delete(done)
          resolve()
        }
        const late = setTimeout(() => {
          waiting.delete(done)
          reject(new ChoraleError('refused', `no pass came within ${timeoutMs} ms: ${trouble}`))
        }, timeoutMs)
        waiting.add(done)
      })
    },
    close: () => {
      closed = true
      clearTimeout(timer)
      unwatch()
    },
  }
}
