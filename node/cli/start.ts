import { Command } from 'commander'
import { parseEngineName, ENGINE_CHOICES } from '../../src/engine/select.ts'
import { ChoraleError } from '../../src/errors.ts'
import { createMetrics } from '../../src/metrics.ts'
import type { HttpServer } from '../http.ts'
import { removeLocalSwarm, writeLocalSwarm } from '../local-swarm-file.ts'
import { stderrLogger } from '../platform.ts'
import { createWebPages } from '../web-pages.ts'
import { addChatFlags, settingsOf, type ChatFlags } from './chat/flags.ts'
import { aborted, catchInterrupt } from './chat/interrupt.ts'
import { openModelToAsk, showLines } from './chat/open-model.ts'
import { runChat } from './chat/repl.ts'
import { DEFAULT_GATEWAY_PORT, portOf, startGateway, type GatewayOptions } from './gateway.ts'

interface StartOptions extends ChatFlags {
  chat: boolean
  port?: string
  engine: string
  revision?: string
}

/** `chorale start`, what `npm start` runs: a swarm of its own on loopback, a gateway to it, and a chat. */
export function startCommand(): Command {
  const command = new Command('start')
    .description('run an offline swarm, a gateway and a chat on this machine')
    .argument('[model]', 'folder, .gguf file or hub name (default: the bundled model)')
    .option('--no-chat', 'keep swarm and gateway up without a prompt, until SIGTERM or Ctrl-C')
    .option(
      '--port <n>',
      `gateway port; 0 = any free one (default: ${DEFAULT_GATEWAY_PORT}, or any when taken)`,
    )
    .option('--revision <name>', 'branch, tag or commit of a hub model')
    .option('--engine <name>', ENGINE_CHOICES, 'auto')
  return addChatFlags(command)
    .addHelpText(
      'after',
      `
Examples:
  npm start
  npm start -- --once "Tell me a story about a fox."
  npm start -- --no-chat --port 8787
  npm start -- HuggingFaceTB/SmolLM2-135M-Instruct
  npm start -- HuggingFaceTB/SmolLM2-1.7B-Instruct --draft HuggingFaceTB/SmolLM2-135M-Instruct`,
    )
    .action(runStart)
}

async function runStart(reference: string | undefined, options: StartOptions): Promise<void> {
  const settings = settingsOf(options)
  const engine = parseEngineName(options.engine)
  const port = options.port === undefined ? undefined : portOf(options.port)
  if (!options.chat && options.once !== undefined) {
    throw new ChoraleError('bad_config', '--no-chat and --once contradict each other; give one')
  }
  const interrupt = catchInterrupt()
  const pages = createWebPages()
  const metrics = createMetrics()
  // Built while the swarm comes up; one answer in the terminal needs none. A failure is shown by the page.
  if (options.once === undefined) void pages.ready().catch(() => undefined)
  try {
    const opened = await openModelToAsk({
      reference,
      revision: options.revision,
      draft: options.draft,
      engine,
      local: false,
      bootstrap: undefined,
      metrics,
      signal: interrupt.signal,
    })
    let gateway: HttpServer | undefined
    try {
      const { languageModel, swarmState, networkModels, drafts } = opened
      gateway = await gatewayAt(port, options.once === undefined ? DEFAULT_GATEWAY_PORT : 0, {
        models: () => [languageModel],
        log: stderrLogger('warn'),
        metrics,
        pages,
        ...(swarmState && { swarmState }),
        ...(networkModels && { networkModels }),
        drafts: () => drafts,
      })
      await writeLocalSwarm({
        bootstrap: opened.bootstrap,
        gateway: gateway.url,
        model: languageModel.model.id,
        ...(opened.subnet && {
          ledger: opened.subnet.url,
          subnetId: opened.subnet.subnetId,
          ...(opened.subnet.genesisHash !== undefined && { genesisHash: opened.subnet.genesisHash }),
        }),
      })
      showLines([
        ...opened.lines,
        ...(opened.subnet
          ? [
              `ledger ${opened.subnet.url}, subnet ${opened.subnet.subnetId}: every server is staked (chorale swarm shows it)`,
            ]
          : []),
        `gateway ${gateway.url}/v1 (OpenAI-compatible)`,
        `chat in your browser: ${gateway.url}/`,
      ])
      if (options.chat) {
        process.exitCode = await runChat({
          languageModel,
          settings,
          json: options.json ?? false,
          raw: options.raw ?? false,
          signal: interrupt.signal,
          ...(options.once !== undefined && { once: options.once }),
        })
      } else {
        await aborted(interrupt.signal)
      }
    } finally {
      await removeLocalSwarm()
      await gateway?.close()
      await opened.close()
    }
  } finally {
    interrupt.release()
  }
}

/** The gateway on `port`; without one on `preferred`, or any free port when that is taken. */
async function gatewayAt(
  port: number | undefined,
  preferred: number,
  options: Omit<GatewayOptions, 'port'>,
): Promise<HttpServer> {
  if (port !== undefined) return await startGateway({ ...options, port })
  try {
    return await startGateway({ ...options, port: preferred })
  } catch (error) {
    if (error instanceof ChoraleError && error.field === 'port')
      return await startGateway({ ...options, port: 0 })
    throw error
  }
}
