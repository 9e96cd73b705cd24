import { ChoraleError } from '../errors.ts'
import { silentLogger } from '../log.ts'
import { findRoute } from '../routing/route.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { concatRows, rows } from '../tensor/tensor.ts'
import { failureReason } from './chain-hop.ts'
import type { ChainContext } from './chain-opening.ts'
import type { OpenedChain, RunningAhead } from './chain-opening.ts'
import { createHandovers } from './chain-handover.ts'
import { createLinkMemory, rememberLinks } from './chain-links.ts'
import { openChain } from './chain-opening.ts'
import type { ChainOptions } from './chain-options.ts'
import { runThroughHops } from './chain-pipeline.ts'
import { recoverHops } from './chain-recovery.ts'
import { cancelled, checkOpen, checkRollback, checkStep } from './check-step.ts'
import type { Failover, OpenOptions, Span, SpanRunner, SpanSession, StepOptions } from './span-runner.ts'
import { createStepPace } from './step-pace.ts'
import { createSwarmView } from './swarm-view.ts'

/** Big enough that a server's matrices are read once for many tokens, small enough that hops overlap. */
const CHUNK_TOKENS = 64
/** Recoveries in a row without one more token: after that the swarm is too sick for this session. */
const FRUITLESS_RECOVERIES = 8
/** Steps after which a server that failed before counts as well again. */
const FORGIVE_STEPS = 16

/** Many servers as one span: the whole model. */
export interface ChainRunner extends SpanRunner {
  /** Whether servers cover every block now, room aside; `missing` names the blocks that have none. */
  readiness(): Promise<{ readonly ready: boolean; readonly missing: readonly Span[] }>
}

/**
 * A chain of servers that covers the whole model and survives the loss of any of them: the client keeps each hop's
 * inputs and replays them on others. Given engines whose numbers do not depend on how tokens are cut into steps, the
 * outputs are the same bit for bit, whatever happens on the way.
 */
export function createChain(options: ChainOptions): ChainRunner {
  const { model, log = silentLogger, clock = Date.now } = options
  const view = createSwarmView(model, options.directory, options.measures ?? (() => new Map()), clock)
  const context: ChainContext = {
    options,
    view,
    pace: createStepPace(options.pace),
    clock,
    links: createLinkMemory(),
    ban(server, error) {
      view.ban(server.peerId, options.bans)
      const reason = failureReason(error)
      log.info('server banned', { peer: server.peerId, start: server.start, end: server.end, reason })
      options.onEvent?.({ type: 'banned', peer: server.peerId, reason })
    },
  }
  return {
    modelId: model.modelId,
    hiddenSize: model.hiddenSize,
    span: { start: 0, end: model.blockCount },
    async open(open) {
      checkOpen(open)
      const seed = options.seed?.() ?? 0
      const { chunkTokens = CHUNK_TOKENS } = options
      const window = (hops: number): number => options.window ?? hops + 2
      const opened = await openChain(context, open, seed, { chunkTokens, window })
      const { hops } = opened
      const session = createChainSession(context, opened, open, seed)
      log.debug('chain opened', { hops: hops.length, maxTokens: open.maxTokens })
      options.onEvent?.({ type: 'opened', route: session.route })
      return session
    },
    async readiness() {
      const found = findRoute(await view.snapshot(), { start: 0, end: model.blockCount, maxTokens: 0 })
      return found.kind === 'route' ? { ready: true, missing: [] } : { ready: false, missing: found.missing }
    },
    close: async () => undefined,
  }
}

