import { ChoraleError } from '../../../errors.ts'
import type { LedgerValue } from '../../ledger.ts'
import { compactCodec, mismatch } from './primitive-codecs.ts'
import type { Codec } from './type-table.ts'
import type { TypeNode } from './type-text.ts'

type Compound = Exclude<TypeNode, { readonly kind: 'primitive' | 'named' }>

/** Codec of a type built of others. `make` gives the parts' codecs. */
export function compoundCodec(node: Compound, make: (node: TypeNode) => Codec): Codec {
  switch (node.kind) {
    case 'bytes':
      return BYTES
    case 'array':
      return arrayCodec(node, make)
    case 'option':
      return optionCodec(make(node.of))
    case 'vec':
      return vecCodec(make(node.of))
    case 'set':
      return setCodec(make(node.of))
    case 'map':
      return mapCodec(make(node.of), make(node.and))
    case 'result':
      return resultCodec(make(node.of), make(node.and))
    case 'tuple':
      return tupleCodec(node.of.map(make))
    case 'compact': {
      const inner = node.of
      if (inner.kind !== 'primitive' || !inner.name.startsWith('u'))
        throw new ChoraleError('internal', 'Compact<T> needs an unsigned integer')
      return compactCodec(inner.name)
    }
  }
}

const BYTES: Codec = {
  least: 1,
  encode(value, writer, path) {
    if (!(value instanceof Uint8Array)) return mismatch(path, 'bytes (Uint8Array)', value)
    writer.compact(value.length)
    writer.bytes(value)
  },
  decode: (reader) => reader.take(reader.count(1)),
}

function arrayCodec(node: Compound & { kind: 'array' }, make: (node: TypeNode) => Codec): Codec {
  const { length } = node
  if (node.of.kind === 'primitive' && node.of.name === 'u8')
    return {
      least: length,
      encode(value, writer, path) {
        if (!(value instanceof Uint8Array) || value.length !== length)
          return mismatch(path, `${length} bytes (Uint8Array)`, value)
        writer.bytes(value)
      },
      decode: (reader) => reader.take(length),
    }
  const one = make(node.of)
  return tupleCodec(Array.from({ length }, () => one))
}

function optionCodec(inner: Codec): Codec {
  return {
    least: 1,
    encode(value, writer, path) {
      writer.small(value === undefined ? 0 : 1, 1)
      if (value !== undefined) inner.encode(value, writer, path)
    },
    decode(reader) {
      const byte = reader.small(1, false)
      if (byte > 1) throw new ChoraleError('ledger', `SCALE: ${byte} is no Option`)
      return byte === 0 ? undefined : inner.decode(reader)
    },
  }
}

function resultCodec(ok: Codec, error: Codec): Codec {
  return {
    least: 1 + Math.min(ok.least, error.least),
    encode(value, writer, path) {
      const { type, value: inner } = asRecord(value, path)
      if (type !== 'Ok' && type !== 'Err') mismatch(path, "{ type: 'Ok' | 'Err', value }", value)
      writer.small(type === 'Ok' ? 0 : 1, 1)
      ;(type === 'Ok' ? ok : error).encode(inner, writer, `${path}.${type}`)
    },
    decode(reader) {
      const byte = reader.small(1, false)
      if (byte > 1) throw new ChoraleError('ledger', `SCALE: ${byte} is no Result`)
      return byte === 0
        ? { type: 'Ok', value: ok.decode(reader) }
        : { type: 'Err', value: error.decode(reader) }
    },
  }
}

/** `()` is the empty list. */
function tupleCodec(parts: readonly Codec[]): Codec {
  return {
    least: parts.reduce((sum, part) => sum + part.least, 0),
    encode(value, writer, path) {
      if (!isList(value) || value.length !== parts.length)
        return mismatch(path, `a list of ${parts.length} values`, value)
      parts.forEach((part, index) => part.encode(value[index], writer, `${path}[${index}]`))
    },
    decode: (reader) => parts.map((part) => part.decode(reader)),
  }
}

