import { Command } from 'commander'
import { ChoraleError } from '../../src/errors.ts'
import { encodeRecordBody } from '../../src/protocol/records.ts'
import type { PlacedServer } from '../../src/routing/placement.ts'
import { findRoute } from '../../src/routing/route.ts'
import type { ServerRecord, Snapshot } from '../../src/routing/snapshot.ts'
import { ANNOUNCE_MS } from '../../src/server/server.ts'
import { MAX_ASKED } from '../../src/swarm/dht-directory.ts'
import { seededRandom } from '../seeded-random.ts'
import { writeReport } from './sim/report.ts'
import { simulatePlacement } from './sim/simulate.ts'
import { directoryTraffic } from './sim/traffic.ts'

interface SimOptions {
  peers: string
  blocks: string
  stale: string
  churn: string
  hours: string
  loss: string
  seed: string
  report?: string
  json?: boolean
}

/** What `chorale sim --json` prints. */
export interface SimReport {
  readonly peers: number
  readonly movesPerMinuteMax: number
  readonly movesPerServerMax: number
  /** From losing a share of the servers at once until the others covered every block; 0: they never stopped. */
  readonly recoverySeconds: number
  /** From the loss until the others carried 0.9 of what they could; null: not before the end. */
  readonly balancedSeconds: number | null
  /** Maximum flow at the end, of the bound: all servers' work spread evenly over all blocks. */
  readonly throughputShare: number
  /** The same as the mean of all minutes after the first hour, the loss included, and the least of them. */
  readonly throughputShareMean: number
  readonly throughputShareMin: number
  /** Real time of one routing decision over all servers: of each the least of three runs, or other processes count. */
  readonly routeMs: { readonly p50: number; readonly p99: number }
  /** Processor time of one decision in the mean, garbage collection included: clocks are too coarse for single ones. */
  readonly routeCpuMs: number
  /** Bytes that publishing records costs each directory peer, in and out: real record sizes, periods and copies. */
  readonly directoryBytesPerPeerPerSecond: number
  /** News told to all peers, and every record of the model read before each placement decision. */
  readonly gossipBytesPerPeerPerSecond: number
  readonly listingBytesPerPeerPerSecond: number
  readonly newsPerPeerPerHour: number
  /** Processor time of the simulation itself. */
  readonly cpuSeconds: number
}

const ROUTES = 300
const WARM_ROUTES = 30
const RUNS = 3
const SIGNATURE_BYTES = 64 + 16

