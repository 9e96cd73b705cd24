import { ChoraleError, errorMessage, isChoraleError } from '../../../errors.ts'
import type { LedgerValue } from '../../ledger.ts'
import type { Runtime, RuntimeStorage } from '../runtime.ts'
import { createStateStore } from '../storage.ts'
import { balancesPallet } from './balances.ts'
import { disputesPallet } from './disputes.ts'
import { guardExit } from './disputes/exit-guard.ts'
import { sizedFromHex } from '../../hex.ts'
import { encodeMetadata } from './metadata.ts'
import { networkPallet } from './network/network-pallet.ts'
import type { PalletDefinition } from './pallet.ts'
import { runtimeApis, type ApiMethod, type RuntimeApis } from './runtime-apis.ts'
import { runtimeTypes, type RuntimeTypes } from './runtime-types.ts'
import { runtimeVersion, type RuntimeVersion } from './runtime-version.ts'
import { ScaleReader, ScaleWriter } from './scale-bytes.ts'
import { RuntimeState } from './state.ts'
import { sudoPallet } from './sudo.ts'
import { systemPallet } from './system.ts'
import { timestampPallet } from './timestamp.ts'
import { transactionPaymentPallet } from './transaction-payment.ts'
import { utilityPallet } from './utility.ts'

/** What a native chain is made of. */
export interface NativeChainOptions {
  /** Pallets beside System, Timestamp, Balances, TransactionPayment, Sudo and Utility; default Network and Disputes. */
  readonly pallets?: readonly PalletDefinition[]
  /** Blocks of an epoch of the Network pallet; default 20, Hypertensor's local chains'. */
  readonly epochBlocks?: number
  /** Whether Network and Disputes start with short periods for a chain on one machine (default), or with Hypertensor's own. */
  readonly local?: boolean
  /** Milliseconds between blocks; default 6000, Hypertensor's. */
  readonly blockMs?: number
  /** Accounts (`0x…`, 20 bytes) and what they have at genesis, smallest units. */
  readonly endowed?: Readonly<Record<string, bigint>>
  /** The version a runtime upgrade raises; default 1. */
  readonly specVersion?: number
  /** The account that may call as root; default none. */
  readonly sudo?: string
}

/** A runtime, its first state, and what its node says of the token. */
export interface NativeRuntime {
  readonly runtime: Runtime
  readonly genesis: readonly (readonly [Uint8Array, Uint8Array])[]
  readonly properties: {
    readonly tokenSymbol: string
    readonly tokenDecimals: number
    readonly ss58Format: number
    readonly isEthereum: boolean
  }
  readonly types: RuntimeTypes
  readonly version: RuntimeVersion
}

/** Hypertensor's time between blocks. */
export const DEFAULT_BLOCK_MS = 6_000
const DEFAULT_EPOCH_BLOCKS = 20

/**
 * A Substrate runtime in this process: answers runtime API entries with the bytes a wasm runtime would give.
 * @throws `bad_config` naming an account or amount that can't be.
 */
export function createNativeRuntime(options: NativeChainOptions = {}): NativeRuntime {
  const { blockMs = DEFAULT_BLOCK_MS, epochBlocks = DEFAULT_EPOCH_BLOCKS, local = true, sudo } = options
  const {
    pallets = [networkPallet({ epochBlocks, local, guardExit }), disputesPallet({ epochBlocks, local })],
  } = options
  const endowed = checkEndowed(options.endowed ?? {})
  if (!Number.isInteger(blockMs) || blockMs < 1)
    throw new ChoraleError('bad_config', `blockMs is ${blockMs}; it must be a whole number of at least 1 ms`)
  const extra = [...pallets].toSorted((a, b) => a.index - b.index)
  const metadata = new Map<number, Uint8Array>()
  const apis = runtimeApis(extra, {
    version: () => version,
    metadata(at) {
      if (at !== 14 && at !== 15) return undefined
      const bytes = metadata.get(at) ?? encodeMetadata(types, apis, at)
      metadata.set(at, bytes)
      return bytes
    },
  })
  const version = runtimeVersion(apis, options.specVersion)
  const types = runtimeTypes([
    systemPallet(version),
    timestampPallet(blockMs),
    balancesPallet(endowed),
    transactionPaymentPallet(),
    sudoPallet(sudo === undefined ? undefined : accountText(sudo, 'sudo')),
    utilityPallet(),
    ...extra,
  ])
  return {
    runtime: runtimeOf(types, apis),
    genesis: genesisOf(types),
    properties: { tokenSymbol: 'TENSOR', tokenDecimals: 18, ss58Format: 42, isEthereum: true },
    types,
    version,
  }
}

function checkEndowed(endowed: Readonly<Record<string, bigint>>): Record<string, bigint> {
  return Object.fromEntries(
    Object.entries(endowed).map(([account, amount]) => {
      if (amount < 0n || amount >= 1n << 120n)
        throw new ChoraleError('bad_config', `${account} is endowed with ${amount}; 0 to 2^120 is possible`)
      return [accountText(account, 'endowed'), amount]
    }),
  )
}

function accountText(account: string, field: string): string {
  if (sizedFromHex(account, 20) === undefined)
    throw new ChoraleError(
      'bad_config',
      `${field}: ${account} is no account; 0x and 40 hex digits are needed`,
      {
        field,
      },
    )
  return account.toLowerCase()
}

function genesisOf(types: RuntimeTypes): readonly (readonly [Uint8Array, Uint8Array])[] {
  const store = createStateStore()
  const overlay = store.overlay()
  const state = new RuntimeState(types, overlay)
  for (const pallet of types.pallets) pallet.genesis?.(state.context(pallet.name))
  // Events of genesis are nobody's to read.
  state.remove('System.Events')
  state.remove('System.EventCount')
  const entries: [Uint8Array, Uint8Array][] = []
  let key = overlay.nextKey(new Uint8Array())
  while (key !== undefined) {
    const value = overlay.get(key)
    if (value !== undefined) entries.push([key, value])
    key = overlay.nextKey(key)
  }
  return entries
}

function runtimeOf(types: RuntimeTypes, apis: RuntimeApis): Runtime {
  const methods = new Map<string, ApiMethod>()
  for (const [api, { methods: of }] of Object.entries(apis))
    for (const [name, method] of Object.entries(of)) methods.set(`${api}_${name}`, method)
  return {
    entries: new Set(methods.keys()),
    call(entry, input, storage) {
      const method = methods.get(entry)
      if (method === undefined) throw new ChoraleError('ledger', `this runtime has no entry ${entry}`)
      try {
        return callMethod(types, entry, method, input, storage)
      } catch (error) {
        // Like a wasm runtime: whatever goes wrong is a panic with a message.
        if (isChoraleError(error) && error.code === 'ledger') throw error
        throw new ChoraleError('ledger', `${entry}: ${errorMessage(error)}`, { cause: error })
      }
    },
  }
}

function callMethod(
  types: RuntimeTypes,
  entry: string,
  method: ApiMethod,
  input: Uint8Array,
  storage: RuntimeStorage,
): Uint8Array {
  const reader = new ScaleReader(input)
  const args: Record<string, LedgerValue> = {}
  for (const [name, type] of Object.entries(method.args)) args[name] = types.table.codec(type).decode(reader)
  reader.end(`the arguments of ${entry}`)
  const result = method.run(new RuntimeState(types, storage), args)
  const writer = new ScaleWriter()
  types.table.codec(method.result).encode(result, writer, `result of ${entry}`)
  return writer.finish()
}
