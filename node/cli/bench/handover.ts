import { Command } from 'commander'
import type { EngineSpan } from '../../../src/engine/engine.ts'
import { createEngine, ENGINE_CHOICES, parseEngineName } from '../../../src/engine/select.ts'
import { ChoraleError, errorMessage } from '../../../src/errors.ts'
import type { Model } from '../../../src/model/model.ts'
import type { ServerRecord } from '../../../src/routing/snapshot.ts'
import { createSpanHost } from '../../../src/server/span-host.ts'
import { createChain } from '../../../src/session/chain-span.ts'
import type { Failover } from '../../../src/session/span-runner.ts'
import { createPeer, type Peer } from '../../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../../src/swarm/remote-span.ts'
import { serveSpan } from '../../../src/swarm/serve-span.ts'
import { headlessTransports } from '../../../src/swarm/transports.ts'
import { type Tensor, tensor } from '../../../src/tensor/tensor.ts'
import { nativeSha256 } from '../../native-sha256.ts'
import { openModelArgument } from '../../open-model-argument.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { collectModel, median, positiveFlag, roundTo } from './flags.ts'
import { benchModels } from './models.ts'

interface HandoverOptions {
  model: string[]
  engine: string
  threads: string
  blocks?: string
  tokens: string
  rounds: string
  json?: boolean
}

/** How long a session takes from a server that leaves to another, on loopback. Milliseconds, medians. */
export interface HandoverMeasure {
  readonly model: string
  readonly engine: string
  readonly blocks: number
  readonly tokens: number
  /** Keys and values that travel. */
  readonly kvBytes: number
  /** From the old server's word that it leaves until the session is on the new one. */
  readonly replayMs: number
  readonly handoverMs: number
  readonly ratio: number
  /** Time on the processor of client and both servers together, which other work of the machine does not change. */
  readonly replayCpuMs: number
  readonly handoverCpuMs: number
  /** The part of it in which the session waits. */
  readonly replayStallMs: number
  readonly handoverStallMs: number
}

/** `chorale bench handover`: what handing keys and values over saves against replaying a session's history. */
export function handoverBenchCommand(): Command {
  return new Command('handover')
    .description('time to bring a session to another server: keys and values handed over, against a replay')
    .option('--model <model>', 'model to measure; repeatable', collectModel, [])
    .option('--engine <name>', ENGINE_CHOICES, 'wasm')
    .option('--threads <n>', 'CPU threads of each server', '1')
    .option('--blocks <n>', 'blocks of a server (default: a third of the model)')
    .option('--tokens <n>', 'tokens of the session', '1000')
    .option('--rounds <n>', 'alternating rounds whose median is taken', '3')
    .option('--json', 'print one JSON document')
    .action(async (options: HandoverOptions) => {
      const results: HandoverMeasure[] = []
      const failed: { readonly model: string; readonly error: string }[] = []
      for (const model of await benchModels(options.model)) {
        try {
          results.push(await measure(model, options))
        } catch (error) {
          failed.push({ model, error: errorMessage(error) })
          process.stderr.write(`${model}: ${errorMessage(error)}\n`)
        }
      }
      if (options.json === true) {
        process.stdout.write(`${JSON.stringify({ results, failed }, undefined, 1)}\n`)
      } else for (const result of results) process.stdout.write(`${describe(result)}\n`)
      if (failed.length > 0) process.exitCode = 1
    })
}

/** A server of blocks [0, blocks), which the chain takes for a whole model. */
interface BenchServer {
  readonly peer: Peer
  readonly span: EngineSpan
  readonly record: ServerRecord
}

