import type { ModelRecord, ServerRecord } from '../../../src/routing/snapshot.ts'
import { blockThroughput } from '../../../src/server/place-span.ts'
import { printable, type Style } from '../terminal.ts'

/** Who serves a model, as `chorale swarm --json` prints it. */
export interface SwarmPicture {
  /** Null when nobody serves anything. */
  readonly model: string | null
  readonly modelId: string | null
  /** Blocks the model has. */
  readonly blocks: number
  /** Whether every block has an online server. */
  readonly covered: boolean
  /** Online servers of each block. */
  readonly coverage: readonly number[]
  /** The block a route is slowest or impossible at. */
  readonly weakestBlock: number | null
  readonly servers: readonly (Pick<
    ServerRecord,
    'peerId' | 'start' | 'end' | 'engine' | 'state' | 'addrs' | 'throughput' | 'sessions' | 'freeKvTokens'
  > & { readonly ageMs: number })[]
  /** Names of all models in this network. */
  readonly models: readonly string[]
}

/** Puts together what the directory said. Pure. */
export function pictureOf(
  model: ModelRecord | undefined,
  models: readonly ModelRecord[],
  records: readonly ServerRecord[],
  now: number,
): SwarmPicture {
  const blocks = model?.blockCount ?? 0
  const online = records.filter(({ state }) => state === 'online')
  const coverage = Array.from(
    { length: blocks },
    (_, block) => online.filter(({ start, end }) => start <= block && block < end).length,
  )
  const speeds = blockThroughput(blocks, online)
  const weakest = speeds.indexOf(Math.min(...speeds))
  return {
    model: model?.name ?? null,
    modelId: model?.modelId ?? null,
    blocks,
    covered: blocks > 0 && coverage.every((count) => count > 0),
    coverage,
    weakestBlock: weakest < 0 ? null : weakest,
    servers: records
      .map(({ peerId, start, end, engine, state, addrs, throughput, sessions, freeKvTokens, issuedAt }) => ({
        peerId,
        start,
        end,
        engine,
        state,
        addrs,
        throughput,
        sessions,
        freeKvTokens,
        ageMs: Math.max(0, now - issuedAt),
      }))
      .sort((a, b) => a.start - b.start || a.end - b.end || (a.peerId < b.peerId ? -1 : 1)),
    models: models.map(({ name }) => name).sort(),
  }
}

/** The picture as text of several lines. Names come from other peers, so control characters are taken out. */
export function pictureText(picture: SwarmPicture, style: Style): string {
  if (picture.model === null) return 'nobody serves a model in this network\n'
  const state = picture.covered ? style.green('every block is served') : style.red(missingText(picture))
  const lines = [
    `${style.bold(printable(picture.model))}: ${picture.blocks} blocks, ${countText(picture.servers.length)}, ${state}`,
  ]
  const rows = picture.servers.map((server) => [
    `…${server.peerId.slice(-8)}`,
    `${server.start}:${server.end}`,
    printable(server.engine),
    server.state,
    server.throughput.toFixed(1),
    String(server.sessions),
    String(server.freeKvTokens),
    printable(server.addrs[0] ?? '').replace(/\/p2p\/.*$/, ''),
  ])
  const head = ['PEER', 'BLOCKS', 'ENGINE', 'STATE', 'TOK/S', 'SESSIONS', 'FREE KV', 'ADDRESS']
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)))
  for (const [i, row] of [head, ...rows].entries()) {
    const line = row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd()
    lines.push(i === 0 ? style.dim(line) : line)
  }
  lines.push(`servers per block: ${picture.coverage.join(' ')}`)
  if (picture.weakestBlock !== null) {
    const count = picture.coverage[picture.weakestBlock]!
    lines.push(`weakest block: ${picture.weakestBlock} (${countText(count)})`)
  }
  const others = picture.models.filter((name) => name !== picture.model)
  if (others.length > 0) lines.push(`also in this network: ${others.map(printable).join(', ')}`)
  return `${lines.join('\n')}\n`
}

function countText(servers: number): string {
  return servers === 1 ? '1 server' : `${servers} servers`
}

function missingText({ coverage }: SwarmPicture): string {
  const missing = coverage.flatMap((count, block) => (count === 0 ? [block] : []))
  return `nobody serves block${missing.length === 1 ? '' : 's'} ${missing.join(', ')}`
}
