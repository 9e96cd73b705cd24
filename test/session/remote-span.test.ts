import { describe, expect, it } from 'vitest'
import { memoryDirectory, memoryDirectoryState } from '../../src/session/memory-directory.ts'
import { createChain } from '../../src/session/chain-span.ts'
import type { Failover, SpanRunner } from '../../src/session/span-runner.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { someHidden, spanRunnerContract, until } from '../contract/span-runner.ts'
import { HIDDEN, MODEL_ID, loopbackPeer, serveFake, targetOf, TCP } from '../swarm/loopback.ts'
import { createFakeEngineSpan } from './fake-engine-span.ts'

const KV = 64

async function startServer(start: number, end: number) {
  const engine = createFakeEngineSpan({ start, end, kvTokens: KV })
  const peer = await loopbackPeer({ listen: [TCP] })
  const { service } = await serveFake(peer, engine)
  const stop = async () => {
    await service.close('test ended')
    await peer.close()
  }
  return { engine, peer, target: targetOf(peer, engine), stop }
}

type Server = Awaited<ReturnType<typeof startServer>>

/** A chain over libp2p on loopback to servers that are known without a directory. */
async function chainOver(servers: readonly Server[]) {
  const client = await loopbackPeer()
  const state = memoryDirectoryState()
  const model = { modelId: MODEL_ID, name: 'fake', blockCount: 6, hiddenSize: HIDDEN }
  for (const { target, engine } of servers) {
    const record = {
      ...target,
      state: 'online' as const,
      throughput: 1000,
      freeKvTokens: engine.kvTokensFree,
      sessions: 0,
      precision: 'f32',
      version: '0',
      issuedAt: 0,
      expiresAt: Number.MAX_SAFE_INTEGER,
    }
    await memoryDirectory(state, target.peerId).announce(record, model)
  }
  const runner = createChain({
    model,
    directory: memoryDirectory(state, client.id),
    connect: (server) => connectRemoteSpan(client, server, { hiddenSize: HIDDEN }),
    chunkTokens: 3,
    openWaitMs: 0,
    bans: { baseMs: 50, maxMs: 100 },
  })
  return { runner, client }
}

spanRunnerContract('remote span over loopback', async () => {
  const server = await startServer(1, 3)
  const client = await loopbackPeer()
  return {
    runner: connectRemoteSpan(client, server.target, { hiddenSize: HIDDEN }),
    kvTokens: KV,
    freeTokens: () => server.engine.kvTokensFree,
    close: async () => {
      await client.close()
      await server.stop()
    },
  }
})

spanRunnerContract('chain of remote spans over loopback', async () => {
  const servers = await Promise.all([startServer(0, 2), startServer(2, 4), startServer(4, 6)])
  const { runner, client } = await chainOver(servers)
  return {
    runner,
    kvTokens: KV,
    freeTokens: () => Math.min(...servers.map(({ engine }) => engine.kvTokensFree)),
    close: async () => {
      await client.close()
      await Promise.all(servers.map((server) => server.stop()))
    },
  }
})

describe('createChain over libp2p', () => {
  it('gives the same bits after a server of the running session went away', async () => {
    const spans = [
      [0, 2],
      [2, 4],
      [2, 4],
      [4, 6],
    ] as const
    const servers = await Promise.all(spans.map(([start, end]) => startServer(start, end)))
    const { runner, client } = await chainOver(servers)
    const undisturbed = await answer(runner)
    const failovers: Failover[] = []
    const disturbed = await answer(
      runner,
      async (step, route) => {
        if (step !== 4) return
        const victim = servers.find(({ peer }) => peer.id === route[1]?.peer)
        await victim?.stop()
      },
      (failover) => failovers.push(failover),
    )
    expect(disturbed).toEqual(undisturbed)
    expect(failovers, JSON.stringify(failovers)).toHaveLength(1)
    expect(failovers[0]).toMatchObject({ span: { start: 2, end: 4 } })
    await until(() => servers.every(({ engine }) => engine.kvTokensFree === KV))
    await client.close()
    await Promise.all(servers.map((server) => server.stop()))
  })
})

async function answer(
  runner: SpanRunner,
  onStep: (step: number, route: readonly { peer: string }[]) => Promise<void> = async () => undefined,
  onFailover: (failover: Failover) => void = () => undefined,
): Promise<Tensor[]> {
  const session = await runner.open({ maxTokens: 32, onFailover })
  const outputs = [await session.step(someHidden(11, HIDDEN, 5), { want: 'last' })]
  for (let step = 0; step < 8; step++) {
    await onStep(step, session.route)
    const last = outputs.at(-1)
    outputs.push(await session.step({ shape: last.shape, data: last.data.map((value) => value / 64) }))
  }
  await session.close()
  return outputs
}
