import { ChoraleError } from '../../../errors.ts'
import type { LedgerValue } from '../../ledger.ts'
import { asRecord, isList } from './compound-codecs.ts'
import { sizedFromHex, toHex } from '../../hex.ts'
import type { TypeDefinition } from './pallet.ts'
import { mismatch } from './primitive-codecs.ts'
import type { ScaleReader, ScaleWriter } from './scale-bytes.ts'
import type { Codec } from './type-table.ts'

type Fields = readonly string[] | Readonly<Record<string, string>>
type Make = (text: string) => Codec

/** Text of `size` bytes in hex. */
export function hexCodec(name: string, size: number): Codec {
  return {
    least: size,
    encode(value, writer, path) {
      const bytes = typeof value === 'string' ? sizedFromHex(value, size) : undefined
      if (bytes === undefined) mismatch(path, `${name} as 0x and ${2 * size} hex digits`, value)
      writer.bytes(bytes)
    },
    decode: (reader) => toHex(reader.take(size)),
  }
}

/** Codec of a struct or an enum. Parts are made on first use: types may hold themselves (a batch holds calls). */
export function namedCodec(name: string, definition: TypeDefinition, make: Make): Codec {
  return 'fields' in definition
    ? structCodec(name, definition.fields, make)
    : enumCodec(name, definition.variants, definition.indexes, make)
}

function structCodec(name: string, fields: Fields, make: Make): Codec {
  const parts = lazyFields(fields, make)
  return {
    // A struct's parts may not be known yet: types that hold themselves are enums, whose size is known to be 1 or more.
    get least() {
      return parts().least
    },
    encode: (value, writer, path) => parts().encode(value, writer, path === name ? name : path),
    decode: (reader) => reader.nested(() => parts().decode(reader)),
  }
}

interface Variant {
  readonly name: string
  readonly index: number
  readonly unit: boolean
  readonly parts: () => Codec
}

/**
 * Unit variants are text, others `{ type, value }`; the value of unnamed fields is the only one's, or a list.
 */
function enumCodec(
  name: string,
  variants: Readonly<Record<string, Fields>>,
  indexes: Readonly<Record<string, number>> | undefined,
  make: Make,
): Codec {
  const byName = new Map<string, Variant>()
  const byIndex = new Map<number, Variant>()
  Object.entries(variants).forEach(([variant, fields], position) => {
    const index = indexes?.[variant] ?? position
    const unit = Object.keys(fields).length === 0
    const entry = { name: variant, index, unit, parts: lazyFields(fields, make) }
    byName.set(variant, entry)
    byIndex.set(index, entry)
  })
  return {
    least: 1,
    encode(value: LedgerValue, writer: ScaleWriter, path: string): void {
      const type = typeof value === 'string' ? value : asRecord(value, path)['type']
      const variant = typeof type === 'string' ? byName.get(type) : undefined
      if (variant === undefined) return mismatch(path, `a variant of ${name}`, type)
      writer.small(variant.index, 1)
      if (!variant.unit)
        variant.parts().encode(asRecord(value, path)['value'], writer, `${path}.${variant.name}`)
    },
    decode(reader: ScaleReader): LedgerValue {
      const index = reader.small(1, false)
      const variant = byIndex.get(index)
      if (variant === undefined) throw new ChoraleError('ledger', `SCALE: ${name} has no variant ${index}`)
      if (variant.unit) return variant.name
      return { type: variant.name, value: reader.nested(() => variant.parts().decode(reader)) }
    },
  }
}

/** Fields' codec, made once, when first asked for. */
function lazyFields(fields: Fields, make: Make): () => Codec {
  let codec: Codec | undefined
  return () => {
    codec ??= fieldsCodec(fields, make)
    return codec
  }
}

/** Named fields are a record, a single unnamed one is its value, several are a list. */
export function fieldsCodec(fields: Fields, make: Make): Codec {
  if (isUnnamed(fields)) {
    const parts = fields.map(make)
    const [only] = parts
    if (only !== undefined && parts.length === 1) return only
    return {
      get least() {
        return parts.reduce((sum, part) => sum + part.least, 0)
      },
      encode(value, writer, path) {
        if (!isList(value) || value.length !== parts.length)
          return mismatch(path, `a list of ${parts.length} values`, value)
        parts.forEach((part, index) => part.encode(value[index], writer, `${path}[${index}]`))
      },
      decode: (reader) => parts.map((part) => part.decode(reader)),
    }
  }
  const named = Object.entries(fields).map(([field, type]) => ({ field, codec: make(type) }))
  return {
    get least() {
      return named.reduce((sum, { codec }) => sum + codec.least, 0)
    },
    encode(value, writer, path) {
      const record = asRecord(value, path)
      for (const field of Object.keys(record)) {
        if (!Object.hasOwn(fields, field))
          mismatch(`${path}.${field}`, `one of ${Object.keys(fields).join(', ')}`, field)
      }
      for (const { field, codec } of named) codec.encode(record[field], writer, `${path}.${field}`)
    },
    decode(reader) {
      const record: Record<string, LedgerValue> = {}
      for (const { field, codec } of named) record[field] = codec.decode(reader)
      return record
    },
  }
}

function isUnnamed(fields: Fields): fields is readonly string[] {
  return Array.isArray(fields)
}
