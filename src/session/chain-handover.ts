import { errorMessage } from '../errors.ts'
import { planReplacement } from '../routing/replacement.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { concatRows, rows } from '../tensor/tensor.ts'
import type { Hop } from './chain-hop.ts'
import { relinkHops } from './chain-links.ts'
import { type ChainContext, decideRoute, openHops } from './chain-opening.ts'
import { runThroughHops } from './chain-pipeline.ts'
import type { RecoveryOptions } from './chain-recovery.ts'
import type { Failover } from './span-runner.ts'

export interface HandoversOptions extends ReplayOptions {
  readonly position: () => number
  /** Whether the session ended. */
  readonly over: () => boolean
  /** Runs `work` when no step is under way, before later ones. */
  readonly betweenSteps: (work: () => Promise<void>) => Promise<void>
  readonly onFailover: (failover: Failover) => void
}

/** Hand-overs of one chain session. */
export interface Handovers {
  /** Watches for servers that say they leave; again after hops were replaced. */
  watch(): void
  /** The session forgot everything from `position` on. */
  rolledBack(position: number): void
}

/**
 * Brings the parts of a session whose servers are about to leave to others, before they leave: the long way of the
 * history while the session goes on, the last tokens between two steps. One at a time: two neighbours that leave
 * together would be planned against each other. What fails is left to the failover.
 */
export function createHandovers(context: ChainContext, hops: Hop[], options: HandoversOptions): Handovers {
  const watched = new Set<Hop>()
  let turn: Promise<void> = Promise.resolve()
  /** Tokens that no rollback touched since the present hand-over began. */
  let unchanged = Infinity

  async function handOver(leaving: Hop): Promise<void> {
    if (options.over() || !hops.includes(leaving) || leaving.failure !== undefined) return
    unchanged = Infinity
    const prepared = await prepareHandover(context, hops, leaving, options)
    if (!prepared) return
    await options.betweenSteps(async () => {
      const started = context.clock()
      if (options.over()) return await closeAll(prepared.fresh)
      if (!(await completeHandover(context, hops, prepared, options.position(), unchanged, options))) return
      watch()
      options.onFailover({
        span: { start: prepared.old[0]!.server.start, end: prepared.old.at(-1)!.server.end },
        from: leaving.server.peerId,
        to: prepared.fresh.map((hop) => hop.server.peerId),
        reason: 'the server leaves',
        recoveryMs: Math.max(0, context.clock() - started),
      })
    })
  }

  function watch(): void {
    for (const hop of hops) {
      if (watched.has(hop) || !hop.leaving) continue
      watched.add(hop)
      void follow(hop)
    }
  }

  async function follow(hop: Hop): Promise<void> {
    await hop.leaving
    turn = turn
      .then(() => handOver(hop))
      .catch((error: unknown) => context.options.log?.debug('no hand-over', { reason: errorMessage(error) }))
  }

  return {
    watch,
    rolledBack: (position) => {
      unchanged = Math.min(unchanged, position)
    },
  }
}

async function closeAll(hops: readonly Hop[]): Promise<void> {
  await Promise.all(hops.map((hop) => hop.close()))
}

/** A hop whose server is about to leave, and those that were brought to its state meanwhile. */
interface Handover {
  readonly leaving: Hop
  /** Where the chain was when it began: hops [from, to) will go. */
  readonly old: readonly Hop[]
  readonly fresh: readonly Hop[]
  /** Tokens that the fresh hops have. */
  readonly tokens: number
}

type ReplayOptions = Pick<RecoveryOptions, 'maxTokens' | 'seed' | 'chunkTokens' | 'window' | 'signal'>

/**
 * Opens servers for the blocks of a hop whose server leaves and replays what it was given, while the session goes on
 * with it. Its neighbours go too where servers run only larger spans.
 * @returns undefined when nobody can take over: the session stays as long as it is let.
 */
async function prepareHandover(
  context: ChainContext,
  hops: readonly Hop[],
  leaving: Hop,
  options: ReplayOptions,
): Promise<Handover | undefined> {
  const { maxTokens, seed, chunkTokens, window, signal } = options
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
  const { history } = old[0]!
  const tokens = history.length
  // A copy: the session goes on, and a rollback overwrites rows.
  const given = copyOf(history.rows(0, tokens))
  const replay = await runThroughHops(opened.hops, given, { chunkTokens, window, want: 'none', signal })
  if (!replay.failure) return { leaving, old, fresh: opened.hops, tokens }
  context.options.log?.info('a hand-over failed', { reason: errorMessage(replay.failure.error) })
  await closeAll(opened.hops)
  return undefined
}

/**
 * Brings the fresh hops up to `position` and puts them in the old ones' place. No step may be under way.
 * @returns whether they took over; if not, they are closed and the old ones stay.
 */
async function completeHandover(
  context: ChainContext,
  hops: Hop[],
  { old, fresh, tokens }: Handover,
  position: number,
  /** Tokens that are still what they were when it began. */
  unchanged: number,
  options: ReplayOptions,
): Promise<boolean> {
  const from = hops.indexOf(old[0]!)
  const inPlace = from >= 0 && old.every((hop, i) => hops[from + i] === hop)
  const first = old[0]!
  if (inPlace) await Promise.all(hops.map((hop) => hop.settled()))
  if (!inPlace || first.history.length < position || fresh.some((hop) => hop.failure !== undefined)) {
    await closeAll(fresh)
    return false
  }
  const known = Math.min(tokens, unchanged, position)
  await Promise.all(fresh.map((hop) => hop.rollback(known)))
  const to = from + old.length
  const successor = hops[to]
  // What the old server may not have reported yet is what its successor's history lacks.
  const missing = successor !== undefined && successor.history.length < position
  const want = missing ? 'all' : 'none'
  const { chunkTokens, window, signal } = options
  const rest = first.history.rows(known, position)
  const replay = await runThroughHops(fresh, rest, { chunkTokens, window, want, signal })
  const reached = missing ? known <= successor.history.length : true
  if (replay.failure || !reached) {
    await closeAll(fresh)
    return false
  }
  if (missing) {
    const outputs = concatRows(replay.outputs, context.options.model.hiddenSize)
    successor.history.append(rows(outputs, successor.history.length - known, position - known))
  }
  hops.splice(from, old.length, ...fresh)
  for (const hop of old) void hop.close()
  if (context.options.push !== false) relinkHops(context.links, hops, from, from + fresh.length)
  return true
}

function copyOf({ shape, data }: Tensor): Tensor {
  return { shape, data: data.slice() }
}
