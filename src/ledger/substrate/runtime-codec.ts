import { ApiPromise } from '@polkadot/api'
import { ChoraleError, errorMessage } from '../../errors.ts'
import type { LedgerValue } from '../ledger.ts'
import { accountText } from './accounts.ts'
import { fromHex, toHex } from '../hex.ts'
import { isRecord } from './json-rpc.ts'
import type { AccountText, PrimitiveName, RuntimeType, RuntimeTypes } from './runtime-types.ts'
import { decodeScale } from './scale-decode.ts'

/** What is needed to understand one version of a chain's runtime. */
export interface RuntimeSource {
  readonly chain: string
  readonly genesisHash: string
  /** Result of `system_properties`. */
  readonly properties: unknown
  /** Result of `state_getRuntimeVersion`. */
  readonly version: unknown
  /** Metadata as it comes, with its magic, V14 to V16. */
  readonly metadata: Uint8Array
}

export type StorageHasher =
  | 'Identity'
  | 'Twox64Concat'
  | 'Blake2_128Concat'
  | 'Twox128'
  | 'Twox256'
  | 'Blake2_128'
  | 'Blake2_256'

/** One storage item by metadata. */
export interface StorageItem {
  readonly pallet: string
  readonly name: string
  /** What the pallet calls itself in storage keys. */
  readonly prefix: string
  readonly keys: readonly { readonly hasher: StorageHasher; readonly type: number }[]
  readonly value: number
  /** Bytes an absent entry stands for; undefined when absent means absent. */
  readonly fallback: Uint8Array | undefined
}

interface Pallet {
  readonly index: number
  readonly storage: ReadonlyMap<string, StorageItem>
  readonly constants: ReadonlyMap<string, { readonly type: number; readonly value: Uint8Array }>
  readonly calls: number | undefined
  readonly errors: number | undefined
}

/** One version of a runtime, read from its metadata. */
export interface RuntimeCodec {
  readonly specVersion: number
  readonly types: RuntimeTypes
  readonly accounts: AccountText
  readonly accountBytes: 20 | 32
  readonly pallets: ReadonlyMap<string, Pallet>
  /** Builds and signs transactions. */
  readonly api: ApiPromise
}

/** Magic and version byte of metadata; other versions are refused before a library sees them. */
const MAGIC = '0x6d657461'
const VERSIONS = [14, 15, 16]
const READY_MS = 30_000

/**
 * Reads a runtime's metadata with @polkadot/api, which gets its answers from `source` alone: it never sees the network, so
 * it neither reconnects nor prints on its own. @throws `ledger` when the metadata can't be read.
 */
export async function readRuntime(source: RuntimeSource): Promise<RuntimeCodec> {
  const version = source.metadata[4] ?? 0
  if (toHex(source.metadata.subarray(0, 4)) !== MAGIC || !VERSIONS.includes(version)) {
    throw new ChoraleError(
      'ledger',
      `the node's metadata is version ${version}: versions ${VERSIONS.join(', ')} are read`,
    )
  }
  const { specVersion } = isRecord(source.version) ? source.version : {}
  if (typeof specVersion !== 'number')
    throw new ChoraleError('ledger', 'the node names no specVersion of its runtime')
  const { registry, metadata } = decodeMetadata(source)
  const api = await new Promise<ApiPromise>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new ChoraleError('timeout', 'the metadata was not read in time')),
      READY_MS,
    )
    const made = new ApiPromise({
      provider: offlineProvider(source),
      registry,
      metadata: { [`${source.genesisHash}-${specVersion}`]: metadata },
      noInitWarn: true,
      initWasm: false,
      throwOnUnknown: false,
    })
    // The same failure comes as an event.
    made.isReadyOrError.catch(() => undefined)
    made.once('ready', () => {
      clearTimeout(timer)
      resolve(made)
    })
    made.once('error', (error: unknown) => {
      clearTimeout(timer)
      reject(
        new ChoraleError('ledger', `the node's metadata can't be read: ${errorMessage(error)}`, {
          cause: error,
        }),
      )
    })
  })
  try {
    return build(api, source, specVersion)
  } catch (error) {
    throw new ChoraleError('ledger', `the node's metadata can't be read: ${errorMessage(error)}`, {
      cause: error,
    })
  }
}

