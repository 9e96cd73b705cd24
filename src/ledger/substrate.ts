import { ChoraleError } from '../errors.ts'
import { type Logger, silentLogger } from '../log.ts'
import type { Ledger, LedgerInfo, LedgerValue, NodeClass } from './ledger.ts'
import { followBlocks } from './substrate/blocks.ts'
import { explain } from './substrate/explain.ts'
import { readHash, readHeader } from './substrate/header.ts'
import { type Connection, isRecord, RpcError, type Socket } from './substrate/json-rpc.ts'
import {
  classIndex,
  proofFromStorage,
  readConsensus,
  readDelegateStake,
  readDisputes,
  readElected,
  readNodes,
  readSubnet,
  readSubnets,
  readUnbondings,
} from './substrate/network-pallet.ts'
import { connectNode, WrongChain } from './substrate/reconnecting.ts'
import { readConstant, type RuntimeCodec } from './substrate/runtime-codec.ts'
import { type ChainIdentity, openRuntimes, readIdentity, type Runtimes } from './substrate/runtimes.ts'
import { encodeScale } from './substrate/scale-encode.ts'
import { createSender } from './substrate/sender.ts'
import { openState, type State } from './substrate/state.ts'

export interface ConnectLedgerOptions {
  /** 0x-hex; a node on another chain is refused, also later when the URL leads to one. Default: what the first connection says. */
  readonly genesisHash?: string
  /** Limit of one answer and of waiting for a connection. Default 10 s. */
  readonly timeoutMs?: number
  /** How often a silent node is asked whether it lives. Default 5 s. */
  readonly healthMs?: number
  /** Pauses between tries to reconnect: the first, doubling up to the last. Default 250 ms and 15 s. */
  readonly retryMs?: { readonly first: number; readonly most: number }
  readonly log?: Logger
  /** Default: the platform's WebSocket. */
  readonly openSocket?: (url: string) => Socket
}

const TIMEOUT_MS = 10_000
const HEALTH_MS = 5_000
const FIRST_RETRY_MS = 250
const MAX_RETRY_MS = 15_000

/**
 * The `Ledger` behind a node's URL: any Substrate chain, understood by its metadata. The first connection must succeed;
 * later ones are made again and again until `close()`.
 * @throws `bad_config` for a URL that is no ws:// or wss://, `unreachable` or `timeout` when there is no node, `ledger` when
 * the node is on another chain or can't be understood.
 */
export async function connectLedger(url: string, options: ConnectLedgerOptions = {}): Promise<Ledger> {
  if (!/^wss?:\/\/[^\s/]+/.test(url)) {
    throw new ChoraleError(
      'bad_config',
      `${url} is no ledger URL: give ws://HOST:PORT, or wss://… of a node`,
      {
        field: 'url',
      },
    )
  }
  const log = (options.log ?? silentLogger).child('ledger')
  let identity: ChainIdentity | undefined
  let known: Runtimes | undefined
  const node = await connectNode(url, {
    openSocket: options.openSocket ?? ((address) => new WebSocket(address)),
    timeoutMs: options.timeoutMs ?? TIMEOUT_MS,
    healthMs: options.healthMs ?? HEALTH_MS,
    firstRetryMs: options.retryMs?.first ?? FIRST_RETRY_MS,
    maxRetryMs: options.retryMs?.most ?? MAX_RETRY_MS,
    log,
    greet: async (connection) => {
      identity = await greet(url, connection, identity, options.genesisHash)
      // After an interruption the runtime may be another one; nothing may be encoded for the old one then.
      await known?.refresh((method, params = []) => connection.call(method, params))
    },
  })
  try {
    if (identity === undefined) throw new ChoraleError('internal', 'a connection without identity')
    const chain = identity
    const runtimes = await openRuntimes(node.ask, chain)
    known = runtimes
    const blocks = await followBlocks(node, runtimes, log)
    const sender = createSender(node, runtimes, blocks, chain.genesisHash, log)
    const at = (hash: string | undefined): Promise<State> => openState(node, runtimes, hash)
    const info = describe(chain, runtimes.current)

    return {
      info,
      get status() {
        return node.status
      },
      watchStatus: node.watchStatus,
      watch: blocks.watch,
      head: async () => {
        const [best, final] = await Promise.all([
          node.ask('chain_getBlockHash'),
          node.ask('chain_getFinalizedHead'),
        ])
        const hash = readHash(best)
        const finalizedHash = readHash(final)
        const [header, finalHeader] = await Promise.all([
          node.ask('chain_getHeader', [hash]),
          node.ask('chain_getHeader', [finalizedHash]),
        ])
        return {
          number: readHeader(header).number,
          hash,
          finalizedNumber: readHeader(finalHeader).number,
          finalizedHash,
        }
      },
      balance: async (account, hash) => {
        const value = await (await at(hash)).get('System', 'Account', [account])
        const data = record(value)['data']
        const { free } = record(data)
        return typeof free === 'bigint' ? free : 0n
      },
      subnet: async (id, hash) => readSubnet(await at(hash), id),
      subnets: async (hash) => readSubnets(await at(hash)),
      nodes: async (id, hash) => readNodes(await at(hash), id),
      proofOfStake: async (id, peer, minClass, minStake, hash) =>
        proofOfStake(await at(hash), info, id, peer, minClass, minStake),
      electedNode: async (id, epoch, hash) => readElected(await at(hash), id, epoch),
      consensus: async (id, epoch, hash) => readConsensus(await at(hash), id, epoch),
      unbondings: async (account, hash) => readUnbondings(await at(hash), account),
      delegateStake: async (account, id, hash) => readDelegateStake(await at(hash), account, id),
      disputes: async (id, hash) => readDisputes(await at(hash), id),
      storage: async (pallet, item, keys, hash) => (await at(hash)).get(pallet, item, keys),
      submit: async (call, signer, submitOptions) => {
        try {
          return await sender.submit(call, signer, submitOptions)
        } catch (error) {
          throw await explain(error, call, signer.address, info, () => at(undefined))
        }
      },
      fee: sender.fee,
      close: async () => {
        sender.close()
        blocks.close()
        node.close()
      },
    }
  } catch (error) {
    node.close()
    throw error
  }
}

