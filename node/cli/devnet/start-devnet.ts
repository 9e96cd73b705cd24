import { readFile } from 'node:fs/promises'
import { ChoraleError, errorMessage } from '../../../src/errors.ts'
import { parseChainSpec } from '../../../src/ledger/devnet/chain-spec.ts'
import {
  DEV_ACCOUNTS,
  DEV_BALANCE,
  type DevAccount,
  type GenesisEntries,
  isEthereumStyle,
  patchEthereumGenesis,
} from '../../../src/ledger/devnet/dev-genesis.ts'
import type { BlockMode } from '../../../src/ledger/devnet/block-timer.ts'
import { DevNode } from '../../../src/ledger/devnet/dev-node.ts'
import { createNativeRuntime } from '../../../src/ledger/devnet/native/runtime.ts'
import { createRpcServer } from '../../../src/ledger/devnet/rpc-server.ts'
import type { Runtime } from '../../../src/ledger/devnet/runtime.ts'
import { CODE_KEY, createWasmRuntime } from '../../../src/ledger/devnet/wasm-runtime.ts'
import type { Logger } from '../../../src/log.ts'
import { serveJsonRpc } from '../../json-rpc-server.ts'
import { openChainFile } from './chain-file.ts'

export interface DevnetOptions {
  /** Raw chain spec whose wasm runtime is run; without one the native runtime is. */
  readonly chainSpec?: string
  readonly mode: BlockMode
  /** Blocks of an epoch of the native runtime; default 20. */
  readonly epochBlocks?: number
  /** 0 = any free one. */
  readonly port: number
  readonly host?: string
  /** Folder that keeps the chain; without one it is gone at the end. */
  readonly data?: string
  /** Blocks by which finality lags behind. */
  readonly finalityLag?: number
  readonly allowOrigins?: readonly string[]
  readonly logger: Logger
}

/** A dev chain that answers JSON-RPC. */
export interface Devnet {
  readonly url: string
  readonly node: DevNode
  /** Rich accounts with public keys; none where the chain's accounts are not Ethereum's. */
  readonly accounts: readonly DevAccount[]
  close(): Promise<void>
}

interface Backend {
  readonly runtime: Runtime
  readonly genesis: GenesisEntries
  readonly name: string
  readonly properties: Readonly<Record<string, unknown>>
  readonly accounts: readonly DevAccount[]
}

/** Time between blocks' timestamps of the native runtime when blocks are made on demand. */
const NATIVE_BLOCK_MS = 6000

/**
 * Starts a dev chain and serves it.
 * @throws `not_found`, `bad_file`, `limit` for the chain spec; `bad_config` for the port or the folder.
 */
export async function startDevnet(options: DevnetOptions): Promise<Devnet> {
  const { mode, logger } = options
  const { accounts, ...backend } =
    options.chainSpec === undefined ? nativeBackend(options) : await wasmBackend(options.chainSpec, logger)
  const log = options.data === undefined ? undefined : openChainFile(options.data)
  let node: DevNode
  try {
    node = new DevNode({
      ...backend,
      mode,
      logger,
      ...(typeof mode !== 'object' && { leastBlockMs: NATIVE_BLOCK_MS }),
      ...(log && { log }),
      ...(options.finalityLag !== undefined && { finalityLag: options.finalityLag }),
    })
  } catch (error) {
    log?.close()
    throw error
  }
  try {
    const server = await serveJsonRpc(createRpcServer(node, { logger }), {
      port: options.port,
      ...(options.host !== undefined && { host: options.host }),
      ...(options.allowOrigins && { allowOrigins: options.allowOrigins }),
    })
    return {
      url: server.url,
      node,
      accounts,
      close: async () => {
        await server.close()
        node.close()
      },
    }
  } catch (error) {
    node.close()
    throw error
  }
}

function nativeBackend({ mode, epochBlocks }: DevnetOptions): Backend {
  const { runtime, genesis, properties } = createNativeRuntime({
    blockMs: typeof mode === 'object' ? mode.everyMs : NATIVE_BLOCK_MS,
    endowed: Object.fromEntries(DEV_ACCOUNTS.map(({ address }) => [address, DEV_BALANCE])),
    ...(epochBlocks !== undefined && { epochBlocks }),
    ...(DEV_ACCOUNTS[0] && { sudo: DEV_ACCOUNTS[0].address }),
  })
  return { runtime, genesis, properties, name: 'Chorale Development', accounts: DEV_ACCOUNTS }
}

async function wasmBackend(path: string, logger: Logger): Promise<Backend> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new ChoraleError('not_found', `the chain spec cannot be read: ${errorMessage(error)}`, {
      cause: error,
      field: 'chain-spec',
    })
  })
  const spec = parseChainSpec(text)
  const ethereum = isEthereumStyle(spec.properties)
  const genesis = ethereum ? patchEthereumGenesis(spec.genesis) : spec.genesis
  const mark = String.fromCharCode(...CODE_KEY)
  const code = genesis.find(([key]) => key.length === CODE_KEY.length && String.fromCharCode(...key) === mark)
  if (code === undefined) {
    throw new ChoraleError('bad_file', 'the chain spec has no :code, so no runtime', { field: ':code' })
  }
  return {
    runtime: createWasmRuntime(code[1], logger),
    genesis,
    name: spec.name,
    properties: spec.properties,
    accounts: ethereum ? DEV_ACCOUNTS : [],
  }
}
