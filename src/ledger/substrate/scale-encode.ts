import { ChoraleError } from '../../errors.ts'
import type { LedgerValue } from '../ledger.ts'
import { concat, fromHex } from '../hex.ts'
import {
  type AccountText,
  INTEGERS,
  isByte,
  MAX_DEPTH,
  type PrimitiveName,
  type RuntimeTypes,
  type RuntimeVariant,
  typeOf,
} from './runtime-types.ts'

const EMPTY = new Uint8Array(0)
const text = new TextEncoder()

interface ScaleWriter {
  readonly types: RuntimeTypes
  readonly accounts: AccountText
}

/**
 * Encodes a value as type `id`: the reverse of `decodeScale`. An account where the type is an enum with a variant `Id`
 * (MultiAddress) is that variant. @throws `bad_request` naming the field that does not fit.
 */
export function encodeScale(
  types: RuntimeTypes,
  accounts: AccountText,
  id: number,
  value: LedgerValue,
  field = 'value',
): Uint8Array {
  return write({ types, accounts }, id, value, field, 0)
}

/** A compact integer. */
export function encodeCompact(value: bigint): Uint8Array {
  if (value < 1n << 6n) return integer(value << 2n, 1)
  if (value < 1n << 14n) return integer((value << 2n) | 1n, 2)
  if (value < 1n << 30n) return integer((value << 2n) | 2n, 4)
  let bytes = 4
  while (value >> BigInt(bytes * 8) !== 0n) bytes++
  return concat(integer(BigInt(((bytes - 4) << 2) | 3), 1), integer(value, bytes))
}

function write(
  writer: ScaleWriter,
  id: number,
  value: LedgerValue,
  field: string,
  depth: number,
): Uint8Array {
  if (depth > MAX_DEPTH) throw wrong(field, value, `nested less than ${MAX_DEPTH} deep`)
  const { types } = writer
  const type = typeOf(types, id)
  switch (type.kind) {
    case 'primitive':
      return primitive(type.name, value, field)
    case 'compact':
      return compact(types, type.of, value, field)
    case 'sequence': {
      if (isByte(types, type.of)) {
        const bytes = byteArray(value, field)
        return concat(encodeCompact(BigInt(bytes.length)), bytes)
      }
      const list = array(value, field)
      return concat(encodeCompact(BigInt(list.length)), many(writer, type.of, list, field, depth))
    }
    case 'array': {
      const list = isByte(types, type.of) ? byteArray(value, field) : array(value, field)
      if (list.length !== type.length) throw wrong(field, value, `${type.length} elements`)
      return list instanceof Uint8Array ? list : many(writer, type.of, list, field, depth)
    }
    case 'tuple': {
      const list = value === undefined && type.of.length === 0 ? [] : array(value, field)
      if (list.length !== type.of.length) throw wrong(field, value, `${type.of.length} elements`)
      return concat(...type.of.map((part, i) => write(writer, part, list[i], `${field}[${i}]`, depth + 1)))
    }
    case 'alias':
      return write(writer, type.of, value, field, depth + 1)
    case 'struct': {
      const fields = record(value, field)
      known(fields, type.fields, field)
      return concat(
        ...type.fields.map(({ name, type: part }) =>
          write(writer, part, fields[name], `${field}.${name}`, depth + 1),
        ),
      )
    }
    case 'option': {
      if (value === undefined) return Uint8Array.of(0)
      const inner = typeOf(types, type.of)
      if (inner.kind === 'primitive' && inner.name === 'bool') return Uint8Array.of(value === true ? 1 : 2)
      return concat(Uint8Array.of(1), write(writer, type.of, value, field, depth + 1))
    }
    case 'enum':
      return variant(writer, type.variants, value, field, depth)
    case 'account': {
      const bytes = typeof value === 'string' ? writer.accounts.decode(value, type.bytes) : undefined
      if (bytes === undefined) throw wrong(field, value, `an account of ${type.bytes} bytes`)
      return bytes
    }
    case 'hash': {
      if (typeof value !== 'string' || value.length !== 2 + 2 * type.bytes)
        throw wrong(field, value, `0x-hex of ${type.bytes} bytes`)
      return fromHex(value, field)
    }
    case 'bits': {
      const bits = array(value, field)
      const packed = new Uint8Array(Math.ceil(bits.length / 8))
      for (const [i, bit] of bits.entries())
        if (bit === true) packed[i >> 3] = (packed[i >> 3] ?? 0) | (1 << (i & 7))
      return concat(encodeCompact(BigInt(bits.length)), packed)
    }
  }
}

function variant(
  writer: ScaleWriter,
  variants: readonly RuntimeVariant[],
  value: LedgerValue,
  field: string,
  depth: number,
): Uint8Array {
  const id = variants.find(({ name }) => name === 'Id')
  const [only] = id?.fields ?? []
  if (typeof value === 'string' && id !== undefined && only !== undefined && value !== 'Id') {
    return concat(Uint8Array.of(id.index), write(writer, only.type, value, field, depth + 1))
  }
  const name = typeof value === 'string' ? value : record(value, field)['type']
  const chosen = variants.find((one) => one.name === name)
  if (chosen === undefined) throw wrong(field, value, `one of ${variants.map((one) => one.name).join(', ')}`)
  const inside = typeof value === 'string' ? undefined : record(value, field)['value']
  return concat(
    Uint8Array.of(chosen.index),
    fieldsOf(writer, chosen, inside, `${field}.${chosen.name}`, depth),
  )
}

