import { Command } from 'commander'
import { createApp } from '../../src/api/app.ts'
import { parseEngineName, ENGINE_CHOICES } from '../../src/engine/select.ts'
import { ChoraleError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import { createMetrics, type Metrics } from '../../src/metrics.ts'
import type { Model } from '../../src/model/model.ts'
import type { LanguageModel } from '../../src/session/language-model.ts'
import type { NetworkModel } from '../../src/session/network-models.ts'
import { receiptFiles } from '../receipt-files.ts'
import { isLoopbackHost, serveHttp, type HttpServer } from '../http.ts'
import { BUNDLED_MODEL } from '../model-ports.ts'
import { stderrLogger } from '../platform.ts'
import { VERSION } from '../version.ts'
import { createWebPages, type WebPages } from '../web-pages.ts'
import { DRAFT_HELP } from './chat/flags.ts'
import { aborted, catchInterrupt } from './chat/interrupt.ts'
import { addNetworkFlags, type NetworkFlags, networkOf } from './chat/network-flags.ts'
import { openModelToAsk, showLines } from './chat/open-model.ts'
import { collect, readPerModel } from './serve/per-model.ts'

export const DEFAULT_GATEWAY_PORT = 8787
/** Pages speak WebSocket; others' pages reach it where `--listen` says so. */
const PASS_LISTEN: readonly string[] = ['/ip4/127.0.0.1/tcp/0/ws']

export interface GatewayOptions {
  readonly models: () => readonly LanguageModel[]
  /** Default 127.0.0.1: only this machine. */
  readonly host?: string
  readonly port: number
  /** Default: the keys of `CHORALE_API_KEYS`, separated by commas; none = everybody may come. */
  readonly apiKeys?: readonly string[]
  /** Origins whose pages may use it, or `*`. */
  readonly corsOrigins?: readonly string[]
  readonly log?: Logger
  readonly metrics?: Metrics
  /** What `GET /api/v1/state` gives. */
  readonly swarmState?: () => Promise<unknown>
  /** Every model of the network. */
  readonly networkModels?: () => Promise<readonly NetworkModel[]>
  /** Draft models for pages to run themselves. */
  readonly drafts?: () => readonly Model[]
  /** Served at `/`. */
  readonly pages?: WebPages
  /** False: pages take weights from peers of the network. */
  readonly givesWeights?: boolean
}

/**
 * Serves the HTTP API over models that are already assembled. The models stay open when it closes.
 * @throws `bad_config` when the port is in use, `CHORALE_API_KEYS` holds a bad key.
 */
export async function startGateway(options: GatewayOptions): Promise<HttpServer> {
  const {
    host = '127.0.0.1',
    port,
    models,
    corsOrigins,
    log,
    metrics,
    swarmState,
    networkModels,
    drafts,
    pages,
  } = options
  const app = createApp({
    models,
    version: VERSION,
    apiKeys: options.apiKeys ?? keysOf(process.env['CHORALE_API_KEYS']),
    // A machine that is reached under any name may be asked under any.
    loopbackOnly: isLoopbackHost(host),
    ...(corsOrigins && { corsOrigins }),
    ...(log && { log }),
    ...(metrics && { metrics }),
    ...(swarmState && { swarmState }),
    ...(networkModels && { networkModels }),
    ...(drafts && { drafts }),
    ...(options.givesWeights !== undefined && { givesWeights: options.givesWeights }),
  })
  const fetch = (request: Request) => pages?.respond(request) ?? app.fetch(request)
  return await serveHttp({ fetch }, { host, port })
}

/** Keys come by the environment only: flags show in process lists. */
function keysOf(text: string | undefined): readonly string[] {
  const keys = (text ?? '').split(',').flatMap((key) => (key.trim() === '' ? [] : [key.trim()]))
  if (keys.some((key) => /\s/.test(key))) {
    throw new ChoraleError('bad_config', 'CHORALE_API_KEYS holds a key with a space; separate keys by commas')
  }
  return keys
}

interface GatewayCommandOptions extends NetworkFlags {
  sponsor?: boolean
  listen: string[]
  host: string
  port: string
  engine: string
  revision?: string[]
  draft?: string[]
  corsOrigin?: readonly string[]
  weights: boolean
  json?: boolean
  verbose?: boolean
}

/** `chorale gateway`: an OpenAI-compatible HTTP API over the swarm. */
export function gatewayCommand(): Command {
  const command = new Command('gateway')
    .description('serve an OpenAI-compatible HTTP API over the swarm')
    .argument(
      '[models...]',
      'folders, .gguf files or hub names; the first is the pages’ own (default: the bundled model)',
    )
    .option('--bootstrap <addrs...>', 'peers that lead into the network')
    .option('--local', 'compute all blocks in this process, without a network')
    .option(
      '--host <address>',
      'address to listen on; 0.0.0.0 = all (set CHORALE_API_KEYS then)',
      '127.0.0.1',
    )
    .option('--port <n>', 'port to listen on; 0 = any free one', String(DEFAULT_GATEWAY_PORT))
    .option('--revision <[model=]name>', 'branch, tag or commit of a hub model', collect)
    .option('--draft <[model=]name>', DRAFT_HELP, collect)
    .option('--engine <name>', `${ENGINE_CHOICES}: computes the head`, 'auto')
    .option('--cors-origin <origins...>', 'pages of these origins may use it; * = all')
    .option('--sponsor', 'give passes to pages without stake, at the expense of this peer')
    .option('--listen <addrs...>', 'with --sponsor: multiaddrs where pages ask for passes', [...PASS_LISTEN])
    .option('--no-weights', 'give pages no weights: they take them from servers that share (serve --share)')
    .option(
      '--receipts <folder>',
      'keep the signed receipts of all answers here (chorale verify checks them)',
    )
    .option('--json', 'print {"url", "model", "models"} on stdout when it is ready')
    .option('-v, --verbose', 'log every request (never its text)')
  return addNetworkFlags(command)
    .addHelpText(
      'after',
      `
Environment: CHORALE_API_KEYS, keys separated by commas, of which callers must send one.

Example:
  chorale gateway models/storyteller --bootstrap /ip4/127.0.0.1/tcp/4001/p2p/12D3…
  curl http://127.0.0.1:8787/v1/chat/completions -H 'content-type: application/json' \\
    -d '{"model":"storyteller","messages":[{"role":"user","content":"Tell me a story."}]}'`,
    )
    .action(runGatewayCommand)
}

async function runGatewayCommand(
  references: readonly string[],
  options: GatewayCommandOptions,
): Promise<void> {
  const port = portOf(options.port)
  const engine = parseEngineName(options.engine)
  if ((options.local === true) === (options.bootstrap !== undefined)) {
    throw new ChoraleError(
      'bad_config',
      'give either --bootstrap ADDR to join a network or --local to compute here; `chorale start` runs a swarm and a gateway together',
      { field: 'bootstrap' },
    )
  }
  if (options.sponsor === true && options.ledger === undefined) {
    throw new ChoraleError(
      'bad_config',
      '--sponsor needs --ledger: where everybody is admitted there are no passes',
      { field: 'sponsor' },
    )
  }
  const revision = readPerModel('revision', options.revision ?? [], references)
  const draft = readPerModel('draft', options.draft ?? [], references)
  const models = (references.length === 0 ? [undefined] : references).map((reference, i) => ({
    reference: reference ?? BUNDLED_MODEL,
    revision: revision.named.get(i) ?? revision.common,
    draft: draft.named.get(i) ?? draft.common,
  }))
  const network = await networkOf(options)
  const log = stderrLogger(options.verbose === true ? 'debug' : 'warn')
  const receipts =
    options.receipts === undefined ? undefined : receiptFiles({ folder: options.receipts, log })
  const metrics = createMetrics()
  const interrupt = catchInterrupt()
  const note = (line: string) => process.stderr.write(`${line}\n`)
  try {
    const opened = await openModelToAsk({
      ...models[0]!,
      others: models.slice(1),
      engine,
      local: options.local ?? false,
      bootstrap: options.bootstrap,
      ...network,
      ...(options.sponsor === true && { sponsor: { listen: options.listen } }),
      receipts,
      metrics,
      signal: interrupt.signal,
    })
    try {
      showLines(opened.lines)
      const { languageModel, languageModels, networkModels, drafts } = opened
      const ids = languageModels.map(({ model }) => model.id)
      const server = await startGateway({
        models: () => languageModels,
        host: options.host,
        port,
        log,
        metrics,
        pages: createWebPages(),
        givesWeights: options.weights,
        ...(options.corsOrigin && { corsOrigins: options.corsOrigin }),
        ...(opened.swarmState && { swarmState: opened.swarmState }),
        ...(networkModels && { networkModels }),
        drafts: () => drafts,
      })
      if (!isLoopbackHost(options.host) && (process.env['CHORALE_API_KEYS'] ?? '') === '') {
        note('warning: whoever reaches this address may use it; set CHORALE_API_KEYS to ask for a key')
      }
      note(
        `gateway: ${server.url}/v1  (model${ids.length > 1 ? 's' : ''} ${ids.join(', ')}), pages: ${server.url}/`,
      )
      if (options.json === true) {
        process.stdout.write(
          `${JSON.stringify({ url: server.url, model: languageModel.model.id, models: ids })}\n`,
        )
      }
      await aborted(interrupt.signal)
      note('finishing answers, then leaving; Ctrl-C again leaves at once')
      await server.close()
    } finally {
      await opened.close()
    }
  } finally {
    await receipts?.close()
    interrupt.release()
  }
}

/** Reads a `--port` value. @throws `bad_config`. */
export function portOf(text: string): number {
  const port = Number(text)
  if (!/^\d{1,5}$/.test(text) || port > 65_535) {
    throw new ChoraleError(
      'bad_config',
      `port is "${text.slice(0, 40)}", it must be a number from 0 to 65535`,
      {
        field: 'port',
      },
    )
  }
  return port
}
