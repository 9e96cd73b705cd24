import { type ChildProcess, fork } from 'node:child_process'
import { connect } from 'node:net'
import { join } from 'node:path'
import { Command } from 'commander'
import { createChain } from '../../../src/session/chain-span.ts'
import { memoryDirectory, memoryDirectoryState } from '../../../src/session/memory-directory.ts'
import type { SpanSession } from '../../../src/session/span-runner.ts'
import { createPeer, type Peer } from '../../../src/swarm/peer.ts'
import { connectRemoteSpan } from '../../../src/swarm/remote-span.ts'
import { headlessTransports } from '../../../src/swarm/transports.ts'
import { tensor, type Tensor } from '../../../src/tensor/tensor.ts'
import { nativeEd25519 } from '../../native-ed25519.ts'
import { nativeSha256 } from '../../native-sha256.ts'
import { freePort, startDelayedLinks } from './delayed-links.ts'
import { median, positiveFlag, roundTo } from './flags.ts'
import { HOP_MODEL, type HopServerReady } from './hop-protocol.ts'

interface HopsOptions {
  steps: string
  json?: boolean
}

/** What `chorale bench hops --json` prints. Milliseconds, medians. */
export interface HopsReport {
  /** What one more server adds to a step of 4 KiB, beyond a plain TCP round trip of as many bytes. */
  readonly perHopAddedMs: number
  /** Plain TCP round trip of 4 KiB to the same processes, taken in turn with the steps. */
  readonly rttMs: number
  /** A step over three servers when they push to each other, and when the client carries everything. */
  readonly pushVsRelay: readonly {
    /** Round trip of every link. */
    readonly linkMs: number
    readonly pushStepMs: number
    readonly relayStepMs: number
  }[]
}

/** 4 KiB of float32. */
const HIDDEN = 1024
const HOPS = 3
const LINKS_MS = [20, 80]
const LINK_STEPS = 12
const WARM_STEPS = 150

/** `chorale bench hops`: what the network costs when servers compute nothing. */
export function hopsBenchCommand(): Command {
  return new Command('hops')
    .description('latency that each server adds to a step on loopback, and what pushing saves on slow links')
    .option('--steps <n>', 'steps of each kind on loopback', '600')
    .option('--json', 'print one JSON document')
    .action(async (options: HopsOptions) => {
      const report = await measureHops(positiveFlag(options.steps, 'steps'))
      if (options.json === true) process.stdout.write(`${JSON.stringify(report, undefined, 1)}\n`)
      else {
        process.stdout.write(
          `a hop adds ${report.perHopAddedMs} ms to a TCP round trip of ${report.rttMs} ms\n`,
        )
        for (const { linkMs, pushStepMs, relayStepMs } of report.pushVsRelay) {
          process.stdout.write(
            `links of ${linkMs} ms: ${pushStepMs} ms a step pushed, ${relayStepMs} ms through the client\n`,
          )
        }
      }
    })
}

interface HopServer extends HopServerReady {
  readonly start: number
  readonly end: number
}

async function measureHops(steps: number): Promise<HopsReport> {
  const children: ChildProcess[] = []
  const links = startDelayedLinks()
  const peers: Peer[] = []
  try {
    const spawn = async (start: number, delayed: boolean): Promise<HopServer> => {
      const ports: number[] = []
      if (delayed) {
        const port = await freePort()
        ports.push(port, await links.open(port))
      }
      const args = [start, start + 1, HIDDEN, ...ports].map(String)
      const child = fork(join(import.meta.dirname, 'hop-server.ts'), args)
      children.push(child)
      return await new Promise((resolve, reject) => {
        child.once('message', (ready) => resolve({ ...(ready as HopServerReady), start, end: start + 1 }))
        child.once('exit', (code) => reject(new Error(`a server ended with ${code} before it was ready`)))
      })
    }
    const indexes = Array.from({ length: HOPS }, (_, i) => i)
    const near = await Promise.all(indexes.map((i) => spawn(i, false)))
    const client = await loopbackClient()
    peers.push(client)
    const loopback = await measureLoopback(client, near, steps)

    const far = await Promise.all(indexes.map((i) => spawn(i, true)))
    const pushVsRelay: HopsReport['pushVsRelay'][number][] = []
    for (const linkMs of LINKS_MS) {
      links.delay(linkMs / 2)
      const distant = await loopbackClient()
      peers.push(distant)
      const relayStepMs = await measureSteps(distant, far, { push: false, steps: LINK_STEPS })
      const pushStepMs = await measureSteps(distant, far, { push: true, steps: LINK_STEPS })
      pushVsRelay.push({ linkMs, pushStepMs, relayStepMs })
    }
    return { ...loopback, pushVsRelay }
  } finally {
    await Promise.all(peers.map((peer) => peer.close()))
    links.close()
    for (const child of children) if (child.connected) child.disconnect()
  }
}

