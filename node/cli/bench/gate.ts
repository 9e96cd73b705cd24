import { Command } from 'commander'
import { createEngine, ENGINE_CHOICES, parseEngineName } from '../../../src/engine/select.ts'
import type { Engine } from '../../../src/engine/engine.ts'
import { createStakeSet } from '../../../src/ledger/stake-set.ts'
import { createSpanHost } from '../../../src/server/span-host.ts'
import { createIdentity, type Identity } from '../../../src/swarm/identity.ts'
import { createPeer, type Peer } from '../../../src/swarm/peer.ts'
import { memoryReceiptStore } from '../../../src/swarm/receipt-store.ts'
import { connectRemoteSpan } from '../../../src/swarm/remote-span.ts'
import { serveSpan } from '../../../src/swarm/serve-span.ts'
import { createStakeGate, type StakeGate } from '../../../src/swarm/stake-gate.ts'
import { headlessTransports } from '../../../src/swarm/transports.ts'
import { tensor } from '../../../src/tensor/tensor.ts'
import { nativeEd25519 } from '../../native-ed25519.ts'
import { nativeSha256 } from '../../native-sha256.ts'
import { openModelArgument } from '../../open-model-argument.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { collectModel, positiveFlag, roundTo } from './flags.ts'
import { createEchoSpan } from './echo-span.ts'
import { benchModels } from './models.ts'
import { measureReceipts } from './receipt-cost.ts'
import { stillLedger } from './still-ledger.ts'

interface GateOptions {
  model: string[]
  engine: string
  sessions: string
  json?: boolean
}

/** What `chorale bench gate --json` prints. */
export interface GateReport {
  /** Cost of the check before every message, both of stake and of rate, microseconds. */
  readonly checkUs: Percentiles
  /** Opening a session on loopback with signatures both checked and remembered, milliseconds. */
  readonly openMs: Percentiles
  /** The largest share of `models`. */
  readonly receiptShare: number
  readonly models: readonly ModelShare[]
}

interface Percentiles {
  readonly p50: number
  readonly p99: number
}

/** What receipts cost one server of a model, as a part of its decode time. */
interface ModelShare {
  readonly model: string
  readonly hiddenSize: number
  /** One token through all blocks, milliseconds. */
  readonly decodeMs: number
  /** Processor time of a token's receipts, on this thread and on others, milliseconds: `measureReceipts`. */
  readonly receiptMs: number
  readonly share: number
}

const NODES = 256
const CHECKS = 200_000
/** Checks timed together: the clock itself costs a tenth of a microsecond. */
const BATCH = 50
const WARM = 20
const HIDDEN = 576

/** `chorale bench gate`: what admission, signatures and receipts cost. */
export function gateBenchCommand(): Command {
  return new Command('gate')
    .description('cost of the stake check on every message, of a signed opening, and of receipts')
    .option(
      '--model <model>',
      'model whose decode time receipts are compared with; repeatable',
      collectModel,
      [],
    )
    .option('--engine <name>', ENGINE_CHOICES, 'auto')
    .option('--sessions <n>', 'sessions to open', '200')
    .option('--json', 'print one JSON document')
    .action(async (options: GateOptions) => {
      const report = await measureGate(options)
      if (options.json === true) process.stdout.write(`${JSON.stringify(report, undefined, 1)}\n`)
      else process.stdout.write(describe(report))
    })
}

async function measureGate(options: GateOptions): Promise<GateReport> {
  const [server, client] = await Promise.all([createIdentity(), createIdentity()])
  const others = await Promise.all(Array.from({ length: NODES - 2 }, () => createIdentity()))
  const identities = [server, client, ...others]
  const stakes = await createStakeSet({
    ledger: stillLedger(identities.map(({ peerId }) => peerId)),
    subnetId: 1,
  })
  const gates = [0, 1].map(() => createStakeGate({ stakes }))
  try {
    const checkUs = measureChecks(gates[0]!, identities)
    const openMs = await measureOpenings(server, client, gates, positiveFlag(options.sessions, 'sessions'))
    const models = await measureModels(options)
    const receiptShare = Math.max(0, ...models.map(({ share }) => share))
    return { checkUs, openMs, receiptShare, models }
  } finally {
    for (const gate of gates) gate.close()
    stakes.close()
  }
}

function measureChecks(gate: StakeGate, identities: readonly Identity[]): Percentiles {
  const times: number[] = []
  for (let i = 0; i < CHECKS / BATCH; i++) {
    const { peerId } = identities[i % identities.length]!
    const started = performance.now()
    for (let j = 0; j < BATCH; j++) {
      gate.check(peerId, 'infer')
      gate.takeMessage(peerId)
    }
    times.push(((performance.now() - started) * 1000) / BATCH)
  }
  return percentiles(times.slice(WARM))
}

