import { ChoraleError } from '../errors.ts'
import { noChainError } from '../routing/no-chain.ts'
import type { NoRoute } from '../routing/route.ts'
import type { Replacement } from '../routing/replacement.ts'
import { planReplacement } from '../routing/replacement.ts'
import type { Hop } from './chain-hop.ts'
import { failureReason } from './chain-hop.ts'
import { relinkHops } from './chain-links.ts'
import type { ChainContext } from './chain-opening.ts'
import { ATTEMPTS, decideRoute, type OpenedHops, openHops, POLL_MS } from './chain-opening.ts'
import { groupHops } from './hop-groups.ts'
import type { PipelineOptions } from './pipeline-options.ts'
import { runThroughHops } from './chain-pipeline.ts'
import { cancelled } from './check-step.ts'
import { pause, raceSignal } from './race-signal.ts'
import type { Failover } from './span-runner.ts'
import { concatRows, rows, type Tensor } from '../tensor/tensor.ts'

const RECOVERY_WAIT_MS = 30_000
/** Replacements that are tried without a pause: others may be well. */
const QUICK_ATTEMPTS = 4

export interface RecoveryOptions extends Pick<PipelineOptions, 'chunkTokens' | 'window' | 'signal'> {
  /** The chain's hops; dead ones are replaced in place. */
  readonly hops: Hop[]
  /** Tokens that went through every hop: the state to come back to. */
  readonly position: number
  readonly maxTokens: number
  readonly seed: number
  readonly onFailover: (failover: Failover) => void
}

/**
 * Brings every hop back to `position`: living ones roll back, dead ones are replaced by servers that replay the
 * inputs the client kept. Tries other servers when replacements fail, and waits for some to turn up.
 * @throws `no_chain` or `capacity` when none did, `session_lost` after too many failures, `cancelled`.
 */
export async function recoverHops(context: ChainContext, recovery: RecoveryOptions): Promise<void> {
  const { hops, position, signal } = recovery
  const { options, clock } = context
  const deadline = clock() + (options.recoveryWaitMs ?? RECOVERY_WAIT_MS)
  const blamed = new Set<Hop>()
  let lastFailure: unknown
  // Dials that fail at once use up no patience: whoever comes back in time still counts.
  for (let attempt = 0; attempt < (options.attempts ?? ATTEMPTS) || clock() < deadline;) {
    if (attempt > QUICK_ATTEMPTS) await pause(POLL_MS, signal)
    if (signal?.aborted) throw cancelled()
    // Outputs that living servers owe still come, and are what the next hop's replacement would replay.
    await raceSignal(Promise.all(hops.map((hop) => hop.settled())), signal)
    await Promise.all(hops.map((hop) => hop.rollback(position)))
    for (const hop of hops) {
      if (hop.failure === undefined || blamed.has(hop)) continue
      blamed.add(hop)
      context.ban(hop.server, hop.failure)
      void hop.close()
    }
    if (hops.every((hop) => hop.failure === undefined)) return

    const plans = await raceSignal(findReplacements(context, recovery, attempt === 0), signal)
    if (plans.kind === 'none') {
      if (clock() >= deadline) throw noChainError(options.model.name, plans, { maxTokens: 0, full: false })
      await pause(POLL_MS, signal)
      continue
    }
    attempt++
    // Side by side: each replays inputs that the client has.
    const outcomes = await Promise.allSettled(
      plans.replacements.map((replacement) => replayElsewhere(context, recovery, replacement)),
    )
    const thrown: unknown[] = []
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') thrown.push(outcome.reason)
      else if (outcome.value.kind === 'replayed') putIn(context, recovery, outcome.value)
      else lastFailure = outcome.value.error
    }
    if (thrown.length > 0) throw thrown[0]
  }
  throw new ChoraleError(
    'session_lost',
    `the session could not be rebuilt on other servers: ${failureReason(lastFailure)}`,
    { cause: lastFailure },
  )
}

/** Hops that go, and who comes. */
interface PlannedReplacement {
  readonly old: readonly Hop[]
  readonly route: Replacement['route']
  readonly lost: Hop
}

