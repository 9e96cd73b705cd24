import type { EngineSpan } from '../engine/engine.ts'
import { ChoraleError, errorMessage } from '../errors.ts'
import type { Logger } from '../log.ts'
import { MAX_ADDRS } from '../protocol/limits.ts'
import type { ModelRecord, ServerRecord, ServerState } from '../routing/snapshot.ts'
import type { Directory } from '../session/directory.ts'
import type { Span } from '../session/span-runner.ts'
import type { Peer } from '../swarm/peer.ts'
import { serveSpan } from '../swarm/serve-span.ts'
import type { ServeCounters, ServeSpanOptions, SpanHost } from '../swarm/span-host.ts'
import { hostSpan, type LoadedSpan, retireSpan } from './loaded-span.ts'
import type { SpanDoor } from './span-door.ts'
import { MAX_STEP_TOKENS } from './span-host.ts'

export interface ServerOptions {
  readonly peer: Peer
  readonly directory: Directory
  readonly model: ModelRecord
  /** The blocks to serve first. */
  readonly span: Span
  /** Loads blocks; called after the server was announced as joining, and for every move. */
  readonly load: (span: Span) => Promise<EngineSpan>
  /** The engine's name. */
  readonly engine: string
  /** Weight precision as computed (default `f32`). */
  readonly precision?: string
  /** Sessions at once (default 64). */
  readonly maxSessions?: number
  /** Sessions one peer may have (default: all). */
  readonly maxSessionsPerPeer?: number
  /** Most tokens of one session (default: the whole KV cache). */
  readonly maxLeaseTokens?: number
  /** Whether sessions that begin alike share what was computed for the beginning (default true). */
  readonly prefixCache?: boolean
  /** How often the record is published again (default 10 s). */
  readonly announceMs?: number
  readonly serve?: ServeSpanOptions
  /** What the record says of weights that this peer gives to others; asked at every announcement. */
  readonly weights?: () => Pick<ServerRecord, 'blobs' | 'manifest'>
  /** Where sessions come in, when this peer holds spans of several models; `serve` names only a tap then. Default: an own door. */
  readonly door?: SpanDoor
  readonly now?: () => number
}

/** How much a server could hold, and from when on it may move. */
export type Mobility = Pick<ServerRecord, 'maxBlocks' | 'staysUntil'>

/** A running server. */
export interface ServingServer {
  /** The span that takes new sessions. */
  readonly span: Span
  readonly engine: string
  /** Opens sessions on the span that takes new ones, beside those of the network. */
  readonly host: SpanHost
  /** Steps received and not answered, of all sessions. */
  readonly queued: number
  readonly state: ServerState
  /** Measured decode speed of the span alone, tokens per second. */
  readonly throughput: number
  readonly counters: ServeCounters
  readonly sessions: number
  readonly weightBytes: number
  readonly kvTokens: number
  /** Tells others where this server is about to go, or that it stays after all. */
  intend(span: Span | undefined): Promise<void>
  /** What the next records say of where it can go; undefined: it stays, so nobody plans with it. */
  describeMobility(said: Mobility | undefined): void
  /**
   * Serves another span instead. With `overlap` the new one is loaded and announced first and the old one then lets its
   * sessions finish for `drainMs`; without (memory for one only) the old one goes first, and comes back when the new one
   * can't be loaded. @throws what `load` throws.
   */
  move(span: Span, options: { readonly overlap: boolean; readonly drainMs: number }): Promise<void>
  /**
   * Takes no new sessions, waits up to `drainMs` for the present ones, leaves the directory, frees the span.
   * A second call with a shorter wait cuts the first one short.
   */
  stop(drainMs: number): Promise<void>
}

const MAX_SESSIONS = 64
/** How often a server publishes its record. */
export const ANNOUNCE_MS = 10_000
/** Missed announcements a record survives: one may be lost, and a busy machine is late. */
const VALID_MS = 45_000
/** News of sessions coming and going waits this long, so that a burst makes one announcement. */
const NEWS_MS = 1_000

/**
 * Serves a span: announces itself as joining, loads, measures its speed, answers sessions, announces itself as online
 * and keeps doing so. What it started is undone when loading fails.
 * @throws what `load` throws.
 */
