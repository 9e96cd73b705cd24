import { ChoraleError } from '../errors.ts'
import { PASS_SIGNATURE_CONTEXT } from '../protocol/ids.ts'
import { MAX_PASS_BYTES } from '../protocol/limits.ts'
import { encodePassBody, type Pass } from '../protocol/pass.ts'
import { encodeSigned, signedBytes } from '../protocol/signed.ts'
import { type Identity, signBytes } from './identity.ts'
import { answerPasses } from './pass-exchange.ts'
import type { Peer } from './peer.ts'
import { createRateLimit } from './rate-limit.ts'
import type { StakeGate } from './stake-gate.ts'

/** What a sponsor gives to clients without stake, and how much of it. */
export interface PassIssuing {
  /** Of each pass: what each server may let its holder use (default 100,000 tokens in 100 sessions). */
  readonly tokens?: number
  readonly sessions?: number
  /** How long a pass is good (default 10 min). */
  readonly lifetimeMs?: number
  /** Passes given a minute (default 60). */
  readonly perMinute?: number
  /** Clients with a pass at once (default 256). */
  readonly maxClients?: number
}

export interface PassServiceOptions {
  readonly gate: StakeGate
  /** Gives passes; without it only others' are taken. This peer must have the stake to sponsor. */
  readonly issue?: PassIssuing
  readonly now?: () => number
}

export interface PassService {
  /** Passes given since the start. */
  readonly issued: number
  /** Clients whose pass is still good. */
  readonly clients: number
  close(): Promise<void>
}

const DEFAULTS: Required<PassIssuing> = {
  tokens: 100_000,
  sessions: 100,
  lifetimeMs: 10 * 60_000,
  perMinute: 60,
  maxClients: 256,
}

/**
 * Answers `/chorale/pass/1`: takes passes that clients show, so that they are admitted, and gives them at this peer's own
 * expense when told to. Every gated peer needs it, or unstaked clients can't stay connected.
 */
export async function servePasses(peer: Peer, options: PassServiceOptions): Promise<PassService> {
  const { gate } = options
  const now = options.now ?? Date.now
  const issuing = options.issue && { ...DEFAULTS, ...options.issue }
  const rate = createRateLimit(() => performance.now())
  /** When the last pass of each client ends. */
  const holders = new Map<string, number>()
  let issued = 0
  peer.metrics.watch('counter', 'chorale_passes_issued_total', 'Passes given to clients without stake.', () => [
    [issued],
  ])

  const living = (): number => {
    for (const [client, until] of holders) if (until <= now()) holders.delete(client)
    return holders.size
  }

  const service = await answerPasses(peer, {
    issue: async (client, models) => {
      if (issuing === undefined) {
        throw new ChoraleError('not_supported', 'this peer gives no passes: ask the one you came through')
      }
      const own = gate.staked(peer.id, 'sponsor')
      if (!own.ok) throw new ChoraleError('refused', `this peer can't sponsor: ${own.reason}`)
      if (!holders.has(client) && living() >= issuing.maxClients) {
        throw new ChoraleError('capacity', `this sponsor has ${holders.size} clients, no more now`, {
          retryAfterMs: issuing.lifetimeMs / 4,
        })
      }
      // One client can't take what is for all; it needs a second pass before the first one ends.
      for (const [bucket, perMinute] of [
        [client, 6],
        ['everybody', issuing.perMinute],
      ] as const) {
        const waitMs = rate.take(bucket, perMinute / 60, perMinute)
        if (waitMs > 0) {
          throw new ChoraleError('capacity', `too many passes were asked for`, { retryAfterMs: waitMs })
        }
      }
      const issuedAt = now()
      const pass = await signPass(peer.identity, {
        audience: client,
        models,
        tokens: issuing.tokens,
        sessions: issuing.sessions,
        issuedAt,
        expiresAt: issuedAt + issuing.lifetimeMs,
      })
      holders.set(client, issuedAt + issuing.lifetimeMs)
      await gate.show(client, pass)
      issued++
      return pass
    },
    show: async (client, pass) => {
      const shown = await gate.show(client, pass)
      return shown.pass.expiresAt
    },
  })
  return {
    get issued() {
      return issued
    },
    get clients() {
      return living()
    },
    close: () => service.close(),
  }
}

/** A pass signed by its sponsor. @throws `limit` when it names too many long models. */
export async function signPass(
  sponsor: Identity,
  pass: Omit<Pass, 'sponsor' | 'nonce'> & { readonly nonce?: Uint8Array },
): Promise<Uint8Array> {
  const nonce = pass.nonce ?? crypto.getRandomValues(new Uint8Array(16))
  const body = encodePassBody({ ...pass, nonce, sponsor: sponsor.peerId })
  const signature = await signBytes(sponsor, signedBytes(PASS_SIGNATURE_CONTEXT, body))
  return encodeSigned({ body, signature }, 'pass', MAX_PASS_BYTES)
}
