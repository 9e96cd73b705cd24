import { errorMessage } from '../errors.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Hop } from './chain-hop.ts'
import type { ChainContext } from './chain-opening.ts'
import type { RecoveryOptions } from './chain-recovery.ts'
import { completeHandover } from './complete-handover.ts'
import { type Changes, prepareHandover } from './prepare-handover.ts'
import type { Failover } from './span-runner.ts'

export interface HandoversOptions extends Pick<
  RecoveryOptions,
  'maxTokens' | 'seed' | 'chunkTokens' | 'window' | 'signal'
> {
  readonly position: () => number
  /** The session's output for its last token [1, hiddenSize], where it is known. */
  readonly lastOutput: () => Tensor | undefined
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
 * history while the session goes on, the last tokens between two steps. Servers hand over keys and values where both can;
 * otherwise, and where what came is not right, the history is replayed. One at a time: two neighbours that leave together
 * would be planned against each other. What fails is left to the failover.
 */
export function createHandovers(context: ChainContext, hops: Hop[], options: HandoversOptions): Handovers {
  const watched = new Set<Hop>()
  let turn: Promise<void> = Promise.resolve()
  const changes: Changes = { unchanged: Infinity }

  async function handOver(leaving: Hop, byReplay: boolean): Promise<void> {
    if (options.over() || !hops.includes(leaving) || leaving.failure !== undefined) return
    const prepared = await prepareHandover(context, hops, leaving, { ...options, changes, byReplay })
    if (!prepared) return
    let unproven = false
    await options.betweenSteps(async () => {
      const started = context.clock()
      const { old, fresh, handed } = prepared
      if (options.over()) {
        await Promise.all(fresh.map((hop) => hop.close()))
        return
      }
      let outcome: Awaited<ReturnType<typeof completeHandover>> | undefined
      try {
        outcome = await completeHandover(context, hops, prepared, {
          ...options,
          changes,
          position: options.position(),
          lastOutput: options.lastOutput(),
        })
      } finally {
        if (outcome === undefined) await Promise.all(fresh.map((hop) => hop.close()))
      }
      unproven = outcome === 'unproven'
      if (outcome !== 'done') return
      watch()
      options.onFailover({
        span: { start: old[0]!.server.start, end: old.at(-1)!.server.end },
        from: leaving.server.peerId,
        to: fresh.map((hop) => hop.server.peerId),
        reason: 'the server leaves',
        recoveryMs: Math.max(0, context.clock() - started),
        ...(handed > 0 && { handedTokens: handed }),
      })
    })
    if (unproven) await handOver(leaving, true)
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
      .then(() => handOver(hop, context.options.handover === false))
      .catch((error: unknown) => context.options.log?.debug('no hand-over', { reason: errorMessage(error) }))
  }

  return {
    watch,
    rolledBack: (position) => {
      changes.unchanged = Math.min(changes.unchanged, position)
    },
  }
}