/** Learns which chain the node follows, or checks that it still is the same. @throws `WrongChain`. */
async function greet(
  url: string,
  connection: Connection,
  known: ChainIdentity | undefined,
  expected: string | undefined,
): Promise<ChainIdentity> {
  const identity = await readIdentity((method, params = []) => connection.call(method, params))
  const wanted = expected ?? known?.genesisHash
  if (wanted !== undefined && wanted.toLowerCase() !== identity.genesisHash) {
    throw new WrongChain(
      `the node at ${url} follows ${identity.chain} with genesis ${identity.genesisHash}, not ${wanted}`,
    )
  }
  return known ?? identity
}

function describe({ chain, genesisHash, properties }: ChainIdentity, codec: RuntimeCodec): LedgerInfo {
  const said = isRecord(properties) ? properties : {}
  const first = (value: unknown): unknown => (Array.isArray(value) ? value[0] : value)
  const symbol = first(said['tokenSymbol'])
  const decimals = first(said['tokenDecimals'])
  const epochBlocks = readConstant(codec, 'Network', 'EpochLength')
  return {
    chain,
    genesisHash,
    tokenSymbol: typeof symbol === 'string' ? symbol.slice(0, 16) : 'UNIT',
    tokenDecimals:
      typeof decimals === 'number' && Number.isInteger(decimals) && decimals >= 0 && decimals <= 36
        ? decimals
        : 0,
    accounts: codec.accountBytes === 20 ? 'ethereum' : 'substrate',
    blockMs: blockMs(codec),
    epochBlocks: typeof epochBlocks === 'number' ? epochBlocks : 0,
    disputes: codec.pallets.has('Disputes'),
  }
}

/** What the consensus pallets say; 6 s, the usual, where none does. */
function blockMs(codec: RuntimeCodec): number {
  const said = readConstant(codec, 'Aura', 'SlotDuration') ?? readConstant(codec, 'Babe', 'ExpectedBlockTime')
  if (typeof said === 'bigint' && said > 0n) return Number(said)
  const least = readConstant(codec, 'Timestamp', 'MinimumPeriod')
  return typeof least === 'bigint' && least > 0n ? Number(least) * 2 : 6000
}

/** Asks the runtime; computes it from storage where the runtime has no such call. */
async function proofOfStake(
  state: State,
  info: LedgerInfo,
  subnetId: number,
  peer: string,
  minClass: NodeClass,
  minStake: bigint | undefined,
): Promise<boolean> {
  const { codec } = state
  if (!state.has('Network', 'SubnetsData')) return false
  const [u8, u32, u128] = (['u8', 'u32', 'u128'] as const).map((name) =>
    codec.types.findIndex((type) => type.kind === 'primitive' && type.name === name),
  )
  const bytes = codec.types.findIndex((type) => type.kind === 'sequence' && type.of === u8)
  const part = (type: number | undefined, value: LedgerValue): Uint8Array =>
    encodeScale(codec.types, codec.accounts, type ?? -1, value)
  const input = [
    part(u32, subnetId),
    part(bytes, new TextEncoder().encode(peer)),
    Uint8Array.of(classIndex(minClass)),
    minStake === undefined ? Uint8Array.of(0) : Uint8Array.from([1, ...part(u128, minStake)]),
  ]
  try {
    const answer = await state.call(
      'NetworkRuntimeApi_proof_of_stake',
      Uint8Array.from(input.flatMap((piece) => [...piece])),
    )
    return answer[0] === 1
  } catch (error) {
    if (!(error instanceof RpcError)) throw error
    const slot = await state.get('Network', 'SubnetSlot', [subnetId])
    const block = await state.get('System', 'Number', [])
    const epoch =
      typeof slot === 'number' && typeof block === 'number' && info.epochBlocks > 0
        ? Math.floor((block - slot) / info.epochBlocks)
        : undefined
    return proofFromStorage(state, subnetId, peer, minClass, minStake, epoch)
  }
}

function record(value: LedgerValue): Readonly<Record<string, LedgerValue>> {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array)
    ? (value as Readonly<Record<string, LedgerValue>>)
    : {}
}
