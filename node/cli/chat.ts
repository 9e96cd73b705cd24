import { Command } from 'commander'
import { parseEngineName, ENGINE_CHOICES } from '../../src/engine/select.ts'
import { ChoraleError } from '../../src/errors.ts'
import { memoryReceiptStore } from '../../src/swarm/receipt-store.ts'
import { BUNDLED_MODEL } from '../model-ports.ts'
import { addChatFlags, settingsOf, type ChatFlags } from './chat/flags.ts'
import { catchInterrupt } from './chat/interrupt.ts'
import {
  addNetworkFlags,
  assertNewFile,
  type NetworkFlags,
  networkOf,
  writeReceipts,
} from './chat/network-flags.ts'
import { type AfterMissing, settleMissingBlocks } from './chat/missing-blocks.ts'
import { type OpenedModel, openModelToAsk, type OpenToAskOptions, showLines } from './chat/open-model.ts'
import { runChat } from './chat/repl.ts'
import { parseCount } from './serve/values.ts'
import { askLine, createProgress } from './terminal.ts'

type Asked = Pick<OpenToAskOptions, 'reference' | 'revision' | 'draft'>

interface ChatCommandOptions extends ChatFlags, NetworkFlags {
  engine: string
  revision?: string
  wait?: string
}

/** `chorale chat`: a conversation with a model, its blocks on peers or in this process. */
export function chatCommand(): Command {
  const command = new Command('chat')
    .description('chat with a model whose blocks run on peers')
    .argument('[model]', 'folder, .gguf file or hub name (default: the bundled model)')
    .argument('[prompt]', 'the same as --once')
    .option('--bootstrap <addrs...>', 'peers that lead into the network (default: a network of its own)')
    .option('--local', 'compute all blocks in this process, without a network')
    .option('--revision <name>', 'branch, tag or commit of a hub model')
    .option('--engine <name>', ENGINE_CHOICES, 'auto')
    .option(
      '--wait <seconds>',
      'where blocks have no server, wait so long for one (default: ask on a terminal, else fail)',
    )
    .option('--receipts <file>', 'write the signed receipts of the answers here (chorale verify checks them)')
  return addChatFlags(addNetworkFlags(command))
    .addHelpText(
      'after',
      `
Without --bootstrap and --local an offline swarm is started on this machine, as \`npm start\` does. Exit code 3: blocks of
the model have no server.

Examples:
  chorale chat
  chorale chat models/storyteller --bootstrap /ip4/127.0.0.1/tcp/4001/p2p/12D3…
  chorale chat --once "Tell me a story about a fox." --receipts fox.receipts
  chorale chat org/large --bootstrap /ip4/…/p2p/12D3… --draft org/small
  chorale chat --local --once "Tell me a story about a fox."
  echo "Tell me a story." | chorale chat --local --greedy --json`,
    )
    .action(runChatCommand)
}

async function runChatCommand(
  reference: string | undefined,
  prompt: string | undefined,
  options: ChatCommandOptions,
): Promise<void> {
  const settings = settingsOf(options)
  const engine = parseEngineName(options.engine)
  if (options.local === true && options.bootstrap !== undefined) {
    throw new ChoraleError('bad_config', '--local and --bootstrap contradict each other; give one')
  }
  const waitMs = options.wait === undefined ? undefined : parseCount('wait', options.wait, 0) * 1_000
  const once = options.once ?? prompt
  const network = await networkOf(options)
  const receipts = options.receipts === undefined ? undefined : memoryReceiptStore()
  if (options.receipts !== undefined) assertNewFile(options.receipts)
  const interrupt = catchInterrupt()
  let asking = false
  try {
    // Again with another model, where the first one is short of blocks and somebody chose another.
    for (let asked: Asked = { reference, revision: options.revision, draft: options.draft }; ;) {
      const opened = await openModelToAsk({
        ...asked,
        engine,
        local: options.local ?? false,
        bootstrap: options.bootstrap,
        ...network,
        receipts,
        signal: interrupt.signal,
      })
      try {
        const next = await settle(opened, asked.reference ?? BUNDLED_MODEL, options, waitMs, interrupt.signal)
        if (next.kind === 'leave') return
        if (next.kind === 'other') {
          asked = { reference: next.model.model.name, revision: next.model.model.revision }
          continue
        }
        if (settings.verbose || (once === undefined && process.stdin.isTTY)) showLines(opened.lines)
        asking = true
        process.exitCode = await runChat({
          languageModel: opened.languageModel,
          settings,
          json: options.json ?? false,
          raw: options.raw ?? false,
          signal: interrupt.signal,
          ...(once !== undefined && { once }),
        })
        return
      } finally {
        await opened.close()
      }
    }
  } finally {
    // The last ones come with the end of the sessions.
    if (asking && receipts && options.receipts !== undefined) await writeReceipts(options.receipts, receipts)
    interrupt.release()
  }
}

/** Whether there is somebody to ask. */
function atTerminal(options: ChatCommandOptions): boolean {
  return process.stdin.isTTY && process.stderr.isTTY && options.json !== true
}

/** What to do when the network holds only a part of the model; a swarm of one's own holds all of it. */
async function settle(
  { languageModel, networkModels }: OpenedModel,
  reference: string,
  options: ChatCommandOptions,
  waitMs: number | undefined,
  signal: AbortSignal,
): Promise<AfterMissing> {
  if (networkModels === undefined || options.bootstrap === undefined) return { kind: 'ready' }
  const progress = createProgress(process.stderr)
  return await settleMissingBlocks({
    languageModel,
    reference,
    networkModels,
    bootstrap: options.bootstrap,
    waitMs,
    question: atTerminal(options) ? askLine : undefined,
    note: (line) => process.stderr.write(`${line}\n`),
    progress: (text) => (text === undefined ? progress.end() : progress.update(text, 0, 0)),
    signal,
  })
}
