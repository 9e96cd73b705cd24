import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { SpanSession } from '../../src/session/span-runner.ts'
import type { Peer } from '../../src/swarm/peer.ts'
import type { RemoteSpanTarget } from '../../src/swarm/remote-session.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { failureOf, someHidden } from '../contract/span-runner.ts'
import { HIDDEN, loopbackPeer } from './loopback.ts'

describe('a server process that dies or stops', () => {
  let child: ChildProcess
  let client: Peer
  let target: RemoteSpanTarget
  let session: SpanSession

  const connect = (timeouts = {}) => connectRemoteSpan(client, target, { hiddenSize: HIDDEN, timeouts })

  beforeEach(async () => {
    child = fork(join(import.meta.dirname, 'server-process.ts'), { execArgv: [] })
    const [message] = (await once(child, 'message')) as [RemoteSpanTarget]
    target = message
    client = await loopbackPeer()
    session = await connect({ stepMs: 400, stepPerTokenMs: 0 }).open({ maxTokens: 64 })
    await session.step(someHidden(2, HIDDEN, 1))
  })
  afterEach(async () => {
    child.kill('SIGCONT')
    child.kill('SIGKILL')
    await session.close()
    await client.close()
  })

  it('kill -9: steps under way fail with session_lost within a second, new sessions with unreachable', async () => {
    const started = performance.now()
    child.kill('SIGKILL')
    const steps = [1, 2, 3].map((seed) => failureOf(session.step(someHidden(8, HIDDEN, seed))))
    expect((await Promise.all(steps)).at(-1)).toBe('session_lost')
    expect(await failureOf(session.step(someHidden(1, HIDDEN, 1)))).toBe('session_lost')
    expect(performance.now() - started).toBeLessThan(1_000)
    await expect(connect().open({ maxTokens: 4 })).rejects.toMatchObject({ code: 'unreachable' })
    expect(performance.now() - started).toBeLessThan(2_000)
  })

  it('kill -STOP: a step fails with timeout after the step time, opening after the dial time', async () => {
    child.kill('SIGSTOP')
    const started = performance.now()
    expect(await failureOf(session.step(someHidden(1, HIDDEN, 1)))).toBe('timeout')
    expect(performance.now() - started).toBeLessThan(1_500)
    expect(await failureOf(connect({ dialMs: 500, openMs: 500 }).open({ maxTokens: 4 }))).toBe('timeout')
    expect(performance.now() - started).toBeLessThan(3_000)
  })

  it('kill -STOP, then -CONT: the peer can be used again', async () => {
    child.kill('SIGSTOP')
    expect(await failureOf(session.step(someHidden(1, HIDDEN, 1)))).toBe('timeout')
    child.kill('SIGCONT')
    const again = await connect().open({ maxTokens: 64 })
    expect((await again.step(someHidden(1, HIDDEN, 1))).shape).toEqual([1, HIDDEN])
    await again.close()
  })
})
