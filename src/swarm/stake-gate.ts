import { ChoraleError, errorCode, isChoraleError } from '../errors.ts'
import type { StakeSet } from '../ledger/stake-set.ts'
import { STAKE_ACTIONS, type StakeVerdict } from '../ledger/stake-verdict.ts'
import type { StakeAction, SubnetParameters } from '../ledger/subnet-parameters.ts'
import { createMetrics, type Metrics } from '../metrics.ts'
import { type ChargedSpan, createPassBook, type PassBook, type ShownPass } from './pass-book.ts'
import { createPendingPeers, type PendingPeers } from './pending-peers.ts'
import { createRateLimit } from './rate-limit.ts'

/** Where somebody was refused; a label of the metrics. */
export type GatePlace =
  | 'connect'
  | 'dial'
  | 'relay'
  | 'dht'
  | 'directory'
  | 'record'
  | 'span'
  | 'push'
  | 'handover'
  | 'pass'
  | 'output'
  | 'gossip'
  | 'content'
  | 'audit'
  | 'blob'

/** Who may do what with this peer: by stake, or at a sponsor's expense. One a process; `PeerOptions.gate` takes it. */
export interface StakeGate {
  readonly subnetId: number
  readonly parameters: SubnetParameters
  /** Stake alone. From memory, for every message. */
  staked(peerId: string, action: StakeAction): StakeVerdict
  /** Like `staked`, but asks the ledger about peers that are no node of the subnet. */
  resolve(peerId: string, action: StakeAction): Promise<StakeVerdict>
  /** Stake, or a pass for what passes are for: to connect, and to use servers. */
  check(peerId: string, action: StakeAction): StakeVerdict
  /** Takes a client's pass. @throws `protocol`, `refused`, `capacity`. */
  show(peerId: string, pass: Uint8Array): Promise<ShownPass>
  /** Takes the place of one session. @throws `refused`, or `capacity` with when to come again. */
  takeSession(peerId: string, modelId: string): void
  /** Takes the place of one message. @returns how long to wait before the next one is read, in milliseconds. */
  takeMessage(peerId: string): number
  /** Charges tokens to a client's pass. @throws `refused` when it is used up, `capacity` while its sponsor is silent. */
  charge(peerId: string, tokens: number, by: ChargedSpan): void
  /**
   * Refuses a peer from now on, whatever the ledger says of it, until this process ends: it was proven a liar. Its
   * sessions and connections are cut.
   */
  ban(peerId: string, reason: string): void
  /** Counts a refusal. */
  refuse(place: GatePlace, field?: string): void
  /** Refusals since the start, by place and field. */
  readonly refusals: ReadonlyMap<string, number>
  readonly passes: Pick<PassBook, 'due' | 'of' | 'uses'>
  readonly pending: PendingPeers
  /** Watches for peers that are no more admitted for all they were, and for those that never were. Returns how to stop. */
  onRevoked(listener: (peerId: string, reason: string, lost: ReadonlySet<StakeAction>) => void): () => void
  close(): void
}

export interface StakeGateOptions {
  readonly stakes: StakeSet
  /** Refusals and charges go here too. */
  readonly metrics?: Metrics
  /** Wall clock, ms since the epoch. */
  readonly now?: () => number
  /** Connections that wait for a pass (default 64, for 5 s); 0 refuses whoever has no stake at once. */
  readonly pending?: { readonly max: number; readonly waitMs: number }
}

/** What a pass is good for. */
const PASS_ACTIONS: ReadonlySet<StakeAction> = new Set(['connect', 'infer'])
/** How often passes that ended are looked for; they admit nobody in the meantime. */
const ENDED_PASSES_MS = 2_000
const MAX_REFUSAL_KINDS = 256
/** A dispute was settled for each; the oldest have long lost their stake. */
const MAX_BANS = 1_024

