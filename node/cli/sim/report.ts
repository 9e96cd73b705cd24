import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { SimReport } from '../sim.ts'
import { plotSvg } from './plot.ts'

/** Swarms that are simulated, up to the one asked for, and those beyond that are computed. */
const SIZES = [30, 100, 200, 300, 1_000, 3_000, 10_000]
const COMPUTED = [10_000, 100_000, 1_000_000]

/**
 * Simulates swarms of growing size and writes a table and three plots to a folder: recovery after the loss, throughput
 * and directory traffic over the number of servers.
 * @returns the table, in Markdown.
 */
export function writeReport(dir: string, most: number, simulate: (peers: number) => SimReport): string {
  const runs = [...new Set([...SIZES.filter((size) => size < most), most])].map((peers) => simulate(peers))
  mkdirSync(dir, { recursive: true })
  const save = (name: string, text: string): void => writeFileSync(join(dir, name), text)
  const line = (name: string, value: (run: SimReport) => number | null) => ({
    name,
    points: runs.map((run) => ({ x: run.peers, y: value(run) ?? Number.NaN })),
  })
  const last = runs.at(-1)
  const beyond = (name: string, like: number | undefined, value: (peers: number) => number) => ({
    name,
    ...(like !== undefined && { like }),
    dashed: true,
    points: COMPUTED.filter((peers) => peers >= last.peers).map((peers) => ({ x: peers, y: value(peers) })),
  })
  const lost = fitShortfall(runs)
  const per = (peers: number): number => peers / last.peers
  save(
    'recovery.svg',
    plotSvg({
      title: 'After losing 30 % of the servers',
      unit: 's',
      lines: [
        line('until every block is covered', (run) => run.recoverySeconds),
        line('until 0.9 of the bound again', (run) => run.balancedSeconds),
      ],
    }),
  )
  save(
    'throughput.svg',
    plotSvg({
      title: 'Maximum flow, share of the bound',
      namesBelow: true,
      unit: '',
      lines: [
        line('at the end', (run) => run.throughputShare),
        line('mean after the first hour, the loss included', (run) => run.throughputShareMean),
        beyond(
          'mean, computed: 1 − a ÷ √N − b',
          undefined,
          (peers) => 1 - lost.slope / Math.sqrt(peers) - lost.base,
        ),
      ],
    }),
  )
  save(
    'traffic.svg',
    plotSvg({
      title: 'Directory, bytes a second of one peer',
      unit: 'B/s',
      logY: true,
      lines: [
        line('publishing', (run) => run.directoryBytesPerPeerPerSecond),
        line('gossip', (run) => run.gossipBytesPerPeerPerSecond),
        line('reading every record', (run) => run.listingBytesPerPeerPerSecond),
        beyond('', 0, () => last.directoryBytesPerPeerPerSecond),
        beyond('', 1, (peers) => last.gossipBytesPerPeerPerSecond * per(peers)),
        beyond('', 2, (peers) => last.listingBytesPerPeerPerSecond * per(peers)),
      ],
    }),
  )
  const table = tableOf(runs)
  save('table.md', table)
  return table
}

/** Least squares of 1 − share = slope ÷ √N + base, over swarms so large that memory does not bind: 1,000 and more. */
function fitShortfall(runs: readonly SimReport[]): { readonly slope: number; readonly base: number } {
  const used = runs.filter(({ peers }) => peers >= 1_000)
  const xs = used.map(({ peers }) => 1 / Math.sqrt(peers))
  const ys = used.map(({ throughputShareMean }) => 1 - throughputShareMean)
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  const [x, y] = [mean(xs), mean(ys)]
  const spread = xs.reduce((sum, value) => sum + (value - x) ** 2, 0)
  if (!(spread > 0)) return { slope: 0, base: Number.isFinite(y) ? y : Number.NaN }
  const slope = xs.reduce((sum, value, i) => sum + (value - x) * (ys[i]! - y), 0) / spread
  return { slope, base: y - slope * x }
}

function tableOf(runs: readonly SimReport[]): string {
  const rows = runs.map((run) =>
    [
      run.peers,
      `${run.throughputShare} / ${run.throughputShareMean} / ${run.throughputShareMin}`,
      run.movesPerServerMax,
      run.movesPerMinuteMax,
      run.recoverySeconds,
      run.balancedSeconds ?? '–',
      `${run.routeMs.p50} / ${run.routeMs.p99} / ${run.routeCpuMs}`,
      `${run.directoryBytesPerPeerPerSecond} / ${Math.round(run.gossipBytesPerPeerPerSecond)} / ${run.listingBytesPerPeerPerSecond}`,
      run.cpuSeconds,
    ].join(' | '),
  )
  const head = [
    'servers',
    'share of the bound: end / mean / least',
    'moves of a server, most',
    'moves a minute, most',
    's to cover again',
    's to 0.9 again',
    'route, ms: p50 / p99 / CPU',
    'B/s publish / gossip / listing',
    'CPU s',
  ]
  return `| ${[head.join(' | '), head.map(() => '---').join(' | '), ...rows].join(' |\n| ')} |\n`
}
