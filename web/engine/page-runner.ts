import { ChoraleError } from '../../src/errors.ts'
import type { RouteHop, SpanRunner, SpanSession } from '../../src/session/span-runner.ts'
import { ownTensor, type SpanCall, type SpanReply, toWire } from './messages.ts'

/** A session of the worker's. */
interface Held {
  readonly session: SpanSession
  /** As the worker was told. */
  route: readonly RouteHop[]
  stop: AbortController
}

/** The page's end of a worker's `SpanRunner`: runs its calls on the real one. */
export interface PageRunner {
  receive(call: SpanCall): void
  /** Closes every session the worker left open. */
  close(): Promise<void>
}

export function createPageRunner(
  runner: SpanRunner,
  post: (reply: SpanReply, transfer?: Transferable[]) => void,
): PageRunner {
  const sessions = new Map<number, Held>()
  /** Who stops which call; the calls of a session share one, because making them takes longer than a token's post. */
  const stops = new Map<number, AbortController>()

  function sessionOf(number: number): SpanSession {
    const held = sessions.get(number)
    if (held === undefined) throw new ChoraleError('session_lost', 'the session is gone')
    return held.session
  }

  function stopOf(call: Exclude<SpanCall, { type: 'abort' }>): AbortController {
    const held = sessions.get(call.session)
    if (held === undefined) return new AbortController()
    if (held.stop.signal.aborted) held.stop = new AbortController()
    return held.stop
  }

  async function run(call: Exclude<SpanCall, { type: 'abort' }>, stop: AbortController): Promise<void> {
    const { signal } = stop
    switch (call.type) {
      case 'open': {
        const session = await runner.open({
          maxTokens: call.maxTokens,
          signal,
          onFailover: (failover) => post({ type: 'moved', session: call.session, failover }),
        })
        const { route } = session
        sessions.set(call.session, { session, route, stop: new AbortController() })
        post({ type: 'opened', call: call.call, route })
        return
      }
      case 'step': {
        const session = sessionOf(call.session)
        const options = call.want === undefined ? { signal } : { want: call.want, signal }
        const output = ownTensor(await session.step(call.hidden, options))
        const route = newRoute(sessions.get(call.session), session.route)
        post({ type: 'stepped', call: call.call, output, ...(route && { route }) }, [output.data.buffer])
        return
      }
      case 'rollback':
        await sessionOf(call.session).rollback(call.position)
        post({ type: 'finished', call: call.call })
        return
      case 'close': {
        const held = sessions.get(call.session)
        sessions.delete(call.session)
        await held?.session.close()
        post({ type: 'finished', call: call.call })
      }
    }
  }

  return {
    receive(call) {
      if (call.type === 'abort') {
        stops.get(call.call)?.abort()
        return
      }
      const stop = stopOf(call)
      stops.set(call.call, stop)
      run(call, stop)
        .catch((error: unknown) => post({ type: 'failed', call: call.call, error: toWire(error) }))
        .finally(() => stops.delete(call.call))
    },
    async close() {
      for (const stop of stops.values()) stop.abort()
      const open = [...sessions.values()]
      sessions.clear()
      await Promise.allSettled(open.map(({ session }) => session.close()))
    },
  }
}

/** `route` when the worker was told another one; it is much of a token's message. */
function newRoute(held: Held | undefined, route: readonly RouteHop[]): readonly RouteHop[] | undefined {
  const same =
    held?.route.length === route.length &&
    route.every(({ peer, engine, start, end }, i) => {
      const told = held.route[i]
      return told?.peer === peer && told.engine === engine && told.start === start && told.end === end
    })
  if (same) return undefined
  if (held) held.route = route
  return route
}
