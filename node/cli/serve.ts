import { Command } from 'commander'
import { checkSpan } from '../../src/engine/check-span.ts'
import {
  createEngine,
  type EngineChoice,
  parseEngineName,
  parseKvFormat,
  ENGINE_CHOICES,
} from '../../src/engine/select.ts'
import { ChoraleError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import type { Model } from '../../src/model/model.ts'
import { joiningSpan, startPlacementLoop } from '../../src/server/placement-loop.ts'
import type { DutiesState } from '../../src/server/duties-state.ts'
import { createServedEvidence } from '../../src/server/served-evidence.ts'
import { type ServingServer, startServer } from '../../src/server/server.ts'
import type { Span } from '../../src/session/span-runner.ts'
import { resolveModel } from '../../src/store/resolve-model.ts'
import { memoryReceiptStore } from '../../src/swarm/receipt-store.ts'
import { readIdentityFile } from '../identity-file.ts'
import { joinNetwork, type Network } from '../join-network.ts'
import { addSubnetFlags, joinSubnet, type SubnetFlags, subnetPlaceOf } from '../join-subnet.ts'
import { BUNDLED_MODEL, createModelPorts } from '../model-ports.ts'
import { createNodePlatform, stderrLogger } from '../platform.ts'
import { receiptFiles } from '../receipt-files.ts'
import { aborted, catchInterrupt } from './chat/interrupt.ts'
import { blockBytes, blocksThatFit } from './serve/block-budget.ts'
import { readControl } from './serve/control.ts'
import { readHotkey, startServeDuties } from './serve/duties.ts'
import { parseBlocks, parseCount, parseMemory } from './serve/values.ts'
import { createProgress } from './terminal.ts'

interface ServeFlags extends SubnetFlags {
  blocks: string
  dwell?: string
  maxMemory?: string
  bootstrap?: string[]
  listen: string[]
  announce?: string[]
  identity?: string
  engine: string
  threads?: string
  kvTokens: string
  kv: string
  maxSessions: string
  prefixCache: boolean
  drain: string
  sponsor?: boolean
  hotkey?: string
  dutyFiles?: string
  receipts?: string
  revision?: string
  control?: boolean
  json?: boolean
  verbose?: boolean
}

/** All addresses of the machine, a free port for each: TCP for servers, WebSocket for browsers. */
export const DEFAULT_LISTEN: readonly string[] = ['/ip4/0.0.0.0/tcp/0', '/ip4/0.0.0.0/tcp/0/ws']

/** `chorale serve`: runs a span of a model's blocks for others. */
export function serveCommand(): Command {
  const command = new Command('serve')
    .description('serve a span of blocks of a model')
    .argument('[model]', `folder, .gguf file or hub name (default: ${BUNDLED_MODEL}, the bundled model)`)
    .option(
      '--blocks <start:end>',
      'blocks to serve, end exclusive; auto = those that need a server most, moving when others need it more',
      'auto',
    )
    .option('--dwell <seconds>', 'with auto: stay in a span at least this long before moving (default: 600)')
    .option('--max-memory <amount>', 'memory to use at most, e.g. 2GB: decides how many blocks auto takes')
    .option('--bootstrap <addrs...>', 'peers to join the network through (none: start a new network)')
    .option('--listen <addrs...>', 'multiaddrs to listen on', [...DEFAULT_LISTEN])
    .option('--announce <addrs...>', 'multiaddrs to tell others instead, behind a proxy or a forwarded port')
    .option('--identity <file>', "keep the peer's key in this file (default: a new peer each time)")
    .option('--engine <name>', ENGINE_CHOICES, 'auto')
    .option('--threads <n>', 'CPU threads of the engine')
    .option('--kv-tokens <n>', 'tokens of KV cache for all sessions together', '8192')
    .option('--kv <format>', 'how engine wgsl keeps keys and values: f32, or f16 in half the memory', 'f32')
    .option('--max-sessions <n>', 'sessions at once', '64')
    .option('--no-prefix-cache', 'compute every prompt anew: nobody can time whether others sent it before')
    .option('--drain <seconds>', 'when asked to leave, let sessions finish this long', '30')
  return addSubnetFlags(command, 'admit only peers with stake on this ledger')
    .option(
      '--hotkey <file>',
      "do the duties of this server's node: key file of its hotkey (chorale key), or 64 hex digits; mode 600",
    )
    .option(
      '--duty-files <folder>',
      "where a node's reports and fault proofs lie (default: the state folder)",
    )
    .option('--sponsor', 'give passes to clients without stake, at the expense of this server')
    .option('--receipts <folder>', 'keep signed receipts of sessions here (chorale verify checks them)')
    .option('--revision <name>', 'branch, tag or commit of a hub model')
    .option(
      '--control',
      'take commands on standard input, one JSON object a line: {"move": "4:8", "overlap": true}',
    )
    .option('--json', 'print one JSON line per event')
    .option('-v, --verbose', 'log what happens')
    .addHelpText(
      'after',
      `
Ctrl-C lets running sessions finish, then leaves; a second one leaves at once.

Examples:
  chorale serve --blocks 0:4
  chorale serve HuggingFaceTB/SmolLM2-135M-Instruct --blocks auto --max-memory 2GB \\
    --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3…`,
    )
    .action(runServe)
}

async function runServe(reference: string | undefined, flags: ServeFlags): Promise<void> {
  const asked = parseBlocks(flags.blocks)
  const maxMemory = flags.maxMemory === undefined ? undefined : parseMemory(flags.maxMemory)
  const kvTokens = parseCount('kv-tokens', flags.kvTokens, 1)
  const maxSessions = parseCount('max-sessions', flags.maxSessions, 1)
  const drainMs = parseCount('drain', flags.drain, 0) * 1_000
  const dwellMs = flags.dwell === undefined ? undefined : parseCount('dwell', flags.dwell, 1) * 1_000
  const threads = flags.threads === undefined ? undefined : parseCount('threads', flags.threads, 1)
  const engineName = parseEngineName(flags.engine)
  const place = subnetPlaceOf(flags)
  if (flags.sponsor === true && place === undefined) {
    throw new ChoraleError(
      'bad_config',
      '--sponsor needs --ledger: where everybody is admitted there are no passes',
      {
        field: 'sponsor',
      },
    )
  }
  if (flags.hotkey !== undefined && place === undefined) {
    throw new ChoraleError(
      'bad_config',
      '--hotkey needs --ledger and --subnet: duties are done on a ledger',
      {
        field: 'hotkey',
      },
    )
  }
  const kv = parseKvFormat(flags.kv)
  const log = stderrLogger(flags.verbose === true ? 'debug' : 'warn')
  const say = flags.json === true ? () => undefined : (line: string) => process.stdout.write(`${line}\n`)
  const tell = (event: object) => flags.json === true && process.stdout.write(`${JSON.stringify(event)}\n`)
  const interrupt = catchInterrupt()
  const progress = createProgress(process.stderr)
  const closers: (() => Promise<void>)[] = []
  try {
    const model = await resolveModel(reference ?? BUNDLED_MODEL, createModelPorts(log), {
      signal: interrupt.signal,
      revision: flags.revision,
      onProgress: ({ loadedBytes, totalBytes }) => progress.update('fetching', loadedBytes, totalBytes),
    })
    closers.push(() => model.close())
    if (asked !== undefined) checkSpan(model, asked)
    const platform = createNodePlatform(log)
    const choice = await createEngine(platform, {
      name: engineName,
      kv,
      ...(threads !== undefined && { threads }),
    })
    closers.push(() => choice.engine.close())
    say(`engine ${choice.engine.name}: ${choice.why}`)
    const subnet = place && (await joinSubnet(place, { log }))
    if (subnet) closers.push(() => subnet.close())
    const hotkey =
      subnet && flags.hotkey !== undefined
        ? await readHotkey(flags.hotkey, subnet.ledger.info.accounts)
        : undefined
    const evidence = hotkey && createServedEvidence(subnet?.gate)
    const receipts =
      flags.receipts === undefined ? memoryReceiptStore() : receiptFiles({ folder: flags.receipts, log })
    closers.push(() => receipts.close())
    const network = await joinNetwork({
      bootstrap: flags.bootstrap ?? [],
      mode: 'server',
      listen: flags.listen,
      log,
      receipts,
      ...(subnet && { gate: subnet.gate }),
      ...(flags.sponsor === true && { sponsor: {} }),
      ...(flags.announce && { announce: flags.announce }),
      ...(flags.identity && { identity: await readIdentityFile(flags.identity) }),
    })
    closers.push(() => network.close())
    const maxBlocks = blocksThatFit(model, kvTokens, maxMemory)
    const span = asked ?? (await neededSpan(model, network, maxBlocks))
    const { engine } = choice
    const loadStarted = performance.now()
    const server = await startServer({
      peer: network.peer,
      directory: network.directory,
      model: {
        modelId: model.id,
        name: model.name,
        blockCount: model.spec.blockCount,
        hiddenSize: model.spec.hiddenSize,
      },
      span,
      engine: engine.name,
      maxSessions,
      prefixCache: flags.prefixCache,
      ...(evidence && { serve: { tap: evidence.tap } }),
      load: (blocks) =>
        engine.loadSpan(model, {
          ...blocks,
          kvTokens,
          signal: interrupt.signal,
          onProgress: (loaded, total) =>
            progress.update(`loading blocks ${blocks.start}:${blocks.end}`, loaded, total),
        }),
    })
    progress.end()
    let loop: ReturnType<typeof startPlacementLoop> | undefined
    if (asked === undefined) {
      loop = startPlacementLoop({
        server,
        directory: network.directory,
        model: { modelId: model.id, blockCount: model.spec.blockCount },
        peerId: network.peer.id,
        maxBlocks,
        loadMs: performance.now() - loadStarted,
        drainMs,
        ...(dwellMs !== undefined && { dwellMs, decideMs: dwellMs / 2 }),
        random: Math.random,
        log,
        onMove: ({ from, to, done }) => {
          progress.end()
          tell({ event: done ? 'moved' : 'moving', from, to })
          say(
            done
              ? `serving blocks ${to.start}:${to.end} now`
              : `the swarm needs blocks ${to.start}:${to.end} more than ${from.start}:${from.end}: moving`,
          )
        },
      })
    }
    if (subnet && hotkey && evidence) {
      const duties = await startServeDuties({
        network,
        subnet,
        hotkey,
        model,
        engine,
        server,
        evidence,
        log,
        maxJudgeBytes: blockBytes(model, kvTokens) * maxBlocks,
        onState: dutyEvents(tell),
        ...(flags.dutyFiles !== undefined && { folder: flags.dutyFiles }),
      })
      closers.push(() => duties.stop())
    }
    tell(readyEvent(model, network, server, choice))
    sayReady(say, model, network, server, flags)
    if (flags.control === true) {
      const failed = (error: unknown) =>
        tell({ event: 'refused', reason: error instanceof Error ? error.message : String(error) })
      readControl(({ span: target, overlap }) => {
        const from = server.span
        Promise.resolve()
          .then(() => checkSpan(model, target))
          .then(() => server.move(target, { overlap, drainMs }))
          .then(() => tell({ event: 'moved', from, to: target }), failed)
      }, failed)
    }
    await aborted(interrupt.signal)
    const placed = loop?.stop()
    if (server.sessions > 0) {
      say(
        `leaving when ${server.sessions} sessions are done, at most ${drainMs / 1000} s; Ctrl-C again leaves now`,
      )
    }
    await server.stop(drainMs)
    await placed
    tell({ event: 'left', peerId: network.peer.id })
    say('left the network')
  } finally {
    progress.end()
    for (const close of closers.toReversed()) await closeQuietly(close, log)
    interrupt.release()
  }
}

async function neededSpan(model: Model, network: Network, maxBlocks: number): Promise<Span> {
  return joiningSpan(model.spec.blockCount, await network.directory.servers(model.id), {
    peerId: network.peer.id,
    maxBlocks,
    now: Date.now(),
  })
}

/** An event for each new thing a node does or waits for. */
function dutyEvents(tell: (event: object) => void): (state: DutiesState) => void {
  let last: string | undefined
  return ({ nodeId, epoch, elected, duty, lastAttestation }) => {
    const said = { nodeId, epoch, elected, duty, lastAttestation }
    const text = JSON.stringify(said)
    if (text !== last) tell({ event: 'duty', ...said })
    last = text
  }
}

function readyEvent(
  model: Model,
  network: Network,
  server: ServingServer,
  { engine, why }: EngineChoice,
): object {
  return {
    event: 'ready',
    peerId: network.peer.id,
    addrs: network.peer.addrs(),
    model: model.name,
    modelId: model.id,
    start: server.span.start,
    end: server.span.end,
    engine: engine.name,
    why,
    threads: engine.threads,
    throughput: server.throughput,
    kvTokens: server.kvTokens,
    weightBytes: server.weightBytes,
  }
}

function sayReady(
  say: (line: string) => void,
  model: Model,
  network: Network,
  server: ServingServer,
  flags: ServeFlags,
): void {
  const { start, end } = server.span
  say(
    `serving blocks ${start}:${end} of ${model.name} (it has 0:${model.spec.blockCount}) at ${server.throughput} tok/s, room for ${server.kvTokens} tokens`,
  )
  for (const address of network.peer.addrs()) say(`address ${address}`)
  const address = network.peer.addrs()[0]
  if (flags.bootstrap === undefined && address !== undefined) {
    say(`This is the first peer of a new network. Others join it with --bootstrap ${address}`)
  }
}

async function closeQuietly(close: () => Promise<void>, log: Logger): Promise<void> {
  await close().catch((error: unknown) => log.warn('closing failed', { reason: String(error) }))
}
