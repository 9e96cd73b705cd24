import type { Engine, EngineSpan } from '../../src/engine/engine.ts'
import type { Model } from '../../src/model/model.ts'
import { createSpanHost, type EngineSpanHost } from '../../src/server/span-host.ts'
import type { ServerRecord } from '../../src/routing/snapshot.ts'
import type { ChainEvent, ChainOptions } from '../../src/session/chain-options.ts'
import { createChain } from '../../src/session/chain-span.ts'
import { createLocalSpan } from '../../src/session/local-span.ts'
import type { Failover, SpanRunner } from '../../src/session/span-runner.ts'
import type { Peer, PeerOptions } from '../../src/swarm/peer.ts'
import { memoryReceiptStore } from '../../src/swarm/receipt-store.ts'
import { connectRemoteSpan } from '../../src/swarm/remote-span.ts'
import { serveSpan } from '../../src/swarm/serve-span.ts'
import type { ServeSpanOptions } from '../../src/swarm/span-host.ts'
import { loopbackPeer, MODEL_ID, TCP } from './loopback.ts'

/** A server on loopback whose engine's work is counted. */
export interface HandoverServer {
  readonly peer: Peer
  readonly host: EngineSpanHost
  readonly span: EngineSpan
  /** Rows its engine computed. */
  readonly rows: number
  /** Taken out of the directory; sessions go on. */
  hidden: boolean
  record: ServerRecord
  /** Takes no more sessions and says that it leaves. */
  leave(): void
  /** Ends like a process that was killed. */
  die(): Promise<void>
}

export interface HandoverServerOptions extends Pick<ServeSpanOptions, 'tap' | 'handover'> {
  readonly engine: Engine
  readonly start: number
  readonly end: number
  readonly record?: Partial<ServerRecord>
  readonly peer?: Peer
  /** Stands between the engine and the server. */
  readonly around?: (span: EngineSpan) => EngineSpan
}

/** Servers of one model, a client's chain over them, and the same model on this machine alone. */
export interface HandoverSwarm {
  readonly client: Peer
  readonly model: Model
  readonly failovers: Failover[]
  readonly events: ChainEvent[]
  server(options: HandoverServerOptions): Promise<HandoverServer>
  chain(options?: Partial<ChainOptions>): SpanRunner
  /** The whole model without a network. */
  alone(engine: Engine): Promise<SpanRunner>
  onClose(close: () => Promise<unknown>): void
  close(): Promise<void>
}

const KV_TOKENS = 512

export async function createHandoverSwarm(
  model: Model,
  makePeer: (options: Partial<PeerOptions>) => Promise<Peer> = loopbackPeer,
): Promise<HandoverSwarm> {
  const closers: (() => Promise<unknown>)[] = []
  const servers: HandoverServer[] = []
  const failovers: Failover[] = []
  const events: ChainEvent[] = []
  const { blockCount, hiddenSize } = model.spec
  const client = await makePeer({
    receipts: memoryReceiptStore(),
  })
  closers.push(() => client.close())

  return {
    client,
    model,
    failovers,
    events,
    async server({ engine, start, end, around = (span) => span, ...options }) {
      const peer = options.peer ?? (await makePeer({ listen: [TCP], receipts: memoryReceiptStore() }))
      const loaded = around(await engine.loadSpan(model, { start, end, kvTokens: KV_TOKENS }))
      let rows = 0
      const span: EngineSpan = Object.create(loaded, {
        step: {
          value: async (entries: Parameters<EngineSpan['step']>[0]) => {
            rows += entries.reduce((sum, { hidden }) => sum + hidden.shape[0], 0)
            return await loaded.step(entries)
          },
        },
      })
      const host = createSpanHost({
        span,
        modelId: MODEL_ID,
        hiddenSize,
        engine: engine.name,
        limits: { maxSessions: 8, maxSessionsPerPeer: 8, maxLeaseTokens: KV_TOKENS },
      })
      const service = await serveSpan(peer, host, {
        ...(options.tap && { tap: options.tap }),
        ...(options.handover !== undefined && { handover: options.handover }),
      })
      let dead = false
      const die = async (): Promise<void> => {
        if (dead) return
        dead = true
        await peer.close()
        await service.close('the test is over')
        await host.endSessions()
        await host.close()
      }
      closers.push(die)
      const server: HandoverServer = {
        peer,
        host,
        span,
        get rows() {
          return rows
        },
        hidden: false,
        record: {
          peerId: peer.id,
          addrs: peer.addrs(),
          modelId: MODEL_ID,
          start,
          end,
          state: 'online',
          throughput: 100,
          freeKvTokens: KV_TOKENS,
          sessions: 0,
          engine: engine.name,
          precision: 'f32',
          version: '',
          issuedAt: 0,
          expiresAt: Number.MAX_SAFE_INTEGER,
          ...options.record,
        },
        leave() {
          server.hidden = true
          host.drain()
        },
        async die() {
          server.hidden = true
          await die()
        },
      }
      servers.push(server)
      return server
    },
    chain: (options = {}) => {
      const chain = createChain({
        model: { modelId: MODEL_ID, name: 'random', blockCount, hiddenSize },
        directory: {
          announce: async () => undefined,
          withdraw: async () => undefined,
          servers: async () => servers.filter(({ hidden }) => !hidden).map(({ record }) => record),
          models: async () => [],
        },
        connect: (record) => connectRemoteSpan(client, record, { hiddenSize }),
        chunkTokens: 16,
        onEvent: (event) => {
          events.push(event)
          if (event.type === 'failover') failovers.push(event)
        },
        ...options,
      })
      return chain
    },
    alone: async (engine) => {
      const span = await engine.loadSpan(model, { start: 0, end: blockCount, kvTokens: KV_TOKENS })
      const runner = createLocalSpan(span, { modelId: MODEL_ID, hiddenSize, engineName: engine.name })
      closers.push(() => runner.close())
      return runner
    },
    onClose: (close) => void closers.push(close),
    close: async () => {
      for (const close of closers.splice(0).toReversed()) await close()
    },
  }
}