/** A gate over a stake set. Closing it does not close the set. */
export function createStakeGate(options: StakeGateOptions): StakeGate {
  const bans = new Map<string, string>()
  const stakes = withBans(options.stakes, bans)
  const now = options.now ?? Date.now
  const metrics = options.metrics ?? createMetrics()
  const refused = metrics.counter('chorale_gate_refusals_total', 'What the stake gate refused.', [
    'at',
    'field',
  ])
  const charged = metrics.counter('chorale_sponsored_tokens_total', 'Tokens computed at a sponsor’s expense.')
  const checks = { passed: 0, refused: 0 }
  metrics.watch(
    'counter',
    'chorale_gate_checks_total',
    'Checks of a peer’s stake or pass, before each message.',
    () => [
      [checks.passed, { result: 'passed' }],
      [checks.refused, { result: 'refused' }],
    ],
    ['result'],
  )
  const refusals = new Map<string, number>()
  const book = createPassBook((peerId) => stakes.check(peerId, 'sponsor'), now)
  metrics.watch('counter', 'chorale_passes_taken_total', 'Passes of clients that were good.', () => [
    [book.uses().reduce((sum, { passes }) => sum + passes, 0)],
  ])
  metrics.watch(
    'counter',
    'chorale_sponsored_sessions_total',
    'Sessions opened at a sponsor’s expense.',
    () => [[book.uses().reduce((sum, use) => sum + use.sessions, 0)]],
  )
  const sessions = createRateLimit(() => performance.now())
  const messages = createRateLimit(() => performance.now())
  const listeners = new Set<Parameters<StakeGate['onRevoked']>[0]>()
  const pending = createPendingPeers({
    ...(options.pending ?? { max: 64, waitMs: 5_000 }),
    onLate: (peerId) => {
      refuse('connect', 'late')
      tell(peerId, 'it showed neither stake nor a pass in time', new Set(['connect']))
    },
  })

  const tell = (peerId: string, reason: string, lost: ReadonlySet<StakeAction>): void => {
    for (const listener of listeners) listener(peerId, reason, lost)
  }
  // A pass that ended unrenewed ends its client's connections too.
  const ending = setInterval(() => {
    for (const client of book.dropEnded()) {
      if (!stakes.check(client, 'connect').ok) tell(client, 'its pass ended', PASS_ACTIONS)
    }
  }, ENDED_PASSES_MS)
  const stopWatching = stakes.onRevoked((peerId, reason, lost) => {
    if (lost.has('sponsor')) {
      for (const client of book.clientsOf(peerId)) {
        book.drop(client)
        if (!stakes.check(client, 'connect').ok) {
          tell(client, `its sponsor is no more admitted: ${reason}`, PASS_ACTIONS)
        }
      }
    }
    // Whoever falls back on a pass loses only what a pass is not for.
    const left = new Set([...lost].filter((action) => !admit(peerId, action).ok))
    if (left.size > 0) tell(peerId, reason, left)
  })

  const refuse = (place: GatePlace, field = 'stake'): void => {
    refused.inc({ at: place, field })
    const key = `${place} ${field}`
    if (refusals.has(key) || refusals.size < MAX_REFUSAL_KINDS)
      refusals.set(key, (refusals.get(key) ?? 0) + 1)
  }

  const check = (peerId: string, action: StakeAction): StakeVerdict => {
    const verdict = admit(peerId, action)
    checks[verdict.ok ? 'passed' : 'refused']++
    return verdict
  }

  const admit = (peerId: string, action: StakeAction): StakeVerdict => {
    const verdict = stakes.check(peerId, action)
    if (verdict.ok || !PASS_ACTIONS.has(action)) return verdict
    const shown = book.of(peerId)
    return shown === undefined ? verdict : stakes.check(shown.pass.sponsor, 'sponsor')
  }

  /** Whose bucket pays: a client's sponsor, or the peer itself; and how much stake is behind it. */
  const payer = (peerId: string): { readonly name: string; readonly ratio: number } => {
    const own = stakes.check(peerId, 'infer')
    if (own.ok) return { name: peerId, ratio: own.ratio }
    const sponsor = book.of(peerId)?.pass.sponsor
    const verdict = sponsor === undefined ? own : stakes.check(sponsor, 'sponsor')
    return { name: sponsor ?? peerId, ratio: verdict.ok ? verdict.ratio : 1 }
  }

  return {
    subnetId: stakes.subnetId,
    get parameters() {
      return stakes.parameters
    },
    ban: (peerId, reason) => {
      const [oldest] = bans.keys()
      if (bans.size >= MAX_BANS && oldest !== undefined) bans.delete(oldest)
      bans.set(peerId, reason)
      book.drop(peerId)
      tell(peerId, reason, new Set(STAKE_ACTIONS))
    },
    staked: (peerId, action) => stakes.check(peerId, action),
    resolve: (peerId, action) => stakes.resolve(peerId, action),
    check,
    show: async (peerId, bytes) => {
      try {
        const shown = await book.show(peerId, bytes)
        pending.leave(peerId)
        return shown
      } catch (error) {
        refuse('pass', (isChoraleError(error) && error.field) || errorCode(error))
        pending.strike(peerId)
        throw error
      }
    },
    takeSession: (peerId, modelId) => {
      const shown = stakes.check(peerId, 'infer').ok ? undefined : book.of(peerId)
      if (shown) {
        const { models, sessions: granted } = shown.pass
        if (models.length > 0 && !models.includes(modelId)) {
          throw new ChoraleError('refused', `the pass is not for ${modelId}`, { field: 'models' })
        }
        if (shown.sessions >= granted) {
          throw new ChoraleError('refused', `the pass was good for ${granted} sessions: ask for a new one`, {
            field: 'sessions',
          })
        }
      }
      const { name, ratio } = payer(peerId)
      const { base, max } = stakes.parameters.rate.sessionsPerMinute
      const perMinute = Math.min(max, base * ratio)
      const waitMs = sessions.take(name, perMinute / 60, perMinute)
      if (waitMs > 0) {
        throw new ChoraleError(
          'capacity',
          `${name} opens more than ${Math.floor(perMinute)} sessions a minute here: come again in ${Math.ceil(waitMs)} ms`,
          { field: 'rate', retryAfterMs: waitMs },
        )
      }
      if (shown) book.useSession(peerId)
    },
    takeMessage: (peerId) => {
      const { name, ratio } = payer(peerId)
      const { base, max } = stakes.parameters.rate.messagesPerSecond
      const perSecond = Math.min(max, base * ratio)
      const owedMs = messages.owe(name, perSecond, 2 * perSecond)
      return name === peerId ? owedMs : Math.max(owedMs, book.heldMs(peerId))
    },
    charge: (peerId, tokens, by) => {
      if (stakes.check(peerId, 'infer').ok || book.of(peerId) === undefined) return
      book.useTokens(peerId, tokens, by)
      charged.inc({}, tokens)
    },
    refuse,
    refusals,
    passes: book,
    pending,
    onRevoked: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: () => {
      stopWatching()
      clearInterval(ending)
      pending.close()
      listeners.clear()
    },
  }
}

/** The same set, in which some peers have no stake. */
function withBans(
  stakes: StakeSet,
  bans: ReadonlyMap<string, string>,
): Pick<StakeSet, 'check' | 'onRevoked' | 'parameters' | 'resolve' | 'subnetId'> {
  return {
    subnetId: stakes.subnetId,
    get parameters() {
      return stakes.parameters
    },
    onRevoked: (listener) => stakes.onRevoked(listener),
    check: (peerId, action) => {
      const reason = bans.get(peerId)
      return reason === undefined ? stakes.check(peerId, action) : { ok: false, reason }
    },
    resolve: async (peerId, action) => {
      const reason = bans.get(peerId)
      return reason === undefined ? await stakes.resolve(peerId, action) : { ok: false, reason }
    },
  }
}
