import type { TypeDefinition } from './pallet.ts'
import { TypeTable } from './type-table.ts'

const ID = 'Compact<u32>'
const DOCS = 'Vec<str>'

const record = (fields: Readonly<Record<string, string>>): TypeDefinition => ({ path: 'metadata', fields })
const units = (...names: string[]): TypeDefinition => ({
  path: 'metadata',
  variants: Object.fromEntries(names.map((name) => [name, []])),
})

/** Layout of metadata versions 14 and 15 (frame-metadata, scale-info) in the same words as a runtime's own types. */
const LAYOUT: Readonly<Record<string, TypeDefinition>> = {
  PortableType: record({ id: ID, type: 'Type' }),
  Type: record({ path: 'Vec<str>', params: 'Vec<Param>', def: 'Def', docs: DOCS }),
  Param: record({ name: 'str', type: `Option<${ID}>` }),
  Def: {
    path: 'metadata',
    variants: {
      Composite: { fields: 'Vec<Field>' },
      Variant: { variants: 'Vec<Variant>' },
      Sequence: { type: ID },
      Array: { length: 'u32', type: ID },
      Tuple: [`Vec<${ID}>`],
      Primitive: ['PrimitiveName'],
      Compact: { type: ID },
    },
  },
  PrimitiveName: units(
    'bool',
    'char',
    'str',
    'u8',
    'u16',
    'u32',
    'u64',
    'u128',
    'u256',
    'i8',
    'i16',
    'i32',
    'i64',
    'i128',
    'i256',
  ),
  Field: record({ name: 'Option<str>', type: ID, typeName: 'Option<str>', docs: DOCS }),
  Variant: record({ name: 'str', fields: 'Vec<Field>', index: 'u8', docs: DOCS }),
  Hasher: units(
    'Blake2_128',
    'Blake2_256',
    'Blake2_128Concat',
    'Twox128',
    'Twox256',
    'Twox64Concat',
    'Identity',
  ),
  Modifier: units('Optional', 'Default'),
  EntryType: {
    path: 'metadata',
    variants: { Plain: [ID], Map: { hashers: 'Vec<Hasher>', key: ID, value: ID } },
  },
  Entry: record({ name: 'str', modifier: 'Modifier', type: 'EntryType', fallback: 'Bytes', docs: DOCS }),
  Storage: record({ prefix: 'str', entries: 'Vec<Entry>' }),
  Constant: record({ name: 'str', type: ID, value: 'Bytes', docs: DOCS }),
  Extension: record({ identifier: 'str', type: ID, additional: ID }),
  PalletV14: record({
    name: 'str',
    storage: 'Option<Storage>',
    calls: `Option<${ID}>`,
    events: `Option<${ID}>`,
    constants: 'Vec<Constant>',
    errors: `Option<${ID}>`,
    index: 'u8',
  }),
  PalletV15: record({
    name: 'str',
    storage: 'Option<Storage>',
    calls: `Option<${ID}>`,
    events: `Option<${ID}>`,
    constants: 'Vec<Constant>',
    errors: `Option<${ID}>`,
    index: 'u8',
    docs: DOCS,
  }),
  ExtrinsicV14: record({ type: ID, version: 'u8', extensions: 'Vec<Extension>' }),
  ExtrinsicV15: record({
    version: 'u8',
    address: ID,
    call: ID,
    signature: ID,
    extra: ID,
    extensions: 'Vec<Extension>',
  }),
  Input: record({ name: 'str', type: ID }),
  Method: record({ name: 'str', inputs: 'Vec<Input>', output: ID, docs: DOCS }),
  Api: record({ name: 'str', methods: 'Vec<Method>', docs: DOCS }),
  OuterEnums: record({ call: ID, event: ID, error: ID }),
  MetadataV14: record({
    types: 'Vec<PortableType>',
    pallets: 'Vec<PalletV14>',
    extrinsic: 'ExtrinsicV14',
    runtime: ID,
  }),
  MetadataV15: record({
    types: 'Vec<PortableType>',
    pallets: 'Vec<PalletV15>',
    extrinsic: 'ExtrinsicV15',
    runtime: ID,
    apis: 'Vec<Api>',
    outer: 'OuterEnums',
    custom: 'BTreeMap<str, (u32, Bytes)>',
  }),
}

let table: TypeTable | undefined

/** The type table of metadata itself. */
export function metadataTable(): TypeTable {
  if (table === undefined) {
    table = new TypeTable()
    // One path for all would make them each other's alias; nobody looks these up by path.
    for (const [name, definition] of Object.entries(LAYOUT))
      table.add({ [name]: { ...definition, path: name } })
  }
  return table
}
