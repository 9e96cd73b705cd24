import { Command } from 'commander'
import { createEngine, parseEngineName, parseKvFormat, ENGINE_CHOICES } from '../../src/engine/select.ts'
import { ChoraleError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import { startBudgetLoop } from '../../src/server/budget-loop.ts'
import { createServedEvidence } from '../../src/server/served-evidence.ts'
import { openSpanDoor } from '../../src/server/span-door.ts'
import { createMetrics } from '../../src/metrics.ts'
import { resolveModel } from '../../src/store/resolve-model.ts'
import { memoryReceiptStore } from '../../src/swarm/receipt-store.ts'
import { readIdentityFile } from '../identity-file.ts'
import { joinNetwork } from '../join-network.ts'
import { addSubnetFlags, joinSubnet, type SubnetFlags, subnetPlaceOf } from '../join-subnet.ts'
import { parseMetricsPlace, serveMetrics } from '../metrics-endpoint.ts'
import { BUNDLED_MODEL, createModelPorts } from '../model-ports.ts'
import { createNodePlatform, stderrLogger } from '../platform.ts'
import { receiptFiles } from '../receipt-files.ts'
import { aborted, catchInterrupt } from './chat/interrupt.ts'
import { blockBytes } from './serve/block-budget.ts'
import { readHotkey, startServeDuties } from './serve/duties.ts'
import {
  blocksOfEach,
  budgetBytes,
  checkHeld,
  DEFAULT_KV_TOKENS,
  type HeldModel,
  readWanted,
  type WantedSpan,
} from './serve/held-models.ts'
import { type HeldSpan, holdSpan } from './serve/hold-span.ts'
import { collect } from './serve/per-model.ts'
import { dutyEvents, readyEvent, readyLines } from './serve/report.ts'
import { watchSpans } from './serve/span-gauges.ts'
import { readPolicyFile } from './serve/policy-files.ts'
import { takeCommands } from './serve/take-commands.ts'
import { openFromPeers } from './serve/open-from-peers.ts'
import {
  isWhole,
  readWeightsFlags,
  startSharing,
  type WeightsFlags,
  type WeightsWish,
} from './serve/peer-files.ts'
import { parseCount, parseMemory } from './serve/values.ts'
import { createProgress, type Progress } from './terminal.ts'

interface ServeFlags extends SubnetFlags, WeightsFlags {
  blocks?: string[]
  dwell?: string
  maxMemory?: string
  bootstrap?: string[]
  listen: string[]
  announce?: string[]
  identity?: string
  engine: string
  threads?: string
  kvTokens?: string[]
  kv: string
  maxSessions: string
  prefixCache: boolean
  drain: string
  sponsor?: boolean
  hotkey?: string
  dutyFiles?: string
  policy?: string
  receipts?: string
  metrics?: string
  revision?: string[]
  control?: boolean
  json?: boolean
  verbose?: boolean
}

/** All addresses of the machine, a free port for each: TCP for servers, WebSocket for browsers. */
export const DEFAULT_LISTEN: readonly string[] = ['/ip4/0.0.0.0/tcp/0', '/ip4/0.0.0.0/tcp/0/ws']

/** `chorale serve`: runs a span of the blocks of a model, or of several, for others. */
export function serveCommand(): Command {
  const command = new Command('serve')
    .description('serve a span of blocks of a model, or of several')
    .argument(
      '[models...]',
      `folders, .gguf files or hub names (default: ${BUNDLED_MODEL}, the bundled model)`,
    )
    .option(
      '--blocks <[model=]start:end>',
      'blocks to serve, end exclusive; auto = those that need a server most, moving when others need it more (default: auto)',
      collect,
    )
    .option('--dwell <seconds>', 'with auto: stay in a span at least this long before moving (default: 600)')
    .option(
      '--max-memory <amount>',
      'memory to use at most, e.g. 2GB: decides how many blocks auto takes, of all models together',
    )
    .option('--bootstrap <addrs...>', 'peers to join the network through (none: start a new network)')
    .option('--listen <addrs...>', 'multiaddrs to listen on', [...DEFAULT_LISTEN])
    .option('--announce <addrs...>', 'multiaddrs to tell others instead, behind a proxy or a forwarded port')
    .option('--identity <file>', "keep the peer's key in this file (default: a new peer each time)")
    .option('--engine <name>', ENGINE_CHOICES, 'auto')
    .option('--threads <n>', 'CPU threads of the engine')
    .option(
      '--kv-tokens <[model=]n>',
      `tokens of KV cache for all sessions together, split between models (default: ${DEFAULT_KV_TOKENS})`,
      collect,
    )
    .option('--kv <format>', 'how engine wgsl keeps keys and values: f32, or f16 in half the memory', 'f32')
    .option('--max-sessions <n>', 'sessions at once, of all models', '64')
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
    .option(
      '--policy <file>',
      "with --hotkey: wasm of a program that scores in the formula's place where the ledger names its hash; other nodes get it from this one",
    )
    .option('--sponsor', 'give passes to clients without stake, at the expense of this server')
    .option('--receipts <folder>', 'keep signed receipts of sessions here (chorale verify checks them)')
    .option(
      '--metrics <[host:]port>',
      'show metrics at http://127.0.0.1:PORT/metrics, in Prometheus text format (default: nowhere)',
    )
    .option('--revision <[model=]name>', 'branch, tag or commit of a hub model', collect)
    .option(
      '--weights <[model=]where>',
      'files: those that MODEL names; peers: from servers that share them, MODEL being a name or id that the network knows (default: files)',
      collect,
    )
    .option(
      '--manifest <[model=]sha256>',
      'with --weights peers: take only the weights of this manifest (default: that of most servers)',
      collect,
    )
    .option(
      '--share <amount>',
      'give weights to others, at most so many bytes a second, e.g. 5MB (default: not; 8MB with --weights peers)',
    )
    .option(
      '--control',
      'take commands on standard input, one JSON object a line: {"move": "4:8", "overlap": true, "model": "…"}',
    )
    .option('--json', 'print one JSON line per event')
    .option('-v, --verbose', 'log what happens')
    .addHelpText(
      'after',
      `
Ctrl-C lets running sessions finish, then leaves; a second one leaves at once. A fetch from peers that was cut
goes on where it stopped.

Examples:
  chorale serve --blocks 0:4
  chorale serve HuggingFaceTB/SmolLM2-135M-Instruct --blocks auto --max-memory 2GB \\
    --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3…
  chorale serve SmolLM2-135M-Instruct --weights peers --blocks 0:8 --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3…
  chorale serve storyteller models/other --blocks other=4:8 --max-memory 4GB   # two models, one peer

With several models duties of a --hotkey are done for the first.`,
    )
    .action(runServe)
}

async function runServe(references: readonly string[], flags: ServeFlags): Promise<void> {
  const wanted = readWanted(references.length === 0 ? [BUNDLED_MODEL] : references, {
    blocks: flags.blocks ?? [],
    kvTokens: flags.kvTokens ?? [],
    revision: flags.revision ?? [],
  })
  const { wishes, shareBytes } = readWeightsFlags(
    flags,
    wanted.map(({ reference }) => reference),
  )
  const maxMemory = flags.maxMemory === undefined ? undefined : parseMemory(flags.maxMemory)
  const maxSessions = parseCount('max-sessions', flags.maxSessions, 1)
  const drainMs = parseCount('drain', flags.drain, 0) * 1_000
  const dwellMs = flags.dwell === undefined ? undefined : parseCount('dwell', flags.dwell, 1) * 1_000
  const threads = flags.threads === undefined ? undefined : parseCount('threads', flags.threads, 1)
  const engineName = parseEngineName(flags.engine)
  const place = subnetPlaceOf(flags)
  refuseWithoutLedger(flags)
  const policy = flags.policy === undefined ? undefined : await readPolicyFile(flags.policy)
  const kv = parseKvFormat(flags.kv)
  const metricsPlace = flags.metrics === undefined ? undefined : parseMetricsPlace(flags.metrics)
  const metrics = createMetrics()
  const log = stderrLogger(flags.verbose === true ? 'debug' : 'warn')
  const say = flags.json === true ? () => undefined : (line: string) => process.stdout.write(`${line}\n`)
  const tell = (event: object) => flags.json === true && process.stdout.write(`${JSON.stringify(event)}\n`)
  const interrupt = catchInterrupt()
  const progress = createProgress(process.stderr)
  const closers: (() => Promise<void>)[] = []
  try {
    const opening = { log, progress, signal: interrupt.signal }
    const files = await openFiles(wanted, wishes, closers, opening)
    checkHeld(files.flatMap((held) => held ?? []))
    const platform = createNodePlatform(log)
    const choice = await createEngine(platform, {
      name: engineName,
      kv,
      ...(threads !== undefined && { threads }),
    })
    closers.push(() => choice.engine.close())
    say(`engine ${choice.engine.name}: ${choice.why}`)
    const subnet = place && (await joinSubnet(place, { log, metrics }))
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
      metrics,
      ...(subnet && { gate: subnet.gate }),
      ...(flags.sponsor === true && { sponsor: {} }),
      ...(flags.announce && { announce: flags.announce }),
      ...(flags.identity && { identity: await readIdentityFile(flags.identity) }),
    })
    closers.push(() => network.close())
    const sharing = await startSharing(network, shareBytes, {
      log,
      onManifest: (modelId, manifest) => tell({ event: 'sharing', modelId, manifest }),
    })
    closers.push(() => sharing.close())
    const fromPeers = await openFromPeers(wanted, wishes, { ...opening, network, sharing, say, tell })
    for (const one of fromPeers) if (one) closers.push(() => one.close())
    const models = wanted.map((one, i) => files[i] ?? { ...one, model: fromPeers[i]!.model })
    checkHeld(models)
    const { engine } = choice
    const records = await Promise.all(models.map(({ model }) => network.directory.servers(model.id)))
    const maxBlocks = blocksOfEach(models, records, {
      peerId: network.peer.id,
      now: Date.now(),
      ...(maxMemory !== undefined && { maxMemory }),
    })
    const door = models.length > 1 ? await openSpanDoor(network.peer, { maxSessions }) : undefined
    if (door) closers.push(() => door.close('the server left'))
    const spans: HeldSpan[] = []
    watchSpans(metrics, () => spans, kv === 'f16' && choice.engine.name === 'wgsl' ? 2 : 4)
    const shown = metricsPlace && (await serveMetrics(metrics, metricsPlace))
    if (shown) closers.push(() => shown.close(0))
    // One after the other: each measures its speed when it is loaded.
    for (const [i, held] of models.entries()) {
      const { model } = held
      const peerFiles = fromPeers[i]
      const whole = files[i] !== undefined && (await isWhole(held.reference, createModelPorts(log)))
      const span = await holdSpan({
        held,
        network,
        engine,
        maxBlocks: maxBlocks[i]!,
        drainMs,
        maxSessions,
        prefixCache: flags.prefixCache,
        signal: interrupt.signal,
        log,
        ...(door && { door }),
        weights: () => sharing.recordOf(model.id),
        fetchSpan: async (blocks) => {
          if (peerFiles) await peerFiles.fetchSpan(blocks, interrupt.signal)
          else sharing.shareFiles(model, whole, blocks)
          progress.end()
        },
        ...(dwellMs !== undefined && { dwellMs }),
        // Accounts are of one model: the subnet scores no other.
        ...(evidence && i === 0 && { serve: { tap: evidence.tap } }),
        onProgress: (blocks, loaded, total) =>
          progress.update(`loading blocks ${blocks.start}:${blocks.end}`, loaded, total),
        onMove: ({ from, to, done }) => {
          progress.end()
          tell({ event: done ? 'moved' : 'moving', model: held.model.name, from, to })
          say(
            done
              ? `serving blocks ${to.start}:${to.end} of ${held.model.name} now`
              : `the swarm needs blocks ${to.start}:${to.end} of ${held.model.name} more than ${from.start}:${from.end}: moving`,
          )
        },
      })
      spans.push(span)
      closers.push(async () => {
        await span.settle()
        await span.server.stop(0)
      })
      progress.end()
    }
    const budget =
      spans.length > 1
        ? startBudgetLoop({
            spans,
            bytes: budgetBytes(maxMemory),
            peerId: network.peer.id,
            ...(dwellMs !== undefined && { decideMs: dwellMs / 2 }),
            random: Math.random,
            log,
          })
        : undefined
    if (budget) closers.push(() => budget.stop())
    const [first] = spans
    if (subnet && hotkey && evidence && first) {
      const duties = await startServeDuties({
        network,
        subnet,
        hotkey,
        model: first.model,
        engine,
        server: first.server,
        evidence,
        log,
        metrics,
        ...(policy && { policy }),
        maxJudgeBytes: blockBytes(first.model, first.kvTokens) * maxBlocks[0]!,
        onState: dutyEvents(tell),
        ...(flags.dutyFiles !== undefined && { folder: flags.dutyFiles }),
      })
      closers.push(() => duties.stop())
      if (policy) {
        const named = subnet.stakes.parameters.policy?.sha256 === policy.sha256
        say(`policy ${policy.sha256}${named ? '' : ': the ledger does not name it now'}`)
      }
    }
    tell(readyEvent(network, spans, choice))
    if (shown) {
      tell({ event: 'metrics', url: `${shown.url}/metrics` })
      say(`metrics ${shown.url}/metrics`)
    }
    for (const line of readyLines(network, spans, flags.bootstrap === undefined)) say(line)
    const deaf = flags.control === true ? takeCommands(spans, drainMs, tell) : undefined
    await aborted(interrupt.signal)
    deaf?.()
    const settled = Promise.all([budget?.stop(), ...spans.map((span) => span.settle())])
    const sessions = spans.reduce((sum, { server }) => sum + server.sessions, 0)
    if (sessions > 0) {
      say(`leaving when ${sessions} sessions are done, at most ${drainMs / 1000} s; Ctrl-C again leaves now`)
    }
    await Promise.all(spans.map(({ server }) => server.stop(drainMs)))
    await settled
    tell({ event: 'left', peerId: network.peer.id })
    say('left the network')
  } finally {
    progress.end()
    for (const close of closers.toReversed()) await closeQuietly(close, log)
    interrupt.release()
  }
}

