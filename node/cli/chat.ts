import { Command } from 'commander'
import { parseEngineName, ENGINE_CHOICES } from '../../src/engine/select.ts'
import { ChoraleError } from '../../src/errors.ts'
import { memoryReceiptStore } from '../../src/swarm/receipt-store.ts'
import { addChatFlags, settingsOf, type ChatFlags } from './chat/flags.ts'
import { catchInterrupt } from './chat/interrupt.ts'
import {
  addNetworkFlags,
  assertNewFile,
  type NetworkFlags,
  networkOf,
  writeReceipts,
} from './chat/network-flags.ts'
import { openModelToAsk, showLines } from './chat/open-model.ts'
import { runChat } from './chat/repl.ts'

interface ChatCommandOptions extends ChatFlags, NetworkFlags {
  engine: string
  revision?: string
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
    .option('--receipts <file>', 'write the signed receipts of the answers here (chorale verify checks them)')
  return addChatFlags(addNetworkFlags(command))
    .addHelpText(
      'after',
      `
Without --bootstrap and --local an offline swarm is started on this machine, as \`npm start\` does.

Examples:
  chorale chat
  chorale chat models/storyteller --bootstrap /ip4/127.0.0.1/tcp/4001/p2p/12D3…
  chorale chat --once "Tell me a story about a fox." --receipts fox.receipts
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
  const once = options.once ?? prompt
  const network = await networkOf(options)
  const receipts = options.receipts === undefined ? undefined : memoryReceiptStore()
  if (options.receipts !== undefined) assertNewFile(options.receipts)
  const interrupt = catchInterrupt()
  try {
    const opened = await openModelToAsk({
      reference,
      revision: options.revision,
      engine,
      local: options.local ?? false,
      bootstrap: options.bootstrap,
      ...network,
      receipts,
      signal: interrupt.signal,
    })
    try {
      if (settings.verbose || (once === undefined && process.stdin.isTTY)) showLines(opened.lines)
      process.exitCode = await runChat({
        languageModel: opened.languageModel,
        settings,
        json: options.json ?? false,
        raw: options.raw ?? false,
        signal: interrupt.signal,
        ...(once !== undefined && { once }),
      })
    } finally {
      await opened.close()
      // The last ones come with the end of the sessions.
      if (receipts && options.receipts !== undefined) await writeReceipts(options.receipts, receipts)
    }
  } finally {
    interrupt.release()
  }
}
