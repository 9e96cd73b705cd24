import { ChoraleError } from '../../src/errors.ts'
import type { SpanRunner, SpanSession } from '../../src/session/span-runner.ts'
import { ownTensor, type SpanCall, type SpanReply, toWire } from './messages.ts'

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
  const sessions = new Map<number, SpanSession>()
  const aborts = new Map<number, AbortController>()

  function sessionOf(number: number): SpanSession {
    const session = sessions.get(number)
    if (session === undefined) throw new ChoraleError('session_lost', 'the session is gone')
    return session
  }

  async function run(call: Exclude<SpanCall, { type: 'abort' }>, signal: AbortSignal): Promise<void> {
    switch (call.type) {
      case 'open': {
        const session = await runner.open({
          maxTokens: call.maxTokens,
          signal,
          onFailover: (failover) => post({ type: 'moved', session: call.session, failover }),
        })
        sessions.set(call.session, session)
        post({ type: 'opened', call: call.call, route: session.route })
        return
      }
      case 'step': {
        const session = sessionOf(call.session)
        const options = call.want === undefined ? { signal } : { want: call.want, signal }
        const output = ownTensor(await session.step(call.hidden, options))
        post({ type: 'stepped', call: call.call, output, route: session.route }, [output.data.buffer])
        return
      }
      case 'rollback':
        await sessionOf(call.session).rollback(call.position)
        post({ type: 'finished', call: call.call })
        return
      case 'close': {
        const session = sessions.get(call.session)
        sessions.delete(call.session)
        await session?.close()
        post({ type: 'finished', call: call.call })
      }
    }
  }

  return {
    receive(call) {
      if (call.type === 'abort') {
        aborts.get(call.call)?.abort()
        return
      }
      const controller = new AbortController()
      aborts.set(call.call, controller)
      run(call, controller.signal)
        .catch((error: unknown) => post({ type: 'failed', call: call.call, error: toWire(error) }))
        .finally(() => aborts.delete(call.call))
    },
    async close() {
      for (const controller of aborts.values()) controller.abort()
      const open = [...sessions.values()]
      sessions.clear()
      await Promise.allSettled(open.map((session) => session.close()))
    },
  }
}