/**
 * Decodes metadata before ApiPromise does, which prints what it can't read to the console. What it is given decoded, by the
 * same registry, it takes as it is; its types know of hex only. @throws `ledger`.
 */
function decodeMetadata(source: RuntimeSource): {
  readonly registry: ApiPromise['registry']
  readonly metadata: `0x${string}`
} {
  const { registry } = new ApiPromise({
    provider: { ...offlineProvider(source), isConnected: false },
    noInitWarn: true,
  })
  try {
    const metadata = registry.createType('Metadata', source.metadata)
    if (metadata.encodedLength !== source.metadata.length) throw new Error('bytes are left over')
    return { registry, metadata: metadata as unknown as `0x${string}` }
  } catch (error) {
    throw new ChoraleError('ledger', `the node's metadata can't be read: ${errorMessage(error)}`, {
      cause: error,
    })
  }
}

/** Answers what ApiPromise asks while it starts. */
function offlineProvider(
  source: RuntimeSource,
): NonNullable<ConstructorParameters<typeof ApiPromise>[0]>['provider'] & object {
  const answers: Record<string, unknown> = {
    chain_getBlockHash: source.genesisHash,
    state_getRuntimeVersion: source.version,
    system_chain: source.chain,
    system_properties: source.properties,
    rpc_methods: { methods: [] },
  }
  return {
    hasSubscriptions: false,
    isClonable: false,
    isConnected: true,
    clone: () => offlineProvider(source),
    connect: async () => undefined,
    disconnect: async () => undefined,
    on: () => () => undefined,
    send: async <T>(method: string): Promise<T> => {
      if (!(method in answers)) throw new Error(`${method} is not asked offline`)
      return answers[method] as T
    },
    subscribe: async () => {
      throw new Error('nothing is subscribed offline')
    },
    unsubscribe: async () => true,
  }
}

function build(api: ApiPromise, source: RuntimeSource, specVersion: number): RuntimeCodec {
  const latest = api.runtimeMetadata.asLatest
  const types = api.registry.lookup.types.map(({ type }) => readType(type))
  const accountBytes = types.some((type) => type.kind === 'account' && type.bytes === 20) ? 20 : 32
  const properties = isRecord(source.properties) ? source.properties : {}
  const format = Array.isArray(properties['ss58Format'])
    ? properties['ss58Format'][0]
    : properties['ss58Format']
  const pallets = new Map<string, Pallet>()
  for (const pallet of latest.pallets) {
    const name = pallet.name.toString()
    const storage = new Map<string, StorageItem>()
    const entries = pallet.storage.unwrapOr(undefined)
    for (const entry of entries?.items ?? []) {
      const map = entry.type.isMap ? entry.type.asMap : undefined
      const value = map?.value ?? entry.type.asPlain
      const hashers = (map?.hashers.map((hasher) => hasher.type) ?? []) as StorageHasher[]
      const keyTypes = map === undefined ? [] : keyTypesOf(types, map.key.toNumber(), hashers.length)
      storage.set(entry.name.toString(), {
        pallet: name,
        name: entry.name.toString(),
        prefix: entries?.prefix.toString() ?? name,
        keys: hashers.map((hasher, i) => ({ hasher, type: keyTypes[i] ?? 0 })),
        value: value.toNumber(),
        fallback: entry.modifier.isOptional ? undefined : entry.fallback.toU8a(true),
      })
    }
    pallets.set(name, {
      index: pallet.index.toNumber(),
      storage,
      constants: new Map(
        pallet.constants.map((constant) => [
          constant.name.toString(),
          { type: constant.type.toNumber(), value: constant.value.toU8a(true) },
        ]),
      ),
      calls: pallet.calls.unwrapOr(undefined)?.type.toNumber(),
      errors: pallet.errors.unwrapOr(undefined)?.type.toNumber(),
    })
  }
  const accounts = accountText(typeof format === 'number' ? format : 42)
  return { specVersion, types, accounts, accountBytes, pallets, api }
}

