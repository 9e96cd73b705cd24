import type { LedgerValue } from '../../ledger.ts'
import type { TypeDefinition } from './pallet.ts'
import type { TypeTable } from './type-table.ts'
import type { TypeNode } from './type-text.ts'

type Fields = readonly string[] | Readonly<Record<string, string>>
interface Entry {
  readonly id: number
  type: LedgerValue
}

/** Numbers the types that metadata speaks of, in the order in which they are first named. */
export class MetadataTypes {
  readonly #table: TypeTable
  readonly #byText = new Map<string, Entry>()

  constructor(table: TypeTable) {
    this.#table = table
  }

  /** The number of a type text. */
  id(text: string): number {
    return this.#node(this.#table.node(text))
  }

  /** All types numbered so far, as `Vec<PortableType>`. */
  list(): readonly LedgerValue[] {
    return [...this.#byText.values()].map(({ id, type }) => ({ id, type }))
  }

  #node(node: TypeNode): number {
    const key = node.kind === 'named' ? this.#table.definition(node.name).name : JSON.stringify(node)
    const known = this.#byText.get(key)
    if (known !== undefined) return known.id
    // Numbered before its parts are: types may hold themselves.
    const entry: Entry = { id: this.#byText.size, type: undefined }
    this.#byText.set(key, entry)
    entry.type = this.#describe(node)
    return entry.id
  }

  #describe(node: TypeNode): LedgerValue {
    switch (node.kind) {
      case 'primitive':
        return bare({ type: 'Primitive', value: node.name })
      case 'bytes':
        return bare({ type: 'Sequence', value: { type: this.id('u8') } })
      case 'vec':
        return bare({ type: 'Sequence', value: { type: this.#node(node.of) } })
      case 'array':
        return bare({ type: 'Array', value: { length: node.length, type: this.#node(node.of) } })
      case 'tuple':
        return bare({ type: 'Tuple', value: node.of.map((part) => this.#node(part)) })
      case 'compact':
        return bare({ type: 'Compact', value: { type: this.#node(node.of) } })
      case 'option':
        return generic('Option', { T: this.#node(node.of) }, [
          ['None', []],
          ['Some', ['T']],
        ])
      case 'result':
        return generic('Result', { T: this.#node(node.of), E: this.#node(node.and) }, [
          ['Ok', ['T']],
          ['Err', ['E']],
        ])
      case 'set':
        return collection('BTreeSet', { T: this.#node(node.of) }, this.#node({ kind: 'vec', of: node.of }))
      case 'map': {
        const pairs: TypeNode = { kind: 'vec', of: { kind: 'tuple', of: [node.of, node.and] } }
        return collection('BTreeMap', { K: this.#node(node.of), V: this.#node(node.and) }, this.#node(pairs))
      }
      case 'named':
        return this.#named(this.#table.definition(node.name).definition)
    }
  }

  #named(definition: TypeDefinition): LedgerValue {
    const params = Object.entries(definition.params ?? {}).map(([name, text]) => ({
      name,
      type: text === undefined ? undefined : this.id(text),
    }))
    const def =
      'fields' in definition
        ? { type: 'Composite', value: { fields: this.#fields(definition.fields) } }
        : {
            type: 'Variant',
            value: {
              variants: Object.entries(definition.variants).map(([name, fields], position) => ({
                name,
                fields: this.#fields(fields),
                index: definition.indexes?.[name] ?? position,
                docs: [],
              })),
            },
          }
    return { path: definition.path.split('::'), params, def, docs: [] }
  }

  #fields(fields: Fields): readonly LedgerValue[] {
    const named: readonly (readonly [string | undefined, string])[] = Array.isArray(fields)
      ? (fields as readonly string[]).map((text) => [undefined, text] as const)
      : Object.entries(fields)
    return named.map(([name, text]) => ({ name, type: this.id(text), typeName: text, docs: [] }))
  }
}

function bare(def: LedgerValue): LedgerValue {
  return { path: [], params: [], def, docs: [] }
}

function generic(
  name: string,
  params: Readonly<Record<string, number>>,
  variants: readonly (readonly [string, readonly string[]])[],
): LedgerValue {
  const def = {
    type: 'Variant',
    value: {
      variants: variants.map(([variant, fields], index) => ({
        name: variant,
        fields: fields.map((field) => unnamed(params[field] ?? 0)),
        index,
        docs: [],
      })),
    },
  }
  return { path: [name], params: typed(params), def, docs: [] }
}

function collection(name: string, params: Readonly<Record<string, number>>, list: number): LedgerValue {
  const def = { type: 'Composite', value: { fields: [unnamed(list)] } }
  return { path: [name], params: typed(params), def, docs: [] }
}

function typed(params: Readonly<Record<string, number>>): readonly LedgerValue[] {
  return Object.entries(params).map(([name, type]) => ({ name, type }))
}

function unnamed(type: number): LedgerValue {
  return { name: undefined, type, typeName: undefined, docs: [] }
}