/** @throws `bad_config` for flags that mean nothing without a ledger. */
function refuseWithoutLedger(flags: ServeFlags): void {
  if (flags.policy !== undefined && flags.hotkey === undefined) {
    throw new ChoraleError('bad_config', '--policy needs --hotkey: only a node that scores runs it', {
      field: 'policy',
    })
  }
  if (flags.ledger !== undefined) return
  if (flags.sponsor === true) {
    throw new ChoraleError(
      'bad_config',
      '--sponsor needs --ledger: where everybody is admitted there are no passes',
      { field: 'sponsor' },
    )
  }
  if (flags.hotkey !== undefined) {
    throw new ChoraleError(
      'bad_config',
      '--hotkey needs --ledger and --subnet: duties are done on a ledger',
      { field: 'hotkey' },
    )
  }
}

interface Opening {
  readonly log: Logger
  readonly progress: Progress
  readonly signal: AbortSignal
}

/** Models by their place on the command line; undefined where the weights come from peers. */
async function openFiles(
  wanted: readonly WantedSpan[],
  wishes: readonly WeightsWish[],
  closers: (() => Promise<void>)[],
  { log, progress, signal }: Opening,
): Promise<readonly (HeldModel | undefined)[]> {
  const models: (HeldModel | undefined)[] = []
  for (const [i, one] of wanted.entries()) {
    if (wishes[i]?.fromPeers === true) {
      models.push(undefined)
      continue
    }
    const model = await resolveModel(one.reference, createModelPorts(log), {
      signal,
      revision: one.revision,
      onProgress: ({ loadedBytes, totalBytes }) => progress.update('fetching', loadedBytes, totalBytes),
    })
    closers.push(() => model.close())
    models.push({ ...one, model })
  }
  return models
}

async function closeQuietly(close: () => Promise<void>, log: Logger): Promise<void> {
  await close().catch((error: unknown) => log.warn('closing failed', { reason: String(error) }))
}
