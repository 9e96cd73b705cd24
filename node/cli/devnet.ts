import { Command, InvalidArgumentError } from 'commander'
import type { BlockMode } from '../../src/ledger/devnet/block-timer.ts'
import { stderrLogger } from '../platform.ts'
import { aborted, catchInterrupt } from './chat/interrupt.ts'
import { startDevnet } from './devnet/start-devnet.ts'

interface DevnetFlags {
  chainSpec?: string
  port: number
  host: string
  blockTime: BlockMode
  epochBlocks?: number
  finalityLag: number
  data?: string
  allowOrigin?: string[]
  json?: boolean
  verbose?: boolean
}

/** The port at which Substrate tools look for a node. */
const DEFAULT_PORT = 9944
const MAX_BLOCK_MS = 24 * 3600 * 1000
const MAX_EPOCH_BLOCKS = 100_000
/** States are kept for so many blocks: finality cannot lag further. */
const MAX_LAG = 256

/** `chorale devnet`: a ledger for development, in this process. */
export function devnetCommand(): Command {
  return new Command('devnet')
    .description('run a Substrate-compatible development chain with the Network pallet')
    .option('--chain-spec <file>', "run the wasm runtime of this raw chain spec instead of Chorale's own")
    .option(
      '--port <n>',
      'port for JSON-RPC over WebSocket and HTTP; 0 = any free one',
      parsePort,
      DEFAULT_PORT,
    )
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option(
      '--block-time <ms|instant|manual>',
      'when blocks are made',
      parseBlockTime,
      'instant' as BlockMode,
    )
    .option('--epoch-blocks <n>', "blocks of an epoch of Chorale's own runtime (default: 20)", parseEpoch)
    .option('--finality-lag <blocks>', 'blocks by which finality stays behind', parseLag, 0)
    .option('--data <folder>', 'keep the chain in this folder')
    .option('--allow-origin <origins...>', 'let pages of these origins connect; * = all')
    .option('--json', 'print one JSON line per event')
    .option('-v, --verbose', 'log what happens')
    .addHelpText(
      'after',
      `
Examples:
  chorale devnet --block-time 6000 --data ~/.local/state/chorale/devnet
  chorale devnet --chain-spec spec.json --block-time manual --json`,
    )
    .action(runDevnet)
}

async function runDevnet(flags: DevnetFlags): Promise<void> {
  const interrupt = catchInterrupt()
  const devnet = await startDevnet({
    mode: flags.blockTime,
    port: flags.port,
    host: flags.host,
    finalityLag: flags.finalityLag,
    logger: stderrLogger(flags.verbose === true ? 'debug' : 'warn'),
    ...(flags.chainSpec !== undefined && { chainSpec: flags.chainSpec }),
    ...(flags.epochBlocks !== undefined && { epochBlocks: flags.epochBlocks }),
    ...(flags.data !== undefined && { data: flags.data }),
    ...(flags.allowOrigin && { allowOrigins: flags.allowOrigin }),
  })
  try {
    const { url, accounts, node } = devnet
    const genesisHash = node.chain.genesis.hash
    if (flags.json === true) {
      process.stdout.write(
        `${JSON.stringify({ event: 'ready', url, chain: node.name, genesisHash, accounts })}\n`,
      )
    } else {
      process.stdout.write(`${node.name}, genesis ${genesisHash}, block ${node.chain.head.header.number}\n`)
      for (const { name, address } of accounts) process.stdout.write(`  ${address}  ${name}\n`)
      if (accounts.length > 0)
        process.stdout.write('  (keys are public: never send anything of worth there)\n')
      process.stdout.write(`JSON-RPC at ${url}\n`)
    }
    await aborted(interrupt.signal)
  } finally {
    await devnet.close()
    interrupt.release()
  }
}

function parsePort(text: string): number {
  return parseInteger(text, 'port', 65_535)
}

function parseLag(text: string): number {
  return parseInteger(text, 'number of blocks', MAX_LAG)
}

function parseEpoch(text: string): number {
  return parseInteger(text, 'number of blocks', MAX_EPOCH_BLOCKS)
}

function parseBlockTime(text: string): BlockMode {
  if (text === 'instant' || text === 'manual') return text
  const everyMs = parseInteger(text, 'block time (instant, manual or milliseconds)', MAX_BLOCK_MS)
  if (everyMs === 0) throw new InvalidArgumentError('0 ms is no block time; use instant')
  return { everyMs }
}

function parseInteger(text: string, what: string, limit: number): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value > limit) {
    throw new InvalidArgumentError(`${text} is no ${what}; 0 to ${limit} is possible`)
  }
  return value
}
