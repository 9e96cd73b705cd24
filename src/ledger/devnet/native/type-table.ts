import { ChoraleError } from '../../../errors.ts'
import type { LedgerValue } from '../../ledger.ts'
import { compoundCodec } from './compound-codecs.ts'
import type { TypeDefinition } from './pallet.ts'
import { hexCodec, namedCodec } from './named-codecs.ts'
import { primitiveCodec } from './primitive-codecs.ts'
import { ScaleReader, ScaleWriter } from './scale-bytes.ts'
import { parseType, type TypeNode } from './type-text.ts'

/** Writes and reads one type's values. */
export interface Codec {
  /** Bytes that a value takes at least. */
  readonly least: number
  /** @throws `bad_request` naming `path` when the value is not of the type. */
  encode(value: LedgerValue, writer: ScaleWriter, path: string): void
  /** @throws `ledger` when the bytes are not of the type. */
  decode(reader: ScaleReader): LedgerValue
}

/** Named types whose values are text: `0x` and lower-case hex of so many bytes. */
const HEX_TYPES: Readonly<Record<string, number>> = { AccountId20: 20, H160: 20, H256: 32 }

/** The structs and enums of a runtime, and the codecs of everything that can be written with them. */
export class TypeTable {
  readonly #definitions = new Map<string, TypeDefinition>()
  readonly #aliases = new Map<string, string>()
  readonly #nodes = new Map<string, TypeNode>()
  readonly #codecs = new Map<string, Codec>()

  /** Adds definitions; a name may come again only with the same path. @throws `internal` otherwise. */
  add(types: Readonly<Record<string, TypeDefinition>>): void {
    for (const [name, definition] of Object.entries(types)) {
      const known = this.#definitions.get(name)
      if (known !== undefined && known.path !== definition.path)
        throw new ChoraleError('internal', `type ${name} is ${known.path} and ${definition.path}`)
      this.#definitions.set(name, definition)
      this.#aliases.set(lookupName(definition.path), name)
    }
  }

  /** Parsed text, each text once. Lookup names of @polkadot/api (`FpAccountAccountId20`) resolve to the table's. */
  node(text: string): TypeNode {
    let node = this.#nodes.get(text)
    if (node === undefined) {
      node = parseType(text)
      this.#nodes.set(text, node)
    }
    return node
  }

  /** A definition and the name it stands under. @throws `internal` for a name nobody added. */
  definition(name: string): { readonly name: string; readonly definition: TypeDefinition } {
    const own = this.#definitions.has(name) ? name : this.#aliases.get(name)
    const definition = own === undefined ? undefined : this.#definitions.get(own)
    if (own === undefined || definition === undefined)
      throw new ChoraleError('internal', `type ${name} is not in the type table`)
    return { name: own, definition }
  }

  /** The codec of a type text, made on first use. */
  codec(text: string): Codec {
    let codec = this.#codecs.get(text)
    if (codec === undefined) {
      codec = this.#make(this.node(text))
      this.#codecs.set(text, codec)
    }
    return codec
  }

  encode(type: string, value: LedgerValue): Uint8Array {
    const writer = new ScaleWriter()
    this.codec(type).encode(value, writer, type)
    return writer.finish()
  }

  /** @throws `ledger` also when bytes are left over. */
  decode(type: string, bytes: Uint8Array): LedgerValue {
    const reader = new ScaleReader(bytes)
    const value = this.codec(type).decode(reader)
    reader.end(type)
    return value
  }

  #make(node: TypeNode): Codec {
    if (node.kind === 'primitive') return primitiveCodec(node.name)
    if (node.kind !== 'named') return compoundCodec(node, (inner) => this.#make(inner))
    const { name, definition } = this.definition(node.name)
    const known = this.#codecs.get(name)
    if (known !== undefined) return known
    const size = HEX_TYPES[name]
    const codec =
      size === undefined
        ? namedCodec(name, definition, (text) => this.#make(this.node(text)))
        : hexCodec(name, size)
    this.#codecs.set(name, codec)
    return codec
  }
}

/** As @polkadot/api names a type by its path: `pallet_network::pallet::PeerInfo` → `PalletNetworkPeerInfo`. */
function lookupName(path: string): string {
  return path
    .split('::')
    .filter((part, index, parts) => part !== 'pallet' || index === parts.length - 1)
    .map((part) =>
      part
        .split('_')
        .map((word) => word.slice(0, 1).toUpperCase() + word.slice(1))
        .join(''),
    )
    .join('')
}
