#!/usr/bin/env node
import nodeModule from 'node:module'
import { join } from 'node:path'
import { Command, CommanderError } from 'commander'
import { errorCode, isChoraleError } from '../src/errors.ts'
import { cacheFolder } from './folders.ts'
import { VERSION } from './version.ts'

/**
 * The `chorale` command. One file a verb under `cli/`; only the verb asked for is loaded, because libp2p and
 * onnxruntime take most of a second to import.
 */

// Compiled code is kept from start to start: it halves the time a server takes to load. Deno keeps its own.
nodeModule.enableCompileCache?.(join(cacheFolder(), 'code'))

interface Verb {
  readonly summary: string
  readonly load: () => Promise<Command>
}

const VERBS: Readonly<Record<string, Verb>> = {
  start: {
    summary: 'run an offline swarm, a gateway and a chat on this machine',
    load: async () => (await import('./cli/start.ts')).startCommand(),
  },
  chat: {
    summary: 'chat with a model whose blocks run on peers',
    load: async () => (await import('./cli/chat.ts')).chatCommand(),
  },
  serve: {
    summary: 'serve a span of blocks of a model',
    load: async () => (await import('./cli/serve.ts')).serveCommand(),
  },
  bootstrap: {
    summary: 'run a peer that only introduces others',
    load: async () => (await import('./cli/bootstrap.ts')).bootstrapCommand(),
  },
  gateway: {
    summary: 'serve an OpenAI-compatible HTTP API over the swarm',
    load: async () => (await import('./cli/gateway.ts')).gatewayCommand(),
  },
  swarm: {
    summary: 'show which peers serve which blocks',
    load: async () => (await import('./cli/swarm.ts')).swarmCommand(),
  },
  models: {
    summary: 'list, show, pull and remove models',
    load: async () => (await import('./cli/models.ts')).modelsCommand(),
  },
  tokenize: {
    summary: 'show the token ids of a text',
    load: async () => (await import('./cli/tokenize.ts')).tokenizeCommand(),
  },
  devnet: {
    summary: 'run a development chain for stake and scores',
    load: async () => (await import('./cli/devnet.ts')).devnetCommand(),
  },
  key: {
    summary: 'make, show, list and import keys',
    load: async () => (await import('./cli/key.ts')).keyCommand(),
  },
  stake: {
    summary: 'stake tokens, take them back, delegate',
    load: async () => (await import('./cli/stake.ts')).stakeCommand(),
  },
  subnet: {
    summary: 'register, activate, list and show subnets of the ledger',
    load: async () => (await import('./cli/subnet.ts')).subnetCommand(),
  },
  node: {
    summary: 'register and remove nodes of a subnet',
    load: async () => (await import('./cli/node.ts')).nodeCommand(),
  },
  ledger: {
    summary: 'show a chain, or check it by the rules: `ledger conformance`',
    load: async () => (await import('./cli/ledger.ts')).ledgerCommand(),
  },
  doctor: {
    summary: 'check this machine: engine, adapter, memory, network, disk',
    load: async () => (await import('./cli/doctor.ts')).doctorCommand(),
  },
  parity: {
    summary: "compare engines with a model folder's reference activations",
    load: async () => (await import('./cli/parity.ts')).parityCommand(),
  },
  trace: {
    summary: "write a model's activations to a file",
    load: async () => (await import('./cli/trace.ts')).traceCommand(),
  },
  verify: {
    summary: 'check signed receipts: who computed what for whom',
    load: async () => (await import('./cli/verify.ts')).verifyCommand(),
  },
  perplexity: {
    summary: 'show how well a model on an engine foretells a text',
    load: async () => (await import('./cli/perplexity.ts')).perplexityCommand(),
  },
  bench: {
    summary: 'measure speed: `bench local`, `chain`, `hops`, `wan`, `batch`',
    load: async () => (await import('./cli/bench.ts')).benchCommand(),
  },
  sim: {
    summary: 'run the rules of placement and routing with many peers, in virtual time',
    load: async () => (await import('./cli/sim.ts')).simCommand(),
  },
  chaos: {
    summary: 'kill, stall and cut servers during answers and compare the texts',
    load: async () => (await import('./cli/chaos.ts')).chaosCommand(),
  },
}

const EXIT_FAILURE = 1
const EXIT_USAGE = 2
/** Blocks of the model have no server: later, or with another model, the same may work. */
const EXIT_NO_CHAIN = 3

async function main(args: readonly string[]): Promise<void> {
  const program = new Command('chorale')
    .description('Chat with language models that no single machine hosts.')
    .version(VERSION, '-V, --version')
    .enablePositionalOptions()
    .addHelpText('after', '\nchorale VERB --help shows the options and examples of a verb.')
  const asked = VERBS[args[0] ?? '']
  if (asked !== undefined) {
    program.addCommand(strict(await asked.load()))
  } else {
    for (const [name, verb] of Object.entries(VERBS)) program.command(name).description(verb.summary)
  }
  strict(program)
  try {
    if (args.length === 0) program.help({ error: true })
    await program.parseAsync([...args], { from: 'user' })
  } catch (error) {
    process.exitCode = report(error)
  }
}

/** Makes commander throw instead of exiting, for this command and all below it. */
function strict(command: Command): Command {
  command.exitOverride()
  command.showHelpAfterError('(--help shows the options)')
  for (const child of command.commands) strict(child)
  return command
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE
  if (errorCode(error) === 'cancelled') return 130
  if (isChoraleError(error)) {
    process.stderr.write(`chorale: ${error.message}\n`)
    if (error.code === 'no_chain') return EXIT_NO_CHAIN
    return error.code === 'bad_config' ? EXIT_USAGE : EXIT_FAILURE
  }
  process.stderr.write(
    `chorale: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
  )
  return EXIT_FAILURE
}

// A reader that went away (`chorale … | head`) is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

await main(process.argv.slice(2))

// In Deno something that libp2p opened outlives its stop and would keep the process.
if ('Deno' in globalThis) process.stdout.write('', () => process.exit())
