import { blockRanges } from '../../../src/routing/no-chain.ts'
import type { ServerRecord } from '../../../src/routing/snapshot.ts'
import { blockThroughput } from '../../../src/server/place-span.ts'
import { type ModelSummary, type NetworkModel, summarize } from '../../../src/session/network-models.ts'
import type { SubnetView } from '../../subnet-view.ts'
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
  > & {
    readonly ageMs: number
    /** What the ledger knows of it; null for a peer that is no node of the subnet, or without a ledger. */
    readonly node: SubnetView['nodes'][number] | null
  })[]
  /** All models in this network, each revision and precision by itself. */
  readonly models: readonly ModelSummary[]
  /** The subnet on its ledger: epoch, elected node, attestations; null without one. */
  readonly subnet: SubnetView | null
}

/** Puts together what the directory said. Pure. */
export function pictureOf(
  chosen: NetworkModel | undefined,
  models: readonly NetworkModel[],
  now: number,
  subnet?: SubnetView,
): SwarmPicture {
  const nodes = new Map(subnet?.nodes.map((node) => [node.peerId, node]))
  const { model, records = [], perBlock = [], complete = false } = chosen ?? {}
  const blocks = model?.blockCount ?? 0
  const online = records.filter(({ state }) => state === 'online')
  const speeds = blockThroughput(blocks, online)
  const weakest = speeds.indexOf(Math.min(...speeds))
  return {
    model: model?.name ?? null,
    modelId: model?.modelId ?? null,
    blocks,
    covered: complete,
    coverage: perBlock,
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
        node: nodes.get(peerId) ?? null,
      }))
      .sort((a, b) => a.start - b.start || a.end - b.end || (a.peerId < b.peerId ? -1 : 1)),
    models: models.map(summarize),
    subnet: subnet ?? null,
  }
}

/** The picture as text of several lines. Names come from other peers, so control characters are taken out. */
export function pictureText(picture: SwarmPicture, style: Style): string {
  const subnet = picture.subnet === null ? [] : subnetLines(picture.subnet, style)
  if (picture.model === null) {
    return `${['nobody serves a model in this network', ...modelLines(picture.models, style), ...subnet].join('\n')}\n`
  }
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
    ...(picture.subnet === null ? [] : [server.node?.class ?? '–', server.node?.stake ?? '–']),
    printable(server.addrs[0] ?? '').replace(/\/p2p\/.*$/, ''),
  ])
  const ledgerHead = picture.subnet === null ? [] : ['CLASS', 'STAKE']
  const head = ['PEER', 'BLOCKS', 'ENGINE', 'STATE', 'TOK/S', 'SESSIONS', 'FREE KV', ...ledgerHead, 'ADDRESS']
  lines.push(...tableLines(head, rows, style))
  lines.push(`servers per block: ${picture.coverage.join(' ')}`)
  if (picture.weakestBlock !== null) {
    const count = picture.coverage[picture.weakestBlock]!
    lines.push(`weakest block: ${picture.weakestBlock} (${countText(count)})`)
  }
  if (picture.models.length > 1) lines.push('', ...modelLines(picture.models, style))
  return `${[...lines, ...subnet].join('\n')}\n`
}

/** All models of the network: what is complete, what is short of which blocks. */
function modelLines(models: readonly ModelSummary[], style: Style): readonly string[] {
  if (models.length === 0) return []
  const rows = models.map(
    ({ id, name, blocks, complete, missing, weakest, servers, precision, revision }) => [
      printable(name),
      printable(id.slice(id.lastIndexOf('@') + 1)),
      printable(precision ?? '–'),
      printable(revision?.slice(0, 12) ?? '–'),
      String(blocks),
      String(servers),
      complete
        ? `complete, weakest block ${weakest?.block} (${countText(weakest?.servers ?? 0)})`
        : `no server for ${blockRanges(missing)}`,
    ],
  )
  return tableLines(['MODEL', 'DIGEST', 'WEIGHTS', 'REVISION', 'BLOCKS', 'SERVERS', 'STATE'], rows, style)
}

/** Rows under their heads, each column as wide as its widest cell. */
function tableLines(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  style: Style,
): readonly string[] {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)))
  return [head, ...rows].map((row, i) => {
    const line = row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd()
    return i === 0 ? style.dim(line) : line
  })
}

/** Epoch, elected node, attestations, and the nodes with their stake. */
function subnetLines(subnet: SubnetView, style: Style): readonly string[] {
  const { epoch, progress, block, elected, proposed, attestation, lastAttestation } = subnet
  const token = printable(subnet.token)
  const chosen = subnet.nodes.find(({ peerId }) => peerId === elected)
  const rows = subnet.nodes.map((node) => [
    String(node.id),
    `…${printable(node.peerId.slice(-8))}${node.peerId === elected ? ' (elected)' : ''}`,
    node.class,
    `${node.stake} ${token}`,
    percent(node.reputation),
  ])
  return [
    '',
    `${style.bold(printable(subnet.name))}: subnet ${subnet.subnetId} of ${printable(subnet.chain)}, ${subnet.state.toLowerCase()}, block ${block}`,
    `epoch ${epoch}, ${percent(progress)} over; elected: ${chosen === undefined ? 'nobody yet' : `node ${chosen.id} (…${printable(chosen.peerId.slice(-8))})`}; ` +
      (proposed ? `proposed, attested by ${percent(attestation ?? 0)}` : 'nothing proposed yet'),
    `last epoch: ${lastAttestation === null ? 'nothing was proposed' : `attested by ${percent(lastAttestation)} of the validators`}`,
    ...tableLines(['NODE', 'PEER', 'CLASS', 'STAKE', 'REPUTATION'], rows, style),
  ]
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}

function countText(servers: number): string {
  return servers === 1 ? '1 server' : `${servers} servers`
}

function missingText({ coverage }: SwarmPicture): string {
  const missing = coverage.flatMap((count, block) => (count === 0 ? [block] : []))
  return `nobody serves block${missing.length === 1 ? '' : 's'} ${missing.join(', ')}`
}