async function measureOpenings(
  server: Identity,
  client: Identity,
  gates: readonly StakeGate[],
  sessions: number,
): Promise<Percentiles> {
  const peerOf = (identity: Identity, gate: StakeGate, listen: string[]): Promise<Peer> =>
    createPeer({
      transports: headlessTransports(),
      mode: listen.length > 0 ? 'server' : 'client',
      privateAddresses: true,
      identity,
      gate,
      listen,
      receipts: memoryReceiptStore(),
      sha256: nativeSha256,
      ed25519: nativeEd25519,
    })
  const host = await peerOf(server, gates[0]!, ['/ip4/127.0.0.1/tcp/0'])
  const guest = await peerOf(client, gates[1]!, [])
  try {
    const span = createEchoSpan(0, 1)
    const limits = { maxSessions: 8, maxSessionsPerPeer: 8, maxLeaseTokens: 64 }
    await serveSpan(
      host,
      createSpanHost({ span, modelId: 'bench@1', hiddenSize: HIDDEN, engine: 'echo', limits }),
    )
    const target = {
      peerId: host.id,
      addrs: host.addrs(),
      modelId: 'bench@1',
      start: 0,
      end: 1,
      engine: 'echo',
    }
    const runner = connectRemoteSpan(guest, target, { hiddenSize: HIDDEN })
    const times: number[] = []
    for (let i = 0; i < sessions + WARM; i++) {
      const started = performance.now()
      const session = await runner.open({ maxTokens: 8 })
      times.push(performance.now() - started)
      await session.close()
    }
    return percentiles(times.slice(WARM))
  } finally {
    await guest.close()
    await host.close()
  }
}

async function measureModels(options: GateOptions): Promise<ModelShare[]> {
  const platform = createNodePlatform(stderrLogger('warn'))
  const { engine } = await createEngine(platform, { name: parseEngineName(options.engine) })
  const shares: ModelShare[] = []
  try {
    for (const reference of await benchModels(options.model)) {
      const share = await measureModel(engine, reference)
      shares.push(share)
      process.stderr.write(`${describeModel(share)}\n`)
    }
  } finally {
    await engine.close()
  }
  return shares
}

const STEPS = 48

/** One token through all blocks of a model, and what its receipts cost the server. */
async function measureModel(engine: Engine, reference: string): Promise<ModelShare> {
  const model = await openModelArgument(reference)
  try {
    const { blockCount, hiddenSize } = model.spec
    const span = await engine.loadSpan(model, { start: 0, end: blockCount, kvTokens: 2 * STEPS })
    const lease = span.lease(2 * STEPS)
    const row = tensor(
      1,
      hiddenSize,
      Float32Array.from({ length: hiddenSize }, (_, i) => Math.sin(i)),
    )
    const bytes = new Uint8Array(row.data.buffer.slice(0))
    const decode: number[] = []
    for (let i = 0; i < STEPS; i++) {
      const started = performance.now()
      await span.step([{ lease, hidden: row }])
      decode.push(performance.now() - started)
    }
    lease.release()
    await span.close()
    // The quick ones: a machine that does other things too would make receipts look cheap.
    const decodeMs = decode.toSorted((a, b) => a - b)[Math.floor(STEPS / 10)] ?? 0
    const receiptMs = await measureReceipts(bytes, { digest: nativeSha256, ed25519: nativeEd25519 })
    return {
      model: model.name,
      hiddenSize,
      decodeMs: roundTo(decodeMs, 3),
      receiptMs: roundTo(receiptMs, 4),
      share: roundTo(receiptMs / decodeMs, 5),
    }
  } finally {
    await model.close()
  }
}

function percentiles(times: readonly number[]): Percentiles {
  const sorted = times.toSorted((a, b) => a - b)
  const at = (part: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
  return { p50: roundTo(at(0.5), 3), p99: roundTo(at(0.99), 3) }
}

function describe({ checkUs, openMs, models }: GateReport): string {
  const lines = [
    `check: ${checkUs.p50} µs median, ${checkUs.p99} µs p99`,
    `open: ${openMs.p50} ms median, ${openMs.p99} ms p99`,
    ...models.map(describeModel),
  ]
  return `${lines.join('\n')}\n`
}

function describeModel({ model, decodeMs, receiptMs, share }: ModelShare): string {
  return `${model}: receipts take ${receiptMs} ms of ${decodeMs} ms a token, ${roundTo(100 * share, 3)} %`
}
