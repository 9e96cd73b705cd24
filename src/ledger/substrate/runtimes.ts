import { ChoraleError } from '../../errors.ts'
import { readHash } from './header.ts'
import { toHex } from '../hex.ts'
import { isRecord, RpcError } from './json-rpc.ts'
import { metadataBytes, readRuntime, type RuntimeCodec } from './runtime-codec.ts'

/** Asks the node: `Node.ask` or a fresh connection's `call`. */
export type Ask = (method: string, params?: readonly unknown[]) => Promise<unknown>

/** What stays the same over a chain's runtimes. */
export interface ChainIdentity {
  readonly chain: string
  readonly genesisHash: string
  readonly properties: unknown
}

/** The runtimes of one chain by version, each read once. */
export interface Runtimes {
  /** The runtime of a block's state; without a hash that of the best block when last asked. */
  at(hash?: string): Promise<RuntimeCodec>
  /** The best block's runtime as last known. */
  readonly current: RuntimeCodec
  /** Asks which runtime is current, after `RuntimeEnvironmentUpdated` and on every new connection, by way of `over`. */
  refresh(over?: Ask): Promise<RuntimeCodec>
}

/** Block hashes whose version is remembered, and runtimes kept; a chain changes its runtime a few times a year. */
const MAX_HASHES = 4096
const MAX_RUNTIMES = 8

/** Metadata versions @polkadot/api reads, best first. */
const METADATA_VERSIONS = [15, 14, 16]

/** @throws `ledger`. */
export async function readIdentity(ask: Ask): Promise<ChainIdentity> {
  const [genesis, chain, properties] = await Promise.all([
    ask('chain_getBlockHash', [0]),
    ask('system_chain'),
    ask('system_properties'),
  ])
  return { genesisHash: readHash(genesis, 'genesis hash'), chain: String(chain).slice(0, 100), properties }
}

/** Reads the current runtime and keeps others as they are needed. */
export async function openRuntimes(ask: Ask, identity: ChainIdentity): Promise<Runtimes> {
  const byVersion = new Map<number, Promise<RuntimeCodec>>()
  const versionOf = new Map<string, number>()

  async function load(hash: string | undefined, over = ask): Promise<RuntimeCodec> {
    const version = await over('state_getRuntimeVersion', hash === undefined ? [] : [hash])
    const { specVersion } = isRecord(version) ? version : {}
    if (typeof specVersion !== 'number') {
      throw new ChoraleError('ledger', 'the node names no specVersion of its runtime')
    }
    if (hash !== undefined) {
      if (versionOf.size >= MAX_HASHES) versionOf.clear()
      versionOf.set(hash, specVersion)
    }
    let codec = byVersion.get(specVersion)
    if (codec === undefined) {
      if (byVersion.size >= MAX_RUNTIMES) byVersion.clear()
      codec = readMetadata(over, hash).then((metadata) => readRuntime({ ...identity, version, metadata }))
      byVersion.set(specVersion, codec)
      codec.catch(() => byVersion.delete(specVersion))
    }
    return codec
  }

  let current = await load(undefined)
  return {
    get current() {
      return current
    },
    at: async (hash) => {
      if (hash === undefined) return current
      const known = byVersion.get(versionOf.get(hash) ?? -1)
      return known ?? load(hash)
    },
    refresh: async (over) => {
      // Another connection may lead to another node: what the last one said of its blocks is asked again.
      if (over) versionOf.clear()
      return (current = await load(undefined, over))
    },
  }
}

/** Metadata in the best version that the node has; `state_getMetadata` (V14) where it can't be asked for a version. */
async function readMetadata(ask: Ask, hash: string | undefined): Promise<Uint8Array> {
  const at = hash === undefined ? [] : [hash]
  for (const version of METADATA_VERSIONS) {
    try {
      const input = toHex(Uint8Array.of(version, 0, 0, 0))
      const bytes = metadataBytes(await ask('state_call', ['Metadata_metadata_at_version', input, ...at]))
      if (bytes !== undefined) return bytes
    } catch (error) {
      if (!(error instanceof RpcError)) throw error
      break
    }
  }
  const bytes = metadataBytes(await ask('state_getMetadata', at))
  if (bytes === undefined) throw new ChoraleError('ledger', 'the node has no metadata')
  return bytes
}
