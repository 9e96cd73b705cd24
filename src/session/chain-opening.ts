import { ChoraleError, errorCode } from '../errors.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { noChainError } from '../routing/no-chain.ts'
import type { NoRoute, Route, RouteRequest } from '../routing/route.ts'
import { findRoute } from '../routing/route.ts'
import type { ServerRecord, Snapshot } from '../routing/snapshot.ts'
import type { Hop } from './chain-hop.ts'
import { createHop, failureReason, isCallersError } from './chain-hop.ts'
import { type LinkMemory, planLinks } from './chain-links.ts'
import type { ChainOptions } from './chain-options.ts'
import { runThroughHops } from './chain-pipeline.ts'
import { cancelled } from './check-step.ts'
import type { PipelineResult } from './pipeline-options.ts'
import { pause, raceDeadline, raceSignal } from './race-signal.ts'
import type { OpenOptions, PushLinks, SpanRunner, SpanSession } from './span-runner.ts'
import type { StepPace } from './step-pace.ts'
import type { SwarmView } from './swarm-view.ts'

/** What all sessions of a chain share. */
export interface ChainContext {
  readonly options: ChainOptions
  readonly view: SwarmView
  readonly pace: StepPace
  readonly clock: () => number
  readonly links: LinkMemory
  /** Bans the hop's server and says so. */
  ban(server: ServerRecord, error: unknown): void
}

const HOP_OPEN_MS = 5_000
const OPEN_WAIT_MS = 3_000
export const ATTEMPTS = 16
/** How often the directory is asked again while a block has no server. */
export const POLL_MS = 250
/** Records this young are used without asking again: a lookup costs a recovery more than a stale record does. */
export const RECENT_MS = 10_000
/** Records this young are used once more while the directory is asked: servers keep what they said about as long. */
const STALE_MS = 40_000
/** Every server takes steps of so many tokens; one that is not open yet has not named its own limit. */
const MAX_AHEAD_CHUNK_TOKENS = 64

/** How a prompt is cut, and how many pieces are under way in a chain of so many hops. */
export interface Pieces {
  readonly chunkTokens: number
  readonly window: (hops: number) => number
}

/** Hops that are open, and what runs through them already. */
export interface OpenedChain {
  readonly hops: Hop[]
  /** The prompt, sent along with the opening. */
  readonly ahead?: RunningAhead
}

/** A first step that began before the chain was open. */
export interface RunningAhead {
  readonly result: Promise<PipelineResult>
  readonly stop: AbortController
}

/** A route over the whole model with every server's room reserved, trying others when some refuse. @throws as `SpanRunner.open`. */
export async function openChain(
  context: ChainContext,
  open: OpenOptions,
  seed: number,
  pieces: Pieces,
): Promise<OpenedChain> {
  const { options, clock } = context
  const { model } = options
  const request: RouteRequest = {
    ...options.routing,
    start: 0,
    end: model.blockCount,
    maxTokens: open.maxTokens,
    hiddenBytes: model.hiddenSize * Float32Array.BYTES_PER_ELEMENT,
    ...(open.promptTokens !== undefined && {
      promptTokens: open.promptTokens,
      answerTokens: Math.max(1, open.maxTokens - open.promptTokens),
    }),
    seed,
  }
  const deadline = clock() + (options.openWaitMs ?? OPEN_WAIT_MS)
  let refused: unknown
  for (let attempt = 0; attempt < (options.attempts ?? ATTEMPTS);) {
    if (open.signal?.aborted) throw cancelled()
    const decide = (snapshot: Snapshot) => findRoute(snapshot, request)
    const route = await raceSignal(decideRoute(context, decide, attempt === 0), open.signal)
    if (route.kind === 'none') {
      const full = await isOnlyFull(context, request)
      if (full || clock() >= deadline) {
        if (errorCode(refused) === 'capacity') throw refused
        throw noChainError(model.name, route, { maxTokens: open.maxTokens, full })
      }
      await pause(POLL_MS, open.signal)
      continue
    }
    attempt++
    const ahead = createRunningAhead(open.prompt, pieces)
    const opened = await openHops(context, route.servers, open.maxTokens, open.signal, ahead.start)
    const running = ahead.running()
    if (opened.kind === 'hops') return { hops: opened.hops, ...(running && { ahead: running }) }
    running?.stop.abort()
    refused = opened.error
  }
  throw errorCode(refused) === 'capacity'
    ? refused
    : new ChoraleError(
        'unreachable',
        `no chain of ${model.name} could be opened: ${failureReason(refused)}`,
        {
          cause: refused,
        },
      )
}

/** Sends a prompt as soon as every server of a route has been sent its opening. */
function createRunningAhead(prompt: Tensor | undefined, { chunkTokens, window }: Pieces) {
  let running: RunningAhead | undefined
  return {
    running: () => running,
    start: (hops: readonly Hop[]): void => {
      if (prompt === undefined || chunkTokens > MAX_AHEAD_CHUNK_TOKENS) return
      const stop = new AbortController()
      const options = { chunkTokens, window: window(hops.length), want: 'last', signal: stop.signal } as const
      running = { stop, result: runThroughHops(hops, prompt, options) }
    },
  }
}