function loopbackClient(): Promise<Peer> {
  return createPeer({
    transports: headlessTransports(),
    mode: 'client',
    privateAddresses: true,
    sha256: nativeSha256,
    ed25519: nativeEd25519,
  })
}

/** One hop, all hops and a plain round trip in turn, so that what else the machine does meets all alike. */
async function measureLoopback(client: Peer, servers: readonly HopServer[], steps: number) {
  const one = await openSession(client, servers.slice(0, 1), true, steps)
  const all = await openSession(client, servers, true, steps)
  const echoes = await Promise.all(servers.map(({ echoPort }) => openEcho(echoPort)))
  const hidden = someHidden()
  const times = { one: [] as number[], all: [] as number[], echo: [] as number[] }
  for (let step = 0; step < steps + WARM_STEPS; step++) {
    const warm = step < WARM_STEPS
    const echoMs = await timed(() => echoes[step % echoes.length]!.ask())
    const oneMs = await timed(() => one.step(hidden, { want: 'last' }))
    const allMs = await timed(() => all.step(hidden, { want: 'last' }))
    if (warm) continue
    times.echo.push(echoMs)
    times.one.push(oneMs)
    times.all.push(allMs)
  }
  for (const echo of echoes) echo.close()
  await one.close()
  await all.close()
  const rttMs = median(times.echo)
  const perHopAddedMs = (median(times.all) - median(times.one)) / (servers.length - 1) - rttMs
  return { perHopAddedMs: roundTo(perHopAddedMs, 3), rttMs: roundTo(rttMs, 3) }
}

async function measureSteps(
  client: Peer,
  servers: readonly HopServer[],
  { push, steps }: { readonly push: boolean; readonly steps: number },
): Promise<number> {
  const session = await openSession(client, servers, push, steps)
  const hidden = someHidden()
  // The first steps pay for connections between the servers.
  for (let step = 0; step < 4; step++) await session.step(hidden, { want: 'last' })
  const times: number[] = []
  for (let step = 0; step < steps; step++) {
    times.push(await timed(() => session.step(hidden, { want: 'last' })))
  }
  await session.close()
  return roundTo(median(times), 2)
}

async function openSession(
  client: Peer,
  servers: readonly HopServer[],
  push: boolean,
  steps: number,
): Promise<SpanSession> {
  const state = memoryDirectoryState()
  const model = { modelId: HOP_MODEL, name: 'hops', blockCount: servers.length, hiddenSize: HIDDEN }
  for (const { peerId, addrs, start, end } of servers) {
    await memoryDirectory(state, peerId).announce(
      {
        peerId,
        addrs,
        modelId: HOP_MODEL,
        start,
        end,
        state: 'online',
        throughput: 1_000,
        freeKvTokens: 1 << 20,
        sessions: 0,
        engine: 'echo',
        precision: 'f32',
        version: '',
        issuedAt: 0,
        expiresAt: Number.MAX_SAFE_INTEGER,
      },
      model,
    )
  }
  const chain = createChain({
    model,
    directory: memoryDirectory(state, client.id),
    connect: (server) => connectRemoteSpan(client, server, { hiddenSize: HIDDEN }),
    push,
  })
  return await chain.open({ maxTokens: steps + WARM_STEPS })
}

function someHidden(): Tensor {
  return tensor(
    1,
    HIDDEN,
    Float32Array.from({ length: HIDDEN }, (_, i) => Math.sin(i)),
  )
}

/** A plain TCP connection that gets back what it sends. */
function openEcho(port: number): Promise<{ ask(): Promise<void>; close(): void }> {
  const bytes = new Uint8Array(HIDDEN * Float32Array.BYTES_PER_ELEMENT)
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    let missing = 0
    let answered = (): void => undefined
    socket.on('data', (chunk) => {
      missing -= chunk.length
      if (missing === 0) answered()
    })
    socket.once('error', reject)
    socket.once('connect', () =>
      resolve({
        ask: () =>
          new Promise((done) => {
            missing = bytes.length
            answered = done
            socket.write(bytes)
          }),
        close: () => socket.destroy(),
      }),
    )
  })
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return performance.now() - started
}