/** A map over several hashers has a tuple of keys. */
function keyTypesOf(types: RuntimeTypes, key: number, hashers: number): readonly number[] {
  const type = types[key]
  return hashers > 1 && type?.kind === 'tuple' ? type.of : [key]
}

type PortableType = ApiPromise['registry']['lookup']['types'][number]['type']

/** Names by which runtimes call an account; their fields are bytes. */
const ACCOUNTS: Readonly<Record<string, 20 | 32>> = { AccountId20: 20, AccountId32: 32 }
const HASHES: Readonly<Record<string, number>> = { H160: 20, H256: 32, H512: 64 }

function readType({ path, def, params }: PortableType): RuntimeType {
  const name = path.at(-1)?.toString() ?? ''
  const account = ACCOUNTS[name]
  if (account !== undefined) return { kind: 'account', bytes: account }
  const hash = HASHES[name]
  if (hash !== undefined && path[0]?.toString() === 'primitive_types') return { kind: 'hash', bytes: hash }
  if (def.isPrimitive) return { kind: 'primitive', name: def.asPrimitive.type.toLowerCase() as PrimitiveName }
  if (def.isCompact) return { kind: 'compact', of: def.asCompact.type.toNumber() }
  if (def.isSequence) return { kind: 'sequence', of: def.asSequence.type.toNumber() }
  if (def.isArray) {
    return { kind: 'array', of: def.asArray.type.toNumber(), length: def.asArray.len.toNumber() }
  }
  if (def.isTuple) return { kind: 'tuple', of: def.asTuple.map((part) => part.toNumber()) }
  if (def.isBitSequence) return { kind: 'bits' }
  if (def.isComposite) {
    const { fields } = def.asComposite
    const named = fields.every((field) => field.name.isSome)
    const [only] = fields
    if (!named && only !== undefined && fields.length === 1)
      return { kind: 'alias', of: only.type.toNumber() }
    if (!named || fields.length === 0) return { kind: 'tuple', of: fields.map(({ type }) => type.toNumber()) }
    return {
      kind: 'struct',
      fields: fields.map((field) => ({ name: field.name.unwrap().toString(), type: field.type.toNumber() })),
    }
  }
  if (!def.isVariant) throw new ChoraleError('ledger', `type ${name} is a ${def.type}`)
  const inner = params[0]?.type.unwrapOr(undefined)
  if (name === 'Option' && path.length === 1 && inner !== undefined) {
    return { kind: 'option', of: inner.toNumber() }
  }
  return {
    kind: 'enum',
    variants: def.asVariant.variants.map((variant) => ({
      index: variant.index.toNumber(),
      name: variant.name.toString(),
      fields: variant.fields.map((field) => ({
        name: field.name.isSome ? field.name.unwrap().toString() : undefined,
        type: field.type.toNumber(),
      })),
    })),
  }
}

/** A pallet's constant, decoded; undefined where there is none. */
export function readConstant(codec: RuntimeCodec, pallet: string, name: string): LedgerValue | undefined {
  const constant = codec.pallets.get(pallet)?.constants.get(name)
  return constant === undefined
    ? undefined
    : decodeScale(codec.types, codec.accounts, constant.type, constant.value)
}

/** A storage item by name. @throws `not_supported` when the runtime has none. */
export function storageItem(codec: RuntimeCodec, pallet: string, name: string): StorageItem {
  const item = codec.pallets.get(pallet)?.storage.get(name)
  if (item === undefined) throw new ChoraleError('not_supported', `this chain keeps no ${pallet}.${name}`)
  return item
}

/** Bytes of metadata as `Metadata_metadata_at_version` (an option of opaque bytes) or `state_getMetadata` answers. */
export function metadataBytes(result: unknown): Uint8Array | undefined {
  const bytes = fromHex(result, 'metadata')
  const at = findMagic(bytes)
  return at === undefined ? undefined : bytes.subarray(at)
}

/** The magic stands at the front, or behind an option tag and a compact length of at most 4 bytes. */
function findMagic(bytes: Uint8Array): number | undefined {
  for (let at = 0; at <= 5; at++) if (toHex(bytes.subarray(at, at + 4)) === MAGIC) return at
  return undefined
}
