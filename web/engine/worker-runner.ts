import { ChoraleError } from '../../src/errors.ts'
import type { Failover, RouteHop, SpanRunner, SpanSession } from '../../src/session/span-runner.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { fromWire, ownTensor, type SpanCall, type SpanReply } from './messages.ts'

/** The worker's end of the page's chain of servers. */
export interface WorkerRunner extends SpanRunner {
  /** Takes what the page answered. */
  receive(reply: SpanReply): void
}

type Settled = Extract<SpanReply, { readonly call: number }>

interface Waiting {
  resolve(reply: Settled): void
  reject(error: unknown): void
}

/** A `SpanRunner` whose sessions live on the page: each call is a message. */
export function createWorkerRunner(
  model: { readonly modelId: string; readonly hiddenSize: number; readonly blockCount: number },
  post: (call: SpanCall, transfer?: Transferable[]) => void,
): WorkerRunner {
  const waiting = new Map<number, Waiting>()
  const watchers = new Map<number, (failover: Failover) => void>()
  let calls = 0
  let sessions = 0

  async function ask(
    make: (call: number) => SpanCall,
    signal?: AbortSignal,
    transfer?: Transferable[],
  ): Promise<Settled> {
    const call = ++calls
    const onAbort = () => post({ type: 'abort', call })
    try {
      return await new Promise<Settled>((resolve, reject) => {
        waiting.set(call, { resolve, reject })
        post(make(call), transfer)
        signal?.addEventListener('abort', onAbort, { once: true })
        if (signal?.aborted) onAbort()
      })
    } finally {
      waiting.delete(call)
      signal?.removeEventListener('abort', onAbort)
    }
  }

  function session(number: number, opened: readonly RouteHop[]): SpanSession {
    let route = opened
    let position = 0
    let closing: Promise<unknown> | undefined
    const closed = () => {
      if (closing !== undefined) throw new ChoraleError('session_lost', 'the session is closed')
    }
    return {
      get position() {
        return position
      },
      get route() {
        return route
      },
      async step(hidden, { want, signal } = {}): Promise<Tensor> {
        closed()
        const owned = ownTensor(hidden)
        const tokens = hidden.shape[0]
        const reply = await ask(
          (call) => ({ type: 'step', call, session: number, hidden: owned, want }),
          signal,
          [owned.data.buffer],
        )
        if (reply.type !== 'stepped') throw new ChoraleError('internal', 'a step was answered otherwise')
        position += tokens
        route = reply.route ?? route
        return reply.output
      },
      async rollback(to) {
        closed()
        await ask((call) => ({ type: 'rollback', call, session: number, position: to }))
        position = to
      },
      async close() {
        watchers.delete(number)
        closing ??= ask((call) => ({ type: 'close', call, session: number }))
        await closing
      },
    }
  }

  return {
    modelId: model.modelId,
    hiddenSize: model.hiddenSize,
    span: { start: 0, end: model.blockCount },
    async open({ maxTokens, onFailover, signal }) {
      const number = ++sessions
      if (onFailover !== undefined) watchers.set(number, onFailover)
      const reply = await ask((call) => ({ type: 'open', call, session: number, maxTokens }), signal)
      return session(number, reply.type === 'opened' ? reply.route : [])
    },
    close: async () => undefined,
    receive(reply) {
      if (reply.type === 'moved') {
        watchers.get(reply.session)?.(reply.failover)
        return
      }
      const waiter = waiting.get(reply.call)
      if (reply.type === 'failed') waiter?.reject(fromWire(reply.error))
      else waiter?.resolve(reply)
    },
  }
}
