import type { ModelRecord } from '../../../src/routing/snapshot.ts'
import type { Engine } from '../../../src/engine/engine.ts'
import { silentLogger } from '../../../src/log.ts'
import type { Model } from '../../../src/model/model.ts'
import { startServer } from '../../../src/server/server.ts'
import { createChain } from '../../../src/session/chain-span.ts'
import type { Span, SpanRunner } from '../../../src/session/span-runner.ts'
import { connectRemoteSpan } from '../../../src/swarm/remote-span.ts'
import { joinNetwork, type Network } from '../../join-network.ts'

const LOOPBACK = '/ip4/127.0.0.1/tcp/0'

/**
 * Gives `use` a chain of servers, one a span, that talk libp2p over loopback inside this process: real peers,
 * frames and directory, all on `engine`. Everything is stopped afterwards.
 */
export async function withLoopbackChain<T>(
  model: Model,
  engine: Engine,
  spans: readonly Span[],
  kvTokens: number,
  use: (chain: SpanRunner) => Promise<T>,
): Promise<T> {
  const { blockCount, hiddenSize } = model.spec
  const record: ModelRecord = { modelId: model.id, name: model.name, blockCount, hiddenSize }
  const closers: (() => Promise<void>)[] = []
  try {
    const bootstrap: string[] = []
    for (const span of spans) {
      const network = await join('server', bootstrap, closers)
      if (bootstrap.length === 0) bootstrap.push(...network.peer.addrs())
      const server = await startServer({
        peer: network.peer,
        directory: network.directory,
        model: record,
        span,
        load: () => engine.loadSpan(model, { ...span, kvTokens }),
        engine: engine.name,
      })
      closers.push(() => server.stop(0))
    }
    const { peer, directory } = await join('client', bootstrap, closers)
    const connect = (server: Parameters<typeof connectRemoteSpan>[1]) =>
      connectRemoteSpan(peer, server, { hiddenSize })
    const chain = createChain({ model: record, directory, connect })
    closers.push(() => chain.close())
    return await use(chain)
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

async function join(
  mode: 'server' | 'client',
  bootstrap: readonly string[],
  closers: (() => Promise<void>)[],
): Promise<Network> {
  const network = await joinNetwork({
    mode,
    bootstrap,
    log: silentLogger,
    ...(mode === 'server' && { listen: [LOOPBACK] }),
  })
  closers.push(() => network.close())
  return network
}
