import { ChoraleError } from '../errors.ts'
import type { Peer } from '../swarm/peer.ts'
import { serveSpan, type SpanService } from '../swarm/serve-span.ts'
import type { ServeSpanOptions, SessionRequest, SpanHost } from '../swarm/span-host.ts'

/** Where the sessions of one peer come in, whichever of its spans they are for. */
export interface SpanDoor {
  /** What a host that came in is told; `close` ends its sessions only, and takes it out. */
  add(host: SpanHost): Pick<SpanService, 'counters' | 'queued' | 'close'>
  /** Ends what is left and answers no more. */
  close(reason: string): Promise<void>
}

export interface SpanDoorOptions extends ServeSpanOptions {
  /** Sessions of all spans at once: each costs memory besides its KV room. Default: as many as the spans take. */
  readonly maxSessions?: number
}

/** Answers `/chorale/span/1` for several spans, of as many models as there are. */
export async function openSpanDoor(
  peer: Peer,
  { maxSessions = Number.POSITIVE_INFINITY, ...serve }: SpanDoorOptions = {},
): Promise<SpanDoor> {
  const hosts = new Set<SpanHost>()
  const service = await serveSpan(
    peer,
    { hostOf: (request) => pickHost([...hosts], maxSessions, request) },
    serve,
  )
  return {
    add: (host) => {
      hosts.add(host)
      return {
        counters: service.counters,
        get queued() {
          return service.queued
        },
        close: async (reason) => {
          hosts.delete(host)
          service.end(host, reason)
        },
      }
    },
    close: (reason) => service.close(reason),
  }
}

/**
 * The host for a session: of the model asked for, the one with just these blocks, else the first, whose refusal names
 * what it has. Pure. @throws `not_found` naming the models that are here, `capacity` when all together are full.
 */
export function pickHost(
  hosts: readonly SpanHost[],
  maxSessions: number,
  { modelId, start, end }: Pick<SessionRequest, 'modelId' | 'start' | 'end'>,
): SpanHost {
  const ofModel = hosts.filter((host) => host.modelId === modelId)
  const host = ofModel.find(({ span }) => span.start === start && span.end === end) ?? ofModel[0]
  if (host === undefined) {
    const held = hosts.map((one) => one.modelId).join(', ')
    throw new ChoraleError('not_found', `this server runs ${held === '' ? 'no model' : held}, not ${modelId}`)
  }
  const sessions = hosts.reduce((sum, one) => sum + one.load().sessions, 0)
  if (sessions >= maxSessions) {
    throw new ChoraleError('capacity', `this server has ${sessions} of ${maxSessions} sessions`)
  }
  return host
}