export async function startServer(options: ServerOptions): Promise<ServingServer> {
  const { peer, directory, model, engine } = options
  const now = options.now ?? Date.now
  const log = peer.log
  let { span } = options
  let state: ServerState = 'joining'
  let intent: Span | undefined
  let mobility: Mobility | undefined
  /** Undefined while it loads. */
  let current: LoadedSpan | undefined
  /** Spans that were left and still have sessions. */
  const leaving = new Set<LoadedSpan>()
  let lastIssued = 0
  let queued = (): number => 0
  let news: ReturnType<typeof setTimeout> | undefined

  const announce = async (): Promise<void> => {
    lastIssued = Math.max(now(), lastIssued + 1)
    const load = current?.host.load() ?? { sessions: 0, freeKvTokens: 0 }
    const record: ServerRecord = {
      peerId: peer.id,
      addrs: peer.addrs().slice(0, MAX_ADDRS),
      modelId: model.modelId,
      start: span.start,
      end: span.end,
      state,
      throughput: current?.throughput ?? 0,
      ...(current && current.prefillThroughput > 0 && { prefillThroughput: current.prefillThroughput }),
      ...(intent && { intent }),
      ...mobility,
      ...options.weights?.(),
      queued: queued(),
      freeKvTokens: load.freeKvTokens,
      sessions: load.sessions,
      engine,
      precision: options.precision ?? 'f32',
      version: peer.software,
      issuedAt: lastIssued,
      expiresAt: lastIssued + VALID_MS,
    }
    await directory.announce(record, model).catch((error: unknown) => {
      log.warn('the directory did not take the announcement', { reason: errorMessage(error) })
    })
  }

  const tellSoon = (): void => {
    news ??= setTimeout(() => {
      news = undefined
      void announce()
    }, NEWS_MS)
  }

  const load = async (wanted: Span): Promise<LoadedSpan> => {
    const loaded = await options.load(wanted)
    return await hostSpan(loaded, {
      modelId: model.modelId,
      hiddenSize: model.hiddenSize,
      engine,
      limits: {
        maxSessions: options.maxSessions ?? MAX_SESSIONS,
        // A gateway is one peer with many users, so one peer may have all sessions unless told otherwise.
        maxSessionsPerPeer: options.maxSessionsPerPeer ?? options.maxSessions ?? MAX_SESSIONS,
        maxLeaseTokens: options.maxLeaseTokens ?? loaded.kvTokens,
      },
      ...(options.prefixCache !== undefined && { prefixCache: options.prefixCache }),
      onChange: tellSoon,
    })
  }

  /** Takes sessions for the present span; those of a span that was left run on in its own host. */
  const host: SpanHost = {
    modelId: model.modelId,
    hiddenSize: model.hiddenSize,
    get span() {
      return span
    },
    engine,
    maxStepTokens: MAX_STEP_TOKENS,
    open: async (request) => {
      if (!current) throw new ChoraleError('capacity', 'this server is loading its blocks')
      return await current.host.open(request)
    },
    load: () => current?.host.load() ?? { sessions: 0, freeKvTokens: 0 },
    ...(options.serve?.tap && { tap: options.serve.tap }),
  }

  await announce()
  try {
    current = await load(span)
  } catch (error) {
    await quietly(log, directory.withdraw(model.modelId))
    throw error
  }
  const service = options.door?.add(host) ?? (await serveSpan(peer, host, options.serve))
  queued = () => service.queued
  state = 'online'
  await announce()
  const timer = setInterval(() => void announce(), options.announceMs ?? ANNOUNCE_MS)

  let stopping: Promise<void> | undefined
  let moving: Promise<void> = Promise.resolve()
  let hurry: () => void = () => undefined
  const hurried = new Promise<void>((resolve) => (hurry = resolve))

  const retire = async (old: LoadedSpan, drainMs: number): Promise<void> => {
    leaving.add(old)
    await retireSpan(old, drainMs, hurried)
    leaving.delete(old)
  }

  const move = async (target: Span, overlap: boolean, drainMs: number): Promise<void> => {
    const old = current
    if (state !== 'online' || !old)
      throw new ChoraleError('bad_request', `a server that is ${state} can't move`)
    const from = span
    if (from.start === target.start && from.end === target.end) return
    const arrive = async (loaded: LoadedSpan, at: Span): Promise<void> => {
      current = loaded
      span = at
      state = 'online'
      intent = undefined
      await announce()
    }
    if (overlap) {
      await arrive(await load(target), target)
      void retire(old, drainMs)
      return
    }
    current = undefined
    span = target
    state = 'joining'
    await announce()
    await retire(old, drainMs)
    try {
      await arrive(await load(target), target)
    } catch (error) {
      await arrive(await load(from), from)
      throw error
    }
  }

  const hurries: ReturnType<typeof setTimeout>[] = []
  const hurryAfter = (drainMs: number): void => {
    hurries.push(setTimeout(hurry, drainMs))
  }
  const leave = async (drainMs: number): Promise<void> => {
    hurryAfter(drainMs)
    await moving.catch(() => undefined)
    state = 'draining'
    clearInterval(timer)
    void announce()
    current?.host.drain()
    await Promise.race([
      Promise.all([...leaving, ...(current ? [current] : [])].map((one) => one.host.idle(drainMs))),
      hurried,
    ])
    clearTimeout(news)
    state = 'offline'
    await quietly(log, directory.withdraw(model.modelId))
    await service.close('the server left')
    if (current) await retire(current, 0)
    clearTimeout(news)
    for (const timer of hurries) clearTimeout(timer)
  }
  return {
    get span() {
      return span
    },
    engine,
    host,
    get queued() {
      return queued()
    },
    get state() {
      return state
    },
    get throughput() {
      return current?.throughput ?? 0
    },
    counters: service.counters,
    get sessions() {
      return [...leaving, ...(current ? [current] : [])].reduce(
        (sum, one) => sum + one.host.load().sessions,
        0,
      )
    },
    get weightBytes() {
      return current?.weightBytes ?? 0
    },
    get kvTokens() {
      return current?.kvTokens ?? 0
    },
    intend: async (target) => {
      intent = target
      await announce()
    },
    describeMobility: (said) => {
      mobility = said
    },
    move: async (target, { overlap, drainMs }) => {
      const work = moving.then(() => move(target, overlap, drainMs))
      moving = work.catch(() => undefined)
      await work
    },
    stop: async (drainMs) => {
      if (stopping !== undefined && state !== 'offline') hurryAfter(drainMs)
      stopping ??= leave(drainMs)
      await stopping
    },
  }
}

async function quietly(log: Logger, work: Promise<void>): Promise<void> {
  await work.catch((error: unknown) =>
    log.debug('leaving the directory failed', { reason: errorMessage(error) }),
  )
}