async function measure(reference: string, options: HandoverOptions): Promise<HandoverMeasure> {
  const tokens = positiveFlag(options.tokens, 'tokens')
  const threads = positiveFlag(options.threads, 'threads')
  const name = parseEngineName(options.engine)
  const platform = createNodePlatform(stderrLogger('warn'))
  const closers: (() => Promise<void>)[] = []
  try {
    const model = await openModelArgument(reference)
    closers.push(() => model.close())
    const asked = options.blocks === undefined ? undefined : positiveFlag(options.blocks, 'blocks')
    const blocks = Math.min(model.spec.blockCount, asked ?? Math.ceil(model.spec.blockCount / 3))
    const client = await loopbackPeer('client')
    closers.push(() => client.close())
    const servers: BenchServer[] = []
    for (let i = 0; i < 2; i++) {
      const { engine } = await createEngine(platform, { name, threads })
      closers.push(() => engine.close())
      const span = await engine.loadSpan(model, { start: 0, end: blocks, kvTokens: tokens + 64 })
      const peer = await loopbackPeer('server')
      closers.push(() => peer.close())
      servers.push({ peer, span, record: recordOf(peer, model, blocks, engine.name) })
    }
    const moves = { replay: [] as Move[], handover: [] as Move[] }
    // The first round of each only warms up.
    for (let round = 0; round <= positiveFlag(options.rounds, 'rounds'); round++) {
      const replay = await moveSession(client, servers, model, blocks, tokens, false)
      const handover = await moveSession(client, servers, model, blocks, tokens, true)
      if (round === 0) continue
      moves.replay.push(replay)
      moves.handover.push(handover)
    }
    const { kvHeadCount, headDim } = model.spec
    const [replayMs, handoverMs] = [medianOf(moves.replay, 'ms'), medianOf(moves.handover, 'ms')]
    return {
      model: model.name,
      engine: servers[0]!.record.engine,
      blocks,
      tokens,
      kvBytes: 2 * 4 * blocks * kvHeadCount * headDim * tokens,
      replayMs,
      handoverMs,
      ratio: roundTo(replayMs / handoverMs, 2),
      replayCpuMs: medianOf(moves.replay, 'cpuMs'),
      handoverCpuMs: medianOf(moves.handover, 'cpuMs'),
      replayStallMs: medianOf(moves.replay, 'stallMs'),
      handoverStallMs: medianOf(moves.handover, 'stallMs'),
    }
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

interface Move {
  readonly ms: number
  readonly cpuMs: number
  readonly stallMs: number
}

/** Opens a session on the first server, fills it, and lets that one leave. */
async function moveSession(
  client: Peer,
  servers: readonly BenchServer[],
  model: Model,
  blocks: number,
  tokens: number,
  handover: boolean,
): Promise<Move> {
  const { hiddenSize } = model.spec
  const hosts = servers.map(({ span, record }) =>
    createSpanHost({
      span,
      modelId: model.id,
      hiddenSize,
      engine: record.engine,
      limits: { maxSessions: 4, maxSessionsPerPeer: 4, maxLeaseTokens: tokens + 64 },
      prefixCache: false,
    }),
  )
  const services = await Promise.all(servers.map(({ peer }, i) => serveSpan(peer, hosts[i]!)))
  try {
    let online = servers.slice(0, 1)
    let moved: (failover: Failover) => void = () => undefined
    const move = new Promise<Failover>((resolve) => (moved = resolve))
    const chain = createChain({
      model: { modelId: model.id, name: model.name, blockCount: blocks, hiddenSize },
      directory: {
        announce: async () => undefined,
        withdraw: async () => undefined,
        servers: async () => online.map(({ record }) => record),
        models: async () => [],
      },
      connect: (server) => connectRemoteSpan(client, server, { hiddenSize }),
      handover,
    })
    const session = await chain.open({ maxTokens: tokens + 16, onFailover: moved })
    await session.step(someHidden(tokens, hiddenSize), { want: 'last' })
    online = servers.slice(1)
    const started = performance.now()
    const cpu = process.cpuUsage()
    hosts[0]!.drain()
    const failover = await move
    const ms = performance.now() - started
    const { user, system } = process.cpuUsage(cpu)
    if ((failover.handedTokens !== undefined) !== handover) {
      throw new ChoraleError('internal', `${failover.handedTokens ?? 0} of ${tokens} tokens were handed over`)
    }
    await session.close()
    return { ms, cpuMs: (user + system) / 1_000, stallMs: failover.recoveryMs }
  } finally {
    for (const service of services) await service.close('measured')
    await Promise.all(hosts.map((host) => host.endSessions()))
  }
}

function loopbackPeer(kind: 'client' | 'server'): Promise<Peer> {
  return createPeer({
    transports: headlessTransports(),
    mode: kind,
    ...(kind === 'server' && { listen: ['/ip4/127.0.0.1/tcp/0'] }),
    privateAddresses: true,
    sha256: nativeSha256,
  })
}

function recordOf(peer: Peer, model: Model, blocks: number, engine: string): ServerRecord {
  return {
    peerId: peer.id,
    addrs: peer.addrs(),
    modelId: model.id,
    start: 0,
    end: blocks,
    state: 'online',
    throughput: 1_000,
    freeKvTokens: 1 << 20,
    sessions: 0,
    engine,
    precision: '',
    version: '',
    issuedAt: 0,
    expiresAt: Number.MAX_SAFE_INTEGER,
  }
}

function someHidden(tokens: number, columns: number): Tensor {
  return tensor(
    tokens,
    columns,
    Float32Array.from({ length: tokens * columns }, (_, i) => Math.sin(i * 0.7312)),
  )
}

function medianOf(moves: readonly Move[], field: keyof Move): number {
  return roundTo(median(moves.map((move) => move[field])), 1)
}

function describe(result: HandoverMeasure): string {
  const { model, engine, blocks, tokens, kvBytes, replayMs, handoverMs, ratio } = result
  const mib = roundTo(kvBytes / 2 ** 20, 1)
  const cpu = `on the processor ${result.handoverCpuMs} and ${result.replayCpuMs}`
  return `${model}, ${engine}, ${blocks} blocks, ${tokens} tokens (${mib} MiB): ${handoverMs} ms handed over, ${replayMs} ms replayed, ${ratio} times; ${cpu}; the session waits ${result.handoverStallMs} and ${result.replayStallMs} ms`
}
