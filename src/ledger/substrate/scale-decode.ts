import { ChoraleError } from '../../errors.ts'
import type { LedgerValue } from '../ledger.ts'
import { toHex } from '../hex.ts'
import {
  type AccountText,
  INTEGERS,
  isByte,
  MAX_DEPTH,
  type PrimitiveName,
  type RuntimeTypes,
  typeOf,
} from './runtime-types.ts'

/** Elements of a vector whose elements take no bytes: nothing else bounds them. */
const MAX_EMPTY_ELEMENTS = 1024

const text = new TextDecoder()

/** Reads SCALE bytes from a position on. */
export interface ScaleReader {
  readonly types: RuntimeTypes
  readonly accounts: AccountText
  readonly bytes: Uint8Array
  offset: number
}

/**
 * Decodes all of `bytes` as type `id`, by the rules of `LedgerValue`; several unnamed fields become an array, a single one
 * the value itself, an empty tuple an empty array. @throws `ledger` when bytes are missing, left over or not a value.
 */
export function decodeScale(
  types: RuntimeTypes,
  accounts: AccountText,
  id: number,
  bytes: Uint8Array,
): LedgerValue {
  const reader: ScaleReader = { types, accounts, bytes, offset: 0 }
  const value = readScale(reader, id)
  if (reader.offset !== bytes.length) {
    throw new ChoraleError(
      'ledger',
      `${bytes.length - reader.offset} bytes are left over of a ledger value of ${bytes.length}`,
    )
  }
  return value
}

/** Decodes one value of type `id` and moves the reader behind it. @throws `ledger`. */
export function readScale(reader: ScaleReader, id: number, depth = 0): LedgerValue {
  if (depth > MAX_DEPTH)
    throw new ChoraleError('ledger', `a ledger value is nested more than ${MAX_DEPTH} deep`)
  const { types } = reader
  const type = typeOf(types, id)
  switch (type.kind) {
    case 'primitive':
      return readPrimitive(reader, type.name)
    case 'compact':
      return readCompactAs(reader, type.of)
    case 'sequence': {
      const length = readLength(reader)
      if (isByte(types, type.of)) return take(reader, length).slice()
      return readMany(reader, type.of, length, depth)
    }
    case 'array':
      if (isByte(types, type.of)) return take(reader, type.length).slice()
      return readMany(reader, type.of, type.length, depth)
    case 'tuple':
      return type.of.map((part) => readScale(reader, part, depth + 1))
    case 'alias':
      return readScale(reader, type.of, depth + 1)
    case 'struct':
      return Object.fromEntries(
        type.fields.map(({ name, type: field }) => [name, readScale(reader, field, depth + 1)]),
      )
    case 'option':
      return readOption(reader, type.of, depth)
    case 'enum': {
      const index = takeByte(reader)
      const variant = type.variants.find((one) => one.index === index)
      if (variant === undefined)
        throw new ChoraleError('ledger', `a ledger value has no variant ${index} of its type`)
      if (variant.fields.length === 0) return variant.name
      return { type: variant.name, value: readFields(reader, variant.fields, depth) }
    }
    case 'account':
      return reader.accounts.encode(take(reader, type.bytes))
    case 'hash':
      return toHex(take(reader, type.bytes))
    case 'bits': {
      const count = readLength(reader)
      const packed = take(reader, Math.ceil(count / 8))
      return Array.from({ length: count }, (_, i) => (((packed[i >> 3] ?? 0) >> (i & 7)) & 1) === 1)
    }
  }
}

function readFields(
  reader: ScaleReader,
  fields: readonly { readonly name: string | undefined; readonly type: number }[],
  depth: number,
): LedgerValue {
  const values = fields.map(({ type }) => readScale(reader, type, depth + 1))
  if (fields[0]?.name !== undefined)
    return Object.fromEntries(fields.map(({ name }, i) => [name ?? String(i), values[i]]))
  return values.length === 1 ? values[0] : values
}