/**
 * What `decide` makes of the newest picture of the swarm: first without banned servers, then, as a last resort, with
 * those whose failure is a while ago.
 */
export async function decideRoute<T extends { kind: string }>(
  { view }: ChainContext,
  decide: (snapshot: Snapshot) => T | NoRoute,
  recent: boolean,
): Promise<T | NoRoute> {
  if (recent) {
    const first = decide(await view.snapshot({ maxAgeMs: RECENT_MS, staleMs: STALE_MS }))
    if (first.kind !== 'none') return first
  }
  const fresh = decide(await view.snapshot())
  if (fresh.kind !== 'none') return fresh
  const last = decide(await view.snapshot({ maxAgeMs: RECENT_MS, lastResort: true }))
  return last.kind === 'none' ? fresh : last
}

async function isOnlyFull({ view }: ChainContext, request: RouteRequest): Promise<boolean> {
  const route = findRoute(await view.snapshot({ maxAgeMs: RECENT_MS }), { ...request, maxTokens: 0 })
  return route.kind === 'route'
}

export type OpenedHops =
  | { readonly kind: 'hops'; readonly hops: Hop[] }
  | { readonly kind: 'refused'; readonly error: unknown }

/**
 * Opens a session on every server of a route at once; all or none. Servers that fail are banned, full ones skipped.
 * `onSent` is called when all openings are on their way and sessions take steps by then.
 * @throws `cancelled`, and the errors that are the caller's own.
 */
export async function openHops(
  context: ChainContext,
  servers: Route['servers'],
  maxTokens: number,
  signal: AbortSignal | undefined,
  onSent?: (hops: readonly Hop[]) => void,
): Promise<OpenedHops> {
  const sent: Hop[] = []
  let count = 0
  const links = context.options.push === false ? [] : planLinks(context.links, servers)
  const settled = await Promise.allSettled(
    servers.map((server, i) => {
      const onHopSent = (hop: Hop): void => {
        sent[i] = hop
        if (++count === servers.length) onSent?.(sent)
      }
      return openHop(context, server, { maxTokens, links: links[i], onSent: onHopSent }, signal)
    }),
  )
  const hops: Hop[] = []
  const errors: unknown[] = []
  for (const [i, outcome] of settled.entries()) {
    if (outcome.status === 'fulfilled') {
      hops.push(outcome.value)
      continue
    }
    errors.push(outcome.reason)
    if (signal?.aborted || isCallersError(outcome.reason)) continue
    if (errorCode(outcome.reason) === 'capacity') context.view.skip(servers[i]!.peerId)
    else context.ban(servers[i]!, outcome.reason)
  }
  if (errors.length === 0 && !signal?.aborted) return { kind: 'hops', hops }
  await Promise.all(hops.map((hop) => hop.close()))
  if (signal?.aborted) throw cancelled()
  const own = errors.find(isCallersError)
  if (own !== undefined) throw own
  return { kind: 'refused', error: errors[0] }
}

interface HopOpening {
  readonly maxTokens: number
  readonly links: PushLinks | undefined
  readonly onSent: (hop: Hop) => void
}

async function openHop(
  { options, pace, clock }: ChainContext,
  server: ServerRecord,
  { maxTokens, links, onSent }: HopOpening,
  signal: AbortSignal | undefined,
): Promise<Hop> {
  const stop = new AbortController()
  let hop: Hop | undefined
  const hopOf = (runner: SpanRunner, session: SpanSession): Hop => {
    const { hiddenSize } = options.model
    const linked = links?.next !== undefined && session.push !== undefined
    return createHop({ server, runner, session, hiddenSize, maxTokens, pace, clock, linked })
  }
  const opening = (async (): Promise<{ runner: SpanRunner; session: SpanSession }> => {
    const runner = await options.connect(server, stop.signal)
    try {
      checkRunner(runner, server, options)
      return {
        runner,
        session: await runner.open({
          maxTokens,
          signal: stop.signal,
          ...(links && { push: links }),
          onSent: (session) => onSent((hop = hopOf(runner, session))),
        }),
      }
    } catch (error) {
      await runner.close().catch(() => undefined)
      throw error
    }
  })()
  try {
    const patience = options.hopOpenMs ?? HOP_OPEN_MS
    const accepted = raceDeadline(opening, patience, `${server.peerId} did not accept a session`)
    const { runner, session } = await raceSignal(accepted, signal)
    return hop ?? hopOf(runner, session)
  } catch (error) {
    stop.abort()
    // It may still open after we lost patience: then its room is freed at once.
    void opening
      .then(({ runner, session }) => session.close().finally(() => runner.close()))
      .catch(() => undefined)
    throw error
  }
}

/** @throws `protocol` when what was connected is not what the record promised. */
function checkRunner(runner: SpanRunner, server: ServerRecord, { model }: ChainOptions): void {
  const { span, hiddenSize } = runner
  if (span.start === server.start && span.end === server.end && hiddenSize === model.hiddenSize) return
  throw new ChoraleError(
    'protocol',
    `${server.peerId} serves blocks ${span.start}:${span.end} of hidden size ${hiddenSize}, its record says ${server.start}:${server.end} of ${model.hiddenSize}`,
  )
}
