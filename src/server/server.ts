import type { EngineSpan } from '../engine/engine.ts'
import { errorMessage } from '../errors.ts'
import type { Logger } from '../log.ts'
import { MAX_ADDRS } from '../protocol/limits.ts'
import type { ModelRecord, ServerRecord, ServerState } from '../routing/snapshot.ts'
import type { Directory } from '../session/directory.ts'
import type { Span } from '../session/span-runner.ts'
import type { Peer } from '../swarm/peer.ts'
import { serveSpan } from '../swarm/serve-span.ts'
import type { ServeCounters, ServeSpanOptions } from '../swarm/span-host.ts'
import { createSpanHost } from './span-host.ts'
import { measurePrefill, measureThroughput } from './throughput.ts'

export interface ServerOptions {
  readonly peer: Peer
  readonly directory: Directory
  readonly model: ModelRecord
  /** The blocks to serve. */
  readonly span: Span
  /** Loads them; called once, after the server was announced as joining. */
  readonly load: () => Promise<EngineSpan>
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
  readonly now?: () => number
}

/** A running server. */
export interface ServingServer {
  readonly span: Span
  readonly engine: string
  readonly state: ServerState
  /** Measured decode speed of the span alone, tokens per second. */
  readonly throughput: number
  readonly counters: ServeCounters
  readonly sessions: number
  readonly weightBytes: number
  readonly kvTokens: number
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
  const { peer, directory, model, span, engine } = options
  const now = options.now ?? Date.now
  const log = peer.log
  let state: ServerState = 'joining'
  let throughput = 0
  let prefillThroughput = 0
  let lastIssued = 0
  let queued = (): number => 0
  let load = { sessions: 0, freeKvTokens: 0 }

  const announce = async (): Promise<void> => {
    lastIssued = Math.max(now(), lastIssued + 1)
    const record: ServerRecord = {
      peerId: peer.id,
      addrs: peer.addrs().slice(0, MAX_ADDRS),
      modelId: model.modelId,
      start: span.start,
      end: span.end,
      state,
      throughput,
      ...(prefillThroughput > 0 && { prefillThroughput }),
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

  await announce()
  let loaded: EngineSpan
  try {
    loaded = await options.load()
  } catch (error) {
    await quietly(log, directory.withdraw(model.modelId))
    throw error
  }
  let news: ReturnType<typeof setTimeout> | undefined
  const host = createSpanHost({
    span: loaded,
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
    onChange: () => {
      load = host.load()
      news ??= setTimeout(() => {
        news = undefined
        void announce()
      }, NEWS_MS)
    },
  })
  throughput = await measureThroughput(loaded, model.hiddenSize)
  prefillThroughput = await measurePrefill(loaded, model.hiddenSize)
  load = host.load()
  const service = await serveSpan(peer, host, options.serve)
  queued = () => service.queued
  state = 'online'
  await announce()
  const timer = setInterval(() => void announce(), options.announceMs ?? ANNOUNCE_MS)

  let stopping: Promise<void> | undefined
  let hurry: (() => void) | undefined
  const leave = async (drainMs: number): Promise<void> => {
    state = 'draining'
    host.drain()
    clearInterval(timer)
    void announce()
    const hurried = new Promise<void>((resolve) => (hurry = resolve))
    await Promise.race([host.idle(drainMs), hurried])
    clearTimeout(news)
    state = 'offline'
    await quietly(log, directory.withdraw(model.modelId))
    await service.close('the server left')
    await host.idle(1_000)
    clearTimeout(news)
    await host.close()
  }
  return {
    span,
    engine,
    get state() {
      return state
    },
    throughput,
    counters: service.counters,
    get sessions() {
      return host.load().sessions
    },
    weightBytes: loaded.weightBytes,
    kvTokens: loaded.kvTokens,
    stop: async (drainMs) => {
      if (stopping !== undefined) setTimeout(() => hurry?.(), drainMs)
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
