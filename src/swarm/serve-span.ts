import type { Connection, Stream } from '@libp2p/interface'
import { ChoraleError } from '../errors.ts'
import { SPAN_PROTOCOL } from '../protocol/ids.ts'
import { MAX_QUEUED_BYTES_PER_SERVER, MAX_WAITING_STREAMS } from '../protocol/limits.ts'
import { giveSessions } from './give-session.ts'
import { createHandoverDesk } from './handover-desk.ts'
import { createOpeningGuard } from './opening-guard.ts'
import type { Peer } from './peer.ts'
import { createPushDesk } from './push-desk.ts'
import { serveSession } from './serve-session.ts'
import { createSpanMetrics } from './span-metrics.ts'
import {
  byteBudget,
  type ServeContext,
  type ServeCounters,
  type ServedStream,
  type ServeSpanOptions,
  type SpanHost,
  type SpanHosts,
} from './span-host.ts'

export interface SpanService {
  readonly counters: ServeCounters
  /** Streams open now, with or without a session. */
  readonly streams: number
  /** Steps received and not answered, of all sessions. */
  readonly queued: number
  /** Ends the sessions that `host` runs. */
  end(host: SpanHost, reason: string): void
  /** Ends all sessions with `reason` and answers no more. */
  close(reason: string): Promise<void>
}

/** A client may hold this many streams on one connection: a gateway has one a session. */
const MAX_STREAMS_A_CONNECTION = 256

/** Answers `/chorale/span/1` with a host, or with one of several, until closed. Garbage from one client ends that client's stream only. */
export async function serveSpan(
  peer: Peer,
  host: SpanHost | SpanHosts,
  options: ServeSpanOptions = {},
): Promise<SpanService> {
  const counters: ServeCounters = { sessions: 0, tokens: 0, bytesIn: 0, bytesOut: 0, refusals: new Map() }
  const context: ServeContext = {
    hosts: 'hostOf' in host ? host : { hostOf: () => host },
    peer,
    counters,
    metrics: createSpanMetrics(peer.metrics, {
      counters,
      streams: () => streams.size,
      queued: () => context.queued,
    }),
    queued: 0,
    budget: byteBudget(MAX_QUEUED_BYTES_PER_SERVER),
    desk: createPushDesk(),
    handovers: createHandoverDesk(),
    openings: createOpeningGuard(peer.id),
    options: { handshakeMs: 10_000, heartbeatMs: 15_000, silenceMs: 75_000, handover: true, ...options },
  }
  const streams = new Set<ServedStream>()
  await peer.handle(
    SPAN_PROTOCOL,
    (stream: Stream, connection: Connection) => {
      if ([...streams].filter(({ waiting }) => waiting).length >= MAX_WAITING_STREAMS) {
        stream.abort(new ChoraleError('limit', 'too many streams without a session'))
        return
      }
      const served = serveSession(context, stream, connection.remotePeer.toString(), (error) => {
        streams.delete(served)
        if (error?.field === 'frame') context.metrics.refused(error)
        if (error === undefined || error.code === 'session_lost') return
        counters.refusals.set(error.code, (counters.refusals.get(error.code) ?? 0) + 1)
        context.metrics.refused(error)
        peer.log.debug('session ended', { code: error.code, reason: error.message })
      })
      streams.add(served)
    },
    MAX_STREAMS_A_CONNECTION,
  )
  const giving = context.options.handover ? await giveSessions(peer, context.handovers) : undefined
  // Sessions of who lost its stake end now, not with the next message.
  const unwatch = peer.gate?.onRevoked((peerId, reason, lost) => {
    for (const served of streams) {
      if (served.peerId !== peerId || !lost.has(served.action)) continue
      served.end(new ChoraleError('refused', `not admitted any more: ${reason}`, { field: 'revoked' }))
    }
  })
  return {
    counters,
    get streams() {
      return streams.size
    },
    get queued() {
      return context.queued
    },
    end: (ended, reason) => {
      for (const served of streams) {
        if (served.host === ended) served.end(new ChoraleError('session_lost', reason))
      }
    },
    close: async (reason) => {
      unwatch?.()
      await peer.unhandle(SPAN_PROTOCOL)
      await giving?.close()
      for (const served of streams) served.end(new ChoraleError('session_lost', reason))
    },
  }
}