function vecCodec(one: Codec): Codec {
  return {
    least: 1,
    encode(value, writer, path) {
      if (!isList(value)) return mismatch(path, 'a list', value)
      writer.compact(value.length)
      value.forEach((item, index) => one.encode(item, writer, `${path}[${index}]`))
    },
    decode(reader) {
      const count = reader.count(one.least)
      const list: LedgerValue[] = []
      for (let index = 0; index < count; index++) list.push(one.decode(reader))
      return list
    },
  }
}

/** Sorted and without doubles both ways, as Rust's own. */
function setCodec(one: Codec): Codec {
  const vec = vecCodec(one)
  const canonical = (list: readonly LedgerValue[]): readonly LedgerValue[] => unique(list, (item) => item)
  return {
    least: 1,
    encode(value, writer, path) {
      if (!isList(value)) return mismatch(path, 'a list', value)
      vec.encode(canonical(value), writer, path)
    },
    decode: (reader) => canonical(vec.decode(reader) as LedgerValue[]),
  }
}

/** Lists of [key, value], sorted by key both ways; of equal keys the last one counts. */
function mapCodec(key: Codec, value: Codec): Codec {
  const vec = vecCodec(tupleCodec([key, value]))
  const canonical = (list: readonly LedgerValue[]): readonly LedgerValue[] =>
    unique(list, (entry) => (entry as readonly LedgerValue[])[0])
  return {
    least: 1,
    encode(entries, writer, path) {
      if (!isList(entries) || !entries.every((entry) => isList(entry) && entry.length === 2))
        return mismatch(path, 'a list of [key, value]', entries)
      vec.encode(canonical(entries), writer, path)
    },
    decode: (reader) => canonical(vec.decode(reader) as LedgerValue[]),
  }
}

function unique(
  list: readonly LedgerValue[],
  key: (item: LedgerValue) => LedgerValue,
): readonly LedgerValue[] {
  // Nearly always sorted already: what is read from storage was written so.
  const ordered = list.every(
    (item, index) => index === 0 || compareValues(key(list[index - 1]), key(item)) < 0,
  )
  if (ordered) return list
  const sorted = list.toSorted((a, b) => compareValues(key(a), key(b)))
  return sorted.filter(
    (item, index) => index + 1 === sorted.length || compareValues(key(item), key(sorted[index + 1])) !== 0,
  )
}

/** Rust's order of two values of one type: numbers by size, text and bytes by byte, lists and structs part by part. */
export function compareValues(a: LedgerValue, b: LedgerValue): number {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return compareBytes(a, b)
  if (isList(a) && isList(b)) {
    for (let index = 0; index < Math.min(a.length, b.length); index++) {
      const order = compareValues(a[index], b[index])
      if (order !== 0) return order
    }
    return a.length - b.length
  }
  if (typeof a === 'object' && typeof b === 'object')
    return compareValues(Object.values(a) as LedgerValue[], Object.values(b) as LedgerValue[])
  if (a === b) return 0
  if (a === undefined) return -1
  if (b === undefined) return 1
  return a < b ? -1 : 1
}

/** Byte order, the shorter first. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length)
  for (let index = 0; index < length; index++) {
    const order = (a[index] ?? 0) - (b[index] ?? 0)
    if (order !== 0) return order
  }
  return a.length - b.length
}

/** Whether a value is a list, not bytes. */
export function isList(value: LedgerValue): value is readonly LedgerValue[] {
  return Array.isArray(value)
}

/** @throws `bad_request` when the value is no record. */
export function asRecord(value: LedgerValue, path: string): { readonly [field: string]: LedgerValue } {
  if (typeof value !== 'object' || value instanceof Uint8Array || isList(value))
    return mismatch(path, 'a record', value)
  return value
}
