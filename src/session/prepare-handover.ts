import { errorMessage } from '../errors.ts'
import { planReplacement } from '../routing/replacement.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { adoptHops, canAdopt, inheritHistories, pageStart, paysToAdopt } from './adopt-hops.ts'
import type { Hop } from './chain-hop.ts'
import { type ChainContext, decideRoute, openHops } from './chain-opening.ts'
import { runThroughHops } from './chain-pipeline.ts'
import type { RecoveryOptions } from './chain-recovery.ts'

/** A hop whose server is about to leave, and those that were brought to its state meanwhile. */
export interface Handover {
  readonly leaving: Hop
  /** Where the chain was when it began: these hops will go. */
  readonly old: readonly Hop[]
  readonly fresh: readonly Hop[]
  /** Tokens that the fresh hops have. */
  readonly tokens: number
  /** Tokens of them that came from the old servers; 0 where all were replayed. */
  readonly handed: number
}

/** Rollbacks of a session that goes on while it is handed over. */
export interface Changes {
  /** Tokens that no rollback touched since this was last set to Infinity. */
  unchanged: number
}

export interface PrepareOptions extends Pick<
  RecoveryOptions,
  'maxTokens' | 'seed' | 'chunkTokens' | 'window' | 'signal'
> {
  readonly changes: Changes
  /** Whether to compute everything again even where the old servers could hand it over. */
  readonly byReplay: boolean
  /** Whether the session ended. */
  readonly over: () => boolean
}

/** For one round: the old server may be on a slow line, and nobody waits. */
const ROUND_MS = 20_000
/** Rounds while the session goes on; each has fewer tokens to fetch than the one before. */
const ROUNDS = 4
/** Fewer tokens than these are computed again sooner than fetched. */
const WORTH_TOKENS = 32
/** Fewer tokens than these are fetched at the end, between two steps. */
const TAIL_TOKENS = 64

/**
 * Opens servers for the blocks of a hop whose server leaves and gives them its state while the session goes on with it:
 * the old servers hand their keys and values over, and what they don't is replayed. Its neighbours go too where servers
 * run only larger spans.
 * @returns undefined when nobody can take over: the session stays as long as it is let.
 */
export async function prepareHandover(
  context: ChainContext,
  hops: readonly Hop[],
  leaving: Hop,
  options: PrepareOptions,
): Promise<Handover | undefined> {
  const { maxTokens, seed, signal, changes } = options
  changes.unchanged = Infinity
  const plan = await decideRoute(
    context,
    (snapshot) => {
      const servers = snapshot.servers.filter(({ peerId }) => peerId !== leaving.server.peerId)
      return planReplacement(
        hops.map((hop) => hop.server),
        hops.indexOf(leaving),
        { ...snapshot, servers },
        { ...context.options.routing, maxTokens, seed },
      )
    },
    true,
  )
  if (plan.kind === 'none') return undefined
  const old = hops.slice(plan.from, plan.to)
  const opened = await openHops(context, plan.route.servers, maxTokens, signal)
  if (opened.kind === 'refused') return undefined
  const fresh = opened.hops
  let prepared: Handover | undefined
  try {
    prepared = await bringUp(context, { leaving, old, fresh }, options)
  } finally {
    if (!prepared) await Promise.all(fresh.map((hop) => hop.close()))
  }
  return prepared
}

/** Brings fresh hops near to where the session is by then. @returns undefined where that did not work. */
async function bringUp(
  context: ChainContext,
  hops: Pick<Handover, 'leaving' | 'old' | 'fresh'>,
  options: PrepareOptions,
): Promise<Handover | undefined> {
  const { old, fresh } = hops
  const { chunkTokens, window, signal } = options
  const handed = options.byReplay ? 0 : await adoptRounds(old, fresh, options)
  const { history } = old[0]!
  const tokens = history.length
  if (handed > 0 && tokens - handed <= TAIL_TOKENS) return { ...hops, tokens: handed, handed }
  if (history.start > handed || fresh.some((hop) => hop.failure !== undefined)) return undefined
  // A copy, taken now: the session goes on, and a rollback overwrites rows.
  const given = copyOf(history.rows(handed, tokens))
  await inheritHistories(old, fresh, handed)
  const { failure } = await runThroughHops(fresh, given, { chunkTokens, window, want: 'none', signal })
  if (!failure) return { ...hops, tokens, handed }
  context.options.log?.info('a hand-over failed', { reason: errorMessage(failure.error) })
  return undefined
}

/** Fetches from the old servers until little is left. @returns the tokens that all fresh hops got; 0 for none. */
async function adoptRounds(
  old: readonly Hop[],
  fresh: readonly Hop[],
  { changes, over, signal }: PrepareOptions,
): Promise<number> {
  const { history } = old[0]!
  if (!canAdopt(old, fresh) || !paysToAdopt(old, fresh, history.length)) return 0
  let reached = 0
  for (let round = 0; round < ROUNDS && !over(); round++) {
    const from = pageStart(Math.min(reached, changes.unchanged))
    // The last token is always computed again: its output shows whether what came before is right.
    const to = history.length - 1
    if (to - from < (round === 0 ? WORTH_TOKENS : TAIL_TOKENS)) return Math.min(reached, changes.unchanged)
    // What is rolled back from now on is read anew, by the next round or at the end.
    changes.unchanged = Infinity
    reached = await adoptHops(old, fresh, { from, to, deadlineMs: ROUND_MS }, signal)
    if (reached < to) break
  }
  if (fresh.some((hop) => hop.failure !== undefined)) return 0
  return Math.min(reached, changes.unchanged)
}

function copyOf({ shape, data }: Tensor): Tensor {
  return { shape, data: data.slice() }
}