/** Option<bool> is the one exception of SCALE: one byte, 0 none, 1 true, 2 false. */
function readOption(reader: ScaleReader, of: number, depth: number): LedgerValue {
  const tag = takeByte(reader)
  if (tag === 0) return undefined
  const inner = typeOf(reader.types, of)
  if (inner.kind === 'primitive' && inner.name === 'bool' && tag <= 2) return tag === 1
  if (tag !== 1) throw new ChoraleError('ledger', `an Option of the ledger begins with ${tag}`)
  return readScale(reader, of, depth + 1)
}

function readMany(reader: ScaleReader, of: number, length: number, depth: number): LedgerValue[] {
  const values: LedgerValue[] = []
  for (let i = 0; i < length; i++) {
    if (i >= MAX_EMPTY_ELEMENTS && i > reader.offset) {
      throw new ChoraleError('ledger', `a ledger value claims ${length} empty elements`)
    }
    values.push(readScale(reader, of, depth + 1))
  }
  return values
}

function readPrimitive(reader: ScaleReader, name: PrimitiveName): LedgerValue {
  if (name === 'bool') {
    const byte = takeByte(reader)
    if (byte > 1) throw new ChoraleError('ledger', `a bool of the ledger is ${byte}`)
    return byte === 1
  }
  if (name === 'str') return text.decode(take(reader, readLength(reader)))
  if (name === 'char') return String.fromCodePoint(Number(readInteger(reader, 4, false)) % 0x11_0000)
  const { bytes, signed } = INTEGERS[name]
  const value = readInteger(reader, bytes, signed)
  return bytes <= 4 ? Number(value) : value
}

function readInteger(reader: ScaleReader, length: number, signed: boolean): bigint {
  const bytes = take(reader, length)
  let value = 0n
  for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] ?? 0)
  return signed ? BigInt.asIntN(length * 8, value) : value
}

/** A compact of an integer, or of a struct around one; Compact<()> is nothing at all. */
function readCompactAs(reader: ScaleReader, id: number): LedgerValue {
  const type = typeOf(reader.types, id)
  if (type.kind === 'tuple' && type.of.length === 0) return []
  if (type.kind === 'alias') return readCompactAs(reader, type.of)
  const [only] = type.kind === 'struct' ? type.fields : []
  if (type.kind === 'struct' && only !== undefined && type.fields.length === 1) {
    return { [only.name]: readCompactAs(reader, only.type) }
  }
  if (type.kind !== 'primitive' || !(type.name in INTEGERS)) {
    throw new ChoraleError('ledger', `the runtime's metadata has a compact ${type.kind}`)
  }
  const value = readCompact(reader)
  const { bytes } = INTEGERS[type.name as keyof typeof INTEGERS]
  if (value >> BigInt(bytes * 8) !== 0n)
    throw new ChoraleError('ledger', `a compact ${type.name} of the ledger is ${value}`)
  return bytes <= 4 ? Number(value) : value
}

/** A compact integer. */
export function readCompact(reader: ScaleReader): bigint {
  const first = takeByte(reader)
  const mode = first & 3
  if (mode === 3) return readInteger(reader, (first >> 2) + 4, false)
  reader.offset--
  return readInteger(reader, 1 << mode, false) >> 2n
}

/** A vector's length; elements take at least no bytes, so only bytes and texts are bounded here by what follows. */
function readLength(reader: ScaleReader): number {
  const length = readCompact(reader)
  if (length > 0xffff_ffffn) throw new ChoraleError('ledger', `a ledger value claims ${length} elements`)
  return Number(length)
}

function take(reader: ScaleReader, length: number): Uint8Array {
  const end = reader.offset + length
  if (end > reader.bytes.length) {
    throw new ChoraleError(
      'ledger',
      `a ledger value ends early: ${length} bytes wanted at ${reader.offset} of ${reader.bytes.length}`,
    )
  }
  const bytes = reader.bytes.subarray(reader.offset, end)
  reader.offset = end
  return bytes
}

function takeByte(reader: ScaleReader): number {
  return take(reader, 1)[0] ?? 0
}
