import { createEngine, parseEngineName, parseKvFormat } from '../../../src/engine/select.ts'
import { ChoraleError } from '../../../src/errors.ts'
import type { Logger } from '../../../src/log.ts'
import { startBudgetLoop } from '../../../src/server/budget-loop.ts'
import { createServedEvidence } from '../../../src/server/served-evidence.ts'
import { openSpanDoor } from '../../../src/server/span-door.ts'
import { createMetrics } from '../../../src/metrics.ts'
import { memoryReceiptStore } from '../../../src/swarm/receipt-store.ts'
import { readIdentityFile } from '../../identity-file.ts'
import { joinNetwork } from '../../join-network.ts'
import { joinSubnet, type SubnetFlags, subnetPlaceOf } from '../../join-subnet.ts'
import { parseMetricsPlace, serveMetrics } from '../../metrics-endpoint.ts'
import { BUNDLED_MODEL, createModelPorts } from '../../model-ports.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { receiptFiles } from '../../receipt-files.ts'
import { aborted, catchInterrupt } from '../chat/interrupt.ts'
import { blockBytes } from './block-budget.ts'
import { readHotkey, startServeDuties } from './duties.ts'
import { blocksOfEach, budgetBytes, checkHeld, readWanted } from './held-models.ts'
import { type HeldSpan, holdSpan } from './hold-span.ts'
import { dutyEvents, readyEvent, readyLines } from './report.ts'
import { watchSpans } from './span-gauges.ts'
import { readPolicyFile } from './policy-files.ts'
import { takeCommands } from './take-commands.ts'
import { openFiles } from './open-files.ts'
import { openFromPeers } from './open-from-peers.ts'
import { isWhole, readWeightsFlags, startSharing, type WeightsFlags } from './peer-files.ts'
import { parseCount, parseMemory } from './values.ts'
import { createProgress } from '../terminal.ts'

/** What `chorale serve` was told, as commander reads it. */
export interface ServeFlags extends SubnetFlags, WeightsFlags {
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

/** Opens the models, joins the network, serves until it is interrupted, and leaves. */
export async function runServe(references: readonly string[], flags: ServeFlags): Promise<void> {
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

async function closeQuietly(close: () => Promise<void>, log: Logger): Promise<void> {
  await close().catch((error: unknown) => log.warn('closing failed', { reason: String(error) }))
}