/** A session over open hops, in which a prompt may be on its way already. @param open.maxTokens bounds the memory of each hop's history. */
function createChainSession(
  context: ChainContext,
  { hops, ahead }: OpenedChain,
  open: OpenOptions,
  seed: number,
): SpanSession {
  const { options, view } = context
  const { hiddenSize } = options.model
  const chunkTokens = options.chunkTokens ?? CHUNK_TOKENS
  /** Tokens of steps that resolved. */
  let position = 0
  /** Tokens of steps that were asked for. */
  let asked = 0
  let calls = 0
  let running = 0
  let tail: Promise<unknown> = Promise.resolve()
  /** Steps called after number `call` fail with `error`; a lost session can't be rolled back. */
  let failure: { readonly call: number; readonly error: unknown; readonly lost: boolean } | undefined
  let closing: Promise<void> | undefined
  const closed = new AbortController()
  /** Nobody needs a hand-over any more, while what is under way may still end well. */
  const closingSoon = new AbortController()
  /** What came out last, up to which token. */
  let lastOutputs: Tensor = { shape: [0, hiddenSize], data: new Float32Array(0) }
  let lastOutputsEnd = 0
  /** Callers give the same signal for every token: joined once. */
  let joined: { readonly of: AbortSignal; readonly signal: AbortSignal } | undefined

  function joinSignal(signal: AbortSignal | undefined): AbortSignal {
    if (!signal) return closed.signal
    if (joined?.of !== signal) joined = { of: signal, signal: AbortSignal.any([signal, closed.signal]) }
    return joined.signal
  }

  const freeHops = () => Promise.all(hops.map((hop) => hop.close()))

  const handovers = createHandovers(context, hops, {
    maxTokens: open.maxTokens,
    seed,
    chunkTokens,
    window: options.window ?? hops.length + 2,
    signal: closingSoon.signal,
    position: () => position,
    lastOutput,
    over: () => closing !== undefined || failure?.lost === true,
    betweenSteps(work) {
      const turn = tail.then(work)
      tail = turn.catch(() => undefined)
      return turn
    },
    onFailover: tellFailover,
  })
  handovers.watch()

  /** Of the token before `position`, unless a rollback went behind what came out last. */
  function lastOutput(): Tensor | undefined {
    const at = lastOutputs.shape[0] - (lastOutputsEnd - position)
    return at > 0 && position <= lastOutputsEnd ? rows(lastOutputs, at - 1, at) : undefined
  }

  function tellFailover(failover: Failover): void {
    const { span, from, reason, recoveryMs } = failover
    options.log?.info('span moved', { start: span.start, end: span.end, from, reason, recoveryMs })
    options.onEvent?.({ type: 'failover', ...failover })
    open.onFailover?.(failover)
  }

  async function recover(at: number, signal: AbortSignal): Promise<void> {
    await recoverHops(context, {
      hops,
      position: at,
      maxTokens: open.maxTokens,
      seed,
      chunkTokens,
      window: options.window ?? hops.length + 2,
      signal,
      onFailover: tellFailover,
    })
    handovers.watch()
  }

  /** Brings `hidden` through all hops, through as many failures as it takes. */
  async function advance(
    hidden: Tensor,
    want: StepOptions['want'],
    signal: AbortSignal,
    begun: RunningAhead | undefined,
  ): Promise<Tensor> {
    const total = hidden.shape[0]
    const outputs: Tensor[] = []
    let done = 0
    for (let fruitless = 0; ; fruitless++) {
      const isBegun = begun !== undefined && done === 0 && fruitless === 0
      if (!isBegun && hops.some((hop) => hop.failure !== undefined)) await recover(position + done, signal)
      const result = isBegun
        ? await begun.result
        : await runThroughHops(hops, rows(hidden, done, total), {
            chunkTokens,
            window: options.window ?? hops.length + 2,
            want,
            signal,
          })
      outputs.push(...result.outputs)
      done += result.done
      if (!result.failure) break
      if (signal.aborted) throw cancelled()
      const { error, fatal } = result.failure
      if (fatal || !hops.some((hop) => hop.failure !== undefined)) throw error
      if (result.done > 0) fruitless = 0
      if (fruitless >= FRUITLESS_RECOVERIES) {
        throw new ChoraleError('session_lost', `servers keep failing: ${failureReason(error)}`, {
          cause: error,
        })
      }
      await recover(position + done, signal)
    }
    if (options.push !== false) rememberLinks(context.links, hops)
    for (const hop of hops) if (hop.steps >= FORGIVE_STEPS) view.forgive(hop.server.peerId)
    return outputs.length === 1 ? outputs[0]! : concatRows(outputs, hiddenSize)
  }

  async function runStep(
    call: number,
    hidden: Tensor,
    { want, signal }: StepOptions,
    begun?: RunningAhead,
  ): Promise<Tensor> {
    if (failure && failure.call < call) throw failure.error
    try {
      const either = joinSignal(signal)
      if (begun) either.addEventListener('abort', () => begun.stop.abort(), { once: true })
      if (either.aborted) throw cancelled()
      const output = await advance(hidden, want, either, begun)
      position += hidden.shape[0]
      lastOutputs = output
      lastOutputsEnd = position
      return output
    } catch (error) {
      failure = { call, error, lost: true }
      await freeHops()
      throw error
    }
  }

  async function step(
    hidden: Tensor,
    stepOptions: StepOptions,
    begun: RunningAhead | undefined,
  ): Promise<Tensor> {
    const call = calls++
    if (failure) throw failure.error
    if (closing) throw new ChoraleError('session_lost', 'the session is closed')
    try {
      checkStep(hidden, hiddenSize, asked, open.maxTokens)
    } catch (error) {
      // The steps before this one go on; the ones after it must not run in its place.
      failure = { call, error, lost: false }
      throw error
    }
    asked += hidden.shape[0]
    running++
    const work = tail.then(() => runStep(call, hidden, stepOptions, begun)).finally(() => running--)
    tail = work.catch(() => undefined)
    return await work
  }

  /** The first step, which began with the opening; the caller's step of the same tensor waits for it. */
  let first:
    | { readonly hidden: Tensor; readonly output: Promise<Tensor>; readonly begun: RunningAhead }
    | undefined
  if (ahead && open.prompt) {
    first = {
      hidden: open.prompt,
      output: step(open.prompt, { want: 'last', signal: ahead.stop.signal }, ahead),
      begun: ahead,
    }
    first.output.catch(() => undefined)
  }

  return {
    get position() {
      return position
    },
    get route() {
      return hops.map((hop) => hop.route)
    },
    async step(hidden, stepOptions = {}) {
      if (!first) return await step(hidden, stepOptions, undefined)
      const { output, begun } = first
      if (hidden !== first.hidden || stepOptions.want !== 'last') {
        throw new ChoraleError(
          'bad_request',
          'the first step is not the prompt that the session was opened with',
        )
      }
      first = undefined
      const { signal } = stepOptions
      const stop = (): void => begun.stop.abort()
      signal?.addEventListener('abort', stop)
      if (signal?.aborted) stop()
      try {
        return await output
      } finally {
        signal?.removeEventListener('abort', stop)
      }
    },
    async rollback(to) {
      if (failure?.lost) throw failure.error
      if (closing) throw new ChoraleError('session_lost', 'the session is closed')
      if (running > 0) throw new ChoraleError('bad_request', 'rollback while a step is under way')
      checkRollback(to, position)
      // In the steps' order: a hand-over may be putting other hops in right now.
      const goBack = async (): Promise<void> => {
        await Promise.all(hops.map((hop) => hop.settled()))
        // A hop that can't go back is dead, and the next step replaces it.
        await Promise.all(hops.map((hop) => hop.rollback(to)))
        handovers.rolledBack(to)
        position = to
        asked = to
        failure = undefined
      }
      const turn = tail.then(goBack)
      tail = turn
      await turn
    },
    close() {
      closing ??= (async () => {
        closingSoon.abort()
        if (running > 0) closed.abort()
        await tail
        // Copies of the last outputs may still be under way: receipts are complete with them.
        await freeHops()
        closed.abort()
      })()
      return closing
    },
  }
}