/**
 * Who replaces the first dead hop; and other dead ones at the same time, where all their inputs are there and nobody else
 * replaces them.
 */
async function findReplacements(
  context: ChainContext,
  { hops, position, maxTokens, seed }: RecoveryOptions,
  recent: boolean,
): Promise<{ readonly kind: 'some'; readonly replacements: readonly PlannedReplacement[] } | NoRoute> {
  const groups = groupHops(hops)
  const replacements: PlannedReplacement[] = []
  for (const [i, { from, to }] of groups.entries()) {
    const lost = hops.slice(from, to).find((hop) => hop.failure !== undefined)
    if (!lost || replacements.some(({ old }) => old.includes(lost))) continue
    // What the hops before it passed on and never reported comes with their replay.
    if (replacements.length > 0 && hops[from]!.history.length < position) continue
    const plan = await decideRoute<Replacement>(
      context,
      (snapshot) => planReplacement(groups, i, snapshot, { ...context.options.routing, maxTokens, seed }),
      recent,
    )
    if (plan.kind === 'none') {
      if (replacements.length === 0) return plan
      continue
    }
    const old = hops.slice(groups[plan.from]!.from, groups[plan.to - 1]!.to)
    const taken = replacements.some((other) => other.old.some((hop) => old.includes(hop)))
    if (!taken) replacements.push({ old, route: plan.route, lost })
  }
  return { kind: 'some', replacements }
}

/** Hops that hold the session's history, for those that go. */
interface Replayed extends PlannedReplacement {
  readonly kind: 'replayed'
  readonly fresh: readonly Hop[]
  /** What came out of the last one, where the hop after it lacks inputs. */
  readonly outputs: Tensor | undefined
}

/** Opens the planned servers and replays the history through them. @throws `cancelled`, and the errors that are the caller's own. */
async function replayElsewhere(
  context: ChainContext,
  recovery: RecoveryOptions,
  planned: PlannedReplacement,
): Promise<Replayed | Extract<OpenedHops, { kind: 'refused' }>> {
  const { hops, position, chunkTokens, window, signal } = recovery
  const { old, route } = planned
  const opened = await openHops(context, route.servers, recovery.maxTokens, signal)
  if (opened.kind === 'refused') return opened
  const history = old[0]!.history.rows(0, position)
  // The lost server may have passed on more than it reported: what its successor was fed is computed again.
  const successor = hops[hops.indexOf(old.at(-1)!) + 1]
  const missing = successor !== undefined && successor.history.length < position
  const want = missing ? 'all' : 'none'
  const replay = await runThroughHops(opened.hops, history, { chunkTokens, window, want, signal })
  if (replay.failure) {
    for (const hop of opened.hops) if (hop.failure !== undefined) context.ban(hop.server, hop.failure)
    await Promise.all(opened.hops.map((hop) => hop.close()))
    if (replay.failure.fatal) throw replay.failure.error
    return { kind: 'refused', error: replay.failure.error }
  }
  const outputs = missing ? concatRows(replay.outputs, context.options.model.hiddenSize) : undefined
  return { ...planned, kind: 'replayed', fresh: opened.hops, outputs }
}

/** Puts hops that hold the history in the place of those that go. */
function putIn(context: ChainContext, recovery: RecoveryOptions, replayed: Replayed): void {
  const { hops, position } = recovery
  const { old, lost, fresh, outputs } = replayed
  const from = hops.indexOf(old[0]!)
  const successor = hops[from + old.length]
  if (outputs && successor) successor.history.append(rows(outputs, successor.history.length, position))
  hops.splice(from, old.length, ...fresh)
  for (const hop of old) void hop.close()
  if (context.options.push !== false) relinkHops(context.links, hops, from, from + fresh.length)
  recovery.onFailover({
    span: { start: old[0]!.server.start, end: old[old.length - 1]!.server.end },
    from: lost.server.peerId,
    to: fresh.map((hop) => hop.server.peerId),
    reason: failureReason(lost.failure),
    recoveryMs: Math.max(0, context.clock() - lost.lastSignOfLife),
  })
}
