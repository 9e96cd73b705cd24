import { describe, expect, it } from 'vitest'
import { ChoraleError } from '../../src/errors.ts'
import type { RouteHop, SpanRunner, SpanSession, StepOptions } from '../../src/session/span-runner.ts'
import { tensor } from '../../src/tensor/tensor.ts'
import type { SpanReply } from '../../web/engine/messages.ts'
import { createPageRunner } from '../../web/engine/page-runner.ts'
import { createWorkerRunner, type WorkerRunner } from '../../web/engine/worker-runner.ts'

const HOP: RouteHop = { peer: 'a', engine: 'fake', start: 0, end: 2 }

/** Both ends of the page's messages, and the messages to the worker. */
function bothEnds(step: (options: StepOptions) => Promise<void>, route: () => readonly RouteHop[]) {
  const replies: SpanReply[] = []
  const session: SpanSession = {
    position: 0,
    get route() {
      return route()
    },
    async step(hidden, options = {}) {
      await step(options)
      return hidden
    },
    rollback: async () => undefined,
    close: async () => undefined,
  }
  const chain: SpanRunner = {
    modelId: 'm',
    hiddenSize: 2,
    span: { start: 0, end: 2 },
    open: async () => session,
    close: async () => undefined,
  }
  const page = createPageRunner(chain, (reply, transfer) => {
    replies.push(reply)
    const copy = structuredClone(reply, { transfer: transfer ?? [] })
    queueMicrotask(() => worker.receive(copy))
  })
  const worker: WorkerRunner = createWorkerRunner(
    { modelId: 'm', hiddenSize: 2, blockCount: 2 },
    (call, transfer) => {
      const copy = structuredClone(call, { transfer: transfer ?? [] })
      queueMicrotask(() => page.receive(copy))
    },
  )
  return { worker, replies }
}

const row = () => tensor(1, 2, Float32Array.of(1, 2))

describe('createPageRunner', () => {
  it('tells the route once, and again when it has changed', async () => {
    let route: readonly RouteHop[] = [HOP]
    const { worker, replies } = bothEnds(
      async () => undefined,
      () => route.map((hop) => ({ ...hop })),
    )
    const session = await worker.open({ maxTokens: 8 })
    await session.step(row())
    expect(session.route).toEqual([HOP])
    route = [{ ...HOP, peer: 'b' }]
    await session.step(row())
    await session.step(row())
    expect(session.route).toEqual([{ ...HOP, peer: 'b' }])
    const steps = replies.filter((reply) => reply.type === 'stepped')
    expect(steps.map((reply) => 'route' in reply)).toEqual([false, true, false])
  })

  it('stops a step whose caller stops, and none after it', async () => {
    let stopped = 0
    const { worker } = bothEnds(
      async ({ signal }) => {
        if (stopped > 0) return signal?.throwIfAborted()
        await new Promise((_, reject) =>
          signal?.addEventListener('abort', () => {
            stopped++
            reject(new ChoraleError('cancelled', 'stopped'))
          }),
        )
      },
      () => [HOP],
    )
    const session = await worker.open({ maxTokens: 8 })
    const stop = new AbortController()
    const step = session.step(row(), { signal: stop.signal })
    queueMicrotask(() => stop.abort())
    await expect(step).rejects.toMatchObject({ code: 'cancelled' })
    expect(stopped).toBe(1)
    await expect(session.step(row())).resolves.toMatchObject({ shape: [1, 2] })
  })
})
