import { ChoraleError } from '../errors.ts'
import { PASS_SIGNATURE_CONTEXT } from '../protocol/ids.ts'
import { MAX_PASS_BYTES } from '../protocol/limits.ts'
import { encodePassBody, type Pass, parsePass } from '../protocol/pass.ts'
import { encodeSigned, signedBytes } from '../protocol/signed.ts'
import { type Identity, signBytes, verifySignature } from './identity.ts'
import { answerPasses, tellUse } from './pass-exchange.ts'
import type { Peer } from './peer.ts'
import { createRateLimit } from './rate-limit.ts'
import { reportUse } from './report-use.ts'
import { createSponsorAccounts, type ReportedUse } from './sponsor-accounts.ts'
import type { StakeGate } from './stake-gate.ts'

/** What a sponsor gives to clients without stake, and how much of it. */
export interface PassIssuing {
  /** What a client may use in the life of a pass, on all servers together (default 200,000 tokens). */
  readonly tokens?: number
  /** Sessions that each server may let a pass's holder open (default 100). */
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
  /** Tokens that servers say this peer's clients used; one that went through a chain of three counts three times. */
  readonly reportedTokens: number
  close(): Promise<void>
}

const DEFAULTS: Required<PassIssuing> = {
  tokens: 200_000,
  sessions: 100,
  lifetimeMs: 10 * 60_000,
  perMinute: 60,
  maxClients: 256,
}

/** A pass that is younger than this part of its life is given again: who asks often gets no second quota. */
const GIVEN_AGAIN = 0.4
/** Reports of one server: many clients, each a few times a minute. */
const REPORTS_PER_SECOND = 50
const REPORTS_BURST = 500

/** What a sponsor gave to one client. */
interface Holder {
  until: number
  /** The last pass for each list of models. */
  readonly given: Map<string, { readonly pass: Uint8Array; readonly againUntil: number }>
}

/**
 * Answers `/chorale/pass/1`: takes passes that clients show, so that they are admitted, and gives them at this peer's own
 * expense when told to. Tells sponsors what their clients use here. Every gated peer needs it, or unstaked clients can't
 * stay connected.
 */
export async function servePasses(peer: Peer, options: PassServiceOptions): Promise<PassService> {
  const { gate } = options
  const now = options.now ?? Date.now
  const issuing = options.issue && { ...DEFAULTS, ...options.issue }
  const rate = createRateLimit(() => performance.now())
  const holders = new Map<string, Holder>()
  const accounts = createSponsorAccounts(now)
  let issued = 0
  peer.metrics.watch(
    'counter',
    'chorale_passes_issued_total',
    'Passes given to clients without stake.',
    () => [[issued]],
  )

  const living = (): number => {
    for (const [client, { until }] of holders) if (until <= now()) holders.delete(client)
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
      const holder: Holder = holders.get(client) ?? { until: 0, given: new Map() }
      const wanted = JSON.stringify(models)
      const last = holder.given.get(wanted)
      if (last && last.againUntil > now()) return last.pass
      const left = accounts.left(client, issuing.tokens)
      if (left.tokens === 0) {
        throw new ChoraleError('capacity', `the ${issuing.tokens} tokens of your last passes are used up`, {
          field: 'tokens',
          retryAfterMs: left.moreInMs,
        })
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
      holder.until = issuedAt + issuing.lifetimeMs
      for (const [name, { againUntil }] of holder.given) if (againUntil <= now()) holder.given.delete(name)
      holder.given.set(wanted, { pass, againUntil: issuedAt + GIVEN_AGAIN * issuing.lifetimeMs })
      holders.set(client, holder)
      await gate.show(client, pass)
      issued++
      return pass
    },
    show: async (client, pass) => {
      const shown = await gate.show(client, pass)
      return shown.pass.expiresAt
    },
    used: async (server, bytes, use) => {
      const verdict = gate.staked(server, 'serve')
      if (!verdict.ok) throw new ChoraleError('refused', `no server: ${verdict.reason}`)
      const waitMs = rate.take(`used ${server}`, REPORTS_PER_SECOND, REPORTS_BURST)
      if (waitMs > 0) throw new ChoraleError('capacity', 'too many reports', { retryAfterMs: waitMs })
      return await count(server, bytes, use)
    },
  })
  /** Takes a server's word for what a client of this peer used. */
  const count = async (server: string, bytes: Uint8Array, use: ReportedUse): Promise<number> => {
    const { pass, id, signature, signedBytes: signed } = parsePass(bytes, undefined, now())
    if (pass.sponsor !== peer.id || !(await verifySignature(peer.id, signed, signature))) {
      throw new ChoraleError('refused', `not a pass of this sponsor but of ${pass.sponsor}`, {
        field: 'sponsor',
      })
    }
    return accounts.report(server, id, pass, { ...use, tokens: Math.min(use.tokens, pass.tokens) })
  }
  const reporting = reportUse({
    book: gate.passes,
    tell: (sponsor, bytes, use) =>
      sponsor === peer.id ? count(peer.id, bytes, use) : tellUse(peer, sponsor, bytes, use),
    onTrouble: (sponsor, reason) => peer.log.debug('a sponsor took no report', { sponsor, reason }),
  })
  return {
    get issued() {
      return issued
    },
    get clients() {
      return living()
    },
    get reportedTokens() {
      return accounts.reported
    },
    close: async () => {
      reporting.close()
      await service.close()
    },
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
