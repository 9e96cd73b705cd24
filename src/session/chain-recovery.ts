import { ChoraleError } from '../errors.ts'
import { noChainError } from '../routing/no-chain.ts'
import type { Replacement } from '../routing/replacement.ts'
import { planReplacement } from '../routing/replacement.ts'
import type { Hop } from './chain-hop.ts'
import { failureReason } from './chain-hop.ts'
import { relinkHops } from './chain-links.ts'
import type { ChainContext } from './chain-opening.ts'
import { ATTEMPTS, decideRoute, openHops, POLL_MS } from './chain-opening.ts'
import type { PipelineOptions } from './pipeline-options.ts'
import { runThroughHops } from './chain-pipeline.ts'
import { cancelled } from './check-step.ts'
import { pause, raceSignal } from './race-signal.ts'
import type { Failover } from './span-runner.ts'
import { concatRows, rows } from '../tensor/tensor.ts'

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
    const failed = hops.findIndex((hop) => hop.failure !== undefined)
    if (failed < 0) return

    const plan = await raceSignal(findReplacement(context, recovery, failed, attempt === 0), signal)
    if (plan.kind === 'none') {
      if (clock() >= deadline) throw noChainError(options.model.name, plan, { maxTokens: 0, full: false })
      await pause(POLL_MS, signal)
      continue
    }
    attempt++
    lastFailure = await replaceHops(context, recovery, plan, failed)
  }
  throw new ChoraleError(
    'session_lost',
    `the session could not be rebuilt on other servers: ${failureReason(lastFailure)}`,
    { cause: lastFailure },
  )
}

function findReplacement(context: ChainContext, recovery: RecoveryOptions, failed: number, recent: boolean) {
  const spans = recovery.hops.map((hop) => hop.server)
  const { maxTokens, seed } = recovery
  return decideRoute<Replacement>(
    context,
    (snapshot) => planReplacement(spans, failed, snapshot, { ...context.options.routing, maxTokens, seed }),
    recent,
  )
}

/** Opens the planned servers, replays the history through them and puts them in. @returns why it did not work. */
async function replaceHops(
  context: ChainContext,
  recovery: RecoveryOptions,
  { from, to, route }: Replacement,
  failed: number,
): Promise<unknown> {
  const { hops, position, chunkTokens, window, signal } = recovery
  const { options } = context
  const opened = await openHops(context, route.servers, recovery.maxTokens, signal)
  if (opened.kind === 'refused') return opened.error
  const history = hops[from]!.history.rows(0, position)
  // The lost server may have passed on more than it reported: what its successor was fed is computed again.
  const successor = hops[to]
  const missing = successor !== undefined && successor.history.length < position
  const want = missing ? 'all' : 'none'
  const replay = await runThroughHops(opened.hops, history, { chunkTokens, window, want, signal })
  if (replay.failure) {
    for (const hop of opened.hops) if (hop.failure !== undefined) context.ban(hop.server, hop.failure)
    await Promise.all(opened.hops.map((hop) => hop.close()))
    if (replay.failure.fatal) throw replay.failure.error
    return replay.failure.error
  }
  if (missing) {
    const outputs = concatRows(replay.outputs, options.model.hiddenSize)
    successor.history.append(rows(outputs, successor.history.length, position))
  }
  const lost = hops[failed]!
  const old = hops.splice(from, to - from, ...opened.hops)
  for (const hop of old) void hop.close()
  if (options.push !== false) relinkHops(context.links, hops, from, from + opened.hops.length)
  recovery.onFailover({
    span: { start: old[0]!.server.start, end: old[old.length - 1]!.server.end },
    from: lost.server.peerId,
    to: opened.hops.map((hop) => hop.server.peerId),
    reason: failureReason(lost.failure),
    recoveryMs: Math.max(0, context.clock() - lost.lastSignOfLife),
  })
  return undefined
}
