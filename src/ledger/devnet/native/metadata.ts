import type { LedgerValue } from '../../ledger.ts'
import { EXTENSIONS } from './extension-types.ts'
import { metadataTable } from './metadata-layout.ts'
import { MetadataTypes } from './metadata-types.ts'
import type { PalletDefinition, StorageDefinition } from './pallet.ts'
import type { RuntimeApis } from './runtime-apis.ts'
import type { RuntimeTypes } from './runtime-types.ts'
import { concat } from '../../hex.ts'

/** `meta`, before the version's byte. */
const MAGIC = Uint8Array.of(0x6d, 0x65, 0x74, 0x61)

/** A runtime's metadata: magic, version, body. What clients learn every call, entry, event and error from. */
export function encodeMetadata(types: RuntimeTypes, apis: RuntimeApis, version: 14 | 15): Uint8Array {
  const ids = new MetadataTypes(types.table)
  const pallets = types.pallets.map((pallet) => palletEntry(types, ids, pallet, version))
  const extensions = EXTENSIONS.map(({ name, type, additional }) => ({
    identifier: name,
    type: ids.id(type),
    additional: ids.id(additional),
  }))
  const common = { pallets, runtime: ids.id('Runtime') }
  const outer = { call: ids.id('RuntimeCall'), event: ids.id('RuntimeEvent'), error: ids.id('RuntimeError') }
  const body: Readonly<Record<string, LedgerValue>> =
    version === 14
      ? { ...common, extrinsic: { type: ids.id('UncheckedExtrinsic'), version: 4, extensions } }
      : {
          ...common,
          extrinsic: {
            version: 4,
            address: ids.id('AccountId20'),
            call: outer.call,
            signature: ids.id('EthereumSignature'),
            extra: ids.id(`(${EXTENSIONS.map(({ type }) => type).join(', ')})`),
            extensions,
          },
          apis: apiEntries(ids, apis),
          outer,
          custom: [],
        }
  // Last: all of the above may have named new types.
  const encoded = metadataTable().encode(`MetadataV${version}`, { types: ids.list(), ...body })
  return concat(MAGIC, Uint8Array.of(version), encoded)
}

function palletEntry(
  types: RuntimeTypes,
  ids: MetadataTypes,
  pallet: PalletDefinition,
  version: 14 | 15,
): LedgerValue {
  const { name, index } = pallet
  return {
    name,
    storage:
      pallet.storage.length === 0
        ? undefined
        : { prefix: name, entries: pallet.storage.map((item) => storageEntry(types, ids, item)) },
    calls: pallet.calls.length === 0 ? undefined : ids.id(`${name}Call`),
    events: pallet.events.length === 0 ? undefined : ids.id(`${name}Event`),
    constants: pallet.constants.map(({ name: constant, type, value }) => ({
      name: constant,
      type: ids.id(type),
      value: types.table.encode(type, value),
      docs: [],
    })),
    errors: pallet.errors.length === 0 ? undefined : ids.id(`${name}Error`),
    index,
    ...(version === 15 ? { docs: [] } : {}),
  }
}

function storageEntry(types: RuntimeTypes, ids: MetadataTypes, item: StorageDefinition): LedgerValue {
  const [first, ...more] = item.keys
  const optional = item.default === undefined
  return {
    name: item.name,
    modifier: optional ? 'Optional' : 'Default',
    type:
      first === undefined
        ? { type: 'Plain', value: ids.id(item.type) }
        : {
            type: 'Map',
            value: {
              hashers: item.keys.map(({ hasher }) => hasher),
              key: ids.id(
                more.length === 0 ? first.type : `(${item.keys.map(({ type }) => type).join(', ')})`,
              ),
              value: ids.id(item.type),
            },
          },
    fallback: optional ? Uint8Array.of(0) : types.table.encode(item.type, item.default),
    docs: [],
  }
}

function apiEntries(ids: MetadataTypes, apis: RuntimeApis): readonly LedgerValue[] {
  return Object.entries(apis).map(([name, { methods }]) => ({
    name,
    methods: Object.entries(methods).map(([method, { args, result }]) => ({
      name: method,
      inputs: Object.entries(args).map(([input, type]) => ({ name: input, type: ids.id(type) })),
      output: ids.id(result),
      docs: [],
    })),
    docs: [],
  }))
}