/** The fields of a variant: by name, or the value itself when there is one, or a list. */
function fieldsOf(
  writer: ScaleWriter,
  { fields }: RuntimeVariant,
  value: LedgerValue,
  field: string,
  depth: number,
): Uint8Array {
  if (fields.length === 0) return EMPTY
  if (fields[0]?.name !== undefined) {
    const values = record(value, field)
    known(values, fields, field)
    return concat(
      ...fields.map(({ name, type }) =>
        write(writer, type, values[name ?? ''], `${field}.${name ?? ''}`, depth + 1),
      ),
    )
  }
  const list = fields.length === 1 ? [value] : array(value, field)
  if (list.length !== fields.length) throw wrong(field, value, `${fields.length} elements`)
  return concat(...fields.map(({ type }, i) => write(writer, type, list[i], `${field}[${i}]`, depth + 1)))
}

/** A misspelt name would otherwise be an absent option. */
function known(
  values: Readonly<Record<string, LedgerValue>>,
  fields: readonly { readonly name: string | undefined }[],
  field: string,
): void {
  const extra = Object.keys(values).find((key) => !fields.some(({ name }) => name === key))
  if (extra !== undefined) {
    const names = fields.map(({ name }) => name).join(', ')
    throw new ChoraleError('bad_request', `${field} has no field ${extra}: it has ${names}`, { field })
  }
}

function many(
  writer: ScaleWriter,
  of: number,
  list: readonly LedgerValue[],
  field: string,
  depth: number,
): Uint8Array {
  return concat(...list.map((one, i) => write(writer, of, one, `${field}[${i}]`, depth + 1)))
}

function primitive(name: PrimitiveName, value: LedgerValue, field: string): Uint8Array {
  if (name === 'bool') {
    if (typeof value !== 'boolean') throw wrong(field, value, 'true or false')
    return Uint8Array.of(value ? 1 : 0)
  }
  if (name === 'str' || name === 'char') {
    if (typeof value !== 'string') throw wrong(field, value, 'text')
    if (name === 'char') return integer(BigInt(value.codePointAt(0) ?? 0), 4)
    const bytes = text.encode(value)
    return concat(encodeCompact(BigInt(bytes.length)), bytes)
  }
  const { bytes, signed } = INTEGERS[name]
  const number = whole(value, field)
  const inside = signed
    ? BigInt.asIntN(bytes * 8, number) === number
    : BigInt.asUintN(bytes * 8, number) === number
  if (!inside) throw wrong(field, value, `a ${name}`)
  return integer(BigInt.asUintN(bytes * 8, number), bytes)
}

function compact(types: RuntimeTypes, id: number, value: LedgerValue, field: string): Uint8Array {
  const type = typeOf(types, id)
  if (type.kind === 'tuple' && type.of.length === 0) return EMPTY
  if (type.kind === 'alias') return compact(types, type.of, value, field)
  const [only] = type.kind === 'struct' ? type.fields : []
  if (only !== undefined) return compact(types, only.type, record(value, field)[only.name], field)
  if (type.kind !== 'primitive' || !(type.name in INTEGERS)) throw wrong(field, value, 'a compact integer')
  const number = whole(value, field)
  const { bytes } = INTEGERS[type.name as keyof typeof INTEGERS]
  if (BigInt.asUintN(bytes * 8, number) !== number) throw wrong(field, value, `a ${type.name}`)
  return encodeCompact(number)
}

function integer(value: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0, rest = value; i < length; i++, rest >>= 8n) bytes[i] = Number(rest & 0xffn)
  return bytes
}

function whole(value: LedgerValue, field: string): bigint {
  if (typeof value === 'bigint') return value
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value)
  throw wrong(field, value, 'a whole number')
}

function byteArray(value: LedgerValue, field: string): Uint8Array {
  if (!(value instanceof Uint8Array)) throw wrong(field, value, 'bytes')
  return value
}

function array(value: LedgerValue, field: string): readonly LedgerValue[] {
  if (!Array.isArray(value)) throw wrong(field, value, 'a list')
  return value as readonly LedgerValue[]
}

function record(value: LedgerValue, field: string): Readonly<Record<string, LedgerValue>> {
  if (typeof value !== 'object' || Array.isArray(value) || value instanceof Uint8Array)
    throw wrong(field, value, 'an object')
  return value as Readonly<Record<string, LedgerValue>>
}

function wrong(field: string, value: LedgerValue, wanted: string): ChoraleError {
  const shown = typeof value === 'object' ? 'another shape' : String(value)
  return new ChoraleError('bad_request', `${field} is ${shown}: it must be ${wanted}`, { field })
}