/** `chorale sim`: the placement and routing rules with many peers, in virtual time. */
export function simCommand(): Command {
  return new Command('sim')
    .description('run the rules of placement and routing with many peers, in virtual time')
    .option('--peers <n>', 'servers', '1000')
    .option('--blocks <n>', 'blocks of the model', '80')
    .option('--stale <time>', 'age of the records that servers decide by, e.g. 45s', '45s')
    .option('--churn <share>', 'servers replaced by new ones, e.g. 10%/h', '10%/h')
    .option('--hours <n>', 'virtual time', '3')
    .option('--loss <share>', 'servers lost at once half-way', '30%')
    .option('--seed <n>', 'draws machines, arrivals and losses', '1')
    .option('--report <dir>', 'run 30 to --peers servers and write plots and a table there')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Examples:
  chorale sim --peers 10000 --json
  chorale sim --peers 200 --stale 45s --churn 10%/h
  chorale sim --peers 10000 --report docs/simulation`,
    )
    .action((options: SimOptions) => {
      if (options.report !== undefined) {
        const most = amount('peers', options.peers, /^(\d+)$/, 1)
        const { report: dir } = options
        process.stdout.write(
          writeReport(dir, most, (peers) => simulate({ ...options, peers: String(peers) })),
        )
        return
      }
      const report = simulate(options)
      process.stdout.write(
        options.json === true ? `${JSON.stringify(report, undefined, 1)}\n` : describe(report),
      )
    })
}

function simulate(options: SimOptions): SimReport {
  const peers = amount('peers', options.peers, /^(\d+)$/, 1)
  const blockCount = amount('blocks', options.blocks, /^(\d+)$/, 1)
  const seed = amount('seed', options.seed, /^(\d+)$/, 0)
  const seconds = amount('hours', options.hours, /^(\d+(?:\.\d+)?)$/, 0.1) * 3_600
  const before = process.cpuUsage()
  const result = simulatePlacement({
    peers,
    blockCount,
    staleSeconds: amount('stale', options.stale, /^(\d+(?:\.\d+)?)s?$/, 0),
    churnPerHour: amount('churn', options.churn, /^(\d+(?:\.\d+)?)%(?:\/h)?$/, 0) / 100,
    seconds,
    lossShare: amount('loss', options.loss, /^(\d+(?:\.\d+)?)%$/, 0) / 100,
    seed,
  })
  const used = process.cpuUsage(before)
  const records = result.servers.map((server) => recordOf(server))
  const newsPerPeerPerSecond = result.news / peers / seconds
  const traffic = directoryTraffic({
    peers,
    recordBytes: bytesOfRecord(records[0], blockCount),
    copies: MAX_ASKED,
    announceSeconds: ANNOUNCE_MS / 1_000,
    newsPerPeerPerSecond,
  })
  return {
    peers,
    movesPerMinuteMax: result.movesPerMinuteMax,
    movesPerServerMax: result.movesPerServerMax,
    recoverySeconds: result.recoverySeconds,
    balancedSeconds: Number.isFinite(result.balancedSeconds) ? result.balancedSeconds : null,
    throughputShare: rounded(result.throughputShare),
    throughputShareMean: rounded(result.throughputShareMean),
    throughputShareMin: rounded(result.throughputShareMin),
    ...timeRoutes(records, blockCount, seed),
    directoryBytesPerPeerPerSecond: Math.round(traffic.publish),
    gossipBytesPerPeerPerSecond: rounded(traffic.gossip),
    listingBytesPerPeerPerSecond: Math.round(traffic.listing),
    newsPerPeerPerHour: rounded(newsPerPeerPerSecond * 3_600),
    cpuSeconds: rounded((used.user + used.system) / 1e6),
  }
}

function rounded(value: number): number {
  return Number(value.toFixed(3))
}

/** Real decisions on the swarm as it is at the end, each with its own measures and draw. */
function timeRoutes(
  servers: readonly ServerRecord[],
  blockCount: number,
  seed: number,
): Pick<SimReport, 'routeMs' | 'routeCpuMs'> {
  const random = seededRandom(seed)
  const measures = new Map(servers.map(({ peerId }) => [peerId, { rttMs: 5 + 150 * random() }]))
  const snapshot: Snapshot = { blockCount, servers, measures, bannedUntil: new Map(), now: 1 }
  const times: number[] = []
  let before = process.cpuUsage()
  for (let i = 0; i < ROUTES + WARM_ROUTES; i++) {
    const request = { start: 0, end: blockCount, maxTokens: 1_000, promptTokens: 500, answerTokens: 300 }
    if (i === WARM_ROUTES) before = process.cpuUsage()
    let least = Infinity
    for (let run = 0; run < RUNS; run++) {
      const started = performance.now()
      findRoute(snapshot, { ...request, hiddenBytes: 16_384, spread: 0.1, seed: i })
      least = Math.min(least, performance.now() - started)
    }
    if (i >= WARM_ROUTES) times.push(least)
  }
  const used = process.cpuUsage(before)
  return {
    routeMs: percentiles(times),
    routeCpuMs: rounded((used.user + used.system) / 1_000 / ROUTES / RUNS),
  }
}

function percentiles(times: number[]): SimReport['routeMs'] {
  times.sort((a, b) => a - b)
  const at = (share: number) => Number((times[Math.floor(share * times.length)] ?? Number.NaN).toFixed(2))
  return { p50: at(0.5), p99: at(0.99) }
}

function recordOf({ peerId, start, end, throughput }: PlacedServer): ServerRecord {
  return {
    peerId,
    addrs: ['/ip4/203.0.113.77/tcp/40001', '/ip4/203.0.113.77/tcp/40002/ws'],
    modelId: 'some-model-of-eighty-blocks@0123456789abcdef',
    start,
    end,
    state: 'online',
    throughput,
    prefillThroughput: 6 * throughput,
    queued: 0,
    freeKvTokens: 8_192,
    sessions: 0,
    engine: 'wgsl',
    precision: 'f32',
    version: 'chorale/0.1.0',
    issuedAt: 1_700_000_000_000,
    expiresAt: 1_700_000_045_000,
  }
}

function bytesOfRecord(record: ServerRecord | undefined, blockCount: number): number {
  if (!record) return 0
  const { modelId } = record
  const model = { modelId, name: 'some-model', blockCount, hiddenSize: 8_192 }
  // A real peer id is longer than the simulation's names.
  const peerId = '12D3KooW'.padEnd(52, 'x')
  return encodeRecordBody({ record: { ...record, peerId }, model }).length + SIGNATURE_BYTES
}

function amount(flag: string, text: string, pattern: RegExp, min: number): number {
  const value = Number(pattern.exec(text.trim())?.[1] ?? Number.NaN)
  if (value >= min && value <= 1e6) return value
  throw new ChoraleError('bad_config', `--${flag} ${JSON.stringify(text)} can't be used; see --help`, {
    field: flag,
  })
}

function describe(report: SimReport): string {
  const { peers, movesPerMinuteMax, movesPerServerMax, recoverySeconds, throughputShare, routeMs } = report
  const { balancedSeconds } = report
  const balanced = balancedSeconds === null ? 'not before the end' : `after ${balancedSeconds} s`
  return [
    `${peers} servers, at the end ${Math.round(100 * throughputShare)} % of the throughput bound, ${Math.round(100 * report.throughputShareMean)} % in the mean`,
    `moves: at most ${movesPerMinuteMax} a minute, at most ${movesPerServerMax} of one server`,
    `every block covered again ${recoverySeconds} s after the loss; 90 % of the bound again ${balanced}`,
    `a route takes ${routeMs.p50} ms, at worst ${routeMs.p99} ms (${report.routeCpuMs} ms of processor time)`,
    `directory: ${report.directoryBytesPerPeerPerSecond} bytes a peer and second`,
    '',
  ].join('\n')
}
